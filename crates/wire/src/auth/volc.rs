//! Volcengine HMAC-SHA256: what a request claims, and whether it is true (docs/wire/vikingdb.md section 1.5).

use std::borrow::Cow;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue};
use knarr_base::clock::Civil;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::Options;
use crate::auth::keys::SigningKeys;
use crate::http::query;
use crate::sign;

/// The scheme of the vendor's API keys.
const BEARER: &str = "Bearer ";

/// Why a request is refused. For the debug log only: every caller gets the same answer, but for [`Refusal::ApiKey`],
/// which says nothing about any key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("no authorization header")]
    Missing,
    #[error("malformed authorization header")]
    Malformed,
    #[error("an API key instead of a signature")]
    ApiKey,
    #[error("scope does not fit this server")]
    Scope,
    #[error("x-date is missing, malformed or not in the scope")]
    Date,
    #[error("x-date is too far from the server's clock")]
    Skew,
    #[error("x-date and x-content-sha256 must be signed")]
    Unsigned,
    #[error("a signed header is missing, repeated or listed twice")]
    Header,
    #[error("malformed percent-escape in path or query")]
    Escape,
    #[error("a long-lived key carries no security token")]
    Token,
    #[error("unknown access key")]
    UnknownKey,
    #[error("signature does not match")]
    Mismatch,
    #[error("body does not have the signed hash")]
    Body,
}

/// The part of a request that its signature covers directly.
pub(crate) struct Head<'a> {
    /// What the scope must name; the signature covers it through the scope.
    pub(crate) service: &'static str,
    pub(crate) method: &'a str,
    /// As received, percent-encoded.
    pub(crate) path: &'a str,
    /// As received, without `?`.
    pub(crate) query: &'a str,
    pub(crate) headers: &'a HeaderMap,
}

/// The parts of an `Authorization` header.
#[derive(Debug, PartialEq, Eq)]
struct Authorization<'a> {
    /// `AK/date/region/service/request`
    credential: &'a str,
    access_key: &'a str,
    /// The credential after the access key.
    scope: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    /// Lower-case names joined by `;`.
    signed_headers: Cow<'a, str>,
    signature: [u8; 32],
}

impl<'a> Authorization<'a> {
    /// `HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`, each once, any blanks around the commas.
    fn parse(text: &'a str) -> Option<Self> {
        let rest = text.trim().strip_prefix(sign::ALGORITHM)?.strip_prefix([' ', '\t'])?;
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for part in rest.split(',') {
            let (name, value) = part.trim().split_once('=')?;
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return None,
            };
            if slot.replace(value).is_some() {
                return None;
            }
        }
        let (credential, signed_headers) = (credential?, signed_headers?);
        let (access_key, scope) = credential.split_once('/')?;
        let mut parts = scope.split('/');
        let (date, region, service) = (parts.next()?, parts.next()?, parts.next()?);
        let closed = parts.next() == Some(sign::TERMINATOR) && parts.next().is_none();
        if access_key.is_empty() || !closed {
            return None;
        }
        let signed_headers = if signed_headers.bytes().any(|b| b.is_ascii_uppercase()) {
            Cow::Owned(signed_headers.to_ascii_lowercase())
        } else {
            Cow::Borrowed(signed_headers)
        };
        let signature = sign::unhex(signature?)?;
        Some(Self { credential, access_key, scope, date, region, service, signed_headers, signature })
    }
}

/// A well-formed request that says who signed it; nothing is proven yet.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    /// Public half of the key.
    pub(crate) access_key: &'a str,
    /// What the body must hash to.
    pub(crate) body_sha256: [u8; 32],
    authorization: Authorization<'a>,
    x_date: &'a str,
    /// SHA-256 of the canonical request.
    canonical: [u8; 32],
    /// The same with the proxy's `X-Forwarded-Host` as host, where that is trusted.
    forwarded: Option<[u8; 32]>,
}

