use axum::http::{HeaderMap, HeaderName, HeaderValue};
use futures::FutureExt;
use knarr_base::clock::Civil;
use proptest::prelude::*;

use super::*;
use crate::sign;
use crate::testing::{AK, JSON, NOW_MS, SK, X_DATE, credentials, lookup};

/// Nothing in these tests waits.
fn block_on<F: Future>(future: F) -> F::Output {
    future.now_or_never().expect("nothing to wait for")
}

/// A request head that can be changed in any part.
#[derive(Debug, Clone)]
struct Sent {
    method: String,
    path: String,
    query: String,
    headers: HeaderMap,
}

impl Sent {
    fn signed(method: &str, path: &str, query: &[(&str, &str)], headers: &[(&str, &str)], body: &[u8]) -> Self {
        Self::signed_at(method, path, query, headers, body, &credentials(), X_DATE)
    }

    fn signed_at(
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        body: &[u8],
        credentials: &sign::Credentials<'_>,
        x_date: &str,
    ) -> Self {
        let hash = sign::sha256_hex(body);
        let request = sign::Request { method, path, query, headers, body_sha256: &hash };
        let added = sign::sign(&request, credentials, x_date);
        let all = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).chain(added);
        let headers = all.map(|(k, v)| (name(&k), value(&v))).collect();
        let query = sign::canonical_query(query.iter().map(|(k, v)| (k.as_bytes(), v.as_bytes())).collect());
        Self { method: method.to_owned(), path: sign::canonical_uri(path.as_bytes()), query, headers }
    }

    fn plain() -> Self {
        Self::signed("POST", "/api/task/info", &[], JSON, b"{}")
    }

    fn set(mut self, header: &str, text: &str) -> Self {
        self.headers.insert(name(header), value(text));
        self
    }

    fn without(mut self, header: &str) -> Self {
        self.headers.remove(header);
        self
    }

    fn also(mut self, header: &str, text: &str) -> Self {
        self.headers.append(name(header), value(text));
        self
    }

    /// Replaces a part of the Authorization header, which must hold it.
    fn authorization(self, from: &str, to: &str) -> Self {
        let old = self.headers["authorization"].to_str().expect("ASCII").to_owned();
        assert!(old.contains(from), "{old} lacks {from}");
        self.set("authorization", &old.replace(from, to))
    }

    fn check_with(&self, options: Options, now_ms: i64) -> Result<Caller> {
        let head = head(self);
        block_on(Auth::new(options).authenticate(&head, now_ms, |id| async move { Ok(lookup(&id)) }))
    }

    fn check(&self) -> Result<Caller> {
        self.check_with(Options::default(), NOW_MS)
    }

    fn refusal(&self) -> Refusal {
        refusal_of(self.check())
    }
}

fn head(sent: &Sent) -> Head<'_> {
    Head { service: sign::SERVICE, method: &sent.method, path: &sent.path, query: &sent.query, headers: &sent.headers }
}

fn name(text: &str) -> HeaderName {
    HeaderName::from_bytes(text.as_bytes()).expect("a header name")
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("a header value")
}

fn refusal_of(result: Result<Caller>) -> Refusal {
    let error = result.expect_err("refused");
    let source = std::error::Error::source(&error).expect("a reason for the log");
    let why = *source.downcast_ref().expect("a refusal");
    // An API key is told by the request's form alone; nothing else may differ.
    let text = if why == Refusal::ApiKey { NO_API_KEYS } else { "unauthorized" };
    assert_eq!((error.kind(), error.message()), (Kind::Unauthorized, text));
    why
}

#[test]
fn vectors_of_the_vendors_signer_are_accepted() {
    let v1 = br#"{"task_type": "filter_delete", "task_params": {"collection_name": "example", "filter": {"user_id": [5, 9], "city": ["beijing"]}}}"#;
    let caller = Sent::signed("POST", "/api/task/create", &[], JSON, v1).check().expect("V1");
    assert_eq!(sign::hex(&caller.body_sha256), sign::sha256_hex(v1));
    assert_eq!(caller.principal.key.as_str(), AK);

    let v2 = br#"{"collection_name": "example", "index_name": "idx", "primary_keys": [123, 456], "output_fields": ["city"]}"#;
    let with_host = [("Content-Type", "application/json"), ("Host", "127.0.0.1:8080")];
    Sent::signed("GET", "/api/index/fetch_data", &[], &with_host, v2).check().expect("V2");

    let v4 = br#"{"collection_name": "example", "fields": [{"id": 1, "city": "\u5317\u4eac"}], "ttl": 0}"#;
    Sent::signed("POST", "/api/collection/upsert_data", &[], JSON, v4).check().expect("V4");
}

