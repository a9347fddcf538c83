//! Paths of the v1 API (docs/wire/vikingdb.md section 2.2).

use crate::route::{self, Route};

/// An operation of the v1 API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Ping,
    CreateCollection,
    CollectionInfo,
    ListCollections,
    UpdateCollection,
    DropCollection,
    Upsert,
    UpdateRows,
    DeleteRows,
    Fetch,
    CreateIndex,
    IndexInfo,
    ListIndexes,
    UpdateIndex,
    DropIndex,
    IndexFetch,
    Search,
    Aggregate,
    Sort,
    Embedding,
    EmbeddingTwo,
    CreateTask,
    TaskInfo,
    ListTasks,
    UpdateTask,
    DropTask,
    BatchRerank,
    /// Known to the clients, answered with 1000024.
    Later,
}

const fn to(path: &'static str, rights: &'static str, call: Call) -> Route {
    Route { path, rights, call: route::Call::Vikingdb(call) }
}

/// Every path of the v1 API.
pub(crate) static ROUTES: &[Route] = &[
    to("/api/viking_db/data/ping", "any valid key", Call::Ping),
    to("/api/collection/create", "admin on the collection", Call::CreateCollection),
    to("/api/collection/info", "read on the collection", Call::CollectionInfo),
    to("/api/collection/list", "read; shows only collections that may be read", Call::ListCollections),
    to("/api/collection/update", "admin on the collection", Call::UpdateCollection),
    to("/api/collection/drop", "admin on the collection", Call::DropCollection),
    to("/api/collection/upsert_data", "write on the collection", Call::Upsert),
    to("/api/collection/async_upsert_data", "write on the collection", Call::Upsert),
    to("/api/collection/update_data", "write on the collection", Call::UpdateRows),
    to("/api/collection/del_data", "delete on the collection", Call::DeleteRows),
    to("/api/collection/fetch_data", "read on the collection", Call::Fetch),
    to("/api/task/create", "export or delete on the collection, export on the bucket", Call::CreateTask),
    to("/api/task/info", "read on the task's collection", Call::TaskInfo),
    to("/api/task/list", "read; shows only tasks of collections that may be read", Call::ListTasks),
    to("/api/task/update", "confirm on the collection; cancel: creator or admin", Call::UpdateTask),
    to("/api/task/drop", "creator or admin", Call::DropTask),
    to("/api/index/create", "admin on the collection", Call::CreateIndex),
    to("/api/index/info", "read on the collection", Call::IndexInfo),
    to("/api/index/list", "read on the collection", Call::ListIndexes),
    to("/api/index/update", "admin on the collection", Call::UpdateIndex),
    to("/api/index/drop", "admin on the collection", Call::DropIndex),
    to("/api/index/search", "read on the collection", Call::Search),
    to("/api/index/search/agg", "read on the collection", Call::Aggregate),
    to("/api/index/sort", "read on the collection", Call::Sort),
    to("/api/index/fetch_data", "read on the collection", Call::IndexFetch),
    to("/api/index/rerank", "any valid key", Call::Later),
    to("/api/index/batch_rerank", "any valid key", Call::BatchRerank),
    to("/api/data/embedding", "any valid key", Call::Embedding),
    to("/api/data/embedding/version/2", "any valid key", Call::EmbeddingTwo),
    to("/api/data/list_embedding_models", "any valid key", Call::Later),
];
