use axum::http::{HeaderMap, Uri};
use bytes::Bytes;

use super::*;
use crate::testing::{AK, NOW_MS, lookup};

fn request(query: &str, body: &'static str) -> Signed {
    Signed {
        principal: lookup(&knarr_base::id::KeyId::new(AK)).expect("known").principal,
        uri: format!("/x?{query}").parse::<Uri>().expect("a URI"),
        headers: HeaderMap::new(),
        body: Bytes::from_static(body.as_bytes()),
        request_id: request_id::RequestIds::new().next(NOW_MS),
    }
}

#[test]
fn an_empty_batch_rerank_is_an_older_clients_ping() {
    for body in ["{}", "", "null", "{}\n"] {
        assert!(batch_rerank(&request("", body)).is_ok(), "{body:?}");
    }
    for (query, body) in [("", r#"{"datas":[]}"#), ("a=b", "")] {
        let refused = batch_rerank(&request(query, body)).map(|_| ()).map_err(|e| e.kind());
        assert_eq!(refused, Err(Kind::Unsupported), "{body:?}");
    }
}

#[test]
fn a_retransmission_is_the_same_header_and_body() {
    let with = |authorization: &'static str, body| {
        let mut request = request("", body);
        request.headers.insert("authorization", authorization.parse().expect("a value"));
        request.digest()
    };
    assert_eq!(with("one", "{}"), with("one", "{}"));
    assert_ne!(with("one", "{}"), with("two", "{}"));
    assert_ne!(with("one", "{}"), with("one", "{ }"));
}
