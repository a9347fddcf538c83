//! Who sent a request: everything that is decided from its head, before a byte of its body is read.

mod keys;
pub(crate) mod volc;

use std::future::Future;
use std::sync::Arc;

use knarr_base::id::KeyId;
use knarr_base::{Error, Kind, Result};
use knarr_service::Principal;
use knarr_service::keys::Identity;
use zeroize::Zeroizing;

use crate::Options;
use crate::auth::keys::SigningKeys;
use crate::auth::volc::{Claim, Head, Refusal};

const NO_API_KEYS: &str = "API keys are not offered, requests are signed with an access key";

/// Checks signatures.
pub(crate) struct Auth {
    options: Options,
    keys: SigningKeys,
    /// The secret of nobody: an unknown key is checked against it, so that it costs what a known one costs.
    nobody: Arc<Zeroizing<String>>,
}

/// A caller whose signature was valid.
#[derive(Debug)]
pub(crate) struct Caller {
    /// Who it is.
    pub(crate) principal: Arc<Principal>,
    /// SHA-256 that the body must have.
    pub(crate) body_sha256: [u8; 32],
}

impl Auth {
    pub(crate) fn new(options: Options) -> Self {
        let mut seed = [0; 32];
        // Without a random source the secret is a constant, which still opens nothing: see `authenticate`.
        let _ = getrandom::fill(&mut seed);
        Self { options, keys: SigningKeys::default(), nobody: Arc::new(Zeroizing::new(crate::sign::hex(&seed))) }
    }

    /// The caller, from the head alone. `lookup` finds a key's secret; its own failures pass through.
    ///
    /// # Errors
    /// `Kind::Unauthorized`, always with the same text, the reason going to the debug log only; but whoever sends an API
    /// key is told that there are none.
    pub(crate) async fn authenticate<F>(
        &self,
        head: &Head<'_>,
        now_ms: i64,
        lookup: impl FnOnce(KeyId) -> F,
    ) -> Result<Caller>
    where
        F: Future<Output = Result<Option<Identity>>>,
    {
        let claim = Claim::read(head, &self.options, now_ms).map_err(unauthorized)?;
        let found = lookup(KeyId::new(claim.access_key)).await?;
        let secret = found.as_ref().map_or(&self.nobody, |identity| &identity.secret);
        let genuine = claim.verify(secret, &self.keys);
        match found {
            Some(identity) if genuine => Ok(Caller { principal: identity.principal, body_sha256: claim.body_sha256 }),
            Some(_) => Err(unauthorized(Refusal::Mismatch)),
            None => Err(unauthorized(Refusal::UnknownKey)),
        }
    }
}

/// The one answer to every failed proof, and to the one thing that never is a proof here.
pub(crate) fn unauthorized(why: Refusal) -> Error {
    let text = if why == Refusal::ApiKey { NO_API_KEYS } else { "unauthorized" };
    Error::new(Kind::Unauthorized, text).with_source(why)
}

#[cfg(test)]
mod tests;
