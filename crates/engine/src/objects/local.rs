//! A directory as an object store.
//!
//! Reading is `object_store`'s own `LocalFileSystem`. Writing is ours, because its uploads keep half-written files
//! beside the finished ones, replace whatever is there and sync everything at the very end: ours are staged in
//! `.staging` (a name no bucket can have), can be create-only, and are synced while they are being written. Listing is
//! ours because it must be ordered.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryStreamExt};
use knarr_base::limit;
use object_store::local::LocalFileSystem;
use object_store::path::Path as StorePath;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use parking_lot::Mutex;

use super::{blocking, list};

/// Holds uploads that are not finished.
const STAGING: &str = ".staging";

/// Asks `put_multipart_opts` for an upload that fails with `AlreadyExists` instead of replacing an object.
#[derive(Debug, Clone, Copy)]
pub(super) struct CreateOnly;

#[derive(Debug)]
pub(super) struct Local {
    files: LocalFileSystem,
    root: PathBuf,
    next_staged: AtomicU64,
}

impl Local {
    /// Makes the directory and empties its staging.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        let staging = root.join(STAGING);
        match fs::remove_dir_all(&staging) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => fs::create_dir(&staging)?,
        }
        sync_dir(root)?;
        let files = LocalFileSystem::new_with_prefix(root).map_err(io::Error::other)?;
        Ok(Self { files: files.with_fsync(true), root: root.to_path_buf(), next_staged: AtomicU64::new(0) })
    }

    fn stage(&self, location: &StorePath) -> Result<Staged> {
        let number = self.next_staged.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join(STAGING).join(number.to_string());
        let target = self.files.path_to_filesystem(location)?;
        let file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(generic)?;
        Ok(Staged { file, path, target, root: self.root.clone() })
    }

    fn list_from(
        &self,
        prefix: Option<&StorePath>,
        offset: Option<&StorePath>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (files, root) = (self.files.clone(), self.root.clone());
        let prefix = prefix.map(|p| p.to_string()).unwrap_or_default();
        let page = move |after: Option<String>| {
            let (files, root, prefix) = (files.clone(), root.clone(), prefix.clone());
            async move {
                let names = blocking(move || list::names(&root, &prefix, after.as_deref(), limit::LIST_PAGE)).await;
                let names = names.map_err(generic)?;
                let next = names.last().cloned();
                let metas = stream::iter(names).filter_map(move |name| {
                    let files = files.clone();
                    async move {
                        match files.head(&StorePath::parse(name).ok()?).await {
                            // Removed since its directory was read.
                            Err(Error::NotFound { .. }) => None,
                            found => Some(found),
                        }
                    }
                });
                Ok::<_, Error>(next.map(|next| (metas, Some(next))))
            }
        };
        let start = offset.map(|p| p.to_string());
        stream::try_unfold(start, page).try_flatten().boxed()
    }
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "local store {}", self.root.display())
    }
}

#[async_trait]
impl ObjectStore for Local {
    async fn put_opts(&self, location: &StorePath, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let staged = self.stage(location)?;
        blocking_store(move || {
            let mut at = 0;
            for bytes in &payload {
                staged.file.write_all_at(bytes, at).map_err(generic)?;
                at += bytes.len() as u64;
            }
            staged.publish(options.mode == PutMode::Create)
        })
        .await
    }

    async fn put_multipart_opts(
        &self,
        location: &StorePath,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let create_only = options.extensions.get::<CreateOnly>().is_some();
        let staged = self.stage(location)?;
        Ok(Box::new(Upload { staged: Arc::new(staged), syncing: Arc::default(), next: 0, create_only }))
    }

