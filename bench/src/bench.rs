//! Where a run works and what all commands share.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use clap::Args;
use serde_json::{Value, json};

use crate::client::{Client, Keys};
use crate::measure;
use crate::process::Server;

/// Name of the measured collection.
pub(crate) const TABLE: &str = "w";
/// Clients of the call-rate commands.
pub(crate) const CLIENTS: usize = 8;

/// Options of every command.
#[derive(Args)]
pub(crate) struct Bench {
    /// Working directory; 20 GB free.
    #[arg(long, global = true, env = "BENCH_DIR", default_value = "bench-work")]
    pub(crate) dir: PathBuf,
    /// Rows of the table.
    #[arg(long, global = true, default_value_t = 1_000_000)]
    pub(crate) rows: i64,
    /// Runs of each figure; tables show the median, with the least and the greatest.
    #[arg(short, long, global = true, default_value_t = 3)]
    pub(crate) n: usize,
    /// The server to measure.
    #[arg(long, global = true, env = "KNARR_BIN", default_value = "target/release/knarr")]
    pub(crate) knarr: PathBuf,
}

impl Bench {
    /// Data directory that `load` makes and the others start from.
    pub(crate) fn table(&self) -> PathBuf {
        self.dir.join(format!("knarr_{}", self.rows))
    }

    /// A fresh copy of the loaded table, on disk before the clock starts.
    pub(crate) fn scratch(&self) -> io::Result<PathBuf> {
        self.copy(&self.table(), "knarr_scratch")
    }

    /// The same of another data directory, under this name.
    pub(crate) fn copy(&self, from: &Path, name: &str) -> io::Result<PathBuf> {
        let to = self.dir.join(name);
        self.remove(&to)?;
        copy_tree(from, &to)?;
        rustix::fs::sync();
        Ok(to)
    }

    /// Removes a data directory, if it is there, and its log.
    pub(crate) fn remove(&self, data: &Path) -> io::Result<()> {
        for result in [fs::remove_dir_all(data), fs::remove_file(data.with_extension("log"))] {
            result.or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })?;
        }
        Ok(())
    }

    pub(crate) fn start(&self, data: &Path) -> io::Result<Server> {
        let keys =
            Keys { access: "AKLTbench".to_owned(), secret: "only-on-loopback-and-only-for-a-measurement".to_owned() };
        Server::start(&self.knarr, data, &keys, &[]).map_err(io::Error::other)
    }

    /// The disk under the working directory, which bounds every durable figure.
    pub(crate) fn print_disk(&self) -> io::Result<()> {
        let p50 = measure::sync_p50(&self.dir)? * 1000.0;
        let verdict = if p50 <= 1.0 { "" } else { " - disk-bound figures below do not count" };
        println!("64 KiB append + fdatasync: p50 {p50:.2} ms{verdict}");
        Ok(())
    }
}

/// SIGTERM must end in a clean exit.
pub(crate) fn stop(server: Server) -> io::Result<()> {
    match server.stop() {
        Some(0) => Ok(()),
        code => Err(io::Error::other(format!("server exited with {code:?}"))),
    }
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Every file below `dir`; none if it is missing.
pub(crate) fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

/// Bytes of some files.
pub(crate) fn bytes(files: &[PathBuf]) -> io::Result<u64> {
    files.iter().map(|path| path.metadata().map(|m| m.len())).sum()
}

/// `task/create`; the task's id.
pub(crate) fn create_task(client: &mut Client, kind: &str, params: Value) -> Value {
    client.must("/api/task/create", &json!({"task_type": kind, "task_params": params}))["task_id"].take()
}

/// `process_info` once the task has this status.
pub(crate) fn wait(client: &mut Client, task: &Value, status: &str, every: Duration) -> Value {
    loop {
        let mut info = client.must("/api/task/info", &json!({"task_id": task}));
        if info["task_status"] == status {
            return info["process_info"].take();
        }
        assert!(info["task_status"] != "fail" && info["task_status"] != "done", "{info}");
        measure::pause(every);
    }
}
