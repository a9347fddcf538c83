use super::*;
use crate::testing::{AK, JSON, NOW_MS, SK, X_DATE, credentials};

/// SignedHeaders and Signature of an `Authorization` among added headers.
fn authorization(added: &[(String, String)]) -> &str {
    &added.iter().find(|(name, _)| name == "Authorization").expect("signed").1
}

fn expected(signed_headers: &str, signature: &str) -> String {
    format!(
        "HMAC-SHA256 Credential={AK}/20231109/cn-north-1/air/request, SignedHeaders={signed_headers}, Signature={signature}"
    )
}

fn canonical_hash(
    method: &str,
    uri: &str,
    query: &str,
    headers: &[(&str, &str)],
    body_sha256: &str,
) -> (String, String) {
    let headers: Vec<(&str, &[u8])> = headers.iter().map(|(k, v)| (*k, v.as_bytes())).collect();
    let text = canonical_request(method, uri, query, &headers, body_sha256);
    let hash = sha256_hex(&text);
    (String::from_utf8(text).expect("UTF-8"), hash)
}

#[test]
fn the_key_is_derived_in_four_steps() {
    let k_date = hmac(SK.as_bytes(), &[b"20231109"]);
    assert_eq!(hex(&k_date), "dd0eaccd867ed6306d8244b9bb2cfd9ac3e2fe210dee3faf511640bc9b719dae");
    let k_region = hmac(&k_date, &[b"cn-north-1"]);
    assert_eq!(hex(&k_region), "7164e9a4032a8b1404b4d66479d954ca48897460df5152b347afe0555f02917a");
    let k_service = hmac(&k_region, &[b"air"]);
    assert_eq!(hex(&k_service), "e4236cf6e0a8fa8d2f318e51e515b491a8fed9065fca15ee8589257666271bee");
    let k_signing = signing_key(SK, "20231109", "cn-north-1", "air");
    assert_eq!(hex(&k_signing), "994d158e48546f053df0aa49aaaf26a1e8855575ccf82972f2d422f557a688c1");
}

#[test]
fn v1_documented_sample_post_without_host() {
    let body = br#"{"task_type": "filter_delete", "task_params": {"collection_name": "example", "filter": {"user_id": [5, 9], "city": ["beijing"]}}}"#;
    assert_eq!(body.len(), 129);
    let body_hash = sha256_hex(body);
    assert_eq!(body_hash, "d6c20d8ea4bd44326938c6cea2aa1b661988f6b0437828612c8671d599646e2c");
    let headers = [("content-type", "application/json"), ("x-content-sha256", body_hash.as_str()), ("x-date", X_DATE)];
    let (text, hash) = canonical_hash("POST", "/api/task/create", "", &headers, &body_hash);
    assert_eq!(
        text,
        "POST\n/api/task/create\n\ncontent-type:application/json\nx-content-sha256:d6c20d8ea4bd44326938c6cea2aa1b661988f6b0437828612c8671d599646e2c\nx-date:20231109T185953Z\n\ncontent-type;x-content-sha256;x-date\nd6c20d8ea4bd44326938c6cea2aa1b661988f6b0437828612c8671d599646e2c"
    );
    assert_eq!(hash, "368af623bbc7e0c81665100e57c4a185ed21519834a51f5d84dd742e8a33c3dc");
    let headers = [("Accept", "application/json"), ("Content-Type", "application/json")];
    let request =
        Request { method: "POST", path: "/api/task/create", query: &[], headers: &headers, body_sha256: &body_hash };
    let added = sign(&request, &credentials(), X_DATE);
    assert_eq!(
        authorization(&added),
        expected(
            "content-type;x-content-sha256;x-date",
            "f6f4cb06f8d2321a9f2cf01d298d71d52901329a4f6a92cb09a63aece2e56927"
        )
    );
}

