//! Embedding models behind OpenAI-compatible `/v1/embeddings` endpoints, one per name that clients use.
//!
//! Only configured addresses are called, without redirects and without the environment's proxy, so no request decides
//! where the server connects. Behind `https` an endpoint proves who it is, to public authorities or to those that its
//! settings name instead (docs/decisions/0006). What comes back is bounded and checked; nothing of it is shown but
//! numbers.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use knarr_base::{Error, Kind, limit};
use knarr_service::embedding::{Embed, Embedded, Input, Takes, not_configured};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use ureq::Agent;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use zeroize::Zeroizing;

/// One configured model.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    /// `http://HOST:PORT/PATH` or `https://...` of its endpoint.
    pub(crate) url: String,
    /// The endpoint's own name for it.
    pub(crate) model: String,
    /// The environment variable that holds its key; empty: none.
    pub(crate) key_env: String,
    /// Whether it reads images beside texts.
    pub(crate) images: bool,
    /// Who vouches for its endpoint; `None`: the public authorities.
    pub(crate) trusted: Option<Authorities>,
}

/// Certificates of authorities, instead of the public ones.
#[derive(Debug, Clone)]
pub(crate) struct Authorities(RootCerts);

impl Authorities {
    /// Those of a PEM file.
    ///
    /// # Errors
    /// A sentence: the file cannot be read, or holds no certificate.
    pub(crate) fn read(file: &Path) -> Result<Self, String> {
        let pem = fs::read(file).map_err(|e| e.to_string())?;
        let mut found = Vec::new();
        for item in parse_pem(&pem) {
            if let PemItem::Certificate(certificate) = item.map_err(|e| e.to_string())? {
                found.push(certificate);
            }
        }
        if found.is_empty() { Err("holds no PEM certificate".to_owned()) } else { Ok(Self(RootCerts::from(found))) }
    }
}

/// All of them.
pub(crate) struct Models {
    models: BTreeMap<String, Arc<Endpoint>>,
    default: Option<String>,
    calls: Arc<Semaphore>,
    /// Time that a call waits for its turn.
    wait: Duration,
}

impl Models {
    pub(crate) fn new(models: BTreeMap<String, Model>, default: Option<String>) -> Self {
        Self {
            models: models.into_iter().map(|(name, model)| (name, Arc::new(Endpoint::new(model)))).collect(),
            default,
            calls: Arc::new(Semaphore::new(limit::EMBEDDING_CALLS)),
            wait: limit::EMBEDDING_WAIT,
        }
    }
}

/// A model, and the connections to it.
struct Endpoint {
    model: Model,
    agent: Agent,
}

impl Endpoint {
    fn new(model: Model) -> Self {
        let trusted = model.trusted.as_ref().map_or(RootCerts::WebPki, |authorities| authorities.0.clone());
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .tls_config(TlsConfig::builder().root_certs(trusted).build())
            .timeout_connect(Some(limit::EMBEDDING_CONNECT))
            .timeout_global(Some(limit::EMBEDDING_TIMEOUT))
            .build();
        Self { model, agent: Agent::new_with_config(config) }
    }
}

impl Embed for Models {
    fn embed(&self, name: &str, inputs: Vec<Input>) -> Embedded {
        let Some(endpoint) = self.models.get(name).cloned() else {
            let error = not_configured(name);
            return Box::pin(async move { Err(error) });
        };
        let (calls, wait, name) = (Arc::clone(&self.calls), self.wait, name.to_owned());
        Box::pin(async move {
            let Ok(Ok(call)) = timeout(wait, calls.acquire_owned()).await else {
                return Err(Error::new(Kind::Busy, "too many embedding calls at once"));
            };
            let asked = tokio::task::spawn_blocking(move || {
                let _call = call;
                ask(&endpoint, &inputs)
            });
            let answer = asked.await.unwrap_or_else(|error| Err(error.to_string()));
            answer.map_err(|why| {
                // The reason may quote the endpoint, so it is for the log.
                Error::new(Kind::EmbeddingFailed, format!("model {name:?} gave no vectors")).with_source(why)
            })
        })
    }

    fn takes(&self, name: &str) -> Option<Takes> {
        let endpoint = self.models.get(name)?;
        Some(if endpoint.model.images { Takes::TextsAndImages } else { Takes::Texts })
    }

    fn default_model(&self) -> Option<&str> {
        self.default.as_deref()
    }
}

#[derive(Serialize)]
struct Question<'a> {
    model: &'a str,
    input: Vec<Element<'a>>,
}

/// Texts alone go as everybody's endpoint reads them; beside images they are objects too, as multi-modal ones do
/// (docs/wire/vikingdb.md section 2.9).
#[derive(Serialize)]
#[serde(untagged)]
enum Element<'a> {
    Text(&'a str),
    Parts {
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        image: Option<&'a str>,
    },
}

