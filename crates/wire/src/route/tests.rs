use std::collections::HashSet;

use axum::body::Body;

use super::*;
use crate::testing::{Bench, JSON, X_DATE, credentials, echo, signed};
use crate::vikingdb::request_id::RequestIds;

const METHODS: [&str; 9] = ["GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"];

/// What a stranger's request is told, in the dialect of its path.
fn refusal(path: &str) -> &'static str {
    if path.starts_with(v2::PREFIX) {
        r#"{"code":"Unauthorized","message":"unauthorized","request_id":"0"#
    } else {
        r#"{"code":1000001,"message":"unauthorized","request_id":"0"#
    }
}

fn is_open(route: &Route) -> bool {
    route.call == Call::VikingdbV2(v2::Call::Ping)
}

/// Walks the table: nothing answers without a signature, whatever the method, and nothing has run. One path does, which
/// is walked below.
#[tokio::test]
async fn every_route_has_auth() {
    let mut bench = Bench::new(echo());
    for route in all().filter(|route| !is_open(route)) {
        for method in METHODS {
            let request = Request::builder().method(method).uri(route.path).body(Body::from("{}")).expect("valid");
            let (status, body) = bench.answer(request).await;
            assert_eq!(status, 401, "{method} {}", route.path);
            let empty = method == "HEAD" && body.is_empty();
            assert!(empty || body.starts_with(refusal(route.path)), "{method} {}: {body}", route.path);
        }
    }
    assert_eq!(bench.calls(), 0);
}

/// The vendor's V2 client pings without a signature. It learns that something listens, and nothing has run.
#[tokio::test]
async fn the_one_open_route_answers_without_running_anything() {
    let mut bench = Bench::new(echo());
    let open: Vec<_> = all().filter(|route| route.call.unsigned(RequestIds::new().next(0)).is_some()).collect();
    assert!(open.len() == 1 && is_open(open[0]));
    let path = "/api/vikingdb/Ping";
    for method in METHODS {
        for authorization in [None, Some("Bearer x")] {
            let request = Request::builder().method(method).uri(path);
            let request = authorization.into_iter().fold(request, |r, text| r.header("authorization", text));
            let (status, body) = bench.answer(request.body(Body::empty()).expect("valid")).await;
            let answers = matches!(method, "GET" | "POST");
            assert_eq!(status, if answers { 200 } else { 405 }, "{method}");
            let success = r#"{"code":"Success","message":"The API call was executed successfully.","request_id":"0"#;
            assert_eq!(body.starts_with(success) && body.ends_with(r#""result":null}"#), answers, "{method}: {body}");
        }
    }
    let request = Request::builder().uri(path).header("content-length", "2").body(Body::from("{}")).expect("valid");
    let (status, body) = bench.answer(request).await;
    assert!(status == 400 && body.contains(r#""InvalidParameter","message":"this call takes no body""#), "{body}");
    let chunked = Request::builder().uri(path).header("transfer-encoding", "chunked").body(Body::from("{}"));
    assert_eq!(bench.answer(chunked.expect("valid")).await.0, 400);
    assert_eq!(bench.calls(), 0);
}

#[tokio::test]
async fn every_route_answers_get_and_post_and_nothing_else() {
    let mut bench = Bench::new(echo());
    for route in all().filter(|route| !is_open(route)) {
        for method in METHODS {
            let before = bench.calls();
            let (status, _) = bench.answer(signed(method, route.path, &[], b"{}")).await;
            let runs = matches!(method, "GET" | "POST");
            assert_eq!(status, if runs { 200 } else { 405 }, "{method} {}", route.path);
            assert_eq!(bench.calls() - before, usize::from(runs), "{method} {}", route.path);
        }
    }
}

/// A signature for one version's service opens nothing of the other.
#[tokio::test]
async fn scopes_belong_to_one_dialect() {
    let mut bench = Bench::new(echo());
    for route in all().filter(|route| !is_open(route)) {
        let mut request = signed("POST", route.path, &[], b"{}");
        let own = route.call.service();
        let other = if own == sign::SERVICE { sign::SERVICE_V2 } else { sign::SERVICE };
        let credentials = sign::Credentials { service: other, ..credentials() };
        let hash = sign::sha256_hex(b"{}");
        let unsigned =
            sign::Request { method: "POST", path: route.path, query: &[], headers: JSON, body_sha256: &hash };
        for (name, value) in sign::sign(&unsigned, &credentials, X_DATE) {
            let name = axum::http::HeaderName::from_bytes(name.as_bytes()).expect("a name");
            request.headers_mut().insert(name, value.parse().expect("a value"));
        }
        let (status, body) = bench.answer(request).await;
        assert!(status == 401 && body.starts_with(refusal(route.path)), "{}: {body}", route.path);
    }
    assert_eq!(bench.calls(), 0);
}

/// The vendor's V2 clients can send an API key instead of a signature. There are none, and they are told so.
#[tokio::test]
async fn api_keys_are_refused_with_a_reason_where_they_exist() {
    let mut bench = Bench::new(echo());
    for (path, told) in [
        (
            "/api/vikingdb/data/upsert",
            r#"{"code":"Unauthorized","message":"API keys are not offered, requests are signed"#,
        ),
        ("/api/collection/info", r#"{"code":1000001,"message":"unauthorized""#),
    ] {
        let request = Request::builder().method("POST").uri(path).header("authorization", "Bearer abc");
        let (status, body) = bench.answer(request.body(Body::from("{}")).expect("valid")).await;
        assert!(status == 401 && body.starts_with(told), "{body}");
    }
    assert_eq!(bench.calls(), 0);
}

#[tokio::test]
async fn a_path_outside_the_table_does_not_exist() {
    let mut bench = Bench::new(echo());
    let one = ["/", "/api", "/api/task/create/", "/api/task//create", "/api/task/cr%65ate", "/metrics", "/healthz"];
    let two = ["/api/vikingdb/ping", "/api/vikingdb/", "/api/vikingdb/data/search", "/api/vikingdb/data/sort"];
    for path in one.into_iter().chain(two) {
        for request in [signed("POST", path, &[], b"{}"), signed("GET", path, &[("a", "b")], b"")] {
            let (status, body) = bench.answer(request).await;
            assert_eq!(status, 404, "{path}");
            let told = match path.starts_with(v2::PREFIX) {
                true => r#"{"code":"NotImplemented","message":"no such path","request_id":"#,
                false => r#"{"code":1000024,"message":"api not implemented","request_id":"#,
            };
            assert!(body.starts_with(told), "{body}");
        }
    }
    assert_eq!(bench.calls(), 0);
}

#[test]
fn the_table_holds_every_path_once_with_its_right() {
    let paths: HashSet<_> = all().map(|route| route.path).collect();
    assert_eq!(paths.len(), all().count());
    assert!(all().all(|route| !route.rights.is_empty()));
    // docs/wire/vikingdb.md sections 2.2 and 8 list them.
    assert_eq!((vikingdb::ROUTES.len(), v2::ROUTES.len()), (30, 15));
    assert!(all().all(|route| route.path.starts_with(v2::PREFIX) == matches!(route.call, Call::VikingdbV2(_))));
}
