use std::convert::Infallible;
use std::time::Duration;

use futures::{StreamExt, stream};

use super::*;
use crate::testing::{Bench, SK, X_DATE, echo, signed, text};

const PATH: &str = "/api/task/info";
const PUT: &str = "/knarr/v1/objects/put";

fn small() -> Limits {
    Limits { body_bytes: 100, object_bytes: 200, refused_bytes: 300, ..Limits::default() }
}

/// The same request with another body, in pieces of unknown length.
fn with_chunks(request: Request, pieces: &[&'static str]) -> Request {
    let (mut parts, _) = request.into_parts();
    parts.headers.remove("content-length");
    parts.headers.insert("transfer-encoding", HeaderValue::from_static("chunked"));
    let pieces: Vec<_> = pieces.iter().copied().map(Ok::<_, Infallible>).collect();
    Request::from_parts(parts, Body::from_stream(stream::iter(pieces)))
}

fn with_header(mut request: Request, name: &'static str, value: &str) -> Request {
    request.headers_mut().append(name, value.parse().expect("a value"));
    request
}

fn failing(error: fn() -> Error) -> Dispatch {
    Box::new(move |_, _, _| async move { Err(error()) }.boxed())
}

#[tokio::test]
async fn get_and_post_bodies_arrive_with_a_length_and_in_chunks() {
    let mut bench = Bench::new(echo());
    for method in ["GET", "POST"] {
        assert_eq!(bench.answer(signed(method, PATH, &[], b"{\"a\":1}\n")).await, (200, "{\"a\":1}\n".to_owned()));
        let chunks = with_chunks(signed(method, PATH, &[], b"{\"a\":1}\n"), &["{\"a", "\":1}", "\n"]);
        assert_eq!(bench.answer(chunks).await, (200, "{\"a\":1}\n".to_owned()));
    }
}

#[tokio::test]
async fn a_body_that_was_not_signed_reaches_nobody() {
    let mut bench = Bench::new(echo());
    for body in ["{\"a\":2}", "", "{\"a\":1} "] {
        let (parts, _) = signed("POST", PATH, &[], b"{\"a\":1}").into_parts();
        let (status, text) = bench.answer(Request::from_parts(parts, Body::from(body))).await;
        assert_eq!(status, 401, "{body:?}");
        assert!(text.starts_with(r#"{"code":1000001,"message":"unauthorized","request_id":"#), "{text}");
    }
    assert_eq!(bench.calls(), 0);
}

#[tokio::test]
async fn nothing_is_interpreted_before_the_signature_is_valid() {
    let mut bench = Bench::new(echo());
    // A body that no JSON parser would take, an argument that no decoder would take: still only 401.
    let request = Request::builder().method("POST").uri("/api/task/info?a=%zz").body(Body::from("{{{")).expect("valid");
    assert_eq!(bench.answer(request).await.0, 401);
    let deep = "[".repeat(1000);
    let request = Request::builder().method("POST").uri(PATH).body(Body::from(deep)).expect("valid");
    assert_eq!(bench.answer(request).await.0, 401);
    assert_eq!(bench.calls(), 0);
}

#[tokio::test]
async fn bodies_over_their_limit_are_413() {
    let mut bench = Bench::limited(echo(), small(), 1000, 10);
    let body = |n: usize| vec![b'x'; n];
    assert_eq!(bench.answer(signed("POST", PATH, &[], &body(100))).await.0, 200);
    let (status, text) = bench.answer(signed("POST", PATH, &[], &body(101))).await;
    assert_eq!(status, 413);
    assert!(text.starts_with(r#"{"code":1000003,"message":"invalid request:a body has at most 100 bytes""#), "{text}");
    let chunks = with_chunks(signed("POST", PATH, &[], &body(120)), &["xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"; 3]);
    assert_eq!(bench.answer(chunks).await.0, 413);
    assert_eq!(bench.calls(), 1);
    // Before anything is read, also of a stranger's.
    let huge = Request::builder().uri(PATH).header("content-length", "999999999999").body(Body::empty());
    let response = bench.send(huge.expect("valid")).await;
    assert_eq!(response.status(), 413);
}

#[tokio::test]
async fn an_unread_rest_closes_the_connection() {
    let mut bench = Bench::limited(echo(), small(), 1000, 10);
    let body = |n: usize| Body::from(vec![b'x'; n]);
    let response = bench.send(Request::builder().uri(PATH).body(body(300)).expect("valid")).await;
    assert_eq!((response.status().as_u16(), response.headers().get("connection")), (401, None));
    let response = bench.send(Request::builder().uri(PATH).body(body(301)).expect("valid")).await;
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()["connection"], "close");
}

#[tokio::test]
async fn lengths_that_differ_and_too_many_headers_are_400() {
    let mut bench = Bench::new(echo());
    let two = with_header(signed("POST", PATH, &[], b"{}"), "content-length", "3");
    assert_eq!(bench.answer(two).await.0, 400);
    let many = |n| (0..n).fold(signed("POST", PATH, &[], b"{}"), |r, _| with_header(r, "accept", "x"));
    let sent = signed("POST", PATH, &[], b"{}").headers().len();
    assert_eq!(bench.answer(many(limit::HEADERS - sent)).await.0, 200);
    assert_eq!(bench.answer(many(limit::HEADERS - sent + 1)).await.0, 400);
}

#[tokio::test]
async fn past_a_budget_clients_are_told_to_wait() {
    let slow: Dispatch = Box::new(|_, _, _| futures::future::pending().boxed());
    let limits = Limits { request_timeout: Duration::from_millis(100), ..small() };
    let bench = Bench::limited(slow, limits, 1000, 1);
    let send = || async {
        let mut one = Bench { clock: bench.clock.clone(), calls: bench.calls.clone(), router: bench.router.clone() };
        one.answer(signed("POST", PATH, &[], b"{}")).await
    };
    let (first, second) = tokio::join!(send(), send());
    // The first one runs into its own deadline; the second never got in.
    assert_eq!(first.0, 500);
    assert!(first.1.starts_with(r#"{"code":1000028,"message":"Internal error","request_id":"#), "{}", first.1);
    assert_eq!(second.0, 429);
    assert!(second.1.starts_with(r#"{"code":1000029,"message":"quota limit:"#), "{}", second.1);
    assert_eq!(bench.calls(), 1);
    let mut full = Bench::limited(echo(), small(), 10, 1);
    assert_eq!(full.answer(signed("POST", PATH, &[], &[b'x'; 11])).await.0, 429);
    assert_eq!(full.answer(signed("POST", PATH, &[], &[b'x'; 10])).await.0, 200);
}

#[tokio::test]
async fn a_panic_fails_one_request() {
    let dispatch: Dispatch = Box::new(|_, request, _| {
        async move {
            assert!(request.body != "boom", "the secret is {SK}");
            Ok(Answer::Json(b"fine".to_vec()))
        }
        .boxed()
    });
    let mut bench = Bench::new(dispatch);
    let (status, text) = bench.answer(signed("POST", PATH, &[], b"boom")).await;
    assert_eq!(status, 500);
    assert!(!text.contains(SK), "{text}");
    assert_eq!(bench.answer(signed("POST", PATH, &[], b"{}")).await.0, 200);
}

#[tokio::test]
async fn faults_of_ours_tell_nothing() {
    let mut bench = Bench::new(failing(|| Error::new(Kind::Corrupt, "segment 7 of /data is damaged").with_source(SK)));
    for (path, code) in [
        (PATH, 1_000_028),
        ("/api/collection/upsert_data", 1_000_014),
        ("/api/collection/update_data", 1_000_014),
        ("/api/collection/del_data", 1_000_013),
        ("/api/collection/fetch_data", 1_000_028),
    ] {
        let (status, text) = bench.answer(signed("POST", path, &[], b"{}")).await;
        assert_eq!(status, 500, "{path}");
        assert!(text.starts_with(&format!("{{\"code\":{code},\"message\":")), "{path}: {text}");
        assert!(!text.contains("segment") && !text.contains(SK), "{text}");
    }
}

/// The one fault of ours that is named: nobody but who runs the server can end it, and only if somebody says so.
#[tokio::test]
async fn a_full_disk_is_named() {
    let mut bench = Bench::new(failing(|| Error::new(Kind::DiskFull, "no space left in /data").with_source(SK)));
    for (path, code, text) in [
        ("/api/collection/create", 1_000_028, "Internal error"),
        ("/api/collection/upsert_data", 1_000_014, "upsert op failed"),
        ("/api/collection/del_data", 1_000_013, "delete op failed"),
        ("/api/task/create", 1_000_028, "Internal error"),
        (PUT, 1_000_028, "Internal error"),
    ] {
        let (status, answer) = bench.answer(signed("POST", path, &[], b"{}")).await;
        assert_eq!(status, 500, "{path}");
        let expected = format!("{{\"code\":{code},\"message\":\"{text}:the server's disk is full\",");
        assert!(answer.starts_with(&expected) && !answer.contains("/data"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn answers_carry_their_request_id_in_header_and_body() {
    let mut bench = Bench::new(failing(|| Error::new(Kind::TaskMissing, "task not exist")));
    let response = bench.send(signed("POST", PATH, &[], b"{}")).await;
    assert_eq!(response.status(), 404);
    assert_eq!(response.headers()["content-type"], "application/json");
    let id = response.headers()["x-tt-logid"].to_str().expect("ASCII").to_owned();
    assert!(id.len() == 53 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    assert!(id.starts_with("021699556393000"), "{id}");
    let expected =
        format!(r#"{{"code":1000035,"message":"task not exist","request_id":"{id}","msg":"task not exist"}}"#);
    assert_eq!(text(response).await, expected);
}

#[tokio::test]
async fn stale_dates_are_refused_by_the_servers_clock() {
    let mut bench = Bench::new(echo());
    assert_eq!(bench.answer(signed("POST", PATH, &[], b"{}")).await.0, 200);
    bench.clock.advance(limit::CLOCK_SKEW + Duration::from_secs(1));
    assert_eq!(bench.answer(signed("POST", PATH, &[], b"{}")).await.0, 401, "{X_DATE}");
}

#[tokio::test]
async fn objects_are_streamed_in_and_checked_at_their_end() {
    let mut bench = Bench::limited(echo(), small(), 10, 1);
    let query = [("bucket", "data-export"), ("key", "a/b")];
    let body = vec![b'x'; 200];
    // More than a collected body may have, and more than the budget of bodies.
    assert_eq!(bench.answer(signed("POST", PUT, &query, &body)).await.0, 200);
    assert_eq!(bench.answer(signed("POST", PUT, &query, &[b'x'; 201])).await.0, 413);
    let other = with_chunks(signed("POST", PUT, &query, b"abc"), &["abd"]);
    assert_eq!(bench.answer(other).await.0, 401);
    // A handler that gives up early leaves a rest, which is read so that its answer is seen.
    let mut refusing = Bench::new(failing(|| Error::new(Kind::NotFound, "no bucket data-export")));
    let response = refusing.send(signed("POST", PUT, &query, &body)).await;
    assert_eq!((response.status().as_u16(), response.headers().get("connection")), (404, None));
}

#[tokio::test]
async fn objects_go_out_raw() {
    let dispatch: Dispatch = Box::new(|_, _, _| {
        let info = ObjectInfo { key: "a".to_owned(), size: 3, etag: "\"e\"".to_owned(), last_modified_ms: 0 };
        let pieces = stream::iter([Ok(Bytes::from("ab")), Ok(Bytes::from("c"))]).boxed();
        async move { Ok(Answer::Object(info, pieces)) }.boxed()
    });
    let mut bench = Bench::new(dispatch);
    let response = bench.send(signed("GET", "/knarr/v1/objects/get", &[("bucket", "b")], b"")).await;
    assert_eq!(response.status(), 200);
    let header = |name: &str| response.headers()[name].to_str().expect("ASCII").to_owned();
    assert_eq!(
        [header("content-type"), header("content-length"), header("etag")],
        ["application/octet-stream", "3", "\"e\""]
    );
    assert_eq!(text(response).await, "abc");
}
