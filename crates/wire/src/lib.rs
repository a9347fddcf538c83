//! HTTP in front of the service: framing, signatures, the VikingDB dialects v1 and V2, and our own management calls.
//!
//! A request walks one way: `http` reads its head, `auth` proves who sent it, `http` reads and hashes its body, a
//! dialect (`vikingdb`, `knarr`) parses, converts and calls the service, and the answer walks back. Nothing of a body
//! is interpreted before the signature is valid. This is the only crate that knows HTTP; it stores nothing.

mod auth;
mod http;
mod json;
mod knarr;
mod metric;
mod route;
pub mod sign;
#[cfg(test)]
mod testing;
mod vikingdb;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures::FutureExt;
use knarr_base::limit;
use knarr_service::Service;

pub use vikingdb::{Dialect, FetchShape};

use crate::auth::Auth;
use crate::http::quota::Quotas;
use crate::http::serve::Gate;
use crate::route::Call;

/// How requests are checked.
#[derive(Debug, Clone)]
pub struct Options {
    /// Requests of one access key at once.
    pub key_requests_at_once: usize,
    /// Requests of one access key per second, in bursts of one second's worth; 0 = no bound.
    pub key_requests_per_second: u32,
    /// Distance of a request's `X-Date` from the server's clock, both ways, in milliseconds; 0 = any date.
    pub clock_skew_ms: u64,
    /// Regions accepted in a credential's scope; empty = any.
    pub regions: Vec<String>,
    /// Verify a signed `host` also against `X-Forwarded-Host`. Only behind a proxy that sets it.
    pub trust_forwarded_host: bool,
    /// Where the VikingDB dialect can be read in two ways.
    pub vikingdb: Dialect,
}

impl Default for Options {
    fn default() -> Self {
        let skew: Duration = limit::CLOCK_SKEW;
        Self {
            key_requests_at_once: limit::REQUESTS_PER_KEY,
            key_requests_per_second: 0,
            clock_skew_ms: u64::try_from(skew.as_millis()).unwrap_or(u64::MAX),
            regions: Vec::new(),
            trust_forwarded_host: false,
            vikingdb: Dialect::default(),
        }
    }
}

/// Every path with the right that it needs, as documentation and tests read the table.
pub fn routes() -> impl Iterator<Item = (&'static str, &'static str)> {
    route::all().map(|route| (route.path, route.rights))
}

/// All routes of all dialects over one service.
pub fn router(service: Arc<Service>, options: Options) -> Router {
    metric::describe();
    let keys = Arc::clone(&service);
    let lookup = Box::new(move |id| {
        let keys = Arc::clone(&keys);
        async move { keys.find_key(&id).await }.boxed()
    });
    let clock = Arc::clone(service.clock());
    let dialect = Arc::new(options.vikingdb.clone());
    let dispatch = Box::new(move |call, request, stream| {
        let (service, dialect) = (Arc::clone(&service), Arc::clone(&dialect));
        async move {
            match call {
                Call::Vikingdb(call) => vikingdb::dispatch(&service, &dialect, call, &request).await,
                Call::VikingdbV2(call) => vikingdb::v2::dispatch(&service, call, &request).await,
                Call::Knarr(call) => knarr::dispatch(&service, call, &request, stream).await,
            }
        }
        .boxed()
    });
    let quotas = Quotas::new(options.key_requests_at_once, options.key_requests_per_second);
    route::mount(Arc::new(Gate::new(Auth::new(options), quotas, clock, lookup, dispatch)))
}