impl<'a> Claim<'a> {
    /// Reads the head and checks all that needs no key.
    pub(crate) fn read(head: &Head<'a>, options: &Options, now_ms: i64) -> Result<Self, Refusal> {
        let header = only(head.headers, "authorization").ok_or(Refusal::Missing)?;
        let text = header.to_str().map_err(|_| Refusal::Malformed)?;
        if text.trim_start().get(..BEARER.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(BEARER)) {
            return Err(Refusal::ApiKey);
        }
        let authorization = Authorization::parse(text).ok_or(Refusal::Malformed)?;
        let region_fits = options.regions.is_empty() || options.regions.iter().any(|r| r == authorization.region);
        if authorization.service != head.service || !region_fits {
            return Err(Refusal::Scope);
        }
        let x_date = only(head.headers, "x-date").and_then(|v| v.to_str().ok()).ok_or(Refusal::Date)?;
        let date_ms = parse_date(x_date).ok_or(Refusal::Date)?;
        if x_date.get(..8) != Some(authorization.date) {
            return Err(Refusal::Date);
        }
        if options.clock_skew_ms > 0 && now_ms.abs_diff(date_ms) > options.clock_skew_ms {
            return Err(Refusal::Skew);
        }
        if head.headers.contains_key("x-security-token") {
            return Err(Refusal::Token);
        }
        let body_hash =
            only(head.headers, "x-content-sha256").and_then(|v| v.to_str().ok()).ok_or(Refusal::Unsigned)?;
        let body_sha256 = sign::unhex(body_hash).ok_or(Refusal::Body)?;

        let headers = signed_headers(&authorization.signed_headers, head.headers)?;
        let uri = sign::canonical_uri(&query::decode(head.path, false).ok_or(Refusal::Escape)?);
        let query = sign::canonical_query(query::pairs(head.query).ok_or(Refusal::Escape)?);
        let hash = |headers: &[(&str, &[u8])]| -> [u8; 32] {
            Sha256::digest(sign::canonical_request(head.method, &uri, &query, headers, body_hash)).into()
        };
        let canonical = hash(&headers);
        let forwarded = if options.trust_forwarded_host {
            with_forwarded_host(headers, head.headers).map(|headers| hash(&headers))
        } else {
            None
        };
        Ok(Self { access_key: authorization.access_key, body_sha256, x_date, canonical, forwarded, authorization })
    }

    /// True if the signature was made with `secret`. Every refusal has derived the signing key afresh, whatever is
    /// cached, so that its time does not tell which keys are in use.
    pub(crate) fn verify(&self, secret: &Arc<Zeroizing<String>>, keys: &SigningKeys) -> bool {
        let a = &self.authorization;
        if keys.get(a.credential, secret).is_some_and(|key| self.signed_with(&key)) {
            return true;
        }
        let key = sign::signing_key(secret, a.date, a.region, a.service);
        let genuine = self.signed_with(&key);
        if genuine {
            keys.put(a.credential, secret, key);
        }
        genuine
    }

    fn signed_with(&self, key: &[u8; 32]) -> bool {
        let expected = |canonical| sign::signature(key, self.x_date, self.authorization.scope, canonical);
        let fits = |canonical| bool::from(expected(canonical).ct_eq(&self.authorization.signature));
        fits(&self.canonical) || self.forwarded.as_ref().is_some_and(fits)
    }
}

/// The value of a header that must not be repeated: two values could be read in two ways.
fn only<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

type Signed<'s, 'h> = Vec<(&'s str, &'h [u8])>;

/// The headers named in `SignedHeaders` with the values received, ascending.
fn signed_headers<'s, 'h>(names: &'s str, headers: &'h HeaderMap) -> Result<Signed<'s, 'h>, Refusal> {
    let mut signed = Vec::with_capacity(8);
    for name in names.split(';') {
        let value = only(headers, name).ok_or(Refusal::Header)?;
        signed.push((name, value.as_bytes()));
    }
    signed.sort_unstable_by_key(|(name, _)| *name);
    if signed.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(Refusal::Header);
    }
    let has = |name: &str| signed.iter().any(|(signed, _)| *signed == name);
    if has("x-date") && has("x-content-sha256") { Ok(signed) } else { Err(Refusal::Unsigned) }
}

/// The signed headers as they were before a proxy replaced the host; `None` if it did not, or host is not signed.
fn with_forwarded_host<'s, 'h>(mut signed: Signed<'s, 'h>, headers: &'h HeaderMap) -> Option<Signed<'s, 'h>> {
    let host = only(headers, "x-forwarded-host")?.as_bytes().trim_ascii();
    signed.iter_mut().find(|(name, _)| *name == "host")?.1 = host;
    Some(signed)
}

/// Unix milliseconds of `YYYYMMDDTHHMMSSZ`.
fn parse_date(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<u32> {
        let digits = &bytes[from..to];
        digits.iter().try_fold(0, |n, d| d.is_ascii_digit().then(|| n * 10 + u32::from(d - b'0')))
    };
    let civil = Civil {
        year: i64::from(number(0, 4)?),
        month: number(4, 6)?,
        day: number(6, 8)?,
        hour: number(9, 11)?,
        minute: number(11, 13)?,
        second: number(13, 15)?,
    };
    civil.to_ms()
}

#[cfg(test)]
mod tests;
