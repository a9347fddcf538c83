//! Uploads to a directory: written under a number in staging, then published under their own name.
//!
//! Parts go straight to the disk where it can be had: an export of many gigabytes neither pushes the tables' pages out of
//! memory nor leaves everything to a sync at its end.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use knarr_base::limit;
use object_store::{Error, MultipartUpload, PutPayload, PutResult, Result, UploadPart};
use rustix::fs::OFlags;

use super::ALIGN;
use super::local::{blocking, generic, sync_dir};

/// Asks `put_multipart_opts` for an upload that fails with `AlreadyExists` instead of replacing an object.
#[derive(Debug, Clone, Copy)]
pub(super) struct CreateOnly;

/// A file in staging. Dropped, it is gone, unless it was published under its own name.
#[derive(Debug)]
pub(super) struct Staged {
    file: File,
    /// The same file without the page cache in between.
    direct: Option<File>,
    path: PathBuf,
    target: PathBuf,
    root: PathBuf,
    /// Free bytes that stay free.
    reserve: u64,
}

impl Staged {
    /// `path` in staging will be `target` below `root`. What would leave less than `reserve` bytes free is refused.
    pub(super) fn create(path: PathBuf, target: PathBuf, root: PathBuf, reserve: u64) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        // Not every file system has it.
        let direct = OFlags::DIRECT.bits().cast_signed();
        let direct = OpenOptions::new().write(true).custom_flags(direct).open(&path).ok();
        Ok(Self { file, direct, path, target, root, reserve })
    }

    pub(super) fn write(&self, payload: &PutPayload, mut at: u64) -> Result<()> {
        self.check_space(payload.content_length() as u64).map_err(generic)?;
        for bytes in payload {
            self.write_bytes(bytes, at).map_err(generic)?;
            at += bytes.len() as u64;
        }
        Ok(())
    }

    /// Files leave the tables their room: a full disk must not keep rows from being written, or deleted.
    fn check_space(&self, bytes: u64) -> io::Result<()> {
        let stat = rustix::fs::fstatvfs(&self.file)?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free < self.reserve.saturating_add(bytes) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn write_bytes(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let aligned = at.is_multiple_of(ALIGN as u64) && bytes.as_ptr().addr().is_multiple_of(ALIGN);
        let blocks = if aligned { bytes.len() - bytes.len() % ALIGN } else { 0 };
        let (straight, rest) = bytes.split_at(blocks);
        match &self.direct {
            Some(direct) if blocks > 0 => match direct.write_all_at(straight, at) {
                // A disk of larger blocks than ours.
                Err(e) if e.kind() == io::ErrorKind::InvalidInput => self.file.write_all_at(bytes, at),
                written => written.and_then(|()| self.file.write_all_at(rest, at + blocks as u64)),
            },
            _ => self.file.write_all_at(bytes, at),
        }
    }

    /// Makes the file durable, then visible, then its name durable.
    pub(super) fn publish(&self, create_only: bool) -> Result<PutResult> {
        self.file.sync_data().map_err(generic)?;
        let dir = self.target.parent().unwrap_or(&self.root);
        // Removing the last object of a directory removes the directory: it can go while we arrive.
        for _ in 0..limit::PLACING_TRIES {
            make_dirs(dir, &self.root).map_err(|e| self.placing(e))?;
            let placed = if create_only {
                fs::hard_link(&self.path, &self.target)
            } else {
                fs::rename(&self.path, &self.target)
            };
            match placed {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(self.placing(e)),
                Ok(()) => {
                    sync_dir(dir).map_err(generic)?;
                    return Ok(PutResult { e_tag: None, version: None, extensions: Default::default() });
                }
            }
        }
        Err(generic(io::Error::other("the object's directory keeps being removed")))
    }

    fn placing(&self, error: io::Error) -> Error {
        let path = self.target.display().to_string();
        match error.kind() {
            // A directory of that name means that other keys go on from this one.
            io::ErrorKind::AlreadyExists if self.target.is_file() => {
                Error::AlreadyExists { path, source: error.into() }
            }
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
                Error::NotSupported { source: error.into() }
            }
            _ => generic(error),
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Renamed away, or nobody's any more; what a crash leaves is removed at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

/// Parts go to their place in the staged file as they come, in any order.
#[derive(Debug)]
pub(super) struct Upload {
    staged: Arc<Staged>,
    next: u64,
    create_only: bool,
}

impl Upload {
    pub(super) fn new(staged: Staged, create_only: bool) -> Self {
        Self { staged: Arc::new(staged), next: 0, create_only }
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, part: PutPayload) -> UploadPart {
        let (at, staged) = (self.next, Arc::clone(&self.staged));
        self.next += part.content_length() as u64;
        blocking(move || staged.write(&part, at)).boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (staged, create_only) = (Arc::clone(&self.staged), self.create_only);
        blocking(move || staged.publish(create_only)).await
    }

    /// The staged file goes with the last owner.
    async fn abort(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Makes `dir` and its parents below `root`, and makes their names durable.
fn make_dirs(dir: &Path, root: &Path) -> io::Result<()> {
    if dir == root {
        return Ok(());
    }
    if let Ok(found) = fs::symlink_metadata(dir)
        && found.is_dir()
    {
        return make_dirs(dir.parent().unwrap_or(root), root);
    }
    let parent = dir.parent().unwrap_or(root);
    make_dirs(parent, root)?;
    match fs::create_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && fs::symlink_metadata(dir)?.is_dir() => {}
        made => made?,
    }
    sync_dir(parent)
}
