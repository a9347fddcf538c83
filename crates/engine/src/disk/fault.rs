//! A disk that breaks on request, for tests of every crate above.
//!
//! [`FaultDisk`] works on a real directory (the live image: what a process sees, page cache included) and keeps in
//! memory what would survive a power cut (the durable image: bytes that were synced, names whose directory was synced).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Disk, DiskFile, OsDisk};

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// EIO, nothing done.
    Eio,
    /// ENOSPC, nothing done.
    Full,
    /// A write leaves half of its bytes, then EIO. Any other call: EIO after it was done (a lost answer).
    Half,
}

#[derive(Default)]
struct State {
    calls: u64,
    fail_at: Option<(u64, Fault)>,
    fail_every_from: Option<(u64, Fault)>,
    fail_matching: Option<(&'static str, &'static str, Fault)>,
    fail_every_matching: Option<(&'static str, &'static str, Fault)>,
    full: bool,
    fired: u64,
    /// Bytes of each file that reached the disk, by identity; names link to it.
    durable: BTreeMap<u64, Vec<u8>>,
    /// What a process sees: path to identity.
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    dirs: BTreeSet<PathBuf>,
    durable_dirs: BTreeSet<PathBuf>,
    next: u64,
}

/// See the module.
pub struct FaultDisk {
    root: PathBuf,
    state: Arc<Mutex<State>>,
}

impl FaultDisk {
    /// Faults below `root`, which must exist and counts as durable.
    pub fn new(root: impl Into<PathBuf>) -> Arc<Self> {
        Arc::new(Self { root: root.into(), state: Arc::default() })
    }

    /// Changing calls (create, write, sync, link, remove, directory calls) made so far.
    pub fn calls(&self) -> u64 {
        self.state.lock().calls
    }

    /// The `n`-th changing call from now (1 = the next one) fails once.
    pub fn fail_nth(&self, n: u64, fault: Fault) {
        let mut state = self.state.lock();
        state.fail_at = Some((state.calls + n, fault));
        state.fired = 0;
    }

    /// Every changing call from the `n`-th on fails, as on a device that went away.
    pub fn fail_from(&self, n: u64, fault: Fault) {
        let mut state = self.state.lock();
        state.fail_every_from = Some((state.calls + n, fault));
        state.fired = 0;
    }

    /// The next call named `operation` ("write", "sync", "link", ...) on a path that contains `part` fails once. Of the
    /// calls that change nothing only "read_at" can fail, and only so.
    pub fn fail_matching(&self, operation: &'static str, part: &'static str, fault: Fault) {
        let mut state = self.state.lock();
        state.fail_matching = Some((operation, part, fault));
        state.fired = 0;
    }

    /// As [`FaultDisk::fail_matching`], but every such call fails.
    pub fn fail_every_matching(&self, operation: &'static str, part: &'static str, fault: Fault) {
        let mut state = self.state.lock();
        state.fail_every_matching = Some((operation, part, fault));
        state.fired = 0;
    }

    /// No more faults. True if one happened since the last request.
    pub fn heal(&self) -> bool {
        let mut state = self.state.lock();
        (state.fail_at, state.fail_every_from) = (None, None);
        (state.fail_matching, state.fail_every_matching) = (None, None);
        std::mem::take(&mut state.fired) > 0
    }

    /// While full, creating and writing answer ENOSPC and `free_bytes` is 0.
    pub fn set_full(&self, full: bool) {
        self.state.lock().full = full;
    }

    /// What a power cut would leave now, written below `target` (which must be an empty directory).
    pub fn power_loss(&self, target: &Path) -> io::Result<()> {
        let state = self.state.lock();
        let reachable = |path: &Path| {
            path.ancestors().skip(1).take_while(|p| *p != self.root).all(|p| state.durable_dirs.contains(p))
        };
        let below = |path: &Path| target.join(path.strip_prefix(&self.root).unwrap_or(path));
        for dir in state.durable_dirs.iter().filter(|d| reachable(d)) {
            std::fs::create_dir_all(below(dir))?;
        }
        for (path, file) in state.durable_names.iter().filter(|(p, _)| reachable(p)) {
            std::fs::write(below(path), state.durable.get(file).map_or(&[][..], Vec::as_slice))?;
        }
        Ok(())
    }

