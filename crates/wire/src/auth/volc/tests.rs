use axum::http::HeaderName;
use proptest::prelude::*;

use super::*;
use crate::testing::{AK, NOW_MS, X_DATE};

#[test]
fn a_header_is_taken_apart() {
    let signature = "f6f4cb06f8d2321a9f2cf01d298d71d52901329a4f6a92cb09a63aece2e56927";
    let text = format!(
        "HMAC-SHA256 Credential={AK}/20231109/cn-north-1/air/request, SignedHeaders=Host;x-date, Signature={signature}"
    );
    let parsed = Authorization::parse(&text).expect("well-formed");
    assert_eq!(parsed.access_key, AK);
    assert_eq!(parsed.scope, "20231109/cn-north-1/air/request");
    assert_eq!((parsed.date, parsed.region, parsed.service), ("20231109", "cn-north-1", "air"));
    assert_eq!(parsed.signed_headers, "host;x-date");
    assert_eq!(Some(parsed.signature), sign::unhex(signature));
}

#[test]
fn only_dates_of_the_calendar() {
    assert_eq!(parse_date(X_DATE), Some(NOW_MS));
    assert_eq!(parse_date("20240229T000000Z"), Some(1_709_164_800_000));
    for bad in [
        "",
        "20230229T000000Z",
        "20231109T240000Z",
        "20231109T185953",
        "20231109t185953z",
        "20231109 185953Z",
        "+0231109T185953Z",
        "20231109T1859531Z",
        "２0231109T1859Z",
    ] {
        assert_eq!(parse_date(bad), None, "{bad}");
    }
}

/// Something like a header: its words, in any order, with noise between.
fn header_like() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("HMAC-SHA256 ".to_owned()),
        Just("Credential=".to_owned()),
        Just("SignedHeaders=".to_owned()),
        Just("Signature=".to_owned()),
        Just(", ".to_owned()),
        Just("/".to_owned()),
        Just("request".to_owned()),
        Just("x-date;x-content-sha256".to_owned()),
        "[0-9a-f]{64}",
        any::<String>(),
    ];
    prop::collection::vec(word, 0..16).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn auth_header_never_panics(text in prop_oneof![any::<String>(), header_like()]) {
        if let Some(parsed) = Authorization::parse(&text) {
            prop_assert!(!parsed.access_key.is_empty());
            prop_assert!(parsed.credential.ends_with("/request"));
        }
        let _ = parse_date(&text);
    }

    #[test]
    fn any_head_is_read_or_refused(
        bytes in prop::collection::vec((0..4usize, prop::collection::vec(any::<u8>(), 0..64)), 0..6),
        path in any::<String>(),
        query in any::<String>(),
    ) {
        let names = ["authorization", "x-date", "x-content-sha256", "host"];
        let mut headers = HeaderMap::new();
        for (name, bytes) in bytes {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                headers.append(HeaderName::from_static(names[name]), value);
            }
        }
        let head = Head { service: sign::SERVICE, method: "POST", path: &path, query: &query, headers: &headers };
        prop_assert!(Claim::read(&head, &Options::default(), NOW_MS).is_err());
    }
}