#[test]
fn v2_get_with_body_and_host_with_port() {
    let body = br#"{"collection_name": "example", "index_name": "idx", "primary_keys": [123, 456], "output_fields": ["city"]}"#;
    let body_hash = sha256_hex(body);
    assert_eq!(body_hash, "1dc0f65fed62984857046207f99954919bdf1142c9e699ebeac65b8365acdecf");
    let headers = [
        ("content-type", "application/json"),
        ("host", "127.0.0.1:8080"),
        ("x-content-sha256", body_hash.as_str()),
        ("x-date", X_DATE),
    ];
    let (_, hash) = canonical_hash("GET", "/api/index/fetch_data", "", &headers, &body_hash);
    assert_eq!(hash, "b4ea7fa592656809b87b893146f8967f3daa5b465e226ca7dcc3d5a085465463");
    let headers =
        [("Host", "127.0.0.1:8080"), ("Content-Type", "application/json"), ("User-Agent", "volc-sdk-python/v1.0.229")];
    let request = Request {
        method: "GET",
        path: "/api/index/fetch_data",
        query: &[],
        headers: &headers,
        body_sha256: &body_hash,
    };
    assert_eq!(
        authorization(&sign(&request, &credentials(), X_DATE)),
        expected(
            "content-type;host;x-content-sha256;x-date",
            "154b4013662691fd92b5c8caf37f1e91082ee736f9362f9f3b2239399cd6bf32"
        )
    );
}

#[test]
fn v3_query_session_token_and_default_port() {
    let empty = sha256_hex(b"");
    let query = [("z a", "a+b/c~d"), ("collection_name", "ex_1")];
    let canonical = canonical_query(query.to_vec());
    assert_eq!(canonical, "collection_name=ex_1&z%20a=a%2Bb%2Fc~d");
    let headers = [
        ("content-type", "application/json"),
        ("host", "api-vikingdb.volces.com:443"),
        ("x-content-sha256", empty.as_str()),
        ("x-date", X_DATE),
        ("x-security-token", "STS2exampleSessionToken"),
    ];
    let (text, hash) = canonical_hash("GET", "/api/index/list", &canonical, &headers, &empty);
    assert!(text.contains("\nhost:api-vikingdb.volces.com\n"), "{text}");
    assert_eq!(hash, "749a9bbf539c9bf90b917dcaa352089373c8cd23bb8f350e5665fe30568e2cd5");
    let headers = [("Content-Type", "application/json"), ("Host", "api-vikingdb.volces.com:443")];
    let request =
        Request { method: "GET", path: "/api/index/list", query: &query, headers: &headers, body_sha256: &empty };
    let with_token = Credentials { session_token: Some("STS2exampleSessionToken"), ..credentials() };
    let added = sign(&request, &with_token, X_DATE);
    assert_eq!(
        authorization(&added),
        expected(
            "content-type;host;x-content-sha256;x-date;x-security-token",
            "1ba5a0a6acfcc19a8c4c317f3a73da4fcef0147bde585842dc3b75a1096c80d3"
        )
    );
    assert!(added.contains(&("X-Security-Token".to_owned(), "STS2exampleSessionToken".to_owned())));
}

#[test]
fn v4_escapes_of_the_client_are_literal_bytes() {
    let body = br#"{"collection_name": "example", "fields": [{"id": 1, "city": "\u5317\u4eac"}], "ttl": 0}"#;
    let body_hash = sha256_hex(body);
    assert_eq!(body_hash, "64d334078e92a61c53cc57560399ee2a7e2b7fbba9d17d89f6aee09850894220");
    let headers = [("content-type", "application/json"), ("x-content-sha256", body_hash.as_str()), ("x-date", X_DATE)];
    let (_, hash) = canonical_hash("POST", "/api/collection/upsert_data", "", &headers, &body_hash);
    assert_eq!(hash, "e9d65f9fe1f53c360d6826fc9b6db99898380c300e4987b7034d8cf5c61028cd");
    let request = Request {
        method: "POST",
        path: "/api/collection/upsert_data",
        query: &[],
        headers: JSON,
        body_sha256: &body_hash,
    };
    assert_eq!(
        authorization(&sign(&request, &credentials(), X_DATE)),
        expected(
            "content-type;x-content-sha256;x-date",
            "add690528c473c0c48e4d4ba5485f55e02ebfd66990378fed02968ff498f0f76"
        )
    );
}

