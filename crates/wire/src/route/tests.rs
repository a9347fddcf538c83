use std::collections::HashSet;

use axum::body::Body;

use super::*;
use crate::testing::{Bench, echo, signed};

const METHODS: [&str; 9] = ["GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"];

/// Walks the table: nothing answers without a signature, whatever the method, and nothing has run.
#[tokio::test]
async fn every_route_has_auth() {
    let mut bench = Bench::new(echo());
    for route in all() {
        for method in METHODS {
            let request = Request::builder().method(method).uri(route.path).body(Body::from("{}")).expect("valid");
            let (status, body) = bench.answer(request).await;
            assert_eq!(status, 401, "{method} {}", route.path);
            let empty = method == "HEAD" && body.is_empty();
            let told = body.starts_with(r#"{"code":1000001,"message":"unauthorized","request_id":"0"#);
            assert!(empty || told, "{method} {}: {body}", route.path);
        }
    }
    assert_eq!(bench.calls(), 0);
}

#[tokio::test]
async fn every_route_answers_get_and_post_and_nothing_else() {
    let mut bench = Bench::new(echo());
    for route in all() {
        for method in METHODS {
            let before = bench.calls();
            let (status, _) = bench.answer(signed(method, route.path, &[], b"{}")).await;
            let runs = matches!(method, "GET" | "POST");
            assert_eq!(status, if runs { 200 } else { 405 }, "{method} {}", route.path);
            assert_eq!(bench.calls() - before, usize::from(runs), "{method} {}", route.path);
        }
    }
}

#[tokio::test]
async fn a_path_outside_the_table_does_not_exist() {
    let mut bench = Bench::new(echo());
    for path in ["/", "/api", "/api/task/create/", "/api/task//create", "/api/task/cr%65ate", "/metrics", "/healthz"] {
        for request in [signed("POST", path, &[], b"{}"), signed("GET", path, &[("a", "b")], b"")] {
            let (status, body) = bench.answer(request).await;
            assert_eq!(status, 404, "{path}");
            assert!(body.starts_with(r#"{"code":1000024,"message":"api not implemented","request_id":"#), "{body}");
        }
    }
    assert_eq!(bench.calls(), 0);
}

#[test]
fn the_table_holds_every_path_once_with_its_right() {
    let paths: HashSet<_> = all().map(|route| route.path).collect();
    assert_eq!(paths.len(), all().count());
    assert!(all().all(|route| !route.rights.is_empty()));
    // docs/wire/vikingdb.md section 2.2 numbers them.
    assert_eq!(vikingdb::ROUTES.len(), 30);
}