#[test]
fn v3_fits_however_its_query_is_written_but_for_its_token() {
    let query = [("z a", "a+b/c~d"), ("collection_name", "ex_1")];
    let headers = [("Content-Type", "application/json"), ("Host", "api-vikingdb.volces.com:443")];
    let with_token = sign::Credentials { session_token: Some("STS2exampleSessionToken"), ..credentials() };
    let sent = Sent::signed_at("GET", "/api/index/list", &query, &headers, b"", &with_token, X_DATE);
    assert_eq!(sent.refusal(), Refusal::Token);

    let mut sent = Sent::signed("GET", "/api/index/list", &query, &headers, b"");
    for spelling in [
        "collection_name=ex_1&z%20a=a%2Bb%2Fc~d",
        "collection_name=ex_1&z+a=a%2Bb%2Fc~d",
        "z+a=a%2bb/c%7Ed&collection_name=ex_1",
        "&z+a=a%2Bb%2Fc~d&&collection_name=ex%5F1&",
    ] {
        sent.query = spelling.to_owned();
        assert!(sent.check().is_ok(), "{spelling}");
    }
    sent.query = "collection_name=ex_1&z%20a=a+b/c~d".to_owned();
    assert_eq!(sent.refusal(), Refusal::Mismatch);
    sent.query = "collection_name=ex_1&z%2=a".to_owned();
    assert_eq!(sent.refusal(), Refusal::Escape);
}

#[test]
fn an_unlisted_host_may_differ_a_listed_one_not() {
    assert!(Sent::plain().set("host", "anything:1").check().is_ok());
    let headers = [("Content-Type", "application/json"), ("Host", "knarr.example:8080")];
    let sent = Sent::signed("POST", "/api/task/info", &[], &headers, b"{}");
    assert!(sent.check().is_ok());
    let moved = sent.set("host", "10.0.0.1:8080");
    assert_eq!(moved.refusal(), Refusal::Mismatch);
    // A proxy's word counts only where the operator says so.
    let forwarded = moved.set("x-forwarded-host", " knarr.example:8080 ");
    assert_eq!(forwarded.refusal(), Refusal::Mismatch);
    let trusting = Options { trust_forwarded_host: true, ..Options::default() };
    assert!(forwarded.check_with(trusting.clone(), NOW_MS).is_ok());
    let wrong = forwarded.set("x-forwarded-host", "other.example");
    assert_eq!(refusal_of(wrong.check_with(trusting, NOW_MS)), Refusal::Mismatch);
}

