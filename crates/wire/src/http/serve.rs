//! The one way of every request: head, signature, body, hash, handler, answer.
//!
//! Owns the budgets and the order of checks; knows no operation. A handler runs only here, and only behind a valid
//! signature over a body of the signed hash.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};
use knarr_base::clock::SharedClock;
use knarr_base::id::KeyId;
use knarr_base::{Error, Kind, Result, limit};
use knarr_service::buckets::{ByteStream, ObjectInfo};
use knarr_service::keys::Identity;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::auth::volc::Head;
use crate::auth::{Auth, Caller};
use crate::http::body::{self, Incoming};
use crate::http::failure::{Failure, Refused};
use crate::http::limit::{Budget, Limits};
use crate::http::quota::Quotas;
use crate::http::request::{Answer, Signed};
use crate::metric;
use crate::route::{self, Call, Route};
use crate::vikingdb::request_id::{RequestId, RequestIds};

/// Finds the secret and rights of an access key.
pub(crate) type Lookup = Box<dyn Fn(KeyId) -> BoxFuture<'static, Result<Option<Identity>>> + Send + Sync>;
/// Runs one operation; the stream is the body of a route that streams.
pub(crate) type Dispatch =
    Box<dyn Fn(Call, Signed, Option<ByteStream>) -> BoxFuture<'static, Result<Answer>> + Send + Sync>;

/// What stands between the network and the handlers.
pub(crate) struct Gate {
    auth: Auth,
    quotas: Quotas,
    clock: SharedClock,
    lookup: Lookup,
    dispatch: Dispatch,
    limits: Limits,
    body_budget: Budget,
    in_flight: Budget,
    ids: RequestIds,
}

const UNKNOWN_ROUTE: &str = "unknown";
/// The code of every success, as metrics name it.
const SUCCESS: &str = "0";

impl Gate {
    pub(crate) fn new(auth: Auth, quotas: Quotas, clock: SharedClock, lookup: Lookup, dispatch: Dispatch) -> Self {
        Self {
            auth,
            quotas,
            clock,
            lookup,
            dispatch,
            limits: Limits::default(),
            body_budget: Budget::new(limit::BODY_BYTES_IN_FLIGHT),
            in_flight: Budget::new(limit::REQUESTS_IN_FLIGHT),
            ids: RequestIds::new(),
        }
    }

    #[cfg(test)]
    pub(crate) fn with_limits(mut self, limits: Limits, body_budget: usize, in_flight: usize) -> Self {
        self.limits = limits;
        self.body_budget = Budget::new(body_budget);
        self.in_flight = Budget::new(in_flight);
        self
    }

    /// Answers a request to a known path.
    pub(crate) async fn serve(&self, route: &'static Route, request: Request) -> Response {
        let started = self.clock.monotonic();
        let id = self.ids.next(self.clock.now_ms());
        let (parts, body) = request.into_parts();
        let shared = Arc::new(Mutex::new(Incoming::new(body, &parts.headers, self.limits.clone())));
        let outcome = self.handle(route.call, parts, &shared, id).await;
        let (code, response) = match outcome {
            Ok(answer) => (SUCCESS, success(answer, id)),
            Err(failure) => {
                let refused = route.call.refuse(&failure, id);
                log(route.path, id, refused.code, &failure.error);
                let drained = shared.lock().await.drain().await;
                (refused.code, refusal(refused, id, drained))
            }
        };
        metric::record(route.path, code, self.clock.monotonic().saturating_sub(started));
        response
    }

    /// Answers a request to a path that does not exist.
    pub(crate) async fn serve_unknown(&self, request: Request) -> Response {
        let started = self.clock.monotonic();
        let id = self.ids.next(self.clock.now_ms());
        let (parts, body) = request.into_parts();
        let refused = route::refuse_unknown(parts.uri.path(), id);
        let drained = Incoming::new(body, &parts.headers, self.limits.clone()).drain().await;
        metric::record(UNKNOWN_ROUTE, refused.code, self.clock.monotonic().saturating_sub(started));
        refusal(refused, id, drained)
    }

