//! The VikingDB v1 data API (docs/wire/vikingdb.md sections 2 to 7): parse, convert, call the service, convert back.

mod collections;
pub(crate) mod convert;
mod data;
mod embedding;
pub(crate) mod envelope;
pub(crate) mod error;
mod filter;
mod indexes;
pub(crate) mod model;
pub(crate) mod request_id;
mod routes;
mod search;
mod tasks;
pub(crate) mod v2;

use knarr_base::{Error, Kind, Result};
use knarr_service::Service;

use crate::http::request::{Answer, Signed};
pub(crate) use routes::{Call, ROUTES};

/// What is read in two ways, and which of them is ours.
#[derive(Debug, Clone, Default)]
pub struct Dialect {
    /// `data` of index/fetch_data for a single key.
    pub single_fetch_shape: FetchShape,
}

/// See docs/wire/vikingdb.md section 6.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FetchShape {
    /// A list of one, as every client of the vendor reads it.
    #[default]
    Array,
    /// A map, as the vendor's document has it.
    Map,
    /// A list for the vendor's clients, a map for everybody else.
    Auto,
}

/// Runs one operation.
pub(crate) async fn dispatch(service: &Service, dialect: &Dialect, call: Call, request: &Signed) -> Result<Answer> {
    match call {
        Call::Ping => Ok(done(request)),
        Call::BatchRerank => batch_rerank(request),
        Call::Later => Err(unsupported()),
        Call::CreateCollection => collections::create(service, request).await,
        Call::CollectionInfo => collections::info(service, request).await,
        Call::ListCollections => collections::list(service, request).await,
        Call::UpdateCollection => collections::update(service, request).await,
        Call::DropCollection => collections::drop(service, request).await,
        Call::Upsert => data::upsert(service, request).await,
        Call::UpdateRows => data::update(service, request).await,
        Call::DeleteRows => data::delete(service, request).await,
        Call::Fetch => data::fetch(service, request).await,
        Call::CreateIndex => indexes::create(service, request).await,
        Call::IndexInfo => indexes::info(service, request).await,
        Call::ListIndexes => indexes::list(service, request).await,
        Call::UpdateIndex => indexes::update(service, request).await,
        Call::DropIndex => indexes::drop(service, request).await,
        Call::IndexFetch => indexes::fetch(service, dialect, request).await,
        Call::Search => search::search(service, request).await,
        Call::Aggregate => search::aggregate(service, request).await,
        Call::Sort => search::sort(service, request).await,
        Call::Embedding => embedding::first(service, request).await,
        Call::EmbeddingTwo => embedding::second(service, request).await,
        Call::CreateTask => tasks::create(service, request).await,
        Call::TaskInfo => tasks::info(service, request).await,
        Call::ListTasks => tasks::list(service, request).await,
        Call::UpdateTask => tasks::update(service, request).await,
        Call::DropTask => tasks::drop(service, request).await,
    }
}

/// A success without data.
pub(crate) fn done(request: &Signed) -> Answer {
    Answer::Json(envelope::bare(request.request_id))
}

fn unsupported() -> Error {
    Error::new(Kind::Unsupported, "this operation is not offered yet")
}

/// Older Java clients ping with an empty one of these.
fn batch_rerank(request: &Signed) -> Result<Answer> {
    if request.args()?.is_empty() { Ok(done(request)) } else { Err(unsupported()) }
}

#[cfg(test)]
mod tests;
