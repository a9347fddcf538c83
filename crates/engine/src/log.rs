//! The log of a table: every acknowledged write that no segment holds yet.
//!
//! Owned by the table's committer, which is the only one to append; read once, when the table opens. FORMAT.md section
//! "Log" has the bytes. The rules that make an acknowledgement true:
//! - a group of records is appended with one write and one sync, and only then acknowledged;
//! - after any failed write or sync the file is never appended to again: the next use copies its acknowledged records
//!   to a new, synced file that supersedes it (a page cache can call a page clean that never reached the disk);
//! - files get their final name only when they are synced, so a half-made file is never mistaken for a log.
//!
//! What it never does: interpret a payload, or decide that a record may be forgotten (its owner calls
//! [`Log::trim`] with the sequence number that the newest manifest covers).

mod frame;
mod recovery;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use knarr_base::limit;

use crate::disk::{Disk, DiskFile};
use crate::error::{Error, Result};

pub(crate) use frame::{FILE_HEADER_BYTES as EMPTY_FILE_BYTES, Group, RecordKind};
pub(crate) use recovery::{Record, recover};

/// Appends records and forgets them when told to.
pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    tail: Tail,
    /// Complete files, oldest first.
    closed: Vec<ClosedFile>,
    /// Numbers of files that a newer one supersedes and that are still to be removed.
    superseded: Vec<u64>,
    /// Lowest number that the next file must supersede.
    abandoned: Option<u64>,
    next_number: u64,
}

struct ClosedFile {
    number: u64,
    last_seq: u64,
}

enum Tail {
    /// The next append starts a file.
    Closed,
    Open(OpenFile),
    /// Never appended to again; its first `acked` bytes are acknowledged.
    Broken {
        number: u64,
        acked: u64,
    },
}

struct OpenFile {
    number: u64,
    file: Box<dyn DiskFile>,
    salt: u64,
    len: u64,
    last_seq: u64,
}

fn file_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}.log"))
}

impl Log {
    /// An empty log in a directory that exists.
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> Self {
        Self {
            disk,
            dir,
            tail: Tail::Closed,
            closed: Vec::new(),
            superseded: Vec::new(),
            abandoned: None,
            next_number: 1,
        }
    }

    /// True if records may not be synced: the next [`Log::begin`] copies them.
    pub(crate) fn needs_repair(&self) -> bool {
        matches!(self.tail, Tail::Broken { .. })
    }

    /// Makes the log ready for one append: repairs it after a failure, starts a file where one is needed. The group
    /// that comes back is empty and can only be appended to this log, before any other call.
    ///
    /// # Errors
    /// The log stays as it was; acknowledged records are not touched.
    pub(crate) fn begin(&mut self, flushed_seq: u64) -> Result<Group> {
        if let Tail::Open(open) = &self.tail
            && open.len >= limit::LOG_FILE_BYTES
        {
            self.rotate();
        }
        if !matches!(self.tail, Tail::Open(_)) {
            self.start_file(flushed_seq)?;
        }
        match &self.tail {
            Tail::Open(open) => Ok(Group::new(open.salt, open.len)),
            Tail::Closed | Tail::Broken { .. } => Err(Error::Stopped),
        }
    }

    /// Writes and syncs a group. After an error the group is not acknowledged and the file is given up.
    pub(crate) fn append(&mut self, group: &Group) -> Result<()> {
        let Tail::Open(open) = &mut self.tail else { return Err(Error::Stopped) };
        fail::fail_point!("log::append::before_write");
        let result = open.file.write_all(group.bytes()).and_then(|()| {
            fail::fail_point!("log::append::before_sync");
            open.file.sync()
        });
        if let Err(error) = result {
            self.tail = Tail::Broken { number: open.number, acked: open.len };
            return Err(if crate::error::is_full(&error) {
                Error::DiskFull
            } else {
                Error::WriteFailed(Arc::new(error))
            });
        }
        fail::fail_point!("log::append::after_sync");
        open.len += group.bytes().len() as u64;
        open.last_seq = group.last_seq();
        Ok(())
    }

    /// Ends the open file: the next append starts a new one, so a file never spans two memtables.
    pub(crate) fn rotate(&mut self) {
        if let Tail::Open(open) = &self.tail {
            self.closed.push(ClosedFile { number: open.number, last_seq: open.last_seq });
            self.tail = Tail::Closed;
        }
    }

    /// Removes what a manifest with this `flushed_seq` makes unnecessary. Files that cannot be removed now are tried
    /// again next time.
    pub(crate) fn trim(&mut self, flushed_seq: u64) {
        fail::fail_point!("log::trim::before_remove");
        let (disk, dir) = (&self.disk, &self.dir);
        let remove = |number: u64| match disk.remove(&file_path(dir, number)) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(number, %error, "a log file could not be removed");
                false
            }
        };
        if !self.superseded.is_empty() {
            self.superseded.retain(|number| !remove(*number));
            // A superseded file must be gone for good before the one that supersedes it may go.
            if !self.superseded.is_empty() || disk.sync_dir(dir).is_err() {
                return;
            }
        }
        self.closed.retain(|file| file.last_seq > flushed_seq || !remove(file.number));
    }

    /// A new file with the acknowledged records of a broken one, durable under its name when this returns.
    fn start_file(&mut self, flushed_seq: u64) -> Result<()> {
        let number = self.next_number;
        // A failed attempt leaves an unknown state behind under this number: the next one supersedes it.
        self.next_number += 1;
        let supersedes = match self.tail {
            Tail::Broken { number: broken, .. } => self.abandoned.map_or(broken, |a| a.min(broken)),
            Tail::Open(_) | Tail::Closed => self.abandoned.unwrap_or(number),
        };
        let salt = frame::random_salt();
        let header = frame::file_header(number, supersedes, salt);
        let mut carried = Group::new(salt, header.len() as u64);
        if let Tail::Broken { number, acked } = self.tail {
            recovery::carry_over(&*self.disk, &self.dir, number, acked, flushed_seq, &mut carried)?;
        }
        let abandoned = self.abandoned.replace(supersedes.min(number));
        let file = self.write_file(number, &header, &carried)?;
        self.superseded.extend(supersedes..number);
        self.abandoned = None;
        let len = (header.len() + carried.bytes().len()) as u64;
        tracing::debug!(number, supersedes, ?abandoned, "log file started");
        self.tail = Tail::Open(OpenFile { number, file, salt, len, last_seq: carried.last_seq() });
        Ok(())
    }

    fn write_file(&self, number: u64, header: &[u8], carried: &Group) -> Result<Box<dyn DiskFile>> {
        let path = file_path(&self.dir, number);
        let temporary = path.with_extension("tmp");
        let write = || {
            self.disk.remove(&temporary)?;
            let mut file = self.disk.create_new(&temporary)?;
            file.write_all(header)?;
            file.write_all(carried.bytes())?;
            fail::fail_point!("log::start::before_sync");
            file.sync()?;
            fail::fail_point!("log::start::before_link");
            self.disk.link_new(&temporary, &path)?;
            self.disk.remove(&temporary)?;
            fail::fail_point!("log::start::before_dir_sync");
            self.disk.sync_dir(&self.dir)?;
            fail::fail_point!("log::start::after_dir_sync");
            Ok(file)
        };
        write().map_err(|error: std::io::Error| {
            if crate::error::is_full(&error) { Error::DiskFull } else { Error::WriteFailed(Arc::new(error)) }
        })
    }
}
