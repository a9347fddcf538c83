//! The signed HTTP API as the client commands use it: one connection pool, one retry rule, one error mapping.

mod gate;

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Read;
use std::time::Duration;

use knarr_base::clock::{SharedClock, SystemClock};
use knarr_wire::sign;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use ureq::http::Response;
use ureq::{Agent, AsSendBody, Body};

use crate::failure::{Exit, Failure, Result};
use crate::keyfile::{self, Credentials};
pub(crate) use gate::Gate;

/// The server's answer to "too much at once": wait and send the same again.
const BUSY: i64 = 1_000_029;
/// First pause after BUSY; doubles up to [`BUSY_PAUSE_MAX`].
const BUSY_PAUSE: Duration = Duration::from_millis(50);
const BUSY_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Tries of one request that is answered BUSY: about a minute.
const BUSY_TRIES: u32 = 16;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An idle connection is used again within this time: less than the server's wait for the next request's head.
const IDLE: Duration = Duration::from_secs(8);
/// Longer than the server's own bound on a request, so that its answer wins.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(150);
/// Bytes of a JSON answer that are read: 100 rows of the largest size, as text.
const ANSWER_BYTES: u64 = 64 * 1024 * 1024;
const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";

/// Where to, and as whom.
pub(crate) struct Client {
    agent: Agent,
    base: String,
    host: String,
    credentials: Credentials,
    clock: SharedClock,
    gate: Gate,
}

/// What every answer looks like (docs/wire/vikingdb.md section 2.1).
#[derive(Deserialize)]
struct Envelope {
    code: i64,
    #[serde(default)]
    message: String,
    data: Option<Box<RawValue>>,
}

/// The `data` of a successful answer, exactly as it came.
pub(crate) struct Data(Option<Box<RawValue>>);

impl Data {
    /// The JSON text; `null` where the answer has no data.
    pub(crate) fn text(&self) -> &str {
        self.0.as_deref().map_or("null", RawValue::get)
    }

    /// As a type that expects it.
    pub(crate) fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        serde_json::from_str(self.text()).map_err(|e| Failure::failed(format!("unexpected answer: {e}")))
    }
}

struct Answer {
    status: u16,
    envelope: Envelope,
}

impl Client {
    /// `server`: `http://HOST:PORT`.
    pub(crate) fn new(server: &str, credentials: Credentials) -> Result<Self> {
        let base = server.trim_end_matches('/');
        let host = base.strip_prefix("http://").ok_or_else(|| {
            Failure::usage(format!("--server {server}: must be http://HOST:PORT (TLS is the work of a proxy in front)"))
        })?;
        if host.is_empty() || host.contains(['/', '?', '#', '@']) {
            return Err(Failure::usage(format!("--server {server}: must be http://HOST:PORT")));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("knarr/", env!("CARGO_PKG_VERSION")))
            .max_idle_age(IDLE)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            .build();
        Ok(Self {
            agent: Agent::new_with_config(config),
            base: base.to_owned(),
            host: host.to_owned(),
            credentials,
            clock: SystemClock::shared(),
            gate: Gate::default(),
        })
    }

    /// With the keys of the environment.
    pub(crate) fn from_env(server: &str) -> Result<Self> {
        let missing = "set KNARR_ACCESS_KEY and KNARR_SECRET_KEY; a server's first pair is in its DIR/admin.key (`. DIR/admin.key` sets both)";
        let found = keyfile::credentials_from_env()?;
        Self::new(server, found.ok_or_else(|| Failure::new(Exit::Denied, missing))?)
    }

    /// Ends pauses early, here and in other threads that share this client.
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The server's address.
    pub(crate) fn server(&self) -> &str {
        &self.base
    }

    /// One call with a JSON body.
    pub(crate) fn call(&self, path: &str, body: &impl Serialize) -> Result<Data> {
        let body = serde_json::to_string(body).map_err(|e| Failure::failed(format!("request to {path}: {e}")))?;
        self.send(path, &body)
    }

    /// One call with a prepared body, repeated while the server is busy.
    pub(crate) fn send(&self, path: &str, body: &str) -> Result<Data> {
        let mut pause = BUSY_PAUSE;
        for _ in 1..BUSY_TRIES {
            let answer = self.send_once(path, body)?;
            if answer.envelope.code != BUSY || self.gate.pause(pause) {
                return settle(answer);
            }
            pause = (pause * 2).min(BUSY_PAUSE_MAX);
        }
        settle(self.send_once(path, body)?)
    }

    fn send_once(&self, path: &str, body: &str) -> Result<Answer> {
        let hash = sign::sha256_hex(body.as_bytes());
        let response = self.exchange("POST", path, &[], JSON, &hash, Some(body.as_bytes()))?;
        read_answer(response, path)
    }

