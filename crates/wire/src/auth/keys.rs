//! Signing keys, derived once per credential and day.

use std::collections::HashMap;
use std::sync::Arc;

use knarr_base::limit;
use parking_lot::Mutex;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Derived keys by credential (`AK/date/region/service/request`). Only credentials whose signature was valid come in,
/// so a stranger cannot push others out.
#[derive(Default)]
pub(crate) struct SigningKeys(Mutex<HashMap<Box<str>, Entry>>);

struct Entry {
    /// What the key was derived from: a key whose secret has changed is derived anew.
    secret: Arc<Zeroizing<String>>,
    key: Arc<Zeroizing<[u8; 32]>>,
}

impl SigningKeys {
    pub(crate) fn get(&self, credential: &str, secret: &Arc<Zeroizing<String>>) -> Option<Arc<Zeroizing<[u8; 32]>>> {
        let entries = self.0.lock();
        let entry = entries.get(credential)?;
        let same = Arc::ptr_eq(&entry.secret, secret) || bool::from(entry.secret.as_bytes().ct_eq(secret.as_bytes()));
        same.then(|| Arc::clone(&entry.key))
    }

    pub(crate) fn put(&self, credential: &str, secret: &Arc<Zeroizing<String>>, key: Zeroizing<[u8; 32]>) {
        let mut entries = self.0.lock();
        if entries.len() >= limit::SIGNING_KEYS_CACHED {
            // Deriving again costs microseconds; yesterday's keys go the same way.
            entries.clear();
        }
        entries.insert(credential.into(), Entry { secret: Arc::clone(secret), key: Arc::new(key) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Arc<Zeroizing<String>> {
        Arc::new(Zeroizing::new(text.to_owned()))
    }

    #[test]
    fn a_changed_secret_is_not_found() {
        let keys = SigningKeys::default();
        keys.put("ak/20231109/r/air/request", &secret("one"), Zeroizing::new([1; 32]));
        assert!(keys.get("ak/20231109/r/air/request", &secret("one")).is_some());
        assert!(keys.get("ak/20231109/r/air/request", &secret("two")).is_none());
        assert!(keys.get("ak/20231110/r/air/request", &secret("one")).is_none());
    }

    #[test]
    fn the_cache_is_bounded() {
        let (keys, one) = (SigningKeys::default(), secret("one"));
        for n in 0..limit::SIGNING_KEYS_CACHED * 2 + 1 {
            keys.put(&n.to_string(), &one, Zeroizing::new([0; 32]));
            assert!(keys.0.lock().len() <= limit::SIGNING_KEYS_CACHED);
        }
        assert!(keys.get(&(limit::SIGNING_KEYS_CACHED * 2).to_string(), &one).is_some());
    }
}