#[test]
fn v5_path_escapes_and_default_content_type() {
    let empty = sha256_hex(b"");
    assert_eq!(canonical_uri(b"/a b/c+d"), "/a%20b/c%2Bd");
    assert_eq!(canonical_uri(b""), "/");
    let headers = [("content-type", DEFAULT_CONTENT_TYPE), ("x-content-sha256", empty.as_str()), ("x-date", X_DATE)];
    let (_, hash) = canonical_hash("POST", "/a%20b/c%2Bd", "", &headers, &empty);
    assert_eq!(hash, "783204e6328d02e7fa4ad5709ea2c65873a7c929fda6beeff3680408db0edbd6");
    let request = Request { method: "POST", path: "/a b/c+d", query: &[], headers: &[], body_sha256: &empty };
    let added = sign(&request, &credentials(), X_DATE);
    assert_eq!(
        authorization(&added),
        expected(
            "content-type;x-content-sha256;x-date",
            "1e1248bc42b1b23dc5bd7d9f7214224e213bfef859fb3ffa571c241cf653ecac"
        )
    );
    assert_eq!(added[0], ("Content-Type".to_owned(), DEFAULT_CONTENT_TYPE.to_owned()));
}

/// The form that leaves the body unsigned: the server refuses it, the arithmetic is the same.
#[test]
fn v6_query_signed() {
    let empty = sha256_hex(b"");
    let scope = "20231109/cn-north-1/air/request";
    let credential = format!("{AK}/{scope}");
    let names =
        "X-Algorithm;X-Credential;X-Date;X-NotSignBody;X-SignedHeaders;X-SignedQueries;collection_name".to_owned();
    let query = canonical_query(vec![
        ("collection_name", "example"),
        ("X-Date", X_DATE),
        ("X-NotSignBody", ""),
        ("X-Credential", &credential),
        ("X-Algorithm", ALGORITHM),
        ("X-SignedHeaders", ""),
        ("X-SignedQueries", &names),
    ]);
    // The header block is one line break here, where the header form has none without headers.
    let canonical = format!("GET\n/api/collection/info\n{query}\n\n\n\n{empty}");
    let hash: [u8; 32] = Sha256::digest(&canonical).into();
    assert_eq!(hex(&hash), "937f72802630e92dc4317e29faa579b8278b51d417dc140bece853da938b8dd7");
    let key = signing_key(SK, "20231109", "cn-north-1", "air");
    assert_eq!(
        hex(&signature(&key, X_DATE, scope, &hash)),
        "bda2d4971ba64cd6329de5185602a5f04958143188c090c66ca51017fd42d429"
    );
}

#[test]
fn only_default_ports_leave_the_canonical_host() {
    for (host, canonical) in [
        ("h:80", "h"),
        ("h:443", "h"),
        ("h:8080", "h:8080"),
        ("h", "h"),
        ("h:", "h:"),
        ("[::1]:80", "[::1]:80"),
        ("h:80:80", "h:80:80"),
    ] {
        assert_eq!(without_default_port(host.as_bytes()), canonical.as_bytes(), "{host}");
    }
}

#[test]
fn repeated_query_keys_keep_their_order() {
    assert_eq!(canonical_query(vec![("b", "2"), ("a", "z"), ("b", "1"), ("B", "")]), "B=&a=z&b=2&b=1");
}

#[test]
fn dates_and_hex_have_one_spelling() {
    assert_eq!(x_date(NOW_MS), X_DATE);
    let text = sha256_hex(b"x");
    assert_eq!(unhex(&text).map(|b| hex(&b)), Some(text.clone()));
    for bad in [text.to_uppercase(), text[1..].to_owned(), format!("{text}0"), format!("{}g", &text[1..])] {
        assert_eq!(unhex(&bad), None, "{bad}");
    }
}
