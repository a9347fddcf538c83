//! What this crate's tests share: a fixed clock, one known key, signed requests, golden files.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures::FutureExt;
use http_body_util::BodyExt;
use knarr_base::clock::ManualClock;
use knarr_base::id::{AccountId, KeyId};
use knarr_base::limit;
use knarr_base::right::Grant;
use knarr_service::Principal;
use knarr_service::keys::Identity;
use tower::Service;
use zeroize::Zeroizing;

use crate::auth::Auth;
use crate::http::limit::Limits;
use crate::http::quota::Quotas;
use crate::http::request::Answer;
use crate::http::serve::{Dispatch, Gate};
use crate::{Options, route, sign};

/// Key and date of the vectors in docs/wire/vikingdb.md section 1.6.
pub(crate) const AK: &str = "AKLTexampleAccessKeyId000000000001";
pub(crate) const SK: &str = "ZXhhbXBsZVNlY3JldEtleTAwMDAwMDAwMDAwMDAwMDE=";
pub(crate) const X_DATE: &str = "20231109T185953Z";
pub(crate) const NOW_MS: i64 = 1_699_556_393_000;
pub(crate) const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];

/// The one key there is.
pub(crate) fn lookup(id: &KeyId) -> Option<Identity> {
    let principal =
        Principal { account: AccountId::default_account(), key: KeyId::new(AK), grants: vec![Grant::everything()] };
    (id.as_str() == AK)
        .then(|| Identity { secret: Arc::new(Zeroizing::new(SK.to_owned())), principal: Arc::new(principal) })
}

pub(crate) fn credentials() -> sign::Credentials<'static> {
    sign::Credentials {
        access_key: AK,
        secret_key: SK,
        session_token: None,
        region: sign::REGION,
        service: sign::SERVICE,
    }
}

/// A request as the vendor's clients make it, with the date of the vectors.
pub(crate) fn signed(method: &str, path: &str, query: &[(&str, &str)], body: &[u8]) -> Request {
    let hash = sign::sha256_hex(body);
    let unsigned = sign::Request { method, path, query, headers: JSON, body_sha256: &hash };
    let service = if path.starts_with("/api/vikingdb/") { sign::SERVICE_V2 } else { sign::SERVICE };
    let added = sign::sign(&unsigned, &sign::Credentials { service, ..credentials() }, X_DATE);
    let text = sign::canonical_query(query.iter().map(|(k, v)| (k.as_bytes(), v.as_bytes())).collect());
    let mark = if text.is_empty() { "" } else { "?" };
    let builder = JSON.iter().copied().fold(Request::builder(), |b, (k, v)| b.header(k, v));
    let builder = added.iter().fold(builder, |b, (k, v)| b.header(k, v));
    let builder = builder.method(method).uri(format!("{path}{mark}{text}"));
    builder.header("content-length", body.len()).body(Body::from(body.to_vec())).expect("a valid request")
}

/// A gate in front of `dispatch`, its clock, and how often `dispatch` was called.
pub(crate) struct Bench {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) calls: Arc<AtomicUsize>,
    pub(crate) router: Router,
}

impl Bench {
    pub(crate) fn new(dispatch: Dispatch) -> Self {
        Self::with(dispatch, |gate| gate)
    }

    /// Small bounds: `limits`, bytes of bodies and requests at once.
    pub(crate) fn limited(dispatch: Dispatch, limits: Limits, body_budget: usize, in_flight: usize) -> Self {
        Self::with(dispatch, |gate| gate.with_limits(limits, body_budget, in_flight))
    }

    fn with(dispatch: Dispatch, adjust: impl FnOnce(Gate) -> Gate) -> Self {
        let clock = ManualClock::new(NOW_MS);
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&calls);
        let counted: Dispatch = Box::new(move |call, request, stream| {
            counter.fetch_add(1, Ordering::SeqCst);
            dispatch(call, request, stream)
        });
        let find = Box::new(|id| async move { Ok(lookup(&id)) }.boxed());
        let (auth, quotas) = (Auth::new(Options::default()), Quotas::new(limit::REQUESTS_PER_KEY, 0));
        let gate = adjust(Gate::new(auth, quotas, Arc::clone(&clock) as _, find, counted));
        Self { clock, calls, router: route::mount(Arc::new(gate)) }
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub(crate) async fn send(&mut self, request: Request) -> Response {
        self.router.call(request).await.expect("the router cannot fail")
    }

    /// Status and body.
    pub(crate) async fn answer(&mut self, request: Request) -> (u16, String) {
        let response = self.send(request).await;
        let status = response.status().as_u16();
        (status, text(response).await)
    }
}

pub(crate) async fn text(response: Response) -> String {
    let bytes = response.into_body().collect().await.expect("a whole body").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// Answers with the body it got.
pub(crate) fn echo() -> Dispatch {
    Box::new(|_, request, stream| {
        async move {
            match stream {
                None => Ok(Answer::Json(request.body.to_vec())),
                Some(stream) => {
                    let pieces: Vec<Bytes> = futures::TryStreamExt::try_collect(stream).await?;
                    Ok(Answer::Json(pieces.concat()))
                }
            }
        }
        .boxed()
    })
}

/// Compares with `testdata/golden/vikingdb/<name>`. `KNARR_UPDATE_GOLDEN=1` writes it instead.
pub(crate) fn golden(name: &str, actual: &str) {
    let path =
        std::path::PathBuf::from(format!("{}/../../testdata/golden/vikingdb/{name}", env!("CARGO_MANIFEST_DIR")));
    let actual = format!("{actual}\n");
    if std::env::var_os("KNARR_UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("writable");
        std::fs::write(&path, actual).expect("writable");
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(actual, expected, "differs from {}", path.display());
}