fn elements(inputs: &[Input]) -> Vec<Element<'_>> {
    let images = inputs.iter().any(|input| input.image.is_some());
    inputs
        .iter()
        .map(|Input { text, image }| match (text.as_deref(), image.as_deref()) {
            (Some(text), None) if !images => Element::Text(text),
            (text, image) => Element::Parts { text, image },
        })
        .collect()
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    index: usize,
    embedding: Vec<f32>,
}

/// One call; a sentence for the log if it fails.
fn ask(Endpoint { model, agent }: &Endpoint, inputs: &[Input]) -> Result<Vec<Vec<f32>>, String> {
    let question = Question { model: &model.model, input: elements(inputs) };
    let question = serde_json::to_vec(&question).map_err(|e| e.to_string())?;
    let mut request = agent.post(&model.url).header("Content-Type", "application/json");
    if !model.key_env.is_empty() {
        let key = std::env::var(&model.key_env).map_err(|_| format!("{} is not set", model.key_env))?;
        let value = Zeroizing::new(format!("Bearer {}", Zeroizing::new(key).as_str()));
        request = request.header("Authorization", value.as_str());
    }
    let mut response = request.send(&question[..]).map_err(|e| e.to_string())?;
    if response.status().as_u16() != 200 {
        return Err(format!("status {}", response.status().as_u16()));
    }
    let body = response.body_mut().with_config().limit(limit::EMBEDDING_ANSWER_BYTES).read_to_vec();
    let answer: Answer = serde_json::from_slice(&body.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
    vectors(answer, inputs.len())
}

/// The vectors in the order of the inputs.
fn vectors(answer: Answer, inputs: usize) -> Result<Vec<Vec<f32>>, String> {
    let mut items = answer.data;
    items.sort_by_key(|item| item.index);
    let dim = items.first().map_or(0, |item| item.embedding.len());
    let in_order = items.iter().enumerate().all(|(at, item)| item.index == at);
    if items.len() != inputs || !in_order {
        return Err(format!("{} vectors for {inputs} inputs", items.len()));
    }
    if dim == 0 || items.iter().any(|item| item.embedding.len() != dim) {
        return Err("vectors of different lengths".to_owned());
    }
    if items.iter().flat_map(|item| &item.embedding).any(|x| !x.is_finite()) {
        return Err("a vector with an element that is not finite".to_owned());
    }
    Ok(items.into_iter().map(|item| item.embedding).collect())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Answers one connection; what it was asked comes back from the thread.
    fn endpoint(status: &str, body: &str) -> (String, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/v1/embeddings", listener.local_addr().expect("bound"));
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        let serve = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a caller");
            let mut seen = Vec::new();
            let mut piece = [0; 4096];
            while !seen.ends_with(b"}") {
                let read = stream.read(&mut piece).expect("readable");
                assert!(read > 0, "the request broke off");
                seen.extend_from_slice(&piece[..read]);
            }
            stream.write_all(answer.as_bytes()).expect("writable");
            String::from_utf8(seen).expect("UTF-8")
        });
        (url, serve)
    }

    fn texts() -> Vec<Input> {
        ["a", "b"].map(|text| Input::text(text.to_owned())).into()
    }

    async fn ask_for(inputs: Vec<Input>, status: &str, body: &str) -> (knarr_base::Result<Vec<Vec<f32>>>, String) {
        let (url, serve) = endpoint(status, body);
        let model = Model { url, model: "vendor/m".to_owned(), key_env: String::new(), images: true, trusted: None };
        let models = Models::new(BTreeMap::from([("m".to_owned(), model)]), None);
        assert_eq!((models.takes("m"), models.takes("n")), (Some(Takes::TextsAndImages), None));
        let answer = models.embed("m", inputs).await;
        (answer, serve.join().expect("served"))
    }

    async fn embed(status: &str, body: &str) -> (knarr_base::Result<Vec<Vec<f32>>>, String) {
        ask_for(texts(), status, body).await
    }

    /// A call that has to wait is served when another ends, or told that there are too many.
    #[tokio::test]
    async fn calls_wait_for_their_turn_within_bounds() {
        let (url, serve) = endpoint("200 OK", r#"{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":[2]}]}"#);
        let model = Model { url, model: "x".to_owned(), key_env: String::new(), images: false, trusted: None };
        let mut models = Models::new(BTreeMap::from([("m".to_owned(), model)]), None);
        let all = u32::try_from(limit::EMBEDDING_CALLS).expect("few");
        let held = Arc::clone(&models.calls).acquire_many_owned(all).await.expect("all of them");
        models.wait = Duration::from_millis(1);
        assert_eq!(models.embed("m", texts()).await.map_err(|e| e.kind()), Err(Kind::Busy));
        models.wait = limit::EMBEDDING_WAIT;
        let waiting = tokio::spawn(models.embed("m", texts()));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(held);
        assert_eq!(waiting.await.expect("ran").expect("vectors"), [[1.0], [2.0]]);
        serve.join().expect("served");
    }

    #[tokio::test]
    async fn beside_images_texts_are_objects_too() {
        let image = Input { text: None, image: Some("aGk=".to_owned()) };
        let both = Input { text: Some("c".to_owned()), image: Some("aGk=".to_owned()) };
        let inputs = vec![Input::text("a".to_owned()), image, both];
        let (_, asked) = ask_for(inputs, "500 Oops", "").await;
        let input = r#"[{"text":"a"},{"image":"aGk="},{"text":"c","image":"aGk="}]"#;
        assert!(asked.ends_with(&format!(r#"{{"model":"vendor/m","input":{input}}}"#)), "{asked}");
    }

    #[tokio::test]
    async fn vectors_come_in_the_order_of_the_texts() {
        let body = r#"{"data":[{"index":1,"embedding":[3,4]},{"index":0,"embedding":[1,2.5]}],"model":"x"}"#;
        let (answer, asked) = embed("200 OK", body).await;
        assert_eq!(answer.expect("vectors"), [[1.0, 2.5], [3.0, 4.0]]);
        assert!(asked.starts_with("POST /v1/embeddings "), "{asked}");
        assert!(asked.ends_with(r#"{"model":"vendor/m","input":["a","b"]}"#), "{asked}");
    }

    const TLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/tls/");

    /// As [`endpoint`], behind TLS: the certificate is of an authority that only tests know. What went wrong, if the
    /// caller did not come through.
    fn secure_endpoint(body: &'static str) -> (String, thread::JoinHandle<Result<(), String>>) {
        use rustls::pki_types::pem::PemObject;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        let chain = vec![CertificateDer::from_pem_file(format!("{TLS}server.pem")).expect("a certificate")];
        let key = PrivateKeyDer::from_pem_file(format!("{TLS}server.key")).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("versions").with_no_client_auth().with_single_cert(chain, key).expect("a pair");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("https://{}/v1/embeddings", listener.local_addr().expect("bound"));
        let serve = thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a caller");
            let connection = rustls::ServerConnection::new(Arc::new(config)).expect("a connection");
            let mut stream = rustls::StreamOwned::new(connection, stream);
            let (mut seen, mut piece) = (Vec::new(), [0; 4096]);
            while !seen.ends_with(b"}") {
                match stream.read(&mut piece) {
                    Ok(0) => return Err("broken off".to_owned()),
                    Ok(read) => seen.extend_from_slice(&piece[..read]),
                    Err(error) => return Err(error.to_string()),
                }
            }
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).expect("writable");
            stream.flush().expect("sent");
            Ok(())
        });
        (url, serve)
    }

    /// `known`: the test's authority is named; `host` stands for 127.0.0.1.
    async fn ask_securely(known: bool, host: &str) -> (Result<Vec<Vec<f32>>, String>, Result<(), String>) {
        let (url, serve) = secure_endpoint(r#"{"data":[{"index":0,"embedding":[1,2]}]}"#);
        let trusted = known.then(|| Authorities::read(Path::new(&format!("{TLS}ca.pem"))).expect("an authority"));
        let url = url.replace("127.0.0.1", host);
        let model = Model { url, model: "x".to_owned(), key_env: String::new(), images: false, trusted };
        let models = Models::new(BTreeMap::from([("m".to_owned(), model)]), None);
        let answer = models.embed("m", vec![Input::text("a".to_owned())]).await;
        (answer.map_err(|error| error.chain()), serve.join().expect("served"))
    }

    #[tokio::test]
    async fn an_https_endpoint_has_to_prove_who_it_is() {
        let (answer, served) = ask_securely(true, "127.0.0.1").await;
        assert_eq!((answer, served), (Ok(vec![vec![1.0, 2.0]]), Ok(())));
        // No public authority vouches for it; and the certificate is for an address, not for this name.
        for (known, host) in [(false, "127.0.0.1"), (true, "localhost")] {
            let (answer, served) = ask_securely(known, host).await;
            let why = answer.expect_err("refused");
            assert!(why.starts_with("model \"m\" gave no vectors: ") && why.contains("certificate"), "{why}");
            assert!(served.is_err(), "nothing was asked of {host}");
        }
    }

    #[tokio::test]
    async fn anything_else_is_a_failure_without_detail() {
        for (status, body) in [
            ("500 Oops", "secret text"),
            ("302 Found", "{}"),
            ("200 OK", "not JSON"),
            ("200 OK", r#"{"data":[]}"#),
            ("200 OK", r#"{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}"#),
            ("200 OK", r#"{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":[1,2]}]}"#),
            ("200 OK", r#"{"data":[{"index":0,"embedding":[]},{"index":1,"embedding":[]}]}"#),
            ("200 OK", r#"{"data":[{"index":0,"embedding":[1e39]},{"index":1,"embedding":[1]}]}"#),
        ] {
            let error = embed(status, body).await.0.expect_err(body);
            assert_eq!(
                (error.kind(), error.message()),
                (Kind::EmbeddingFailed, "model \"m\" gave no vectors"),
                "{body}"
            );
        }
        let unknown = Models::new(BTreeMap::new(), None).embed("m", texts()).await;
        assert_eq!(unknown.map_err(|e| e.kind()), Err(Kind::EmbeddingFailed));
    }
}
