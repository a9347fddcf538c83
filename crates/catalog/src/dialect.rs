//! Everything that differs between SQL databases: connections, column types, error codes, and how values are stored.
//!
//! How values are stored: ids and names whose letters are checked as TEXT; free text from outside as bytes, because
//! PostgreSQL's TEXT refuses NUL; counters as BIGINT; times as unix milliseconds in BIGINT; digests as bytes.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Row as _};

use crate::Error;

pub(crate) type Database = sqlx::Sqlite;
pub(crate) type Connection = sqlx::SqliteConnection;
pub(crate) type ConnectOptions = SqliteConnectOptions;
pub(crate) type Pool = sqlx::SqlitePool;
pub(crate) type Row = sqlx::sqlite::SqliteRow;

/// Stands in migrations where a column of bytes is declared.
pub(crate) const BYTES_MARK: &str = "{bytes}";
/// This database's name for such a column.
pub(crate) const BYTES: &str = "BLOB";
/// Begins a transaction that may write. It takes the write lock at once, so it never fails half-way for lack of it.
pub(crate) const BEGIN_WRITE: &str = "BEGIN IMMEDIATE";

/// Connections that only read. Each sees whatever was committed before its statement began.
const READERS: u32 = 4;
/// Time to wait for a lock that another process, such as a backup, holds.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// Pages (4 KiB each) in the write-ahead log before a commit copies them to the database file. That commit waits for
/// two more syncs: rare enough to be seen by one task in dozens, small enough to be read in an instant after a kill.
const LOG_PAGES: &str = "4000";
/// Prepared statements kept per connection; above the number of statements in this crate.
const STATEMENTS_CACHED: usize = 128;

/// The one connection that writes: a commit returns after the log is synced.
pub(crate) fn writer_options(path: &Path) -> ConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("wal_autocheckpoint", LOG_PAGES)
        .foreign_keys(true)
        .busy_timeout(LOCK_WAIT)
        .statement_cache_capacity(STATEMENTS_CACHED)
        .disable_statement_logging()
}

/// The connections that read, opened when first needed.
pub(crate) fn readers(path: &Path) -> Pool {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .busy_timeout(LOCK_WAIT)
        .statement_cache_capacity(STATEMENTS_CACHED)
        .disable_statement_logging();
    SqlitePoolOptions::new()
        .max_connections(READERS)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(options)
}

/// What a failure of the database means.
pub(crate) enum Fault {
    /// Input or output failed, locked by another process: it may work later.
    Unavailable,
    /// No space left.
    Full,
    /// The file is damaged.
    Corrupt,
    /// A statement or a rule of ours is wrong.
    Internal,
}

/// Reads the primary result code (the low byte of SQLite's code).
pub(crate) fn fault(cause: &sqlx::Error) -> Fault {
    const BUSY: i32 = 5;
    const LOCKED: i32 = 6;
    const READ_ONLY: i32 = 8;
    const IO: i32 = 10;
    const CORRUPT: i32 = 11;
    const FULL: i32 = 13;
    const CANNOT_OPEN: i32 = 14;
    const NOT_A_DATABASE: i32 = 26;
    match cause {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => Fault::Unavailable,
        sqlx::Error::Database(error) => {
            match error.code().and_then(|code| code.parse::<i32>().ok()).map(|code| code & 0xff) {
                Some(BUSY | LOCKED | READ_ONLY | IO | CANNOT_OPEN) => Fault::Unavailable,
                Some(FULL) => Fault::Full,
                Some(CORRUPT | NOT_A_DATABASE) => Fault::Corrupt,
                _ => Fault::Internal,
            }
        }
        _ => Fault::Internal,
    }
}

/// A counter for storage; `what` names it in the error.
pub(crate) fn stored(n: u64, what: &'static str) -> Result<i64, Error> {
    i64::try_from(n).map_err(|_| Error::OutOfRange { what })
}

