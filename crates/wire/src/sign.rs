//! Volcengine's request signing, "SignerV4" with HMAC-SHA256 (docs/wire/vikingdb.md section 1.2).
//!
//! Clients (the command line, the benchmarks) call [`sign`]; `auth` rebuilds the same texts from what it received.

use hmac::{Hmac, KeyInit, Mac};
use knarr_base::clock::Civil;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// First word of the `Authorization` header and of the string to sign.
pub(crate) const ALGORITHM: &str = "HMAC-SHA256";
/// Last part of a scope.
pub(crate) const TERMINATOR: &str = "request";
/// The service in the scope of every call of the v1 API.
pub const SERVICE: &str = "air";
/// The same for the V2 API.
pub const SERVICE_V2: &str = "vikingdb";
/// The region the vendor's clients use by default; the server accepts any.
pub const REGION: &str = "cn-north-1";

const DEFAULT_CONTENT_TYPE: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// Who signs, and for which scope. No Debug: the secret must not reach a log.
pub struct Credentials<'a> {
    /// Public half of the key.
    pub access_key: &'a str,
    /// Secret half, used as UTF-8 text.
    pub secret_key: &'a str,
    /// Sent and signed as `X-Security-Token` if given.
    pub session_token: Option<&'a str>,
    /// See [`REGION`].
    pub region: &'a str,
    /// See [`SERVICE`] and [`SERVICE_V2`].
    pub service: &'a str,
}

/// What is signed.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Upper case.
    pub method: &'a str,
    /// Not percent-encoded.
    pub path: &'a str,
    /// Pairs, not percent-encoded, in any order.
    pub query: &'a [(&'a str, &'a str)],
    /// Headers that will be sent; `Content-Type`, `Content-Md5`, `Host` and `X-*` among them are signed.
    pub headers: &'a [(&'a str, &'a str)],
    /// [`sha256_hex`] of the body's bytes.
    pub body_sha256: &'a str,
}

/// The headers to send in addition to `request.headers`: `Content-Type` where a POST lacks it, `X-Date`,
/// `X-Content-Sha256`, `X-Security-Token` where there is one, and `Authorization`.
pub fn sign(request: &Request<'_>, credentials: &Credentials<'_>, x_date: &str) -> Vec<(String, String)> {
    let mut added: Vec<(String, String)> = Vec::with_capacity(5);
    let mut add = |name: &str, value: &str| added.push((name.to_owned(), value.to_owned()));
    if request.method != "GET" && !request.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        add("Content-Type", DEFAULT_CONTENT_TYPE);
    }
    add("X-Date", x_date);
    add("X-Content-Sha256", request.body_sha256);
    if let Some(token) = credentials.session_token {
        add("X-Security-Token", token);
    }
    let all = request.headers.iter().copied().chain(added.iter().map(|(n, v)| (n.as_str(), v.as_str())));
    let mut signed: Vec<(String, &str)> = all
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
        .filter(|(name, _)| is_signed(name))
        .collect();
    signed.sort_unstable();
    let headers: Vec<(&str, &[u8])> = signed.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
    let pairs = request.query.iter().map(|(k, v)| (k.as_bytes(), v.as_bytes())).collect();
    let canonical = canonical_request(
        request.method,
        &canonical_uri(request.path.as_bytes()),
        &canonical_query(pairs),
        &headers,
        request.body_sha256,
    );
    let date = x_date.get(..8).unwrap_or(x_date);
    let scope = format!("{date}/{}/{}/{TERMINATOR}", credentials.region, credentials.service);
    let key = signing_key(credentials.secret_key, date, credentials.region, credentials.service);
    let signature = hex(&signature(&key, x_date, &scope, &Sha256::digest(canonical).into()));
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let authorization = format!(
        "{ALGORITHM} Credential={}/{scope}, SignedHeaders={}, Signature={signature}",
        credentials.access_key,
        names.join(";")
    );
    added.push(("Authorization".to_owned(), authorization));
    added
}

