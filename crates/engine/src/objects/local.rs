//! A directory as an object store: the object `bucket/key` is the plain file of that path.
//!
//! Not `object_store`'s own `LocalFileSystem`: it keeps unfinished files beside the finished ones, replaces whatever is
//! there, lists in no order, and takes paths through URLs, where a part like `a:` is not what it was.

use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use knarr_base::limit;
use object_store::path::Path as StorePath;
use object_store::{
    Attributes, CopyOptions, Error, Extensions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use rustix::fs::OFlags;

use super::list;
use super::staged::{CreateOnly, Staged, Upload};

/// Holds uploads that are not finished; no bucket can have the name.
const STAGING: &str = ".staging";

#[derive(Debug)]
pub(super) struct Local {
    root: PathBuf,
    reserve: u64,
    next_staged: AtomicU64,
}

impl Local {
    /// Makes the directory and empties its staging. `reserve`: bytes of the disk that objects leave free.
    pub(super) fn open(root: &Path, reserve: u64) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        let staging = root.join(STAGING);
        match fs::remove_dir_all(&staging) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => fs::create_dir(&staging)?,
        }
        sync_dir(root)?;
        Ok(Self { root: root.to_path_buf(), reserve, next_staged: AtomicU64::new(0) })
    }

    fn stage(&self, location: &StorePath) -> Result<Staged> {
        let number = self.next_staged.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join(STAGING).join(number.to_string());
        Staged::create(path, file_path(&self.root, location), self.root.clone(), self.reserve).map_err(generic)
    }

    fn list_from(
        &self,
        prefix: Option<&StorePath>,
        offset: Option<&StorePath>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (root, prefix) = (self.root.clone(), prefix.map(|p| p.to_string()).unwrap_or_default());
        let page = move |after: Option<String>| {
            let (root, prefix) = (root.clone(), prefix.clone());
            blocking(move || {
                let names = list::names(&root, &prefix, after.as_deref(), limit::LIST_PAGE).map_err(generic)?;
                let next = names.last().cloned();
                let metas: Vec<_> = names.into_iter().filter_map(|name| listed(&root, name).transpose()).collect();
                Ok::<_, Error>(next.map(|next| (stream::iter(metas), Some(next))))
            })
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
        let create_only = match options.mode {
            PutMode::Overwrite => false,
            PutMode::Create => true,
            PutMode::Update(_) => return Err(self.not_offered("conditional update")),
        };
        let staged = self.stage(location)?;
        blocking(move || {
            staged.write(&payload, 0)?;
            staged.publish(create_only)
        })
        .await
    }

    async fn put_multipart_opts(
        &self,
        location: &StorePath,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let create_only = options.extensions.get::<CreateOnly>().is_some();
        Ok(Box::new(Upload::new(self.stage(location)?, create_only)))
    }

    async fn get_opts(&self, location: &StorePath, options: GetOptions) -> Result<GetResult> {
        let (path, location) = (file_path(&self.root, location), location.clone());
        let root = self.root.clone();
        blocking(move || {
            let found = |e| missing_or_generic(e, &location);
            no_links(&path, &root).map_err(found)?;
            let file = OpenOptions::new().read(true).custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(&path);
            let file = file.map_err(found)?;
            let metadata = file.metadata().map_err(found)?;
            if !metadata.is_file() {
                return Err(found(io::ErrorKind::IsADirectory.into()));
            }
            let meta = meta(location.clone(), &metadata)?;
            options.check_preconditions(&meta)?;
            let range = options.range.map_or(Ok(0..meta.size), |range| range.as_range(meta.size));
            let range = range.map_err(|e| Error::Generic { store: "local", source: e.into() })?;
            let payload = GetResultPayload::File(file, path);
            Ok(GetResult { payload, meta, range, attributes: Attributes::new(), extensions: Extensions::new() })
        })
        .await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<StorePath>>) -> BoxStream<'static, Result<StorePath>> {
        let root = self.root.clone();
        let delete = move |location: StorePath| {
            let root = root.clone();
            blocking(move || {
                delete_file(&file_path(&root, &location), &root).map_err(|e| missing_or_generic(e, &location))?;
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

    async fn list_with_delimiter(&self, _: Option<&StorePath>) -> Result<ListResult> {
        Err(self.not_offered("listing by delimiter"))
    }

    async fn copy_opts(&self, _: &StorePath, _: &StorePath, _: CopyOptions) -> Result<()> {
        Err(self.not_offered("copying"))
    }
}

impl Local {
    fn not_offered(&self, operation: &str) -> Error {
        Error::NotImplemented { operation: operation.to_owned(), implementer: self.to_string() }
    }
}

/// Refuses a file behind a symbolic link.
fn no_links(path: &Path, root: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) if behind_link(dir, root)? => Err(io::Error::other("a directory of the store is a symbolic link")),
        _ => Ok(()),
    }
}

/// True if the directory or one above it, up to `root`, is a symbolic link: it may lead out of the store.
pub(super) fn behind_link(dir: &Path, root: &Path) -> io::Result<bool> {
    for dir in dir.ancestors().take_while(|dir| *dir != root) {
        if fs::symlink_metadata(dir)?.is_symlink() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The file of an object. `super::path` makes locations from checked names only.
fn file_path(root: &Path, location: &StorePath) -> PathBuf {
    root.join(location.as_ref())
}

fn meta(location: StorePath, metadata: &Metadata) -> Result<ObjectMeta> {
    let (inode, size) = (metadata.ino(), metadata.len());
    let modified = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    Ok(ObjectMeta {
        location,
        last_modified: metadata.modified().map_err(generic)?.into(),
        size,
        e_tag: Some(format!("\"{inode:x}-{modified:x}-{size:x}\"")),
        version: None,
    })
}

/// A listed name with its metadata; `None` if it was removed since its directory was read.
fn listed(root: &Path, name: String) -> Result<Option<ObjectMeta>> {
    let location = StorePath::parse(name)?;
    match fs::symlink_metadata(file_path(root, &location)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        found => meta(location, &found.map_err(generic)?).map(Some),
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
        blocking(move || {
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
    no_links(path, root)?;
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

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// No such file, or a directory, or a file where a directory would have to be: no such object.
fn missing_or_generic(error: io::Error, location: &StorePath) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
            Error::NotFound { path: location.to_string(), source: error.into() }
        }
        _ => generic(error),
    }
}

pub(super) fn generic(error: io::Error) -> Error {
    Error::Generic { store: "local", source: error.into() }
}

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(source) => Err(Error::JoinError { source }),
    }
}
