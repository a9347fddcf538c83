//! A server as its own process: started, watched through /proc, stopped or killed.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::client::{Client, Keys};

/// A running `knarr serve`. Dropping it kills the process.
pub(crate) struct Server {
    child: Child,
    host: String,
    keys: Keys,
    /// Kept open: a closed pipe would be an error for whoever still prints.
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    /// Starts `binary serve` on `data` and waits for its ready line. Its log is appended to `data` + `.log`.
    ///
    /// # Errors
    /// What it wrote to stdout instead, when it ended without becoming ready.
    pub(crate) fn start(binary: &Path, data: &Path, keys: &Keys, environment: &[(&str, &str)]) -> Result<Self, String> {
        let log = File::options().create(true).append(true).open(data.with_extension("log"));
        let mut child = Command::new(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .env("KNARR_ACCESS_KEY", &keys.access)
            .env("KNARR_SECRET_KEY", &keys.secret)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.map_err(|e| e.to_string())?)
            .spawn()
            .map_err(|e| format!("{}: {e}", binary.display()))?;
        let mut stdout = BufReader::new(child.stdout.take().expect("was piped"));
        let mut seen = String::new();
        while let Ok(1..) = stdout.read_line(&mut seen) {
            if let Some((_, host)) = seen.split_once("knarr ready on http://") {
                let host = host.trim().to_owned();
                return Ok(Self { child, host, keys: keys.clone(), _stdout: stdout });
            }
        }
        let _ = child.kill();
        let status = child.wait().map_err(|e| e.to_string())?;
        Err(format!("server ended with {status} before it was ready: {seen}"))
    }

    /// `HOST:PORT`.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A client with the administrator's key.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.host, &self.keys)
    }

    /// A signer for prepared requests.
    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// SIGTERM; the exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("a running child has an id"), rustix::process::Signal::TERM)
            .expect("a child that was not waited for can be signalled");
        self.child.wait().expect("a child can be waited for").code()
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    /// Waits for a server that ends by itself; its exit code, none after a signal.
    pub(crate) fn wait(mut self) -> Option<i32> {
        self.child.wait().expect("a child can be waited for").code()
    }

    /// True once the process has ended.
    pub(crate) fn ended(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_some()
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// A number of `/proc/<pid>/<file>` by its label, for example RssAnon (KiB) of `status`; 0 once the process is gone.
pub(crate) fn proc_value(pid: u32, file: &str, label: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(label)?.strip_prefix(':'));
    line.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
