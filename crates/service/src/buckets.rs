//! Buckets and the objects in them. A bucket belongs to one account; its name is global, as with every object store.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use knarr_base::object::{BucketName, ObjectKey};
use knarr_base::right::Right;
use knarr_base::{Error, Kind, Result, limit};
use knarr_catalog::buckets::BucketOutcome;

use crate::{Inner, Principal, Service};

pub use knarr_engine::objects::ObjectInfo;

/// Bytes of an object in pieces.
pub type ByteStream = BoxStream<'static, Result<Bytes>>;

impl Service {
    /// Idempotent: true if it is new. Needs admin or export on the bucket.
    ///
    /// # Errors
    /// `Kind::Forbidden`, also for a bucket of another account.
    pub async fn create_bucket(&self, by: &Principal, name: &BucketName) -> Result<bool> {
        if !by.may(Right::Admin, name.as_str()) {
            by.need(Right::Export, name.as_str())?;
        }
        self.inner.ensure_bucket(by, name).await
    }

    /// Buckets of the caller's account that it may read, with their creation time in unix ms.
    ///
    /// # Errors
    /// Those of the catalog.
    pub async fn list_buckets(&self, by: &Principal) -> Result<Vec<(BucketName, i64)>> {
        let mut all = self.inner.catalog.list_buckets(&by.account).await?;
        all.retain(|(name, _)| by.knows(name.as_str()));
        Ok(all)
    }

    /// Objects whose key starts with `prefix`, ascending, after `after`, at most `limit` (bounded by
    /// `limit::LIST_PAGE`). Needs read on the bucket.
    ///
    /// # Errors
    /// `Kind::Forbidden`, `Kind::NotFound`.
    pub async fn list_objects(
        &self,
        by: &Principal,
        bucket: &BucketName,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectInfo>> {
        self.inner.own_bucket(by, Right::Read, bucket).await?;
        Ok(self.inner.stores.list(bucket, prefix, after, limit.min(limit::LIST_PAGE)).await?)
    }

    /// Needs read on the bucket.
    ///
    /// # Errors
    /// `Kind::Forbidden`, `Kind::NotFound`.
    pub async fn get_object(
        &self,
        by: &Principal,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> Result<(ObjectInfo, ByteStream)> {
        self.inner.own_bucket(by, Right::Read, bucket).await?;
        let (info, bytes) = self.inner.stores.get(bucket, key).await?;
        Ok((info, bytes.map(|piece| piece.map_err(Error::from)).boxed()))
    }

    /// Replaces. Needs write on the bucket.
    ///
    /// # Errors
    /// `Kind::Forbidden`, `Kind::NotFound`, `Kind::Unavailable`.
    pub async fn put_object(
        &self,
        by: &Principal,
        bucket: &BucketName,
        key: &ObjectKey,
        body: ByteStream,
    ) -> Result<ObjectInfo> {
        self.inner.own_bucket(by, Right::Write, bucket).await?;
        let body = body.map(|piece| piece.map_err(knarr_engine::Error::Upload));
        Ok(self.inner.stores.put_stream(bucket, key, body).await?)
    }
}

fn foreign(bucket: &BucketName) -> Error {
    Error::new(Kind::Forbidden, format!("bucket {bucket} belongs to another account"))
}

impl Inner {
    /// The bucket is there, is the caller's, and may be used so.
    pub(crate) async fn own_bucket(&self, by: &Principal, right: Right, bucket: &BucketName) -> Result<()> {
        by.need(right, bucket.as_str())?;
        match self.catalog.bucket_owner(bucket).await? {
            Some(owner) if owner == by.account => Ok(()),
            Some(_) => Err(foreign(bucket)),
            None => Err(Error::new(Kind::NotFound, format!("no bucket {bucket}"))),
        }
    }

    /// The bucket exists in the catalog and in its store, and is the caller's. True if it is new.
    pub(crate) async fn ensure_bucket(&self, by: &Principal, name: &BucketName) -> Result<bool> {
        let outcome = self.catalog.ensure_bucket(&by.key, &by.account, name).await?;
        if outcome == BucketOutcome::Foreign {
            return Err(foreign(name));
        }
        self.stores.ensure_bucket(name).await?;
        Ok(outcome == BucketOutcome::Created)
    }
}
