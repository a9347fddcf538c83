//! An object on its way into a store: parts in flight while the next ones are made.

use bytes::Bytes;
use knarr_base::limit;
use object_store::path::Path as StorePath;
use object_store::{Error as StoreError, MultipartUpload, ObjectStore, PutMultipartOptions};
use tokio::task::JoinSet;

use super::staged::CreateOnly;
use super::{Overwrite, failed, refused};
use crate::error::Error;

/// Ends in [`Writer::finish`] or [`Writer::abort`].
#[derive(Debug)]
pub(crate) struct Writer {
    upload: Box<dyn MultipartUpload>,
    parts: JoinSet<Result<(), StoreError>>,
    name: String,
}

impl Writer {
    pub(super) async fn begin(
        store: &dyn ObjectStore,
        path: &StorePath,
        name: String,
        overwrite: Overwrite,
    ) -> Result<Self, Error> {
        let mut options = PutMultipartOptions::default();
        if overwrite == Overwrite::Refused {
            options.extensions.insert(CreateOnly);
        }
        let begun = store.put_multipart_opts(path, options).await;
        let upload = begun.map_err(|e| refused(&name, format!("beginning {name}"), e))?;
        Ok(Self { upload, parts: JoinSet::new(), name })
    }

    /// Sends the next bytes; waits while two earlier parts are still on their way.
    ///
    /// # Errors
    /// `Store`, also for an earlier part; the object cannot be finished then.
    pub(crate) async fn put(&mut self, part: Bytes) -> Result<(), Error> {
        while self.parts.len() >= limit::PARTS_IN_FLIGHT {
            self.wait_for_one().await?;
        }
        self.parts.spawn(self.upload.put_part(part.into()));
        Ok(())
    }

    /// Makes the object appear.
    ///
    /// # Errors
    /// `ObjectExists` where it must not replace another, `ObjectKey`, `Store`.
    pub(crate) async fn finish(&mut self) -> Result<(), Error> {
        while !self.parts.is_empty() {
            self.wait_for_one().await?;
        }
        match self.upload.complete().await {
            Ok(_) => Ok(()),
            Err(StoreError::AlreadyExists { .. }) => Err(Error::ObjectExists(self.name.clone())),
            Err(e) => Err(refused(&self.name, format!("finishing {}", self.name), e)),
        }
    }

    /// Gives the parts back after a failure. A store that cannot be reached keeps them until it clears old uploads
    /// itself; one that was about to finish the object may still do so.
    pub(crate) async fn abort(mut self) {
        self.parts.shutdown().await;
        if let Err(error) = self.upload.abort().await {
            tracing::warn!(object = self.name, error = %error, "an unfinished upload could not be given back");
        }
    }

    async fn wait_for_one(&mut self) -> Result<(), Error> {
        match self.parts.join_next().await {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(e))) => Err(failed(format!("writing {}", self.name), e)),
            Some(Err(e)) => Err(failed(format!("writing {}", self.name), e)),
        }
    }
}
