//! The port for machines that watch this one: `/healthz` and `/metrics`, nothing else, no keys.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::{Service, service_fn};
use hyper::{Method, Request, Response, StatusCode};
use metrics_exporter_prometheus::PrometheusHandle;

/// What `/healthz` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    /// Opening the data directory: 503.
    Starting,
    /// Accepting requests: 200.
    Ready,
    /// Finishing what is in flight: 503, so that a balancer sends no more.
    Stopping,
}

/// The server's state, shared with the port.
#[derive(Clone)]
pub(super) struct Health(Arc<AtomicU8>);

impl Health {
    pub(super) fn starting() -> Self {
        Self(Arc::new(AtomicU8::new(State::Starting as u8)))
    }

    pub(super) fn set(&self, state: State) {
        self.0.store(state as u8, Ordering::Release);
    }

    fn answer(&self) -> (StatusCode, &'static str) {
        match self.0.load(Ordering::Acquire) {
            n if n == State::Ready as u8 => (StatusCode::OK, "ready\n"),
            n if n == State::Stopping as u8 => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        }
    }
}

type Answered = Ready<Result<Response<Full<Bytes>>, Infallible>>;

/// The service of that port.
pub(super) fn service(
    health: Health,
    metrics: PrometheusHandle,
) -> impl Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible, Future = Answered> + Clone {
    service_fn(move |request: Request<Incoming>| {
        ready(Ok(answer(&health, &metrics, request.method(), request.uri().path())))
    })
}

fn answer(health: &Health, metrics: &PrometheusHandle, method: &Method, path: &str) -> Response<Full<Bytes>> {
    let (status, text) = match (method, path) {
        (&Method::GET, "/healthz") => {
            let (status, text) = health.answer();
            (status, text.to_owned())
        }
        (&Method::GET, "/metrics") => {
            // Moves what histograms collected since the last look into their sums.
            metrics.run_upkeep();
            (StatusCode::OK, metrics.render())
        }
        (_, "/healthz" | "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, String::new()),
        _ => (StatusCode::NOT_FOUND, String::new()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn only_two_paths_exist_and_health_follows_the_state() {
        let health = Health::starting();
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let status = |method, path| answer(&health, &metrics, &method, path).status().as_u16();
        assert_eq!(status(Method::GET, "/healthz"), 503);
        health.set(State::Ready);
        assert_eq!(status(Method::GET, "/healthz"), 200);
        assert_eq!(status(Method::GET, "/metrics"), 200);
        assert_eq!(status(Method::POST, "/metrics"), 405);
        assert_eq!(status(Method::GET, "/api/collection/list"), 404);
        health.set(State::Stopping);
        assert_eq!(status(Method::GET, "/healthz"), 503);
    }
}
