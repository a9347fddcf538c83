//! Kinds of failure in the vendor's words: the one table from [`Kind`] to code, HTTP status and text.

use std::borrow::Cow;

use axum::http::StatusCode;
use knarr_base::{Error, Kind, limit};

use crate::http::failure::{Failure, Place, Refused};
use crate::route;
use crate::vikingdb::request_id::RequestId;
use crate::vikingdb::{Call, envelope};

/// What a caller reads of a full disk.
const DISK_FULL: &str = "the server's disk is full";

/// What a caller sees of a kind.
#[derive(Debug)]
struct Row {
    code: u32,
    /// The code as text, for metrics.
    label: &'static str,
    status: StatusCode,
    text: Text,
}

/// How the message is made.
#[derive(Debug)]
pub(super) enum Text {
    /// This, whatever the cause: nothing more may be told, or there is nothing to tell.
    Fixed(&'static str),
    /// This, a colon without a blank, and the error's own sentence.
    Prefix(&'static str),
    /// The error's own sentence.
    Own,
    /// This. A fault of ours is not explained, but for one that whoever runs the server can end: behind a colon
    /// without a blank.
    Fault(&'static str),
}

macro_rules! rows {
    ($($(#[$doc:meta])* $name:ident = $code:literal $status:ident $text:expr;)*) => {
        $($(#[$doc])* static $name: Row =
            Row { code: $code, label: stringify!($code), status: StatusCode::$status, text: $text };)*
        #[cfg(test)]
        static ALL: &[&Row] = &[$(&$name),*];
    };
}

rows! {
    UNAUTHORIZED = 1000001 UNAUTHORIZED Text::Fixed("unauthorized");
    NO_PERMISSION = 1000002 FORBIDDEN Text::Fixed("no permission");
    INVALID_REQUEST = 1000003 BAD_REQUEST Text::Prefix("invalid request");
    /// A body over its bound; its length is known before anything else.
    BODY_TOO_LARGE = 1000003 PAYLOAD_TOO_LARGE Text::Prefix("invalid request");
    COLLECTION_EXIST = 1000004 BAD_REQUEST Text::Fixed("collection exist");
    COLLECTION_NOT_EXIST = 1000005 BAD_REQUEST Text::Fixed("collection not exist");
    NOT_ALLOWED = 1000006 BAD_REQUEST Text::Prefix("operation not allowed");
    INDEX_EXIST = 1000007 BAD_REQUEST Text::Fixed("index exist");
    INDEX_NOT_EXIST = 1000008 BAD_REQUEST Text::Fixed("index not exist");
    DATA_NOT_FOUND = 1000011 BAD_REQUEST Text::Own;
    /// A bucket, object or key of our own calls.
    THING_NOT_FOUND = 1000011 NOT_FOUND Text::Own;
    DELETE_FAILED = 1000013 INTERNAL_SERVER_ERROR Text::Fault("delete op failed");
    UPSERT_FAILED = 1000014 INTERNAL_SERVER_ERROR Text::Fault("upsert op failed");
    INVALID_VECTOR = 1000016 BAD_REQUEST Text::Prefix("invalid query vector");
    INVALID_KEY = 1000017 BAD_REQUEST Text::Prefix("invalid primary key");
    INVALID_PARTITION = 1000018 BAD_REQUEST Text::Prefix("invalid partition");
    INVALID_FILTER = 1000019 BAD_REQUEST Text::Prefix("invalid scalar cond");
    SEARCH_FAILED = 1000021 INTERNAL_SERVER_ERROR Text::Fault("index recall error");
    INDEX_FETCH_FAILED = 1000022 INTERNAL_SERVER_ERROR Text::Fault("index fetch data error");
    INDEX_NOT_READY = 1000023 BAD_REQUEST Text::Fixed("index not ready");
    NOT_IMPLEMENTED = 1000024 BAD_REQUEST Text::Fixed("api not implemented");
    UNKNOWN_PATH = 1000024 NOT_FOUND Text::Fixed("api not implemented");
    WRONG_METHOD = 1000024 METHOD_NOT_ALLOWED Text::Fixed("api not implemented");
    /// Says which model: its name is no secret, and nothing of a backend's answer is in it.
    EMBEDDING_FAILED = 1000025 INTERNAL_SERVER_ERROR Text::Prefix("calc embedding failed");
    INTERNAL = 1000028 INTERNAL_SERVER_ERROR Text::Fault("Internal error");
    QUOTA_LIMIT = 1000029 TOO_MANY_REQUESTS Text::Prefix("quota limit");
    ALIAS_NOT_EXIST = 1000031 BAD_REQUEST Text::Fixed("collection alias not exist");
    TASK_NOT_EXIST = 1000035 NOT_FOUND Text::Fixed("task not exist");
}

/// The table.
fn row(kind: Kind) -> &'static Row {
    match kind {
        Kind::Unauthorized => &UNAUTHORIZED,
        Kind::Forbidden => &NO_PERMISSION,
        Kind::Invalid | Kind::TooLarge => &INVALID_REQUEST,
        Kind::InvalidKey => &INVALID_KEY,
        Kind::InvalidFilter => &INVALID_FILTER,
        Kind::CollectionMissing => &COLLECTION_NOT_EXIST,
        Kind::CollectionExists => &COLLECTION_EXIST,
        Kind::AliasMissing => &ALIAS_NOT_EXIST,
        Kind::IndexMissing => &INDEX_NOT_EXIST,
        Kind::IndexExists => &INDEX_EXIST,
        Kind::IndexNotReady => &INDEX_NOT_READY,
        Kind::InvalidVector => &INVALID_VECTOR,
        Kind::InvalidPartition => &INVALID_PARTITION,
        Kind::EmbeddingFailed => &EMBEDDING_FAILED,
        Kind::RowMissing => &DATA_NOT_FOUND,
        Kind::TaskMissing => &TASK_NOT_EXIST,
        Kind::NotFound => &THING_NOT_FOUND,
        Kind::Refused => &NOT_ALLOWED,
        Kind::Unsupported => &NOT_IMPLEMENTED,
        Kind::Busy => &QUOTA_LIMIT,
        Kind::Unavailable | Kind::DiskFull | Kind::Corrupt | Kind::Internal => &INTERNAL,
    }
}

/// The row of a failed request.
fn row_of(call: Option<route::Call>, failure: &Failure) -> &'static Row {
    let kind = failure.error.kind();
    match (failure.place, call) {
        (Place::Path, _) => &UNKNOWN_PATH,
        (Place::Method, _) => &WRONG_METHOD,
        (Place::Body, _) => &BODY_TOO_LARGE,
        (Place::Call, Some(route::Call::Vikingdb(call))) if kind.server_fault() => fault(call, kind),
        (Place::Gate | Place::Call, _) => row(kind),
    }
}

/// Faults of ours while writing, deleting or searching have codes of their own.
fn fault(call: Call, kind: Kind) -> &'static Row {
    match call {
        _ if kind == Kind::EmbeddingFailed => row(kind),
        Call::Upsert | Call::UpdateRows => &UPSERT_FAILED,
        Call::Search | Call::Aggregate | Call::Sort => &SEARCH_FAILED,
        Call::IndexFetch => &INDEX_FETCH_FAILED,
        Call::DeleteRows => &DELETE_FAILED,
        _ => row(kind),
    }
}

/// The answer to a failed call; `None` where there is no such path.
pub(crate) fn refuse(call: Option<route::Call>, failure: &Failure, id: RequestId) -> Refused {
    let row = row_of(call, failure);
    let text = row.text.of(&failure.error);
    Refused { status: row.status, code: row.label, body: envelope::failure(id, row.code, &text) }
}

impl Text {
    /// The message.
    pub(super) fn of<'e>(&self, error: &'e Error) -> Cow<'e, str> {
        match self {
            Text::Fixed(text) => Cow::Borrowed(text),
            Text::Prefix(prefix) => Cow::Owned(format!("{prefix}:{}", short(error.message()))),
            Text::Own => Cow::Borrowed(short(error.message())),
            Text::Fault(text) if error.kind() == Kind::DiskFull => Cow::Owned(format!("{text}:{DISK_FULL}")),
            Text::Fault(text) => Cow::Borrowed(text),
        }
    }
}

/// A sentence may quote what the caller sent; that is cut.
fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(limit::ERROR_MESSAGE_BYTES)]
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::KINDS;
