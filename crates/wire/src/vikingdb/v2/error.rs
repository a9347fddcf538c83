//! Kinds of failure in V2's words: the one table from [`Kind`] to code, HTTP status and text.
//!
//! The vendor names some of these codes, and the form `Cause.Element` of the others; docs/wire/vikingdb.md section 8
//! tells which are which. Python's client repeats whatever is not 200, Go's 429 and most of 5xx: no status spares the
//! first, so the statuses are those that HTTP has for each case, and only faults of ours have 5xx.

use axum::http::StatusCode;
use knarr_base::{Error, Kind};

use super::envelope;
use crate::http::failure::{Failure, Place, Refused};
use crate::http::request::is_missing;
use crate::vikingdb::error::Text;
use crate::vikingdb::request_id::RequestId;

/// What a caller sees of a kind.
#[derive(Debug)]
struct Row {
    code: &'static str,
    status: StatusCode,
    text: Text,
}

macro_rules! rows {
    ($($(#[$doc:meta])* $name:ident = $code:literal $status:ident $text:expr;)*) => {
        $($(#[$doc])* static $name: Row = Row { code: $code, status: StatusCode::$status, text: $text };)*
        #[cfg(test)]
        static ALL: &[&Row] = &[$(&$name),*];
    };
}

rows! {
    /// "unauthorized", unless an API key was sent.
    UNAUTHORIZED = "Unauthorized" UNAUTHORIZED Text::Own;
    ACCESS_DENIED = "AccessDenied" FORBIDDEN Text::Fixed("no permission");
    MISSING_PARAMETER = "MissingParameter" BAD_REQUEST Text::Own;
    INVALID_PARAMETER = "InvalidParameter" BAD_REQUEST Text::Own;
    /// A body over its bound; its length is known before anything else.
    BODY_TOO_LARGE = "InvalidParameter" PAYLOAD_TOO_LARGE Text::Own;
    NO_COLLECTION = "NotFound.VikingdbCollection" NOT_FOUND
        Text::Fixed("The specified collection of VikingDB does not exist.");
    NO_INDEX = "NotFound.VikingdbIndex" NOT_FOUND Text::Fixed("The specified index of VikingDB does not exist.");
    NO_DATA = "NotFound.VikingdbData" NOT_FOUND Text::Own;
    NO_TASK = "NotFound.VikingdbTask" NOT_FOUND Text::Fixed("The specified task of VikingDB does not exist.");
    NOT_FOUND = "NotFound" NOT_FOUND Text::Own;
    COLLECTION_EXISTS = "AlreadyExists.VikingdbCollection" CONFLICT Text::Own;
    INDEX_EXISTS = "AlreadyExists.VikingdbIndex" CONFLICT Text::Own;
    INDEX_NOT_READY = "NotReady.VikingdbIndex" CONFLICT Text::Fixed("the index is not ready");
    NOT_ALLOWED = "OperationNotAllowed" CONFLICT Text::Own;
    NOT_IMPLEMENTED = "NotImplemented" BAD_REQUEST Text::Own;
    UNKNOWN_PATH = "NotImplemented" NOT_FOUND Text::Own;
    WRONG_METHOD = "NotImplemented" METHOD_NOT_ALLOWED Text::Own;
    TOO_MANY_REQUESTS = "TooManyRequests" TOO_MANY_REQUESTS Text::Own;
    /// Says which model: its name is no secret, and nothing of a backend's answer is in it.
    EMBEDDING_FAILED = "EmbeddingFailed" INTERNAL_SERVER_ERROR Text::Own;
    UNAVAILABLE = "ServiceUnavailable" SERVICE_UNAVAILABLE Text::Fault("the service is not available now");
    INTERNAL_ERROR = "InternalError" INTERNAL_SERVER_ERROR Text::Fixed("internal error");
}

/// The table.
fn row(error: &Error) -> &'static Row {
    match error.kind() {
        Kind::Unauthorized => &UNAUTHORIZED,
        Kind::Forbidden => &ACCESS_DENIED,
        Kind::Invalid if is_missing(error) => &MISSING_PARAMETER,
        Kind::Invalid
        | Kind::TooLarge
        | Kind::InvalidKey
        | Kind::InvalidFilter
        | Kind::InvalidVector
        | Kind::InvalidPartition => &INVALID_PARAMETER,
        Kind::CollectionMissing | Kind::AliasMissing => &NO_COLLECTION,
        Kind::CollectionExists => &COLLECTION_EXISTS,
        Kind::IndexMissing => &NO_INDEX,
        Kind::IndexExists => &INDEX_EXISTS,
        Kind::IndexNotReady => &INDEX_NOT_READY,
        Kind::EmbeddingFailed => &EMBEDDING_FAILED,
        Kind::RowMissing => &NO_DATA,
        Kind::TaskMissing => &NO_TASK,
        Kind::NotFound => &NOT_FOUND,
        Kind::Refused => &NOT_ALLOWED,
        Kind::Unsupported => &NOT_IMPLEMENTED,
        Kind::Busy => &TOO_MANY_REQUESTS,
        Kind::Unavailable | Kind::DiskFull => &UNAVAILABLE,
        Kind::Corrupt | Kind::Internal => &INTERNAL_ERROR,
    }
}

fn row_of(failure: &Failure) -> &'static Row {
    match failure.place {
        Place::Path => &UNKNOWN_PATH,
        Place::Method => &WRONG_METHOD,
        Place::Body => &BODY_TOO_LARGE,
        Place::Gate | Place::Call => row(&failure.error),
    }
}

/// The answer to a failed call.
pub(crate) fn refuse(failure: &Failure, id: RequestId) -> Refused {
    let row = row_of(failure);
    let text = row.text.of(&failure.error);
    Refused { status: row.status, code: row.code, body: envelope::failure(id, row.code, &text) }
}

#[cfg(test)]
mod tests;