#[test]
fn unauth_matrix() {
    let sent = Sent::plain;
    let scope = "20231109/cn-north-1/air/request";
    let names = "SignedHeaders=content-type;x-content-sha256;x-date";
    for (what, sent, why) in [
        ("nothing", sent().without("authorization"), Refusal::Missing),
        ("two of them", sent().also("authorization", "HMAC-SHA256 x"), Refusal::Missing),
        ("empty", sent().set("authorization", ""), Refusal::Malformed),
        ("another scheme", sent().set("authorization", "Basic YTpi"), Refusal::Malformed),
        ("an API key", sent().set("authorization", "Bearer abc"), Refusal::ApiKey),
        ("an API key in another spelling", sent().set("authorization", " bearer "), Refusal::ApiKey),
        ("no API key", sent().set("authorization", "Bearerabc"), Refusal::Malformed),
        ("another algorithm", sent().authorization("HMAC-SHA256 ", "HMAC-SHA1 "), Refusal::Malformed),
        ("algorithm glued", sent().authorization("HMAC-SHA256 ", "HMAC-SHA256"), Refusal::Malformed),
        ("empty access key", sent().authorization(AK, ""), Refusal::Malformed),
        ("four scope parts", sent().authorization("/air/", "/"), Refusal::Malformed),
        ("six scope parts", sent().authorization("/air/", "/air/x/"), Refusal::Malformed),
        ("another terminator", sent().authorization("air/request", "air/aws4_request"), Refusal::Malformed),
        ("no signature", sent().authorization("Signature=", "Sig="), Refusal::Malformed),
        ("short signature", sent().authorization("Signature=", "Signature=0"), Refusal::Malformed),
        ("given twice", sent().authorization(names, &format!("{names}, {names}")), Refusal::Malformed),
        ("another service", sent().authorization("/air/", "/vikingdb/"), Refusal::Scope),
        ("another day", sent().authorization("20231109/", "20231108/"), Refusal::Date),
        ("no date", sent().without("x-date"), Refusal::Date),
        ("two dates", sent().also("x-date", X_DATE), Refusal::Date),
        ("another form", sent().set("x-date", "2023-11-09T18:59:53Z"), Refusal::Date),
        ("no such time", sent().set("x-date", "20231109T186053Z"), Refusal::Date),
        ("date unsigned", sent().authorization(";x-date", ""), Refusal::Unsigned),
        ("hash unsigned", sent().authorization("x-content-sha256;", ""), Refusal::Unsigned),
        ("no hash", sent().without("x-content-sha256"), Refusal::Unsigned),
        ("two hashes", sent().also("x-content-sha256", &sign::sha256_hex(b"")), Refusal::Unsigned),
        ("hash of another form", sent().set("x-content-sha256", "UNSIGNED-PAYLOAD"), Refusal::Body),
        ("hash of another body", sent().set("x-content-sha256", &sign::sha256_hex(b"")), Refusal::Mismatch),
        ("listed but not sent", sent().without("content-type"), Refusal::Header),
        ("listed twice", sent().authorization(names, &names.replace("x-date", "x-date;x-date")), Refusal::Header),
        ("signed and repeated", sent().also("content-type", "text/plain"), Refusal::Header),
        ("empty name", sent().authorization(names, &names.replace(";x-date", ";;x-date")), Refusal::Header),
        ("a token", sent().set("x-security-token", "STS2x"), Refusal::Token),
        ("unknown key", sent().authorization(AK, "AKLTnobody"), Refusal::UnknownKey),
        ("another region", sent().authorization(scope, "20231109/cn-beijing/air/request"), Refusal::Mismatch),
    ] {
        assert_eq!(sent.refusal(), why, "{what}");
    }
    let wrong_secret = sign::Credentials { secret_key: "wrong", ..credentials() };
    let sent = Sent::signed_at("POST", "/api/task/info", &[], JSON, b"{}", &wrong_secret, X_DATE);
    assert_eq!(sent.refusal(), Refusal::Mismatch);
    // The other half of a key does not open it, nor does an empty pair.
    let empty = sign::Credentials { access_key: "", secret_key: "", ..credentials() };
    let sent = Sent::signed_at("POST", "/api/task/info", &[], JSON, b"{}", &empty, X_DATE);
    assert_eq!(sent.refusal(), Refusal::Malformed);
}

#[test]
fn requests_signed_in_the_query_are_refused() {
    let sent = Sent::plain();
    let query = format!(
        "X-Algorithm=HMAC-SHA256&X-Date={X_DATE}&X-Credential={AK}%2F20231109%2Fcn-north-1%2Fair%2Frequest&X-NotSignBody=&X-Signature=00"
    );
    let sent = Sent { query, ..sent.without("authorization") };
    assert_eq!(sent.refusal(), Refusal::Missing);
}

#[test]
fn blanks_and_spelling_of_the_header_are_tolerated() {
    let sent = Sent::plain();
    let old = sent.headers["authorization"].to_str().expect("ASCII").to_owned();
    for spelling in [
        old.replace(", ", ","),
        old.replace(", ", " ,\t "),
        old.replace("HMAC-SHA256 ", "HMAC-SHA256   "),
        old.replace("content-type;x-content-sha256;x-date", "X-Date;Content-Type;X-Content-Sha256"),
        format!("  {old} "),
    ] {
        assert!(sent.clone().set("authorization", &spelling).check().is_ok(), "{spelling}");
    }
}

#[test]
fn regions_are_any_or_those_configured() {
    let other = sign::Credentials { region: "cn-beijing", ..credentials() };
    let sent = Sent::signed_at("POST", "/api/task/info", &[], JSON, b"{}", &other, X_DATE);
    assert!(sent.check().is_ok());
    let only = |region: &str| Options { regions: vec![region.to_owned()], ..Options::default() };
    assert!(sent.check_with(only("cn-beijing"), NOW_MS).is_ok());
    assert_eq!(refusal_of(sent.check_with(only("cn-north-1"), NOW_MS)), Refusal::Scope);
}

#[test]
fn dates_within_fifteen_minutes_both_ways() {
    let sent = Sent::plain();
    let window = 900_000;
    for (now, fits) in [
        (NOW_MS, true),
        (NOW_MS + window, true),
        (NOW_MS - window, true),
        (NOW_MS + window - 1000, true),
        (NOW_MS + window + 1000, false),
        (NOW_MS - window - 1000, false),
        (NOW_MS + window + 1, false),
        (0, false),
        (i64::MAX, false),
        (i64::MIN, false),
    ] {
        let result = sent.check_with(Options::default(), now);
        assert_eq!(result.is_ok(), fits, "now {now}");
        if !fits {
            assert_eq!(refusal_of(result), Refusal::Skew);
        }
    }
    let any = Options { clock_skew_ms: 0, ..Options::default() };
    assert!(sent.check_with(any, 0).is_ok());
}

