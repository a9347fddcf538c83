//! Who asks, and what they may do.

use knarr_base::id::{AccountId, KeyId};
use knarr_base::right::{Grant, Right};
use knarr_base::{Error, Kind, Result};

/// A caller whose signature was valid.
#[derive(Debug, Clone)]
pub struct Principal {
    /// Account of the key.
    pub account: AccountId,
    /// The key itself; audit and `update_person` name it.
    pub key: KeyId,
    /// Rights on name patterns.
    pub grants: Vec<Grant>,
}

impl Principal {
    /// True if any grant allows `right` on `name`.
    pub fn may(&self, right: Right, name: &str) -> bool {
        self.grants.iter().any(|g| g.allows(right, name))
    }

    /// True if any right at all is granted on `name`.
    pub fn knows(&self, name: &str) -> bool {
        Right::ALL.into_iter().any(|right| self.may(right, name))
    }

    /// # Errors
    /// `Kind::Forbidden` where [`Principal::may`] is false.
    pub fn need(&self, right: Right, name: &str) -> Result<()> {
        if self.may(right, name) {
            Ok(())
        } else {
            Err(Error::new(Kind::Forbidden, format!("this key has no {} right on {name:?}", right.name())))
        }
    }

    /// # Errors
    /// `Kind::Forbidden` unless the key administers everything in its account.
    pub fn need_admin(&self) -> Result<()> {
        // A literal `*` is covered only by the pattern that covers every name.
        self.need(Right::Admin, "*")
    }
}
