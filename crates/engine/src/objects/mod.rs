//! Where files go: buckets of named objects.
//!
//! [`Stores`] is what the rest of the system uses; it takes only checked names. Behind it stands an
//! `object_store::ObjectStore`: today `local`, a directory tree where an object is the plain file
//! `DIR/objects/<bucket>/<key>`. Objects appear whole and synced or not at all, and a listing is in ascending order of
//! the keys' bytes; another store must keep both promises.

pub mod fault;
mod list;
mod local;
mod staged;
mod writer;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use knarr_base::limit;
use knarr_base::object::{BucketName, ObjectKey};
use object_store::path::Path as StorePath;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload};

use self::local::Local;
pub(crate) use self::writer::Writer;
use crate::error::Error;

/// What is known of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Inside its bucket.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// Changes whenever the object is replaced; with the quotes it has in HTTP.
    pub etag: String,
    /// Unix milliseconds.
    pub last_modified_ms: i64,
}

/// An object's bytes, in order.
pub type Body = BoxStream<'static, Result<Bytes, Error>>;

/// All buckets. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stores {
    store: Arc<dyn ObjectStore>,
    root: PathBuf,
}

impl Stores {
    /// The store in `dir`, which is made if it is missing. Unfinished uploads of an earlier process are removed, so no
    /// other process may have the directory open.
    ///
    /// # Errors
    /// `Store`.
    pub fn open_local(dir: &Path) -> Result<Stores, Error> {
        Self::open_reserving(dir, limit::OBJECT_RESERVE_BYTES)
    }

    fn open_reserving(dir: &Path, reserve: u64) -> Result<Stores, Error> {
        let store = Local::open(dir, reserve).map_err(|e| failed("opening the object store", e))?;
        Ok(Stores { store: Arc::new(store), root: dir.to_path_buf() })
    }

    /// As [`Stores::open_local`], with a store that misbehaves as `faults` tell it. For tests.
    ///
    /// # Errors
    /// `Store`.
    pub fn open_faulty(dir: &Path, faults: &fault::Faults) -> Result<Stores, Error> {
        let Stores { store, root } = Self::open_local(dir)?;
        Ok(Stores { store: Arc::new(fault::FailingStore::new(store, faults.clone())), root })
    }

    /// Makes the bucket unless it is there; true if it was made.
    ///
    /// # Errors
    /// `Store`.
    pub async fn ensure_bucket(&self, name: &BucketName) -> Result<bool, Error> {
        let (root, dir) = (self.root.clone(), self.bucket_dir(name));
        local::blocking(move || match fs::create_dir(&dir) {
            Ok(()) => local::sync_dir(&root).map(|()| true).map_err(local::generic),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(false),
            Err(e) => Err(local::generic(e)),
        })
        .await
        .map_err(|e| failed(format!("creating bucket {name}"), e))
    }

