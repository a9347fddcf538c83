//! What hyper and we make of bytes on a real connection.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::sign;
use crate::testing::{Bench, JSON, X_DATE, credentials, echo};

const PATH: &str = "/api/collection/fetch_data";

/// A server on a free port, and a connection to it.
async fn connect() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let at = listener.local_addr().expect("an address");
    let router = Bench::new(echo()).router;
    // Ends with the test's runtime.
    tokio::spawn(async move { axum::serve(listener, router).await });
    TcpStream::connect(at).await.expect("listening")
}

/// A signed head, with its framing left to the caller.
fn head(method: &str, body: &[u8], framing: &str) -> String {
    let hash = sign::sha256_hex(body);
    let request = sign::Request { method, path: PATH, query: &[], headers: JSON, body_sha256: &hash };
    let added = sign::sign(&request, &credentials(), X_DATE);
    let headers: String = added.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    // `path?` is what some clients make of an empty query.
    format!("{method} {PATH}? HTTP/1.1\r\nHost: knarr\r\nContent-Type: application/json\r\n{headers}{framing}\r\n")
}

async fn send(connection: &mut TcpStream, parts: &[&str]) {
    for part in parts {
        connection.write_all(part.as_bytes()).await.expect("sent");
    }
}

/// One answer: status line, and body by its Content-Length.
async fn receive(connection: &mut TcpStream) -> (String, String) {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).expect("ASCII").to_lowercase();
            let length = head
                .lines()
                .find_map(|l| l.strip_prefix("content-length: "))
                .map_or(0, |n| n.parse().expect("a number"));
            while bytes.len() < end + 4 + length {
                bytes.push(connection.read_u8().await.expect("the whole body"));
            }
            return (head, String::from_utf8(bytes.split_off(end + 4)).expect("UTF-8"));
        }
        bytes.push(connection.read_u8().await.expect("a head"));
    }
}

async fn is_closed(connection: &mut TcpStream) -> bool {
    matches!(connection.read(&mut [0; 1]).await, Ok(0) | Err(_))
}

const BODY: &str = "{\"primary_keys\": 1}\n";

#[tokio::test]
async fn get_with_a_body_on_one_connection() {
    let mut connection = connect().await;
    let length = format!("Content-Length: {}\r\n", BODY.len());
    for method in ["GET", "POST"] {
        send(&mut connection, &[&head(method, BODY.as_bytes(), &length), BODY]).await;
        let (status, body) = receive(&mut connection).await;
        assert!(status.starts_with("http/1.1 200 ok"), "{status}");
        assert_eq!(body, BODY);
        // The Go client chunks a GET's body.
        let head = head(method, BODY.as_bytes(), "Transfer-Encoding: chunked\r\n");
        send(&mut connection, &[&head, "5\r\n{\"pri\r\n", "E\r\nmary_keys\": 1}\r\n", "1\r\n\n\r\n", "0\r\n\r\n"])
            .await;
        let (status, body) = receive(&mut connection).await;
        assert!(status.starts_with("http/1.1 200 ok"), "{status}");
        assert_eq!(body, BODY);
    }
}

#[tokio::test]
async fn a_refused_body_does_not_become_the_next_request() {
    let mut connection = connect().await;
    let smuggled = "POST /api/task/drop HTTP/1.1\r\nHost: knarr\r\n\r\n";
    let length = format!("Content-Length: {}\r\n", smuggled.len());
    // Unsigned body: refused, read, and the connection goes on.
    send(&mut connection, &[&head("POST", b"another body", &length), smuggled]).await;
    let (status, body) = receive(&mut connection).await;
    assert!(status.starts_with("http/1.1 401"), "{status}");
    assert!(body.contains("\"code\":1000001"), "{body}");
    let length = format!("Content-Length: {}\r\n", BODY.len());
    send(&mut connection, &[&head("GET", BODY.as_bytes(), &length), BODY]).await;
    let (status, body) = receive(&mut connection).await;
    assert!(status.starts_with("http/1.1 200 ok"), "{status}");
    assert_eq!(body, BODY);
}

#[tokio::test]
async fn differing_lengths_are_400_and_end_the_connection() {
    let mut connection = connect().await;
    let framing = format!("Content-Length: {}\r\nContent-Length: 5\r\n", BODY.len());
    send(&mut connection, &[&head("POST", BODY.as_bytes(), &framing)]).await;
    let (status, _) = receive(&mut connection).await;
    assert!(status.starts_with("http/1.1 400"), "{status}");
    assert!(is_closed(&mut connection).await);
}

#[tokio::test]
async fn chunks_win_over_a_length_and_end_the_connection() {
    let mut connection = connect().await;
    let head = head("POST", b"{}", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n");
    send(&mut connection, &[&head, "2\r\n{}\r\n0\r\n\r\n"]).await;
    let (status, body) = receive(&mut connection).await;
    assert!(status.starts_with("http/1.1 200 ok"), "{status}");
    assert_eq!(body, "{}");
    assert!(is_closed(&mut connection).await);
}

#[tokio::test]
async fn a_client_that_asks_first_is_answered_first() {
    let mut connection = connect().await;
    let framing = format!("Content-Length: {}\r\nExpect: 100-continue\r\n", BODY.len());
    send(&mut connection, &[&head("POST", BODY.as_bytes(), &framing)]).await;
    let (status, _) = receive(&mut connection).await;
    assert!(status.starts_with("http/1.1 100"), "{status}");
    send(&mut connection, &[BODY]).await;
    let (status, body) = receive(&mut connection).await;
    assert!(status.starts_with("http/1.1 200 ok"), "{status}");
    assert_eq!(body, BODY);
    // Too large: told so without being let to send.
    let framing = "Content-Length: 999999999\r\nExpect: 100-continue\r\n";
    send(&mut connection, &[&head("POST", BODY.as_bytes(), framing)]).await;
    let (status, body) = receive(&mut connection).await;
    assert!(status.starts_with("http/1.1 413") && status.contains("connection: close"), "{status}");
    assert!(body.contains("\"code\":1000003"), "{body}");
}