/// A counter to compare with stored ones. One that is out of range equals none of them.
pub(crate) fn compared(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(-1)
}

/// A bound on a number of rows.
pub(crate) fn bound(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Typed readers of a row's columns. An ill-formed value is [`Error::Malformed`], never a guess.
pub(crate) trait Columns {
    /// A counter.
    fn number(&self, column: &'static str) -> Result<u64, Error>;
    /// A counter that may be absent.
    fn number_or_none(&self, column: &'static str) -> Result<Option<u64>, Error>;
    /// A small counter.
    fn small(&self, column: &'static str) -> Result<u32, Error>;
    /// Milliseconds.
    fn time(&self, column: &'static str) -> Result<i64, Error>;
    /// Milliseconds that may be absent.
    fn time_or_none(&self, column: &'static str) -> Result<Option<i64>, Error>;
    /// A truth value.
    fn flag(&self, column: &'static str) -> Result<bool, Error>;
    /// A checked name or word.
    fn word(&self, column: &'static str) -> Result<String, Error>;
    /// A checked name or word that may be absent.
    fn word_or_none(&self, column: &'static str) -> Result<Option<String>, Error>;
    /// Anything that is printed and parsed.
    fn parsed<T: FromStr>(&self, column: &'static str) -> Result<T, Error>;
    /// Bytes.
    fn bytes(&self, column: &'static str) -> Result<Vec<u8>, Error>;
    /// A digest.
    fn digest(&self, column: &'static str) -> Result<[u8; 32], Error>;
    /// Free text.
    fn text(&self, column: &'static str) -> Result<String, Error>;
    /// Free text that may be absent.
    fn text_or_none(&self, column: &'static str) -> Result<Option<String>, Error>;
}

fn malformed(what: &'static str) -> Error {
    Error::Malformed { what }
}

impl Columns for Row {
    fn number(&self, column: &'static str) -> Result<u64, Error> {
        self.number_or_none(column)?.ok_or(malformed(column))
    }

    fn number_or_none(&self, column: &'static str) -> Result<Option<u64>, Error> {
        let number = self.time_or_none(column)?;
        number.map(u64::try_from).transpose().map_err(|_| malformed(column))
    }

    fn small(&self, column: &'static str) -> Result<u32, Error> {
        u32::try_from(self.time(column)?).map_err(|_| malformed(column))
    }

    fn time(&self, column: &'static str) -> Result<i64, Error> {
        self.time_or_none(column)?.ok_or(malformed(column))
    }

    fn time_or_none(&self, column: &'static str) -> Result<Option<i64>, Error> {
        self.try_get(column).map_err(|_| malformed(column))
    }

    fn flag(&self, column: &'static str) -> Result<bool, Error> {
        self.try_get(column).map_err(|_| malformed(column))
    }

    fn word(&self, column: &'static str) -> Result<String, Error> {
        self.try_get(column).map_err(|_| malformed(column))
    }

    fn word_or_none(&self, column: &'static str) -> Result<Option<String>, Error> {
        self.try_get(column).map_err(|_| malformed(column))
    }

    fn parsed<T: FromStr>(&self, column: &'static str) -> Result<T, Error> {
        self.word(column)?.parse().map_err(|_| malformed(column))
    }

    fn bytes(&self, column: &'static str) -> Result<Vec<u8>, Error> {
        self.try_get(column).map_err(|_| malformed(column))
    }

    fn digest(&self, column: &'static str) -> Result<[u8; 32], Error> {
        self.bytes(column)?.try_into().map_err(|_| malformed(column))
    }

    fn text(&self, column: &'static str) -> Result<String, Error> {
        self.text_or_none(column)?.ok_or(malformed(column))
    }

    fn text_or_none(&self, column: &'static str) -> Result<Option<String>, Error> {
        let bytes: Option<Vec<u8>> = self.try_get(column).map_err(|_| malformed(column))?;
        bytes.map(String::from_utf8).transpose().map_err(|_| malformed(column))
    }
}
