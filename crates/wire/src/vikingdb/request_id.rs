//! Request ids in the vendor's form: 53 lower-case hex digits (docs/wire/vikingdb.md section 2.1).

use std::sync::atomic::{AtomicU32, Ordering};

use axum::http::HeaderValue;

const LENGTH: usize = 53;
/// 32 hex digits of the answering host's IPv6 address; ours is the mapped loopback, for every host.
const HOST: &[u8; 32] = b"00000000000000000000ffff7f000001";

/// `02`, 13 digits of unix milliseconds, the host, and 6 hex digits that differ within a millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestId([u8; LENGTH]);

impl RequestId {
    fn new(now_ms: i64, tail: u32) -> Self {
        let mut text = [b'0'; LENGTH];
        text[1] = b'2';
        let mut ms = u64::try_from(now_ms).unwrap_or(0);
        for digit in text[2..15].iter_mut().rev() {
            *digit += u8::try_from(ms % 10).unwrap_or(0);
            ms /= 10;
        }
        text[15..47].copy_from_slice(HOST);
        for (at, digit) in text[47..].iter_mut().rev().enumerate() {
            let nibble = u8::try_from(tail >> (4 * at) & 15).unwrap_or(0);
            *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
        }
        Self(text)
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("made of ASCII digits")
    }

    /// As the value of `X-Tt-Logid`.
    pub(crate) fn header(&self) -> HeaderValue {
        HeaderValue::from_bytes(&self.0).expect("made of ASCII digits")
    }
}

/// Makes ids.
pub(crate) struct RequestIds(AtomicU32);

impl RequestIds {
    /// Starts anywhere, so that two servers or a restart differ within one millisecond.
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(getrandom::u32().unwrap_or(0)))
    }

    #[cfg(test)]
    pub(crate) fn starting_at(tail: u32) -> Self {
        Self(AtomicU32::new(tail))
    }

    pub(crate) fn next(&self, now_ms: i64) -> RequestId {
        RequestId::new(now_ms, self.0.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_vendors_form() {
        let id = RequestId::new(1_739_016_870_585, 0x00ab_cdef);
        assert_eq!(id.as_str(), "02173901687058500000000000000000000ffff7f000001abcdef");
        assert_eq!(id.header(), id.as_str());
        let ids = RequestIds::new();
        assert_ne!(ids.next(0), ids.next(0));
        assert_eq!(RequestId::new(-1, 0).as_str().len(), 53);
    }
}
