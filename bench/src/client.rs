//! A small HTTP/1.1 client that signs as docs/wire/vikingdb.md section 1.2 says. The load generators and the server's
//! integration tests share it; it takes nothing from the product, so it is also a second opinion on the signature.
//!
//! Requests can be prepared and signed long before they are sent: then a call costs one write and a few reads.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::{Digest, Sha256};

const REGION: &str = "cn-north-1";
/// The services of the two versions of the API, and what the paths of the second begin with.
const SERVICES: [&str; 2] = ["air", "vikingdb"];
const V2: &str = "/api/vikingdb/";
const SIGNED: &str = "content-type;host;x-content-sha256;x-date";
/// Longer than any bound of the server, so that its answer wins.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(150);

/// An access key with its secret.
#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) access: String,
    pub(crate) secret: String,
}

/// Signs requests for one host and one date; good for a quarter of an hour.
pub(crate) struct Signer {
    access: String,
    /// One per service.
    scopes: [Scope; 2],
    date: String,
    host: String,
}

/// What a signature is good for, and the key that makes it.
struct Scope {
    text: String,
    key: [u8; 32],
}

impl Signer {
    /// `now_ms`: unix milliseconds.
    pub(crate) fn new(keys: &Keys, host: &str, now_ms: i64) -> Self {
        let date = knarr_base::clock::rfc3339(now_ms).replace(['-', ':'], "");
        let day = &date[..8];
        let scopes = SERVICES.map(|service| {
            let key = [day, REGION, service, "request"]
                .iter()
                .fold(keys.secret.as_bytes().to_vec(), |key, part| mac(&key, part.as_bytes()).to_vec());
            let text = format!("{day}/{REGION}/{service}/request");
            Scope { text, key: key.try_into().expect("a MAC has 32 bytes") }
        });
        Self { access: keys.access.clone(), scopes, host: host.to_owned(), date }
    }

    /// The bytes of a whole signed request.
    pub(crate) fn request(&self, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
        let Self { access, scopes, date, host } = self;
        let Scope { text: scope, key } = &scopes[usize::from(path.starts_with(V2))];
        let hash = hex(&Sha256::digest(body));
        let headers = format!("content-type:application/json\nhost:{host}\nx-content-sha256:{hash}\nx-date:{date}\n");
        let canonical = format!("{method}\n{path}\n\n{headers}\n{SIGNED}\n{hash}");
        let text = format!("HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
        let signature = hex(&mac(key, text.as_bytes()));
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nX-Date: {date}\r\n\
             X-Content-Sha256: {hash}\r\nContent-Length: {}\r\nAuthorization: HMAC-SHA256 Credential={access}/{scope}, \
             SignedHeaders={SIGNED}, Signature={signature}\r\n\r\n",
            body.len()
        );
        let mut request = head.into_bytes();
        request.extend_from_slice(body);
        request
    }
}

fn mac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// One kept-alive connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(host: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(host)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Self { stream, buffer: vec![0; 512 * 1024] })
    }

    /// Sends prepared bytes; the status and body of the answer.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> io::Result<(u16, &[u8])> {
        self.stream.write_all(request)?;
        let mut filled = 0;
        let head = loop {
            filled += self.fill(filled)?;
            if let Some(at) = find(&self.buffer[..filled], b"\r\n\r\n") {
                break at + 4;
            }
        };
        let (status, length) = parse_head(&self.buffer[..head])?;
        let end = head + length;
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        while filled < end {
            filled += self.fill(filled)?;
        }
        Ok((status, &self.buffer[head..end]))
    }

    fn fill(&mut self, from: usize) -> io::Result<usize> {
        match self.stream.read(&mut self.buffer[from..])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => Ok(n),
        }
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|w| w == what)
}

fn parse_head(head: &[u8]) -> io::Result<(u16, usize)> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "answer without status or length");
    let text = std::str::from_utf8(head).map_err(|_| bad())?;
    let status = text.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(bad)?;
    let length = text.lines().filter_map(|line| line.split_once(':'));
    let length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.filter_map(|(_, value)| value.trim().parse().ok()).next();
    Ok((status, length.ok_or_else(bad)?))
}

/// True for the only answer that counts as success: 200 with code 0.
pub(crate) fn accepted(status: u16, body: &[u8]) -> bool {
    status == 200 && body.starts_with(b"{\"code\":0,")
}

/// An answer, parsed.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// -1 where it is no number, as in V2.
    pub(crate) code: i64,
    pub(crate) data: Value,
    /// The body as it came.
    pub(crate) text: String,
}

/// Calls of one key over one connection, which is opened again after it broke.
pub(crate) struct Client {
    host: String,
    keys: Keys,
    clock: knarr_base::clock::SharedClock,
    connection: Option<Connection>,
}

impl Client {
    pub(crate) fn new(host: &str, keys: &Keys) -> Self {
        let clock = knarr_base::clock::SystemClock::shared();
        Self { host: host.to_owned(), keys: keys.clone(), clock, connection: None }
    }

    /// Unix milliseconds and a monotonic reading of this client's clock.
    pub(crate) fn clock(&self) -> &knarr_base::clock::SharedClock {
        &self.clock
    }

    /// A signer with the present date.
    pub(crate) fn signer(&self) -> Signer {
        Signer::new(&self.keys, &self.host, self.clock.now_ms())
    }

    /// One POST. An error means that nothing is known about what the server did.
    pub(crate) fn post(&mut self, path: &str, body: &Value) -> io::Result<Reply> {
        self.send("POST", path, body.to_string().as_bytes())
    }

    /// One call with any method and body.
    pub(crate) fn send(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<Reply> {
        let request = self.signer().request(method, path, body);
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => self.connection.insert(Connection::open(&self.host)?),
        };
        let answer = connection.exchange(&request).map(|(status, body)| (status, body.to_vec()));
        let (status, body) = answer.inspect_err(|_| self.connection = None)?;
        let text = String::from_utf8_lossy(&body).into_owned();
        let json: Value = serde_json::from_str(&text).unwrap_or_default();
        Ok(Reply { status, code: json["code"].as_i64().unwrap_or(-1), data: json["data"].clone(), text })
    }

    /// The data of a call that must succeed.
    ///
    /// # Panics
    /// If it does not, with the answer.
    pub(crate) fn must(&mut self, path: &str, body: &Value) -> Value {
        let reply = self.post(path, body).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!((reply.status, reply.code), (200, 0), "{path} {body}: {}", reply.text);
        reply.data
    }
}
