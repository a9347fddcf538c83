//! The VikingDB V2 data plane (docs/wire/vikingdb.md section 8): the services of v1 under other paths and names, in an
//! envelope of its own. Filters, keys, rows, partitions and what tunes a search are read by the converters of v1.

mod convert;
mod data;
mod embedding;
mod envelope;
pub(crate) mod error;
mod index;
mod routes;
mod search;

use knarr_base::Result;
use knarr_service::Service;

use crate::http::request::{Answer, Signed};
use crate::vikingdb::request_id::RequestId;
pub(crate) use routes::{Call, PREFIX, ROUTES};

/// Runs one operation.
pub(crate) async fn dispatch(service: &Service, call: Call, request: &Signed) -> Result<Answer> {
    match call {
        Call::Ping => Ok(pong(request.request_id)),
        Call::Later => Err(super::unsupported()),
        Call::Upsert => data::upsert(service, request).await,
        Call::Update => data::update(service, request).await,
        Call::Delete => data::delete(service, request).await,
        Call::FetchInCollection => data::fetch(service, request).await,
        Call::FetchInIndex => index::fetch(service, request).await,
        Call::Search(by) => search::search(service, by, request).await,
        Call::Aggregate => index::aggregate(service, request).await,
        Call::Embedding => embedding::embed(service, request).await,
    }
}

/// The answer to everybody's ping: the server is there, and nothing about it.
pub(crate) fn pong(id: RequestId) -> Answer {
    Answer::Json(envelope::bare(id))
}