    /// A management read with its arguments in the query.
    pub(crate) fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Data> {
        let response = self.exchange("GET", path, query, JSON, &sign::sha256_hex(b""), None::<&[u8]>)?;
        settle(read_answer(response, path)?)
    }

    /// A management read of raw bytes.
    pub(crate) fn download(&self, path: &str, query: &[(&str, &str)]) -> Result<impl Read + use<>> {
        let response = self.exchange("GET", path, query, JSON, &sign::sha256_hex(b""), None::<&[u8]>)?;
        if response.status().as_u16() != 200 {
            settle(read_answer(response, path)?)?;
            return Err(Failure::failed("the server answered without the object"));
        }
        Ok(response.into_body().into_reader())
    }

    /// Sends a file's raw bytes. Reads it twice: the signature covers its hash, which goes first.
    pub(crate) fn upload(&self, path: &str, query: &[(&str, &str)], name: &str) -> Result<Data> {
        let open = || File::open(name).map_err(|e| Failure::file(name, e));
        let hash = hash_of(open()?).map_err(|e| Failure::file(name, e))?;
        let response = self.exchange("POST", path, query, BYTES, &hash, Some(open()?))?;
        settle(read_answer(response, path)?)
    }

    fn exchange(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        content_type: &str,
        body_sha256: &str,
        body: Option<impl AsSendBody>,
    ) -> Result<Response<Body>> {
        // Signed, so that two calls within one second are never taken for one that was sent twice.
        let nonce = format!("{:016x}", RandomState::new().build_hasher().finish());
        let headers = [("Host", self.host.as_str()), ("Content-Type", content_type), ("X-Nonce", nonce.as_str())];
        let request = sign::Request { method, path, query, headers: &headers, body_sha256 };
        let Credentials { access_key, secret_key } = &self.credentials;
        let credentials = sign::Credentials {
            access_key,
            secret_key,
            session_token: None,
            region: sign::REGION,
            service: sign::SERVICE,
        };
        let signed = sign::sign(&request, &credentials, &sign::x_date(self.clock.now_ms()));
        let headers = || {
            signed
                .iter()
                .map(|(k, v)| (k.as_str(), v.as_str()))
                .chain([("Content-Type", content_type), ("X-Nonce", nonce.as_str())])
        };
        let url = format!("{}{path}{}", self.base, query_text(query));
        let sent = match body {
            Some(body) => headers().fold(self.agent.post(&url), |r, (k, v)| r.header(k, v)).send(body),
            None => headers().fold(self.agent.get(&url), |r, (k, v)| r.header(k, v)).call(),
        };
        sent.map_err(|e| Failure::new(Exit::Unreachable, format!("no answer from {}: {e}", self.base)))
    }
}

fn read_answer(mut response: Response<Body>, path: &str) -> Result<Answer> {
    let status = response.status().as_u16();
    let text = response.body_mut().with_config().limit(ANSWER_BYTES).read_to_vec();
    let text = text.map_err(|e| Failure::new(Exit::Unreachable, format!("answer of {path} broke off: {e}")))?;
    let envelope = serde_json::from_slice(&text)
        .map_err(|_| Failure::failed(format!("{path} answered {status} with something that is not knarr's")))?;
    Ok(Answer { status, envelope })
}

/// The data of a success, or the failure of anything else.
fn settle(answer: Answer) -> Result<Data> {
    let Answer { status, envelope: Envelope { code, message, data } } = answer;
    if status == 200 && code == 0 { Ok(Data(data)) } else { Err(Failure::refused(status, code, &message)) }
}

/// `?k=v&...`, percent-encoded; empty without pairs.
fn query_text(pairs: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (name, value) in pairs {
        out.push(if out.is_empty() { '?' } else { '&' });
        for (at, text) in [name, value].into_iter().enumerate() {
            out.push_str(if at == 0 { "" } else { "=" });
            for byte in text.bytes() {
                if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
                    out.push(char::from(byte));
                } else {
                    out.push_str(&format!("%{byte:02X}"));
                }
            }
        }
    }
    out
}

fn hash_of(mut file: File) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect()),
            n => hash.update(&buffer[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    #[test]
    fn queries_are_encoded_byte_by_byte() {
        assert_eq!(query_text(&[]), "");
        assert_eq!(query_text(&[("key", "a b/é+c"), ("x", "")]), "?key=a%20b%2F%C3%A9%2Bc&x=");
    }

    #[test]
    fn only_plain_http_addresses_are_servers() {
        let client = |server: &str| {
            let secret_key = Zeroizing::new("s".to_owned());
            Client::new(server, Credentials { access_key: "a".to_owned(), secret_key })
        };
        assert_eq!(client("http://h:1/").map(|c| c.host).ok().as_deref(), Some("h:1"));
        for bad in ["", "h:1", "https://h", "http://", "http://h/path", "http://u@h"] {
            assert_eq!(client(bad).map(|_| ()).expect_err(bad).exit(), Exit::Usage, "{bad}");
        }
    }
}
