use std::convert::Infallible;
use std::time::Duration;

use futures::TryStreamExt;

use super::*;

fn limits() -> Limits {
    Limits {
        body_bytes: 100,
        object_bytes: 100,
        refused_bytes: 200,
        body_timeout: Duration::from_millis(50),
        ..Limits::default()
    }
}

/// A body in pieces, without a known length.
fn chunked(pieces: Vec<Vec<u8>>) -> Body {
    Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, Infallible>)))
}

fn incoming(body: Body) -> Incoming {
    Incoming::new(body, &HeaderMap::new(), limits())
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, value.parse().expect("a value"));
    }
    headers
}

#[test]
fn lengths_are_declared_once() {
    assert_eq!(declared_length(&headers(&[])).expect("none"), Some(0));
    assert_eq!(declared_length(&headers(&[("content-length", "7")])).expect("one"), Some(7));
    let same = [("content-length", "7"), ("content-length", "7")];
    assert_eq!(declared_length(&headers(&same)).expect("equal"), Some(7));
    let chunked = [("transfer-encoding", "chunked"), ("content-length", "7")];
    assert_eq!(declared_length(&headers(&chunked)).expect("chunked"), None);
    for bad in [
        &[("content-length", "7"), ("content-length", "8")][..],
        &[("content-length", "7, 7")],
        &[("content-length", "+7")],
        &[("content-length", "-1")],
        &[("content-length", "")],
        &[("content-length", "99999999999999999999")],
    ] {
        assert_eq!(declared_length(&headers(bad)).map_err(|e| e.kind()), Err(Kind::Invalid), "{bad:?}");
    }
}

#[tokio::test]
async fn bodies_are_collected_whole() {
    let budget = Budget::new(1000);
    for (body, declared) in [
        (Body::from("abcdef"), Some(6)),
        (chunked(vec![b"abc".to_vec(), b"".to_vec(), b"d".to_vec(), b"ef".to_vec()]), None),
        (chunked(vec![b"abc".to_vec(), b"def".to_vec()]), Some(6)),
    ] {
        let collected = incoming(body).collect(declared, &budget).await.expect("whole");
        assert_eq!(collected.bytes, "abcdef");
    }
    let empty = incoming(Body::empty()).collect(Some(0), &budget).await.expect("whole");
    assert!(empty.bytes.is_empty());
    drop(empty);
    assert!(budget.take(1000).is_ok(), "every share was given back");
}

#[tokio::test]
async fn a_body_has_its_limit_exactly() {
    let budget = Budget::new(1000);
    let most = incoming(chunked(vec![vec![b'x'; 60], vec![b'x'; 40]])).collect(None, &budget).await;
    assert_eq!(most.expect("at the limit").bytes.len(), 100);
    let more = incoming(chunked(vec![vec![b'x'; 60], vec![b'x'; 41]])).collect(None, &budget).await;
    assert_eq!(more.map(|c| c.bytes.len()).map_err(|e| e.kind()), Err(Kind::TooLarge));
}

#[tokio::test]
async fn all_bodies_together_have_a_budget() {
    let budget = Budget::new(100);
    let first = incoming(Body::from(vec![0; 60])).collect(Some(60), &budget).await.expect("fits");
    let refused = incoming(Body::from(vec![0; 41])).collect(Some(41), &budget).await;
    assert_eq!(refused.map(|c| c.bytes.len()).map_err(|e| e.kind()), Err(Kind::Busy));
    let refused = incoming(chunked(vec![vec![0; 30], vec![0; 30]])).collect(None, &budget).await;
    assert_eq!(refused.map(|c| c.bytes.len()).map_err(|e| e.kind()), Err(Kind::Busy));
    drop(first);
    assert!(incoming(Body::from(vec![0; 100])).collect(Some(100), &budget).await.is_ok());
}

#[tokio::test]
async fn slow_and_broken_bodies_end() {
    let budget = Budget::new(1000);
    let never = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
    let error = incoming(never).collect(None, &budget).await.map(|c| c.bytes).expect_err("too slow");
    assert_eq!((error.kind(), error.message()), (Kind::Invalid, "the body took too long to arrive"));
    let broken = Body::from_stream(stream::iter([Ok("abc"), Err(std::io::Error::other("reset"))]));
    let error = incoming(broken).collect(None, &budget).await.map(|c| c.bytes).expect_err("broken");
    assert_eq!((error.kind(), error.message()), (Kind::Invalid, "the body broke off"));
}

#[tokio::test]
async fn refused_bodies_are_read_to_their_end_within_bounds() {
    assert!(incoming(Body::empty()).drain().await);
    assert!(incoming(Body::from(vec![0; 200])).drain().await);
    assert!(!incoming(Body::from(vec![0; 201])).drain().await);
    assert!(incoming(chunked(vec![vec![0; 100]; 2])).drain().await);
    assert!(!incoming(chunked(vec![vec![0; 100]; 3])).drain().await);
    assert!(!incoming(Body::from_stream(stream::pending::<Result<Bytes, Infallible>>())).drain().await);
    // A client that waits for leave to send is answered instead.
    let waiting = headers(&[("expect", "100-continue")]);
    assert!(!Incoming::new(Body::from("abc"), &waiting, limits()).drain().await);
    let mut read = Incoming::new(chunked(vec![b"abc".to_vec()]), &waiting, limits());
    read.collect(None, &Budget::new(1000)).await.expect("whole");
    assert!(read.drain().await);
}

async fn streamed(body: Body, signed: &[u8]) -> Result<Vec<u8>> {
    let shared = Arc::new(Mutex::new(incoming(body)));
    let pieces: Vec<Bytes> = stream(shared, Sha256::digest(signed).into()).try_collect().await?;
    Ok(pieces.concat())
}

#[tokio::test]
async fn a_streamed_body_ends_well_only_with_the_signed_hash() {
    let body = || chunked(vec![b"abc".to_vec(), b"def".to_vec()]);
    assert_eq!(streamed(body(), b"abcdef").await.expect("signed"), b"abcdef");
    assert_eq!(streamed(Body::empty(), b"").await.expect("signed"), b"");
    for signed in [&b"abc"[..], b"abcdefg", b""] {
        assert_eq!(streamed(body(), signed).await.map_err(|e| e.kind()), Err(Kind::Unauthorized));
    }
    let large = vec![b'x'; 101];
    let refused = streamed(chunked(vec![large.clone()]), &large).await;
    assert_eq!(refused.map_err(|e| e.kind()), Err(Kind::TooLarge));
    let broken = Body::from_stream(stream::iter([Ok("abc"), Err(std::io::Error::other("reset"))]));
    assert_eq!(streamed(broken, b"abc").await.map_err(|e| e.kind()), Err(Kind::Invalid));
}