    async fn handle(
        &self,
        call: Call,
        parts: Parts,
        shared: &Arc<Mutex<Incoming>>,
        id: RequestId,
    ) -> Result<Answer, Failure> {
        let declared = self.check_framing(call, &parts)?;
        if let Some(answer) = call.unsigned(id) {
            return open(&parts, declared).map(|()| answer);
        }
        let caller = self.authenticate(call, &parts).await?;
        let _turn = self.quotas.take(&caller.principal.key, self.clock.monotonic())?;
        check_method(&parts)?;
        let signed =
            |body| Signed { principal: caller.principal, uri: parts.uri, headers: parts.headers, body, request_id: id };
        if call.streams() {
            let _slot = self.in_flight.take(1)?;
            let stream = body::stream(Arc::clone(shared), caller.body_sha256);
            return self.run(call, signed(Bytes::new()), Some(stream)).await;
        }
        let collected = shared.lock().await.collect(declared, &self.body_budget).await;
        let collected = collected.map_err(Failure::of_body)?;
        body::check_hash(Sha256::digest(&collected.bytes).into(), &caller.body_sha256)?;
        let _slot = self.in_flight.take(1)?;
        let answer = timeout(self.limits.request_timeout, self.run(call, signed(collected.bytes.clone()), None)).await;
        answer.unwrap_or_else(|_| Err(Error::new(Kind::Internal, "the request took too long").into()))
    }

    /// Everything that makes a head unreadable or its body too large, before anything is read or verified.
    fn check_framing(&self, call: Call, parts: &Parts) -> Result<Option<u64>, Failure> {
        if parts.headers.len() > limit::HEADERS {
            let many = format!("more than {} headers", limit::HEADERS);
            return Err(Error::new(Kind::Invalid, many).into());
        }
        let declared = body::declared_length(&parts.headers)?;
        let most = if call.streams() { self.limits.object_bytes } else { self.limits.body_bytes as u64 };
        if declared.is_some_and(|length| length > most) {
            let large = Error::new(Kind::TooLarge, format!("a body has at most {most} bytes"));
            return Err(Failure::of_body(large));
        }
        Ok(declared)
    }

    async fn authenticate(&self, call: Call, parts: &Parts) -> Result<Caller> {
        let head = Head {
            service: call.service(),
            method: parts.method.as_str(),
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
            headers: &parts.headers,
        };
        self.auth.authenticate(&head, self.clock.now_ms(), &self.lookup).await
    }

    /// Runs the handler. A panic in it fails this request and nothing else.
    async fn run(&self, call: Call, request: Signed, stream: Option<ByteStream>) -> Result<Answer, Failure> {
        match AssertUnwindSafe((self.dispatch)(call, request, stream)).catch_unwind().await {
            Ok(answer) => answer.map_err(Failure::of_call),
            Err(panic) => Err(Error::new(Kind::Internal, panic_text(panic.as_ref())).into()),
        }
    }
}

/// A call that asks for no signature takes no body either: nothing of a stranger's is kept.
fn open(parts: &Parts, declared: Option<u64>) -> Result<(), Failure> {
    check_method(parts)?;
    if declared == Some(0) { Ok(()) } else { Err(Error::new(Kind::Invalid, "this call takes no body").into()) }
}

fn check_method(parts: &Parts) -> Result<(), Failure> {
    if parts.method == Method::GET || parts.method == Method::POST { Ok(()) } else { Err(Failure::wrong_method()) }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("handler panicked: {}", text.unwrap_or("without a text"))
}

/// Faults of ours loudly, the caller's quietly; both here and nowhere else.
fn log(route: &'static str, id: RequestId, code: &'static str, error: &Error) {
    let (request_id, chain) = (id.as_str(), error.chain());
    if error.kind().server_fault() {
        tracing::error!(route, request_id, code, error = chain, "request failed");
    } else {
        tracing::debug!(route, request_id, code, error = chain, "request refused");
    }
}

fn success(answer: Answer, id: RequestId) -> Response {
    match answer {
        Answer::Json(body) => json_response(StatusCode::OK, body, id),
        Answer::Object(info, bytes) => object_response(&info, bytes, id),
    }
}

fn refusal(refused: Refused, id: RequestId, drained: bool) -> Response {
    let mut response = json_response(refused.status, refused.body, id);
    if !drained {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn json_response(status: StatusCode, body: Vec<u8>, id: RequestId) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("x-tt-logid", id.header());
    response
}

fn object_response(info: &ObjectInfo, bytes: ByteStream, id: RequestId) -> Response {
    let size = info.size;
    // The status is sent by then: a failure breaks the connection off, short of the announced length.
    let bytes = bytes.inspect_err(move |error| {
        tracing::error!(request_id = id.as_str(), error = error.chain(), "object broke off");
    });
    let mut response = Response::new(Body::from_stream(bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    headers.insert("x-tt-logid", id.header());
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", info.etag.trim_matches('"'))) {
        headers.insert(header::ETAG, etag);
    }
    response
}

#[cfg(test)]
mod http_framing;
#[cfg(test)]
mod tests;
