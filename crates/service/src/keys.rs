//! Access keys: who a signature belongs to, and the administrator's calls on them.

use std::sync::Arc;

use knarr_base::id::{AccountId, KeyId};
use knarr_base::limit;
use knarr_base::right::Grant;
use knarr_base::{Error, Kind, Result};
use zeroize::Zeroizing;

use crate::cache::Cache;
use crate::{Principal, Service};

/// A key's secret and what it may do. No Debug: the secret must not reach a log.
#[derive(Clone)]
pub struct Identity {
    /// For signature checks only.
    pub secret: Arc<Zeroizing<String>>,
    /// Who it is.
    pub principal: Arc<Principal>,
}

/// A key that lives as long as this process, with every right in the default account.
pub struct ProcessKey {
    /// Public half.
    pub id: KeyId,
    /// Secret half.
    pub secret: Zeroizing<String>,
}

/// A key as an administrator sees it: never its secret.
#[derive(Debug, Clone)]
pub struct KeyInfo {
    /// Public half.
    pub id: KeyId,
    /// Free text of the creator.
    pub label: String,
    /// What it may do.
    pub grants: Vec<Grant>,
    /// Unix milliseconds.
    pub created_ms: i64,
    /// Unix milliseconds, if revoked.
    pub revoked_ms: Option<i64>,
}

pub(crate) struct Keys {
    process: Vec<(KeyId, Identity)>,
    stored: Cache<KeyId, Identity>,
}

impl Keys {
    pub(crate) fn new(process: Vec<ProcessKey>) -> Self {
        let identity = |key: ProcessKey| {
            let principal = Principal {
                account: AccountId::default_account(),
                key: key.id.clone(),
                grants: vec![Grant::everything()],
            };
            (key.id, Identity { secret: Arc::new(key.secret), principal: Arc::new(principal) })
        };
        Self { process: process.into_iter().map(identity).collect(), stored: Cache::new(limit::KEYS_CACHED) }
    }
}

impl Service {
    /// Secret and rights of an access key; `None` for unknown and revoked keys. A revocation is seen by the next call.
    ///
    /// # Errors
    /// Those of the catalog.
    pub async fn find_key(&self, id: &KeyId) -> Result<Option<Identity>> {
        let keys = &self.inner.keys;
        if let Some((_, identity)) = keys.process.iter().find(|(key, _)| key == id) {
            return Ok(Some(identity.clone()));
        }
        let load = || async {
            let found = self.inner.catalog.find_key(id).await?;
            Ok(found.map(|record| Identity {
                secret: Arc::new(record.secret.into_inner()),
                principal: Arc::new(Principal { account: record.account, key: record.id, grants: record.grants }),
            }))
        };
        keys.stored.get(id, load).await
    }

    /// Makes a key in the caller's account; its secret is shown this once. Needs admin on everything.
    ///
    /// # Errors
    /// `Kind::Forbidden`, `Kind::Invalid` without grants.
    pub async fn create_key(
        &self,
        by: &Principal,
        label: &str,
        grants: Vec<Grant>,
    ) -> Result<(KeyId, Zeroizing<String>)> {
        by.need_admin()?;
        if grants.is_empty() || grants.iter().any(|g| g.rights.is_empty() || g.pattern.is_empty()) {
            return Err(Error::new(Kind::Invalid, "a key needs at least one right on at least one name pattern"));
        }
        if grants.len() > limit::GRANTS_PER_KEY || label.len() > limit::NAME_BYTES {
            return Err(Error::new(Kind::Invalid, "a key has at most 100 grants and a label of at most 128 bytes"));
        }
        let (id, secret) = self.inner.catalog.create_key(&by.key, &by.account, label, grants).await?;
        Ok((id, secret.into_inner()))
    }

    /// Keys of the caller's account, revoked ones too. Needs admin on everything.
    ///
    /// # Errors
    /// `Kind::Forbidden`.
    pub async fn list_keys(&self, by: &Principal) -> Result<Vec<KeyInfo>> {
        by.need_admin()?;
        let view = |key: knarr_catalog::keys::KeyInfo| KeyInfo {
            id: key.id,
            label: key.label,
            grants: key.grants,
            created_ms: key.created_ms,
            revoked_ms: key.revoked_ms,
        };
        Ok(self.inner.catalog.list_keys(&by.account).await?.into_iter().map(view).collect())
    }

    /// Revokes at once. Needs admin on everything.
    ///
    /// # Errors
    /// `Kind::Forbidden`, `Kind::NotFound` for keys that are unknown or another account's.
    pub async fn revoke_key(&self, by: &Principal, id: &KeyId) -> Result<()> {
        by.need_admin()?;
        let revoked = self.inner.catalog.revoke_key(&by.key, &by.account, id).await?;
        self.inner.keys.stored.clear();
        if revoked { Ok(()) } else { Err(Error::new(Kind::NotFound, format!("no access key {id}"))) }
    }
}
