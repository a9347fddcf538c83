//! What one access key may ask at once and per second. Counted from the moment a signature is known to be valid, so nobody
//! can use up what belongs to somebody else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use knarr_base::id::KeyId;
use knarr_base::{Error, Kind, Result, limit};
use parking_lot::Mutex;

/// One table for all keys.
pub(crate) struct Quotas {
    at_once: usize,
    /// 0: no bound.
    per_second: u32,
    keys: Arc<Mutex<HashMap<KeyId, Use>>>,
}

#[derive(Debug)]
struct Use {
    running: usize,
    /// Requests that may start now, in parts of one.
    left: f64,
    at: Duration,
}

/// One running request, given back on drop.
#[derive(Debug)]
pub(crate) struct Turn {
    key: KeyId,
    keys: Arc<Mutex<HashMap<KeyId, Use>>>,
}

impl Quotas {
    pub(crate) fn new(at_once: usize, per_second: u32) -> Self {
        Self { at_once, per_second, keys: Arc::default() }
    }

    /// Begins a request of `key` at the monotonic time `now`.
    ///
    /// # Errors
    /// `Kind::Busy` past either bound.
    pub(crate) fn take(&self, key: &KeyId, now: Duration) -> Result<Turn> {
        let mut keys = self.keys.lock();
        if keys.len() >= limit::KEYS_COUNTED && !keys.contains_key(key) {
            // Whoever has been idle for a second has its whole burst again: nothing is lost.
            keys.retain(|_, used| used.running > 0 || now.saturating_sub(used.at) < Duration::from_secs(1));
        }
        let burst = f64::from(self.per_second);
        let used = keys.entry(key.clone()).or_insert(Use { running: 0, left: burst, at: now });
        if used.running >= self.at_once {
            return Err(Error::new(Kind::Busy, "this access key has too many requests at once"));
        }
        if self.per_second > 0 {
            let passed = now.saturating_sub(used.at).as_secs_f64();
            used.left = passed.mul_add(burst, used.left).min(burst);
            if used.left < 1.0 {
                used.at = now;
                return Err(Error::new(Kind::Busy, "this access key has too many requests per second"));
            }
            used.left -= 1.0;
        }
        used.at = now;
        used.running += 1;
        Ok(Turn { key: key.clone(), keys: Arc::clone(&self.keys) })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(used) = self.keys.lock().get_mut(&self.key) {
            used.running -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> KeyId {
        KeyId::new(name)
    }

    #[test]
    fn a_key_has_so_many_requests_at_once() {
        let quotas = Quotas::new(2, 0);
        let now = Duration::ZERO;
        let first = quotas.take(&key("a"), now).expect("one");
        let _second = quotas.take(&key("a"), now).expect("two");
        assert_eq!(quotas.take(&key("a"), now).expect_err("three").kind(), Kind::Busy);
        let _other = quotas.take(&key("b"), now).expect("another key");
        drop(first);
        assert!(quotas.take(&key("a"), now).is_ok());
    }

    #[test]
    fn a_key_has_so_many_requests_per_second() {
        let quotas = Quotas::new(100, 10);
        let count =
            |name: &str, ms| (0..100).filter(|_| quotas.take(&key(name), Duration::from_millis(ms)).is_ok()).count();
        assert_eq!(count("a", 5000), 10, "a burst");
        assert_eq!(count("a", 5050), 0, "half a request");
        assert_eq!(count("a", 5100), 1);
        assert_eq!(count("b", 5100), 10, "another key");
        assert_eq!(count("a", 5600), 5);
        assert_eq!(count("a", 60_000), 10, "no more than a burst is saved up");
    }

    #[test]
    fn idle_keys_are_forgotten_and_busy_ones_are_not() {
        let quotas = Quotas::new(1, 1);
        let busy = quotas.take(&key("busy"), Duration::ZERO).expect("the first");
        for n in 1..limit::KEYS_COUNTED {
            drop(quotas.take(&key(&n.to_string()), Duration::ZERO).expect("room"));
        }
        let later = Duration::from_secs(2);
        drop(quotas.take(&key("new"), later).expect("room"));
        assert_eq!(quotas.keys.lock().len(), 2);
        assert!(quotas.take(&key("busy"), later).is_err());
        drop(busy);
        assert!(quotas.take(&key("busy"), later).is_ok());
    }
}
