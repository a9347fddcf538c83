//! The table of routes, which drives the router. A path that is not in it does not exist.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::routing::any;

use crate::http::serve::Gate;
use crate::{knarr, vikingdb};

/// One path. GET and POST mean the same; other methods are refused after the signature.
pub(crate) struct Route {
    /// Exact path.
    pub(crate) path: &'static str,
    /// The right that the service asks for, as documentation and tests read it.
    pub(crate) rights: &'static str,
    /// What it does.
    pub(crate) call: Call,
}

/// Every operation of every dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// The vendor's data API, version 1.
    Vikingdb(vikingdb::Call),
    /// Our own management calls.
    Knarr(knarr::Call),
}

impl Call {
    /// True if the body is handed over as a stream instead of being collected.
    pub(crate) fn streams(self) -> bool {
        self == Call::Knarr(knarr::Call::PutObject)
    }
}

/// All routes.
pub(crate) fn all() -> impl Iterator<Item = &'static Route> {
    vikingdb::ROUTES.iter().chain(knarr::ROUTES)
}

/// The router over the table.
pub(crate) fn mount(gate: Arc<Gate>) -> Router {
    let unknown = Arc::clone(&gate);
    let router = all().fold(Router::new(), |router, route| {
        let gate = Arc::clone(&gate);
        router.route(
            route.path,
            any(move |request: Request| {
                let gate = Arc::clone(&gate);
                async move { gate.serve(route, request).await }
            }),
        )
    });
    router.fallback(move |request: Request| {
        let gate = Arc::clone(&unknown);
        async move { gate.serve_unknown(request).await }
    })
}

#[cfg(test)]
mod tests;