    async fn get_opts(&self, location: &StorePath, options: GetOptions) -> Result<GetResult> {
        self.files.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &StorePath, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.files.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<StorePath>>) -> BoxStream<'static, Result<StorePath>> {
        let (files, root) = (self.files.clone(), self.root.clone());
        let delete = move |location: StorePath| {
            let (path, root) = (files.path_to_filesystem(&location), root.clone());
            blocking_store(move || {
                delete_file(&path?, &root).map_err(|e| match e.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
                        Error::NotFound { path: location.to_string(), source: e.into() }
                    }
                    _ => generic(e),
                })?;
                Ok(location)
            })
        };
        locations.and_then(delete).boxed()
    }

    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_from(prefix, None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&StorePath>,
        offset: &StorePath,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_from(prefix, Some(offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&StorePath>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &StorePath, to: &StorePath, options: CopyOptions) -> Result<()> {
        self.files.copy_opts(from, to, options).await
    }
}

/// A file in staging. Dropped, it is gone, unless it was published under its own name.
#[derive(Debug)]
struct Staged {
    file: File,
    path: PathBuf,
    target: PathBuf,
    root: PathBuf,
}

impl Staged {
    /// Makes the file durable, then visible, then its name durable.
    fn publish(&self, create_only: bool) -> Result<PutResult> {
        self.file.sync_data().map_err(generic)?;
        let dir = self.target.parent().unwrap_or(&self.root);
        // Removing the last object of a directory removes the directory: it can go while we arrive.
        for _ in 0..100 {
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
struct Upload {
    staged: Arc<Staged>,
    syncing: Arc<Mutex<()>>,
    next: u64,
    create_only: bool,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, part: PutPayload) -> UploadPart {
        let mut at = self.next;
        self.next += part.content_length() as u64;
        let (staged, syncing) = (Arc::clone(&self.staged), Arc::clone(&self.syncing));
        let write = move || {
            for bytes in &part {
                staged.file.write_all_at(bytes, at).map_err(generic)?;
                at += bytes.len() as u64;
            }
            drop(part);
            // One part at a time syncs what has been written so far, so that little is left for the end.
            match syncing.try_lock() {
                Some(_alone) => staged.file.sync_data().map_err(generic),
                None => Ok(()),
            }
        };
        blocking_store(write).boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (staged, create_only) = (Arc::clone(&self.staged), self.create_only);
        blocking_store(move || staged.publish(create_only)).await
    }

    /// The staged file goes with the last owner.
    async fn abort(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The bytes of a found object, in pieces of a useful size.
pub(super) fn body(found: GetResult) -> BoxStream<'static, Result<Bytes>> {
    let range = found.range.clone();
    let (file, _) = match found.payload {
        GetResultPayload::File(file, path) => (file, path),
        GetResultPayload::Stream(stream) => return stream,
    };
    let read = |(file, range): (File, Range<u64>)| async move {
        if range.is_empty() {
            return Ok(None);
        }
        blocking_store(move || {
            let mut bytes =
                vec![0; usize::try_from((range.end - range.start).min(limit::OBJECT_READ_BYTES)).unwrap_or(0)];
            file.read_exact_at(&mut bytes, range.start).map_err(generic)?;
            let rest = range.start + bytes.len() as u64..range.end;
            Ok(Some((Bytes::from(bytes), (file, rest))))
        })
        .await
    };
    stream::try_unfold((file, range), read).boxed()
}

/// Removes a file and the directories that it leaves empty, up to the bucket's.
fn delete_file(path: &Path, root: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    let mut dir = path.parent();
    while let Some(at) = dir
        && at.parent() != Some(root)
        && fs::remove_dir(at).is_ok()
    {
        dir = at.parent();
    }
    dir.map_or(Ok(()), sync_dir)
}

/// Makes `dir` and its parents below `root`, and makes their names durable.
fn make_dirs(dir: &Path, root: &Path) -> io::Result<()> {
    if dir == root || dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(root);
    make_dirs(parent, root)?;
    match fs::create_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        made => made?,
    }
    sync_dir(parent)
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn generic(error: io::Error) -> Error {
    Error::Generic { store: "local", source: error.into() }
}

async fn blocking_store<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(source) => Err(Error::JoinError { source }),
    }
}