    /// True if the bucket is there.
    ///
    /// # Errors
    /// `Store`.
    pub async fn bucket_exists(&self, name: &BucketName) -> Result<bool, Error> {
        let dir = self.bucket_dir(name);
        local::blocking(move || match fs::metadata(&dir) {
            Ok(found) => Ok(found.is_dir()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(local::generic(e)),
        })
        .await
        .map_err(|e| failed(format!("looking for bucket {name}"), e))
    }

    /// Up to `limit` objects whose keys start with `prefix` and come after `after`, in ascending order of bytes.
    ///
    /// # Errors
    /// `BucketMissing`, `Store`.
    pub async fn list(
        &self,
        bucket: &BucketName,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectInfo>, Error> {
        self.need_bucket(bucket).await?;
        // The directory that holds every match. A prefix that no key can have matches nothing.
        let (dir, _) = prefix.rsplit_once('/').unwrap_or(("", prefix));
        let Some(dir) = inside(bucket, dir).filter(|_| !prefix.starts_with('/') && !prefix.contains("//")) else {
            return Ok(Vec::new());
        };
        // Keys come after their own prefix cut by one character.
        let cut = prefix.char_indices().next_back().map_or("", |(end, _)| &prefix[..end]);
        let start = inside(bucket, after.filter(|after| *after > cut).unwrap_or(cut));
        let mut found = match &start {
            Some(start) => self.store.list_with_offset(Some(&dir), start),
            None => self.store.list(Some(&dir)),
        };
        let mut page = Vec::new();
        while page.len() < limit
            && let Some(meta) = found.next().await
        {
            let info = info(bucket, meta.map_err(|e| failed(format!("listing {bucket}/{prefix}"), e))?);
            if info.key.starts_with(prefix) {
                if after.is_none_or(|after| info.key.as_str() > after) {
                    page.push(info);
                }
            } else if info.key.as_str() > prefix {
                break;
            }
        }
        Ok(page)
    }

    /// What is known of an object; `None` if there is none.
    ///
    /// # Errors
    /// `ObjectKey`, `Store`.
    pub async fn head(&self, bucket: &BucketName, key: &ObjectKey) -> Result<Option<ObjectInfo>, Error> {
        match self.store.head(&path(bucket, key)?).await {
            Ok(meta) => Ok(Some(info(bucket, meta))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(refused(key, format!("looking for {bucket}/{key}"), e)),
        }
    }

    /// An object with its bytes.
    ///
    /// # Errors
    /// `ObjectMissing`, `ObjectKey`, `Store`; the body may fail with `Store` half-way.
    pub async fn get(&self, bucket: &BucketName, key: &ObjectKey) -> Result<(ObjectInfo, Body), Error> {
        let what = format!("reading {bucket}/{key}");
        let found = match self.store.get(&path(bucket, key)?).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Err(Error::ObjectMissing(format!("{bucket}/{key}"))),
            Err(e) => return Err(refused(key, what, e)),
        };
        let info = info(bucket, found.meta.clone());
        let body = local::body(found).map_err(move |e| failed(what.clone(), e));
        Ok((info, body.boxed()))
    }

    /// Stores the bytes of `body` under `key`, replacing what was there. Nothing appears unless the body ends well.
    ///
    /// # Errors
    /// Those of the body, `BucketMissing`, `ObjectKey`, `Store`.
    pub async fn put_stream(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        body: impl Stream<Item = Result<Bytes, Error>> + Send,
    ) -> Result<ObjectInfo, Error> {
        let mut writer = self.writer(bucket, key, Overwrite::Allowed).await?;
        if let Err(error) = send_all(&mut writer, body).await {
            writer.abort().await;
            return Err(error);
        }
        let stored = self.head(bucket, key).await?;
        stored.ok_or_else(|| Error::ObjectMissing(format!("{bucket}/{key}")))
    }

    /// Stores a small object that must not replace another. The same bytes under that name count as stored.
    ///
    /// # Errors
    /// `ObjectExists`, `BucketMissing`, `ObjectKey`, `Store`.
    pub async fn put_new(&self, bucket: &BucketName, key: &ObjectKey, bytes: Bytes) -> Result<(), Error> {
        self.need_bucket(bucket).await?;
        let payload = PutPayload::from(bytes.clone());
        match self.store.put_opts(&path(bucket, key)?, payload, PutMode::Create.into()).await {
            Ok(_) => Ok(()),
            Err(object_store::Error::AlreadyExists { .. }) => {
                let same = match self.get(bucket, key).await {
                    Ok((info, body)) => {
                        info.size == bytes.len() as u64 && body.try_collect::<Vec<_>>().await?.concat() == bytes
                    }
                    Err(Error::ObjectMissing(_)) => false,
                    Err(e) => return Err(e),
                };
                if same { Ok(()) } else { Err(Error::ObjectExists(format!("{bucket}/{key}"))) }
            }
            Err(e) => Err(refused(key, format!("writing {bucket}/{key}"), e)),
        }
    }

    /// Removes an object; one that is not there counts as removed.
    ///
    /// # Errors
    /// `ObjectKey`, `Store`.
    pub async fn delete(&self, bucket: &BucketName, key: &ObjectKey) -> Result<(), Error> {
        match self.store.delete(&path(bucket, key)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(refused(key, format!("removing {bucket}/{key}"), e)),
        }
    }

    /// Begins an object that is written part by part and appears when it is finished.
    pub(crate) async fn writer(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        overwrite: Overwrite,
    ) -> Result<Writer, Error> {
        self.need_bucket(bucket).await?;
        Writer::begin(self.store.as_ref(), &path(bucket, key)?, format!("{bucket}/{key}"), overwrite).await
    }

    async fn need_bucket(&self, name: &BucketName) -> Result<(), Error> {
        if self.bucket_exists(name).await? { Ok(()) } else { Err(Error::BucketMissing(name.to_string())) }
    }

    fn bucket_dir(&self, name: &BucketName) -> PathBuf {
        self.root.join(name.as_str())
    }
}

async fn send_all(writer: &mut Writer, body: impl Stream<Item = Result<Bytes, Error>> + Send) -> Result<(), Error> {
    let mut body = std::pin::pin!(body);
    let mut part = Vec::new();
    while let Some(bytes) = body.next().await {
        part.extend_from_slice(&bytes?);
        if part.len() >= limit::PART_BYTES {
            writer.put(std::mem::take(&mut part).into()).await?;
        }
    }
    if !part.is_empty() {
        writer.put(part.into()).await?;
    }
    writer.finish().await
}

/// Parts whose bytes begin at a multiple of it in memory can go to a disk without a copy.
pub(crate) const ALIGN: usize = 4096;

/// Whether a finished object may replace one of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overwrite {
    Allowed,
    Refused,
}

/// The store's path of an object. Keys hold nothing that it would have to escape, so they stand in it as they are.
fn path(bucket: &BucketName, key: &ObjectKey) -> Result<StorePath, Error> {
    let refused = |e: object_store::path::Error| Error::ObjectKey { key: key.to_string(), why: e.to_string() };
    StorePath::parse(format!("{bucket}/{key}")).map_err(refused)
}

/// A path below a bucket from an unchecked text; `None` if no object can have it.
fn inside(bucket: &BucketName, text: &str) -> Option<StorePath> {
    StorePath::parse(format!("{bucket}/{text}")).ok()
}

fn info(bucket: &BucketName, meta: ObjectMeta) -> ObjectInfo {
    let key = meta.location.as_ref();
    let key = key.strip_prefix(bucket.as_str()).and_then(|key| key.strip_prefix('/')).unwrap_or(key);
    ObjectInfo {
        key: key.to_owned(),
        size: meta.size,
        etag: meta.e_tag.unwrap_or_default(),
        last_modified_ms: meta.last_modified.timestamp_millis(),
    }
}

fn failed(what: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let source = source.into();
    if storage_full(source.as_ref()) { Error::DiskFull } else { Error::Store { what: what.into(), source } }
}

fn storage_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let full = |e: &io::Error| e.kind() == io::ErrorKind::StorageFull;
    error.downcast_ref::<io::Error>().is_some_and(full) || error.source().is_some_and(storage_full)
}

/// A store's refusal: of the key's shape, or a failure.
fn refused(key: impl ToString, what: String, error: object_store::Error) -> Error {
    match error {
        object_store::Error::NotSupported { .. } => Error::ObjectKey {
            key: key.to_string(),
            why: "a part of it is an object, or it is the beginning of other objects' keys".to_owned(),
        },
        error => failed(what, error),
    }
}

#[cfg(test)]
mod tests;
