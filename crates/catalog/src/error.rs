//! What can go wrong in the catalog, and what callers should do about it.

use knarr_base::Kind;
use knarr_base::id::TaskId;
use thiserror::Error as ThisError;

use crate::dialect::{self, Fault};

/// Precise inside the catalog; callers act on [`Error::kind`].
#[derive(Debug, ThisError)]
pub enum Error {
    /// The account has a collection of that name.
    #[error("collection {name} exists")]
    CollectionExists {
        /// The name asked for.
        name: String,
    },
    /// The account has no collection of that name.
    #[error("collection {name} does not exist")]
    CollectionMissing {
        /// The name asked for.
        name: String,
    },
    /// The account is at its bound.
    #[error("the account has {max} collections, which is the most it may have")]
    TooManyCollections {
        /// The bound.
        max: usize,
    },
    /// The collection would have more aliases than allowed.
    #[error("a collection may have at most {max} aliases")]
    TooManyAliases {
        /// The bound.
        max: usize,
    },
    /// The collection has an index of that name.
    #[error("index {name} exists")]
    IndexExists {
        /// The name asked for.
        name: String,
    },
    /// The collection has no index of that name.
    #[error("index {name} does not exist")]
    IndexMissing {
        /// The name asked for.
        name: String,
    },
    /// The collection or the account is at its bound.
    #[error("the {of} has {max} indexes, which is the most it may have")]
    TooManyIndexes {
        /// Which of the two.
        of: &'static str,
        /// The bound.
        max: usize,
    },
    /// The account has as many unfinished tasks as it may have.
    #[error("the account has {max} unfinished tasks, which is the most it may have: wait for one to end")]
    TooManyTasks {
        /// The bound.
        max: usize,
    },
    /// A task would be split into more units than allowed.
    #[error("a task may have at most {max} units")]
    TooManyUnits {
        /// The bound.
        max: usize,
    },
    /// No task of that id.
    #[error("task {id} does not exist")]
    TaskMissing {
        /// The id asked for.
        id: TaskId,
    },
    /// Only final tasks can be removed.
    #[error("task {id} has not ended")]
    TaskOpen {
        /// The task.
        id: TaskId,
    },
    /// Only what a finished task did can be undone.
    #[error("task {id} is not done")]
    TaskNotDone {
        /// The task.
        id: TaskId,
    },
    /// The task was changed since its revision was read, or it is final: read it again and decide again.
    #[error("task {id} was changed at the same time")]
    Stale {
        /// The task.
        id: TaskId,
    },
    /// No such unit; the task's units were replaced or the task removed.
    #[error("task {task} has no unit {ordinal}")]
    UnitMissing {
        /// The task.
        task: TaskId,
        /// The unit.
        ordinal: u32,
    },
    /// The audit chain does not hold from this record on.
    #[error("audit record {at} is missing or was changed")]
    AuditBroken {
        /// Number of the first record that does not fit.
        at: u64,
    },
    /// A newer build has used this database.
    #[error("the catalog has schema version {found}, this build knows versions up to {known}")]
    SchemaNewer {
        /// Version found in the database.
        found: i64,
        /// Newest version of this build.
        known: i64,
    },
    /// The database was made by a build with another text of the same migration.
    #[error("schema version {version} of the catalog is not the one of this build")]
    SchemaChanged {
        /// The version that differs.
        version: i64,
    },
    /// The database was made with another master key.
    #[error("the master key is not the one this catalog was made with")]
    WrongMasterKey,
    /// Not 64 hexadecimal digits.
    #[error("a master key must be 64 hexadecimal digits")]
    MalformedMasterKey,
    /// A stored secret does not open under the master key and its key's id.
    #[error("the stored secret of key {id} is damaged")]
    SecretDamaged {
        /// The key.
        id: String,
    },
    /// A stored value that this code never writes.
    #[error("stored {what} is malformed")]
    Malformed {
        /// Which value.
        what: &'static str,
    },
    /// A number past what the database can hold.
    #[error("{what} is out of range")]
    OutOfRange {
        /// Which number.
        what: &'static str,
    },
    /// The system gave no random bytes.
    #[error("no random bytes from the system")]
    Random(#[source] getrandom::Error),
    /// The commit was sent and its answer lost: the change is either durable or absent. Read back before acting.
    #[error("it is unknown whether the change was stored: read it back")]
    Unknown(#[source] sqlx::Error),
    /// The database refused; nothing changed.
    #[error("the catalog's database failed")]
    Database(#[source] sqlx::Error),
    /// [`crate::Catalog::close`] was called.
    #[error("the catalog is closed")]
    Closed,
}

impl Error {
    /// What the caller should do about it.
    pub fn kind(&self) -> Kind {
        match self {
            Error::CollectionExists { .. } => Kind::CollectionExists,
            Error::CollectionMissing { .. } => Kind::CollectionMissing,
            Error::IndexExists { .. } => Kind::IndexExists,
            Error::IndexMissing { .. } => Kind::IndexMissing,
            Error::TooManyCollections { .. } | Error::TooManyAliases { .. } | Error::TooManyIndexes { .. } => {
                Kind::Refused
            }
            Error::TooManyTasks { .. } | Error::Stale { .. } => Kind::Busy,
            Error::TooManyUnits { .. } => Kind::TooLarge,
            Error::TaskMissing { .. } => Kind::TaskMissing,
            Error::TaskOpen { .. } | Error::TaskNotDone { .. } => Kind::Refused,
            Error::UnitMissing { .. } | Error::OutOfRange { .. } | Error::Random(_) => Kind::Internal,
            Error::AuditBroken { .. } | Error::SecretDamaged { .. } | Error::Malformed { .. } => Kind::Corrupt,
            Error::SchemaNewer { .. } | Error::SchemaChanged { .. } => Kind::Refused,
            Error::WrongMasterKey => Kind::Refused,
            Error::MalformedMasterKey => Kind::Invalid,
            Error::Unknown(_) | Error::Closed => Kind::Unavailable,
            Error::Database(cause) => match dialect::fault(cause) {
                Fault::Unavailable => Kind::Unavailable,
                Fault::Full => Kind::DiskFull,
                Fault::Corrupt => Kind::Corrupt,
                Fault::Internal => Kind::Internal,
            },
        }
    }

    /// True where the refusal came from the catalog's own rules, so that the connection is as good as before.
    pub(crate) fn is_refusal(&self) -> bool {
        !matches!(self, Error::Database(_) | Error::Unknown(_))
    }
}

impl From<sqlx::Error> for Error {
    fn from(cause: sqlx::Error) -> Self {
        match cause {
            sqlx::Error::PoolClosed => Error::Closed,
            cause => Error::Database(cause),
        }
    }
}

impl From<Error> for knarr_base::Error {
    fn from(error: Error) -> Self {
        knarr_base::Error::new(error.kind(), error.to_string()).with_source(error)
    }
}