    fn call<T>(&self, operation: &str, path: &Path, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.lock();
        match state.fault(operation, path) {
            None => act(&mut state),
            Some(Fault::Half) => act(&mut state).and_then(|_| Err(Fault::Eio.error())),
            Some(fault) => Err(fault.error()),
        }
    }
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Fault::Full => io::ErrorKind::StorageFull.into(),
            Fault::Eio | Fault::Half => io::Error::other("injected EIO"),
        }
    }
}

impl State {
    fn fault(&mut self, operation: &str, path: &Path) -> Option<Fault> {
        self.calls += 1;
        let mut fault = None;
        if let Some((at, kind)) = self.fail_at
            && self.calls == at
        {
            fault = Some(kind);
        }
        if let Some((from, kind)) = self.fail_every_from
            && self.calls >= from
        {
            fault = Some(kind);
        }
        fault = self.matching(operation, path).or(fault);
        if self.full && matches!(operation, "create" | "write") {
            fault = Some(Fault::Full);
        }
        self.fired += u64::from(fault.is_some());
        fault
    }

    fn matching(&mut self, operation: &str, path: &Path) -> Option<Fault> {
        let matches = |(wanted, part, kind): (&str, &str, Fault)| {
            (wanted == operation && path.to_string_lossy().contains(part)).then_some(kind)
        };
        let every = self.fail_every_matching.and_then(matches);
        let once = self.fail_matching.and_then(matches);
        if once.is_some() {
            self.fail_matching = None;
        }
        once.or(every)
    }
}

struct FaultFile {
    inner: Box<dyn DiskFile>,
    path: PathBuf,
    id: u64,
    written: Vec<u8>,
    state: Arc<Mutex<State>>,
}

impl Write for FaultFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let fault = self.state.lock().fault("write", &self.path);
        let take = match fault {
            None => buf.len(),
            Some(Fault::Half) => buf.len() / 2,
            Some(_) => 0,
        };
        self.inner.write_all(&buf[..take])?;
        self.written.extend_from_slice(&buf[..take]);
        fault.map_or(Ok(take), |fault| Err(fault.error()))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for FaultFile {
    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.state.lock();
        let fault = state.fault("sync", &self.path);
        if matches!(fault, None | Some(Fault::Half)) {
            let durable = state.durable.entry(self.id).or_default();
            durable.extend_from_slice(&self.written);
        }
        // A failed sync drops the dirty pages: a later one says success and writes nothing of them.
        self.written.clear();
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }
}

impl Disk for FaultDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.call("create_dir", path, |state| {
            OsDisk.create_dir(path)?;
            state.dirs.insert(path.to_owned());
            Ok(())
        })
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.call("create", path, |state| {
            let inner = OsDisk.create_new(path)?;
            state.next += 1;
            let id = state.next;
            state.names.insert(path.to_owned(), id);
            let file = FaultFile { inner, path: path.to_owned(), id, written: Vec::new(), state: self.state.clone() };
            Ok(Box::new(file) as Box<dyn DiskFile>)
        })
    }

    fn link_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("link", to, |state| {
            OsDisk.link_new(from, to)?;
            if let Some(id) = state.names.get(from).copied() {
                state.names.insert(to.to_owned(), id);
            }
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call("remove", path, |state| {
            OsDisk.remove(path)?;
            state.names.remove(path);
            Ok(())
        })
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.call("remove_dir", path, |state| {
            OsDisk.remove_dir_all(path)?;
            state.names.retain(|name, _| !name.starts_with(path));
            state.dirs.retain(|name| !name.starts_with(path));
            Ok(())
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.call("sync_dir", path, |state| {
            let inside = |name: &Path| name.parent() == Some(path);
            state.durable_names.retain(|name, _| !inside(name));
            state.durable_dirs.retain(|name| !inside(name));
            let names: Vec<_> = state.names.iter().filter(|(n, _)| inside(n)).map(|(n, i)| (n.clone(), *i)).collect();
            state.durable_names.extend(names);
            let dirs: Vec<_> = state.dirs.iter().filter(|n| inside(n)).cloned().collect();
            state.durable_dirs.extend(dirs);
            Ok(())
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        OsDisk.list(path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        OsDisk.read(path)
    }

    fn read_at(&self, path: &Path, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        if let Some(fault) = state.matching("read_at", path) {
            state.fired += 1;
            return Err(fault.error());
        }
        drop(state);
        OsDisk.read_at(path, offset, buf)
    }

    fn map(&self, path: &Path) -> io::Result<Bytes> {
        OsDisk.map(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        if self.state.lock().full { Ok(0) } else { OsDisk.free_bytes(path) }
    }
}
