//! The table of routes, which drives the router. A path that is not in it does not exist.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::routing::any;

use crate::http::failure::{Failure, Refused};
use crate::http::request::Answer;
use crate::http::serve::Gate;
use crate::vikingdb::request_id::RequestId;
use crate::vikingdb::v2;
use crate::{knarr, sign, vikingdb};

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
    /// The vendor's data API, version 2.
    VikingdbV2(v2::Call),
    /// Our own management calls.
    Knarr(knarr::Call),
}

impl Call {
    /// True if the body is handed over as a stream instead of being collected.
    pub(crate) fn streams(self) -> bool {
        self == Call::Knarr(knarr::Call::PutObject)
    }

    /// The service that the scope of a signature must name.
    pub(crate) fn service(self) -> &'static str {
        match self {
            Call::Vikingdb(_) | Call::Knarr(_) => sign::SERVICE,
            Call::VikingdbV2(_) => sign::SERVICE_V2,
        }
    }

    /// The whole answer of a call that asks for no signature; `None` for all that do.
    pub(crate) fn unsigned(self, id: RequestId) -> Option<Answer> {
        (self == Call::VikingdbV2(v2::Call::Ping)).then(|| v2::pong(id))
    }

    /// The answer to a failed call, in the words of its dialect.
    pub(crate) fn refuse(self, failure: &Failure, id: RequestId) -> Refused {
        match self {
            Call::Vikingdb(_) | Call::Knarr(_) => vikingdb::error::refuse(Some(self), failure, id),
            Call::VikingdbV2(_) => v2::error::refuse(failure, id),
        }
    }
}

/// The answer where there is no such path, in the words of the dialect that it comes nearest to.
pub(crate) fn refuse_unknown(path: &str, id: RequestId) -> Refused {
    let failure = Failure::unknown_path();
    if path.starts_with(v2::PREFIX) {
        v2::error::refuse(&failure, id)
    } else {
        vikingdb::error::refuse(None, &failure, id)
    }
}

/// All routes.
pub(crate) fn all() -> impl Iterator<Item = &'static Route> {
    vikingdb::ROUTES.iter().chain(v2::ROUTES).chain(knarr::ROUTES)
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
