//! What can go wrong in the engine, precisely, and what each means to a caller.

use std::io;
use std::sync::Arc;

use knarr_base::Kind;
use knarr_base::id::{TableId, TaskId};
use knarr_base::value::Key;

use crate::table::Published;

/// Result of the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure inside the engine. [`Error::kind`] says what the caller should do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    // table, log, disk
    /// Another process owns the data directory.
    #[error("the data directory is in use by another process")]
    Locked,
    /// The directory has no such table.
    #[error("table {0} does not exist")]
    TableMissing(TableId),
    /// Rows that whoever keeps the names has no name for.
    #[error(
        "tables/{0} holds rows but no collection: catalog.db is damaged, older than the tables, or of another directory; nothing was removed. Put the right catalog.db back (with catalog.db-wal), or move tables/{0} out of the data directory"
    )]
    TableUnknown(TableId),
    /// The directory already has this table.
    #[error("table {0} exists already")]
    TableExists(TableId),
    /// Stored bytes failed their checksum or their rules.
    #[error("corrupt {what}: {why}")]
    Corrupt {
        /// File, batch and column.
        what: String,
        /// Which rule they broke.
        why: String,
    },
    /// Written by a newer build.
    #[error("{what} has format {found}, this build reads up to {known}")]
    NewerFormat {
        /// The file.
        what: String,
        /// Its format number.
        found: u32,
        /// The newest this build knows.
        known: u32,
    },
    /// A file operation failed outside the log.
    #[error("{what} failed")]
    Io {
        /// Operation and file.
        what: String,
        /// The system's error.
        #[source]
        source: Arc<io::Error>,
    },
    /// No space left: nothing was written, reads go on, writes work again when there is room.
    #[error("the disk is full")]
    DiskFull,
    /// The log could not be written or synced. The call may or may not be found after a restart; in this process it
    /// is not visible. The writer reopens with the next call.
    #[error("the log could not be written")]
    WriteFailed(#[source] Arc<io::Error>),
    /// A call whose columns are larger than a log record.
    #[error("the rows of the call take {bytes} bytes, more than the {limit} a call may have")]
    CallTooLarge {
        /// What they take.
        bytes: usize,
        /// What they may take.
        limit: usize,
    },
    /// An update names a row that is not there.
    #[error("primary key {0} data not exist")]
    RowMissing(Key),
    /// The snapshot has no such segment.
    #[error("segment {0} is not in this snapshot")]
    SegmentMissing(u64),
    /// The manifest of a pinned version is gone.
    #[error("version {version} of table {table} is gone")]
    VersionMissing {
        /// The table.
        table: TableId,
        /// Its manifest version.
        version: u64,
    },
    /// This (task, unit) has published before; the counts are those of then.
    #[error("the unit was published before")]
    AlreadyPublished(Published),
    /// The task's deletion cannot be undone: it was, or its time is over, or it was not kept.
    #[error("what task {0} deleted cannot be had back any more")]
    NotUndoable(TaskId),
    /// A schema change that the rules forbid.
    #[error("schema change refused")]
    Schema(#[source] knarr_base::Error),

    // rows, filter, objects, bulk
    /// A job of the compute pool panicked.
    #[error("a computation failed: {message}")]
    Panicked {
        /// The panic's own text.
        message: String,
    },
    /// A bounded queue is full.
    #[error("the {what} is full")]
    Busy {
        /// Which one.
        what: &'static str,
    },
    /// The table or the compute pool has been stopped.
    #[error("the server is stopping")]
    Stopped,
    /// Somebody cancelled the work.
    #[error("cancelled")]
    Cancelled,
    /// The body's rows are not a JSON array of objects, or their number is out of range.
    #[error("rows: {0}")]
    Rows(String),
    /// A row of a call breaks a rule of its schema.
    #[error("row {row}, field {field}: {why}")]
    Row {
        /// Place in the call, from 0.
        row: usize,
        /// Name as sent.
        field: String,
        /// What is wrong with it.
        why: String,
    },
    /// A row's stored bytes are over the bound. The text is the vendor's.
    #[error("row {row}: fields data is too long, should be less than 65535")]
    RowTooLong {
        /// Place in the call, from 0.
        row: usize,
    },
    /// A primary key of the wrong type or form.
    #[error("row {row}, primary key {field}: {why}")]
    RowKey {
        /// Place in the call, from 0.
        row: usize,
        /// The key's field.
        field: String,
        /// What is wrong with it.
        why: String,
    },
    /// A filter that does not fit the schema.
    #[error("{0}")]
    Filter(String),
    /// A search that does not fit the schema or breaks a bound.
    #[error("search refused")]
    Search(#[source] knarr_base::Error),
    /// An object of this name exists with other content.
    #[error("object {0} exists with other content")]
    ObjectExists(String),
    /// No such bucket.
    #[error("bucket {0} does not exist")]
    BucketMissing(String),
    /// No such object.
    #[error("object {0} does not exist")]
    ObjectMissing(String),
    /// A key that the store cannot hold beside those it has (`a` beside `a/b` on a disk).
    #[error("object key {key}: {why}")]
    ObjectKey {
        /// The key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// The bytes to store did not come whole.
    #[error("reading the object to store")]
    Upload(#[source] knarr_base::Error),
    /// The object store failed.
    #[error("{what}")]
    Store {
        /// The step and the object.
        what: String,
        /// What the store said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Columns could not be encoded.
    #[error("encoding {what}")]
    Encode {
        /// What was being written.
        what: &'static str,
        /// What the encoder said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// What the caller should do about it.
    pub fn kind(&self) -> Kind {
        match self {
            // table, log, disk
            Error::Locked | Error::TableExists(_) | Error::AlreadyPublished(_) | Error::NotUndoable(_) => Kind::Refused,
            Error::TableMissing(_) => Kind::CollectionMissing,
            Error::TableUnknown(_) => Kind::Corrupt,
            Error::Corrupt { .. } | Error::NewerFormat { .. } => Kind::Corrupt,
            Error::Io { .. } | Error::WriteFailed(_) => Kind::Unavailable,
            Error::DiskFull => Kind::DiskFull,
            Error::SegmentMissing(_) | Error::VersionMissing { .. } => Kind::Internal,
            Error::CallTooLarge { .. } => Kind::TooLarge,
            Error::RowMissing(_) => Kind::RowMissing,
            Error::Schema(cause) | Error::Upload(cause) | Error::Search(cause) => cause.kind(),

            // rows, filter, objects, bulk
            Error::Panicked { .. } | Error::Encode { .. } => Kind::Internal,
            Error::Busy { .. } => Kind::Busy,
            Error::Stopped | Error::Store { .. } => Kind::Unavailable,
            Error::Cancelled | Error::ObjectExists(_) => Kind::Refused,
            Error::Rows(_) | Error::Row { .. } | Error::RowTooLong { .. } | Error::ObjectKey { .. } => Kind::Invalid,
            Error::RowKey { .. } => Kind::InvalidKey,
            Error::Filter(_) => Kind::InvalidFilter,
            Error::BucketMissing(_) | Error::ObjectMissing(_) => Kind::NotFound,
        }
    }

    /// What a user may read: no path, no cause.
    fn public_message(&self) -> String {
        match self {
            Error::Corrupt { .. } | Error::NewerFormat { .. } => {
                "stored data is damaged, nothing of it is served".into()
            }
            Error::Io { .. } | Error::Store { .. } => "the storage cannot be used right now".into(),
            Error::TableMissing(_) => "the collection's table does not exist".into(),
            Error::TableUnknown(_) => self.to_string(),
            Error::SegmentMissing(_) | Error::VersionMissing { .. } | Error::Panicked { .. } | Error::Encode { .. } => {
                "internal error".into()
            }
            Error::Schema(cause) | Error::Upload(cause) | Error::Search(cause) => cause.message().to_owned(),
            Error::Locked
            | Error::TableExists(_)
            | Error::DiskFull
            | Error::WriteFailed(_)
            | Error::CallTooLarge { .. }
            | Error::RowMissing(_)
            | Error::AlreadyPublished(_)
            | Error::NotUndoable(_)
            | Error::Busy { .. }
            | Error::Stopped
            | Error::Cancelled
            | Error::Rows(_)
            | Error::Row { .. }
            | Error::RowTooLong { .. }
            | Error::RowKey { .. }
            | Error::Filter(_)
            | Error::ObjectExists(_)
            | Error::BucketMissing(_)
            | Error::ObjectMissing(_)
            | Error::ObjectKey { .. } => self.to_string(),
        }
    }

    pub(crate) fn corrupt(what: impl Into<String>, why: impl ToString) -> Self {
        Error::Corrupt { what: what.into(), why: why.to_string() }
    }

    /// A failed file operation; out of space is told apart because callers act on it.
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        if is_full(&source) { Error::DiskFull } else { Error::Io { what: what.into(), source: Arc::new(source) } }
    }
}

/// True for ENOSPC and EDQUOT.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl From<Error> for knarr_base::Error {
    fn from(error: Error) -> Self {
        knarr_base::Error::new(error.kind(), error.public_message()).with_source(error)
    }
}
