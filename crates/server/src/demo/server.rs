//! A server process of the demo's own: this program again, on a free port.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use zeroize::Zeroizing;

use crate::client::Client;
use crate::failure::{Exit, Failure, Result};
use crate::keyfile::Credentials;

/// Killed when it goes out of scope.
pub(super) struct Server {
    child: Child,
    address: String,
    credentials: Credentials,
}

impl Server {
    /// Starts it and waits until it is ready.
    pub(super) fn start(data: &Path) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data"]).arg(data);
        // Settings and keys of the user's shell are for another server.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KNARR_")) {
            command.env_remove(name);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take();
        let mut server = Self {
            child,
            address: String::new(),
            credentials: Credentials { access_key: String::new(), secret_key: Zeroizing::default() },
        };
        for line in stdout.map(BufReader::new).into_iter().flat_map(BufRead::lines) {
            if let Some(address) = line?.strip_prefix("knarr ready on ") {
                address.clone_into(&mut server.address);
                server.credentials = read_keys(&data.join("admin.key"))?;
                return Ok(server);
            }
        }
        Err(Failure::failed("the server did not start"))
    }

    /// A client with the administrator's key.
    pub(super) fn client(&self) -> Result<Client> {
        let Credentials { access_key, secret_key } = &self.credentials;
        Client::new(&self.address, Credentials { access_key: access_key.clone(), secret_key: secret_key.clone() })
    }

    /// SIGKILL: no goodbye, no flush.
    pub(super) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already dead is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The pair in an `admin.key`.
fn read_keys(path: &Path) -> Result<Credentials> {
    let text = Zeroizing::new(fs::read_to_string(path).map_err(|e| Failure::file(&path.display().to_string(), e))?);
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
    match (value("export KNARR_ACCESS_KEY="), value("export KNARR_SECRET_KEY=")) {
        (Some(access_key), Some(secret)) => Ok(Credentials { access_key, secret_key: Zeroizing::new(secret) }),
        _ => Err(Failure::failed(format!("{} holds no keys", path.display()))),
    }
}

/// On Ctrl-C: removes `dir` and leaves. The server is in the same process group and gets the signal too.
pub(super) fn clean_on_interrupt(dir: Option<PathBuf>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            if let Some(dir) = dir {
                // Best effort: a directory that cannot be removed now is one that the system removes later.
                let _ = fs::remove_dir_all(dir);
            }
            std::process::exit(Exit::Interrupted as i32);
        }
    });
    Ok(())
}
