//! Bodies: collected or streamed, always within a bound, and read to their end so that a refused client sees why.

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream;
use http_body_util::BodyExt;
use knarr_base::{Error, Kind, Result};
use knarr_service::buckets::ByteStream;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::auth::unauthorized;
use crate::auth::volc::Refusal;
use crate::http::limit::{Budget, Limits, Share};
use crate::json::invalid;

/// The length a request declares; `None` for a chunked body.
///
/// # Errors
/// `Kind::Invalid` for differing or malformed lengths.
pub(crate) fn declared_length(headers: &HeaderMap) -> Result<Option<u64>> {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return Ok(None);
    }
    let mut length = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        let digits = value.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        let this: u64 = digits.and_then(|d| d.parse().ok()).ok_or_else(|| invalid("malformed Content-Length"))?;
        if length.replace(this).is_some_and(|other| other != this) {
            return Err(invalid("Content-Length is given twice"));
        }
    }
    Ok(Some(length.unwrap_or(0)))
}

/// A body that is not fully read yet.
pub(crate) struct Incoming {
    body: Body,
    limits: Limits,
    /// The client sends nothing before it is told to go on, and it has not been told.
    waiting: bool,
}

/// A collected body and its share of the budget.
pub(crate) struct Collected {
    pub(crate) bytes: Bytes,
    _shares: Vec<Share>,
}

impl Incoming {
    pub(crate) fn new(body: Body, headers: &HeaderMap, limits: Limits) -> Self {
        Self { body, limits, waiting: headers.contains_key(header::EXPECT) }
    }

    /// The whole body. `declared` has been checked against the limit.
    ///
    /// # Errors
    /// `Kind::TooLarge`, `Kind::Busy` past the budget, `Kind::Invalid` for a body that breaks off or takes too long.
    pub(crate) async fn collect(&mut self, declared: Option<u64>, budget: &Budget) -> Result<Collected> {
        let wait = self.limits.body_timeout;
        let collected = timeout(wait, self.collect_now(declared, budget)).await;
        collected.unwrap_or_else(|_| Err(invalid("the body took too long to arrive")))
    }

    async fn collect_now(&mut self, declared: Option<u64>, budget: &Budget) -> Result<Collected> {
        let declared = declared.and_then(|n| usize::try_from(n).ok());
        let mut shares = Vec::new();
        let mut reserved = declared.unwrap_or(0);
        if reserved > 0 {
            shares.push(budget.take(reserved)?);
        }
        let mut first = Bytes::new();
        let mut joined: Option<BytesMut> = None;
        while let Some(piece) = self.piece().await? {
            let length = joined.as_ref().map_or(first.len(), BytesMut::len) + piece.len();
            if length > self.limits.body_bytes {
                return Err(Error::new(Kind::TooLarge, "the body is too large"));
            }
            if length > reserved {
                // Doubling keeps the number of shares small for a body of unknown length.
                let more = (length - reserved).max(reserved).min(self.limits.body_bytes - reserved);
                shares.push(budget.take(more)?);
                reserved += more;
            }
            match &mut joined {
                Some(joined) => joined.extend_from_slice(&piece),
                None if first.is_empty() => first = piece,
                None => {
                    let mut buffer = BytesMut::with_capacity(declared.unwrap_or(0).max(length));
                    buffer.extend_from_slice(&first);
                    buffer.extend_from_slice(&piece);
                    joined = Some(buffer);
                }
            }
        }
        Ok(Collected { bytes: joined.map_or(first, BytesMut::freeze), _shares: shares })
    }

    async fn piece(&mut self) -> Result<Option<Bytes>> {
        self.waiting = false;
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(invalid("the body broke off").with_source(error)),
                Some(Ok(frame)) => {
                    // Trailers carry nothing of ours.
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// Reads and drops the rest. False if it is too much or too slow: then the connection has to close.
    pub(crate) async fn drain(&mut self) -> bool {
        let (wait, mut left) = (self.limits.body_timeout, self.limits.refused_bytes);
        if self.body.is_end_stream() {
            return true;
        }
        if self.waiting || self.body.size_hint().lower() > left {
            return false;
        }
        let all = async {
            loop {
                match self.piece().await {
                    Ok(None) => return true,
                    Ok(Some(piece)) => match left.checked_sub(piece.len() as u64) {
                        Some(rest) => left = rest,
                        None => return false,
                    },
                    Err(_) => return false,
                }
            }
        };
        timeout(wait, all).await.unwrap_or(false)
    }
}

/// The body in pieces, hashed on the way: it ends with an error unless its hash is `expected`, so that whoever
/// stores it drops what it has. `shared` keeps the rest readable for [`Incoming::drain`].
pub(crate) fn stream(shared: Arc<Mutex<Incoming>>, expected: [u8; 32]) -> ByteStream {
    struct Progress {
        hash: Sha256,
        bytes: u64,
    }
    let start = Some(Progress { hash: Sha256::new(), bytes: 0 });
    stream::unfold(start, move |progress| {
        let shared = Arc::clone(&shared);
        async move {
            let mut progress = progress?;
            let mut incoming = shared.lock().await;
            let wait = incoming.limits.body_timeout;
            let next = timeout(wait, incoming.piece()).await;
            match next.unwrap_or_else(|_| Err(invalid("the body stopped arriving"))) {
                Ok(Some(piece)) => {
                    progress.bytes += piece.len() as u64;
                    if progress.bytes > incoming.limits.object_bytes {
                        return Some((Err(Error::new(Kind::TooLarge, "the object is too large")), None));
                    }
                    progress.hash.update(&piece);
                    Some((Ok(piece), Some(progress)))
                }
                Ok(None) => check_hash(progress.hash.finalize().into(), &expected).err().map(|e| (Err(e), None)),
                Err(error) => Some((Err(error), None)),
            }
        }
    })
    .boxed()
}

/// # Errors
/// `Kind::Unauthorized` if the body is not the one that was signed.
pub(crate) fn check_hash(actual: [u8; 32], expected: &[u8; 32]) -> Result<()> {
    if bool::from(actual.ct_eq(expected)) { Ok(()) } else { Err(unauthorized(Refusal::Body)) }
}

#[cfg(test)]
mod tests;