#[test]
fn windows_reach_over_midnight_and_leap_days() {
    for (year, month, day, next) in [(2023, 11, 9, "20231110"), (2024, 2, 28, "20240229"), (2024, 2, 29, "20240301")] {
        let late = Civil { year, month, day, hour: 23, minute: 59, second: 30 }.to_ms().expect("a date");
        let early = late + 60_000;
        let x_date = sign::x_date(early);
        assert!(x_date.starts_with(next), "{x_date}");
        // A client whose clock is ahead signs for tomorrow; one that is behind, for yesterday.
        let ahead = Sent::signed_at("POST", "/p", &[], JSON, b"", &credentials(), &x_date);
        assert!(ahead.check_with(Options::default(), late).is_ok());
        let behind = Sent::signed_at("POST", "/p", &[], JSON, b"", &credentials(), &sign::x_date(late));
        assert!(behind.check_with(Options::default(), early).is_ok());
    }
}

#[test]
fn a_cached_key_opens_only_what_it_signed() {
    let auth = Auth::new(Options::default());
    let check = |sent: &Sent, secret: Option<&str>| {
        let head = head(sent);
        let find = |id: KeyId| {
            let found = lookup(&id).filter(|_| secret.is_some());
            let secret = Arc::new(Zeroizing::new(secret.unwrap_or_default().to_owned()));
            async move { Ok(found.map(|identity| Identity { secret, ..identity })) }
        };
        block_on(auth.authenticate(&head, NOW_MS, find))
    };
    let sent = Sent::plain();
    for _ in 0..2 {
        assert!(check(&sent, Some(SK)).is_ok());
    }
    let forged = Sent { path: "/api/task/drop".to_owned(), ..sent.clone() };
    assert_eq!(refusal_of(check(&forged, Some(SK))), Refusal::Mismatch);
    // Neither a changed secret nor a revocation is served from the cache.
    assert_eq!(refusal_of(check(&sent, Some("changed"))), Refusal::Mismatch);
    assert_eq!(refusal_of(check(&sent, None)), Refusal::UnknownKey);
}

#[test]
fn failures_of_the_lookup_are_not_refusals() {
    let sent = Sent::plain();
    let head = head(&sent);
    let broken = |_| async { Err(Error::new(Kind::Unavailable, "the catalog is down")) };
    let error = block_on(Auth::new(Options::default()).authenticate(&head, NOW_MS, broken)).expect_err("refused");
    assert_eq!(error.kind(), Kind::Unavailable);
}

/// Changes one character, keeping it a character that may stand there.
fn mutate(text: &str, at: prop::sample::Index) -> String {
    let at = at.index(text.len());
    let (old, others) = (text.as_bytes()[at], b"0a7fZ");
    let new = others.iter().find(|b| **b != old).expect("several to choose from");
    let mut bytes = text.as_bytes().to_vec();
    bytes[at] = *new;
    String::from_utf8(bytes).expect("ASCII stays ASCII")
}

proptest! {
    #[test]
    fn mutate_any_signed_part_fails(
        part in 0..9usize,
        at in any::<prop::sample::Index>(),
        key in "[a-z]{1,8}",
        text in "[a-zA-Z0-9 /+~%]{1,12}",
        extra in "[a-z0-9]{1,12}",
    ) {
        let headers = [
            ("Content-Type", "application/json"),
            ("Host", "knarr.example:8080"),
            ("X-Extra", extra.as_str()),
        ];
        let good = Sent::signed("POST", "/api/task/info", &[(&key, &text)], &headers, b"{}");
        prop_assert!(good.check().is_ok());
        let mut bad = good.clone();
        let header = |sent: Sent, header: &str| {
            let text = sent.headers[header].to_str().expect("ASCII").to_owned();
            sent.set(header, &mutate(&text, at))
        };
        bad = match part {
            0 => Sent { method: mutate(&bad.method, at), ..bad },
            1 => Sent { path: mutate(&bad.path, at), ..bad },
            2 => Sent { query: format!("{}&more={extra}", bad.query), ..bad },
            3 => Sent { query: format!("{key}x={extra}"), ..bad },
            4 => header(bad, "content-type"),
            5 => header(bad, "host"),
            6 => header(bad, "x-extra"),
            7 => header(bad, "x-content-sha256"),
            _ => header(bad, "authorization"),
        };
        prop_assert!(bad.check().is_err(), "{:?}", bad);
        prop_assert!(good.clone().set("x-date", "20231109T185954Z").check().is_err());
    }
}
