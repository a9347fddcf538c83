//! What requests may use at once. The numbers are those of `base::limit`; tests put smaller ones in.

use std::sync::Arc;
use std::time::Duration;

use knarr_base::{Error, Kind, Result, limit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bounds of one request.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Bytes of a collected body.
    pub(crate) body_bytes: usize,
    /// Bytes of a body that is streamed into an object.
    pub(crate) object_bytes: u64,
    /// Bytes of a refused body that are read and dropped, so that its sender sees the answer.
    pub(crate) refused_bytes: u64,
    /// Time for a collected body to arrive, and between two pieces of a streamed one.
    pub(crate) body_timeout: Duration,
    /// Time from a body's last byte to the answer.
    pub(crate) request_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: limit::BODY_BYTES,
            object_bytes: limit::OBJECT_PUT_BYTES,
            refused_bytes: limit::REFUSED_BODY_BYTES,
            body_timeout: limit::BODY_TIMEOUT,
            request_timeout: limit::REQUEST_TIMEOUT,
        }
    }
}

/// A share of a budget, given back on drop.
pub(crate) type Share = OwnedSemaphorePermit;

/// Something that all requests share. Never waited for: past it the client waits and sends again.
pub(crate) struct Budget(Arc<Semaphore>);

impl Budget {
    /// `total` units.
    pub(crate) fn new(total: usize) -> Self {
        Self(Arc::new(Semaphore::new(total.min(Semaphore::MAX_PERMITS))))
    }

    /// Takes `units`, or refuses with `Kind::Busy`.
    pub(crate) fn take(&self, units: usize) -> Result<Share> {
        let taken = u32::try_from(units).ok().and_then(|n| Arc::clone(&self.0).try_acquire_many_owned(n).ok());
        taken.ok_or_else(|| Error::new(Kind::Busy, "the server is at its limit of requests"))
    }
}