/// Unix milliseconds as an `X-Date`: `YYYYMMDDTHHMMSSZ`.
pub fn x_date(unix_ms: i64) -> String {
    let c = Civil::from_ms(unix_ms);
    format!("{:04}{:02}{:02}T{:02}{:02}{:02}Z", c.year, c.month, c.day, c.hour, c.minute, c.second)
}

/// Lower-case hex of the SHA-256 of `bytes`.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes).into())
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8; 32]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|n| char::from(DIGITS[usize::from(n)])).collect()
}

/// The 32 bytes of 64 lower-case hex digits.
pub(crate) fn unhex(text: &str) -> Option<[u8; 32]> {
    let nibble = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut out = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(out)
}

/// True for the lower-case names that a client signs.
fn is_signed(name: &str) -> bool {
    matches!(name, "content-type" | "content-md5" | "host") || name.starts_with("x-")
}

/// Percent-encodes everything but unreserved characters; `also` is kept too.
fn encode(bytes: &[u8], also: Option<u8>, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &b in bytes {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~') || Some(b) == also {
            out.push(char::from(b));
        } else {
            out.push('%');
            out.push(char::from(DIGITS[usize::from(b >> 4)]));
            out.push(char::from(DIGITS[usize::from(b & 15)]));
        }
    }
}

/// Rule 9: `path` is not encoded.
pub(crate) fn canonical_uri(path: &[u8]) -> String {
    let mut out = String::with_capacity(path.len().max(1));
    encode(if path.is_empty() { b"/" } else { path }, Some(b'/'), &mut out);
    out
}

/// Rule 10: the pairs are not encoded; equal keys keep their order.
pub(crate) fn canonical_query<T: AsRef<[u8]>>(mut pairs: Vec<(T, T)>) -> String {
    pairs.sort_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
    let mut out = String::new();
    for (key, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        encode(key.as_ref(), None, &mut out);
        out.push('=');
        encode(value.as_ref(), None, &mut out);
    }
    out
}

/// Rules 6 to 8 and 11: `headers` are lower-case names in ascending order.
pub(crate) fn canonical_request(
    method: &str,
    uri: &str,
    query: &str,
    headers: &[(&str, &[u8])],
    body_sha256: &str,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    for part in [method, uri, query] {
        out.extend_from_slice(part.as_bytes());
        out.push(b'\n');
    }
    for (name, value) in headers {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        out.extend_from_slice(if *name == "host" { without_default_port(value) } else { value });
        out.push(b'\n');
    }
    out.push(b'\n');
    for (at, (name, _)) in headers.iter().enumerate() {
        if at > 0 {
            out.push(b';');
        }
        out.extend_from_slice(name.as_bytes());
    }
    out.push(b'\n');
    out.extend_from_slice(body_sha256.as_bytes());
    out
}

/// Rule 6: the port after the first `:` goes if it is 80 or 443.
fn without_default_port(host: &[u8]) -> &[u8] {
    match host.iter().position(|b| *b == b':') {
        Some(at) if matches!(&host[at + 1..], b"80" | b"443") => &host[..at],
        _ => host,
    }
}

/// Rule 14.
pub(crate) fn signing_key(secret: &str, date: &str, region: &str, service: &str) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new(hmac(secret.as_bytes(), &[date.as_bytes()]));
    for part in [region, service, TERMINATOR] {
        *key = hmac(&*key, &[part.as_bytes()]);
    }
    key
}

/// Rules 13 and 15, from the SHA-256 of the canonical request.
pub(crate) fn signature(key: &[u8; 32], x_date: &str, scope: &str, canonical: &[u8; 32]) -> [u8; 32] {
    let hash = hex(canonical);
    let lines = [ALGORITHM, "\n", x_date, "\n", scope, "\n", &hash];
    hmac(key, &lines.map(str::as_bytes))
}

fn hmac(key: &[u8], message: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    message.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests;
