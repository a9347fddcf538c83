//! The one seam between the engine's files and the operating system.
//!
//! Logs, segments, masks and manifests are created, synced, named and mapped only through [`Disk`], so a test can fail,
//! fill or cut the power of every single call ([`fault`]). Nothing here retries and nothing here decides what an error
//! means.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use knarr_base::limit;

pub mod fault;

/// A new file that is being written. Not buffered.
pub trait DiskFile: Write + Send {
    /// Makes everything written so far durable (fdatasync). After an error nothing may be assumed about the bytes.
    fn sync(&mut self) -> io::Result<()>;
}

/// The file operations of the engine.
pub trait Disk: Send + Sync + 'static {
    /// Creates one directory; an existing one is success.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Creates a file that must not exist.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Gives a file a second name that must not exist: `AlreadyExists` tells the loser of a race.
    fn link_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; a missing one is success.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all below it; a missing one is success.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Names in a directory, ascending.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Reads a whole file to the heap.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Fills `buf` from `offset` with pread, past the page tables of any map.
    fn read_at(&self, path: &Path, offset: u64, buf: &mut [u8]) -> io::Result<()>;
    /// Maps a finished file. It must never be changed or cut afterwards; it may be removed.
    fn map(&self, path: &Path) -> io::Result<Bytes>;
    /// Bytes that this process may still write where `path` is.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
}

/// The real thing.
pub struct OsDisk;

impl OsDisk {
    /// As the engine takes it.
    pub fn shared() -> Arc<dyn Disk> {
        Arc::new(OsDisk)
    }
}

/// Large files are synced as they grow: otherwise the sync at their end keeps the disk from the log for long.
struct OsFile {
    file: File,
    /// Bytes written since the last sync.
    unsynced: usize,
}

impl Write for OsFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buf)?;
        self.unsynced += written;
        if self.unsynced >= limit::UNSYNCED_BYTES {
            self.sync()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for OsFile {
    fn sync(&mut self) -> io::Result<()> {
        self.unsynced = 0;
        self.file.sync_data()
    }
}

fn missing_is_done(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

impl Disk for OsDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        Ok(Box::new(OsFile { file, unsynced: 0 }))
    }

    fn link_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        missing_is_done(fs::remove_file(path))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        missing_is_done(fs::remove_dir_all(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn read_at(&self, path: &Path, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        File::open(path)?.read_exact_at(buf, offset)
    }

    fn map(&self, path: &Path) -> io::Result<Bytes> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(Bytes::new());
        }
        // SAFETY: the contract of `map` is that the file is finished: no code of ours opens an existing file for
        // writing (`create_new` is the only way to write), and the data directory is locked against other processes.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(Bytes::from_owner(map))
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}
