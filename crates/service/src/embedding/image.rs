//! Images as callers name them: an object in a bucket of this server, or the bytes themselves.
//!
//! An address on the network is refused, not called and not passed on: a request would decide where the model connects.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::TryStreamExt;
use knarr_base::object::ObjectPath;
use knarr_base::right::Right;
use knarr_base::{Error, Kind, Result, limit};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Input, Material};
use crate::{Inner, Principal, heavy};

/// Room for the requests that hold images for a model.
pub(crate) struct ImageRoom(Semaphore);

impl Default for ImageRoom {
    fn default() -> Self {
        Self(Semaphore::new(limit::EMBEDDING_IMAGE_REQUESTS))
    }
}

impl ImageRoom {
    /// A place until it is dropped.
    ///
    /// # Errors
    /// `Kind::Busy`.
    pub(crate) fn enter(&self) -> Result<SemaphorePermit<'_>> {
        let busy = |_| Error::new(Kind::Busy, "too many requests with images at once");
        self.0.try_acquire().map_err(busy)
    }
}

impl Inner {
    /// What a model reads of this material.
    ///
    /// # Errors
    /// `Kind::Invalid` for an image that is too large, is not there or is not base64, `Kind::Forbidden` for one in a
    /// bucket that the caller may not read.
    pub(super) async fn input(&self, by: &Principal, material: Material) -> Result<Input> {
        let Material { text, image } = material;
        let image = match image {
            None => None,
            Some(named) => Some(match named.strip_prefix("tos://") {
                Some(path) => self.stored_image(by, path).await?,
                None => heavy(named.len(), || given_image(&named).map(str::to_owned))?,
            }),
        };
        Ok(Input { text, image })
    }

    /// An object as base64.
    async fn stored_image(&self, by: &Principal, path: &str) -> Result<String> {
        let invalid = |why: &str| Error::new(Kind::Invalid, format!("image tos://{path}: {why}"));
        let missing = |error: Error| match error.kind() {
            Kind::NotFound => invalid("no bucket of this server has it, and no other store is read"),
            _ => error,
        };
        let ObjectPath { bucket, key } = ObjectPath::parse(path).map_err(|e| invalid(e.message()))?;
        self.own_bucket(by, Right::Read, &bucket).await.map_err(missing)?;
        let (info, bytes) = self.stores.get(&bucket, &key).await.map_err(|e| missing(e.into()))?;
        if info.size > limit::EMBEDDING_IMAGE_BYTES as u64 {
            return Err(too_large());
        }
        let bytes = bytes.try_collect::<Vec<_>>().await?.concat();
        Ok(heavy(bytes.len(), || STANDARD.encode(&bytes)))
    }
}

/// The base64 of an image that a request holds, with or without the head of a data URI.
fn given_image(given: &str) -> Result<&str> {
    let invalid = |why: &str| Err(Error::new(Kind::Invalid, format!("an image {why}")));
    let base64 = if let Some(rest) = given.strip_prefix("data:") {
        match rest.split_once(";base64,") {
            Some((_, base64)) => base64,
            None => return invalid("in a data URI must be base64"),
        }
    } else if given.contains("://") && !given.starts_with("base64://") {
        return invalid("is tos://BUCKET/OBJECT in a bucket of this server, or base64; other addresses are not called");
    } else {
        given.strip_prefix("base64://").unwrap_or(given)
    };
    if base64.len() > limit::EMBEDDING_IMAGE_BYTES.div_ceil(3) * 4 {
        return Err(too_large());
    }
    match STANDARD.decode(base64) {
        Ok(bytes) if !bytes.is_empty() => Ok(base64),
        _ => invalid("is tos://BUCKET/OBJECT, or base64"),
    }
}

fn too_large() -> Error {
    Error::new(Kind::Invalid, format!("an image has at most {} bytes", limit::EMBEDDING_IMAGE_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_holds_an_image_as_base64() {
        for given in ["aGk=", "base64://aGk=", "data:image/png;base64,aGk="] {
            assert_eq!(given_image(given).expect(given), "aGk=");
        }
        for bad in
            ["", "a", "a b=", "data:image/png,hi", "data:;base64,", "http://h/i.png", "https://h/i", "file:///etc/x"]
        {
            let kind = given_image(bad).map_err(|e| e.kind());
            assert_eq!(kind, Err(Kind::Invalid), "{bad}");
        }
        let most = STANDARD.encode(vec![0; limit::EMBEDDING_IMAGE_BYTES]);
        assert!(given_image(&most).is_ok());
        assert!(given_image(&format!("{most}AAAA")).is_err());
    }

    #[test]
    fn only_so_many_requests_hold_images() {
        let room = ImageRoom::default();
        let held: Vec<_> = (0..limit::EMBEDDING_IMAGE_REQUESTS).map(|_| room.enter().expect("room")).collect();
        assert_eq!(room.enter().map(|_| ()).map_err(|e| e.kind()), Err(Kind::Busy));
        drop(held);
        assert!(room.enter().is_ok());
    }
}
