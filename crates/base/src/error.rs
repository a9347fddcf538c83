//! The short, closed list of failure kinds that callers act on.
//!
//! Inside a crate errors are precise enums; where they leave it they become an [`Error`] of one [`Kind`]. A dialect
//! turns kinds into its vendor's codes in one table (`wire/src/vikingdb/error.rs`), and never reads messages.

use std::error::Error as StdError;
use std::fmt;

/// Result with the error that crosses crate borders.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller should do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// No valid proof of identity: sign the request again with a known key.
    Unauthorized,
    /// Known, but without the right: ask an administrator.
    Forbidden,
    /// A parameter is missing, ill-typed or out of range: correct the request.
    Invalid,
    /// The body or a list in it is over a bound: send less at once.
    TooLarge,
    /// A primary key of the wrong type or form.
    InvalidKey,
    /// A filter that names unknown fields, has wrong types or breaks a bound.
    InvalidFilter,
    /// No such collection (or not for this caller).
    CollectionMissing,
    /// The collection name is taken.
    CollectionExists,
    /// No such collection alias.
    AliasMissing,
    /// No such index.
    IndexMissing,
    /// The collection has an index of that name.
    IndexExists,
    /// The index is not built yet: wait and send the same request again.
    IndexNotReady,
    /// A query vector of the wrong dimension or form.
    InvalidVector,
    /// A partition of the wrong type or form.
    InvalidPartition,
    /// The embedding model gave no vector, or none is configured.
    EmbeddingFailed,
    /// A row that must exist does not (update of a missing key).
    RowMissing,
    /// No such task (or not for this caller).
    TaskMissing,
    /// No such bucket, object or access key.
    NotFound,
    /// Understood, but the present state does not allow it.
    Refused,
    /// Known operation that this build does not offer.
    Unsupported,
    /// Too much at once: wait and send the same request again.
    Busy,
    /// Store down, writer reopening: reads go on, writes may work later.
    Unavailable,
    /// No space left: reads go on, writes work again when whoever runs the server has made room.
    DiskFull,
    /// Stored bytes failed their checksum or their rules; nothing of them is served.
    Corrupt,
    /// A fault of ours.
    Internal,
}

impl Kind {
    /// True where the same request may succeed later without any change.
    pub fn retryable(self) -> bool {
        match self {
            Kind::Busy | Kind::Unavailable | Kind::DiskFull | Kind::IndexNotReady => true,
            Kind::Unauthorized
            | Kind::Forbidden
            | Kind::Invalid
            | Kind::TooLarge
            | Kind::InvalidKey
            | Kind::InvalidFilter
            | Kind::CollectionMissing
            | Kind::CollectionExists
            | Kind::AliasMissing
            | Kind::IndexMissing
            | Kind::IndexExists
            | Kind::InvalidVector
            | Kind::InvalidPartition
            | Kind::EmbeddingFailed
            | Kind::RowMissing
            | Kind::TaskMissing
            | Kind::NotFound
            | Kind::Refused
            | Kind::Unsupported
            | Kind::Corrupt
            | Kind::Internal => false,
        }
    }

    /// True for faults of the server: logged loudly, shown to the caller without detail.
    pub fn server_fault(self) -> bool {
        matches!(self, Kind::Corrupt | Kind::Internal | Kind::Unavailable | Kind::DiskFull | Kind::EmbeddingFailed)
    }
}

/// A failure as callers see it: a kind, a sentence for the user, and the cause for the log.
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// `message` may be shown to the caller: lower case, no full stop, names the object, holds no secret.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Attaches the cause; it goes to the log only.
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What the caller should do about it.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The sentence for the user.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Message and all causes on one line, for the log.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.chain())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}
