//! Paths of the V2 data plane (docs/wire/vikingdb.md section 8).

use crate::route::{self, Route};

/// What every path of the V2 API begins with.
pub(crate) const PREFIX: &str = "/api/vikingdb/";

/// An operation of the V2 API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// Answered without a signature.
    Ping,
    Upsert,
    Update,
    Delete,
    FetchInCollection,
    FetchInIndex,
    Search(By),
    Aggregate,
    Embedding,
    /// Known to the clients, answered with `NotImplemented`.
    Later,
}

/// What a search ranks by; each has a path of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Vector,
    Id,
    MultiModal,
    Scalar,
    Random,
}

const fn to(path: &'static str, rights: &'static str, call: Call) -> Route {
    Route { path, rights, call: route::Call::VikingdbV2(call) }
}

/// Every path of the V2 API.
pub(crate) static ROUTES: &[Route] = &[
    to("/api/vikingdb/Ping", "none, and no signature", Call::Ping),
    to("/api/vikingdb/data/upsert", "write on the collection", Call::Upsert),
    to("/api/vikingdb/data/update", "write on the collection", Call::Update),
    to("/api/vikingdb/data/delete", "delete on the collection", Call::Delete),
    to("/api/vikingdb/data/fetch_in_collection", "read on the collection", Call::FetchInCollection),
    to("/api/vikingdb/data/fetch_in_index", "read on the collection", Call::FetchInIndex),
    to("/api/vikingdb/data/search/vector", "read on the collection", Call::Search(By::Vector)),
    to("/api/vikingdb/data/search/id", "read on the collection", Call::Search(By::Id)),
    to("/api/vikingdb/data/search/multi_modal", "read on the collection", Call::Search(By::MultiModal)),
    to("/api/vikingdb/data/search/scalar", "read on the collection", Call::Search(By::Scalar)),
    to("/api/vikingdb/data/search/random", "read on the collection", Call::Search(By::Random)),
    to("/api/vikingdb/data/search/keywords", "any valid key", Call::Later),
    to("/api/vikingdb/data/agg", "read on the collection", Call::Aggregate),
    to("/api/vikingdb/embedding", "any valid key", Call::Embedding),
    to("/api/vikingdb/rerank", "any valid key", Call::Later),
];
