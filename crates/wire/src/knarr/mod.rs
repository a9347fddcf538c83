//! Our own management calls, `/knarr/v1/...`: access keys, buckets, objects, tasks undone. Signed, framed and failing exactly like
//! the vendor's calls.

mod convert;
mod keys;
mod objects;
mod tasks;

use knarr_base::Result;
use knarr_service::Service;
use knarr_service::buckets::ByteStream;

use crate::http::request::{Answer, Signed};
use crate::route::{self, Route};

/// A management operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    CreateKey,
    ListKeys,
    RevokeKey,
    CreateBucket,
    ListBuckets,
    ListObjects,
    ObjectInfo,
    GetObject,
    PutObject,
    UndoTask,
}

const fn to(path: &'static str, rights: &'static str, call: Call) -> Route {
    Route { path, rights, call: route::Call::Knarr(call) }
}

/// Every management path.
pub(crate) static ROUTES: &[Route] = &[
    to("/knarr/v1/keys/create", "admin on everything", Call::CreateKey),
    to("/knarr/v1/keys/list", "admin on everything", Call::ListKeys),
    to("/knarr/v1/keys/revoke", "admin on everything", Call::RevokeKey),
    to("/knarr/v1/buckets/create", "admin or export on the bucket", Call::CreateBucket),
    to("/knarr/v1/buckets/list", "any right; shows only buckets that it names", Call::ListBuckets),
    to("/knarr/v1/objects/list", "read on the bucket", Call::ListObjects),
    to("/knarr/v1/objects/info", "read on the bucket", Call::ObjectInfo),
    to("/knarr/v1/objects/get", "read on the bucket", Call::GetObject),
    to("/knarr/v1/objects/put", "write on the bucket", Call::PutObject),
    to("/knarr/v1/tasks/undo", "creator or admin, and write on the collection", Call::UndoTask),
];

/// Runs one operation.
pub(crate) async fn dispatch(
    service: &Service,
    call: Call,
    request: &Signed,
    stream: Option<ByteStream>,
) -> Result<Answer> {
    match call {
        Call::CreateKey => keys::create(service, request).await,
        Call::ListKeys => keys::list(service, request).await,
        Call::RevokeKey => keys::revoke(service, request).await,
        Call::CreateBucket => objects::create_bucket(service, request).await,
        Call::ListBuckets => objects::list_buckets(service, request).await,
        Call::ListObjects => objects::list(service, request).await,
        Call::ObjectInfo => objects::info(service, request).await,
        Call::GetObject => objects::get(service, request).await,
        Call::PutObject => objects::put(service, request, stream).await,
        Call::UndoTask => tasks::undo(service, request).await,
    }
}
