//! Everything durable about names, keys and tasks: keys, buckets, collections, indexes, tasks, units, undos, pins and the
//! audit chain.
//!
//! One SQL database (SQLite today; every statement is valid for PostgreSQL too, differences live in `dialect`). The
//! service calls it; it knows neither tables nor files. Every state change and its audit record are one transaction,
//! durable when the call returns `Ok`. It never reads the wall clock, never decides what a task does next, never
//! stores a row value, and stores secrets only sealed.
//!
//! An error means that nothing changed, with one exception: [`Error::Unknown`], where the answer to a commit was lost.
//! Nothing here repeats such a call; its caller reads the object back before it acts again.

pub mod audit;
pub mod buckets;
pub mod collections;
mod dialect;
pub mod error;
pub mod indexes;
pub mod keys;
mod migrations;
pub mod pins;
pub mod secret;
pub mod tasks;
pub mod undos;
pub mod units;
mod write;

use std::path::Path;
use std::sync::Arc;

use knarr_base::clock::SharedClock;

pub use error::Error;
pub use secret::{MasterKey, Secret};
pub use write::FAILPOINTS;

/// The catalog. Cheap to clone.
#[derive(Clone)]
pub struct Catalog {
    inner: Arc<Inner>,
}

struct Inner {
    clock: SharedClock,
    master: MasterKey,
    writer: write::Writer,
    readers: dialect::Pool,
}

impl Catalog {
    /// Opens the database file, made if missing; its directory must exist. Brings the schema up to date.
    ///
    /// Refuses a schema newer than this build ([`Error::SchemaNewer`]) and another master key than the one the
    /// database was made with ([`Error::WrongMasterKey`]).
    pub async fn open(path: &Path, clock: SharedClock, master: MasterKey) -> Result<Self, Error> {
        let writer = write::Writer::new(dialect::writer_options(path));
        let mut tx = writer.begin(write::Op::Open).await?;
        let prepared = prepare(&mut tx, clock.now_ms(), &master).await;
        tx.end(prepared).await?;
        let readers = dialect::readers(path);
        Ok(Self { inner: Arc::new(Inner { clock, master, writer, readers }) })
    }

    /// Waits for running calls and closes the file; later calls answer [`Error::Closed`]. Dropping without it is safe.
    pub async fn close(&self) {
        self.inner.readers.close().await;
        self.inner.writer.close().await;
    }

    async fn write(&self, op: write::Op) -> Result<write::Write<'_>, Error> {
        self.inner.writer.begin(op).await
    }

    fn readers(&self) -> &dialect::Pool {
        &self.inner.readers
    }

    fn now_ms(&self) -> i64 {
        self.inner.clock.now_ms()
    }
}

async fn prepare(connection: &mut dialect::Connection, now_ms: i64, master: &MasterKey) -> Result<(), Error> {
    migrations::apply(connection, now_ms).await?;
    secret::check_master(connection, master).await
}

#[cfg(test)]
mod tests;
