//! The product in vendor-neutral words: collections and their rows, indexes and searches, durable tasks, access keys, buckets.
//!
//! A dialect converts a request to one call here and the answer back; nothing in this crate knows HTTP, SQL or Arrow.
//! Every public call takes the [`Principal`] whose signature was verified and checks its rights before anything else.

pub mod buckets;
mod cache;
pub mod collections;
pub mod embedding;
pub mod indexes;
pub mod keys;
pub mod principal;
pub mod tasks;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use knarr_base::clock::SharedClock;
use knarr_base::{Error, Kind, Result, limit};
use knarr_catalog::Catalog;
use knarr_engine::compute::Pool;
use knarr_engine::objects::Stores;
use knarr_engine::table::Tables;
use tokio::runtime::{Handle, RuntimeFlavor};

pub use principal::Principal;

/// The parts a service is made of; the server builds them in `wiring`.
pub struct Parts {
    /// Rows.
    pub tables: Arc<Tables>,
    /// Names, keys, tasks.
    pub catalog: Catalog,
    /// Files.
    pub stores: Arc<Stores>,
    /// Threads for CPU-heavy work.
    pub pool: Arc<Pool>,
    /// Time.
    pub clock: SharedClock,
    /// What the operator decides about tasks.
    pub policy: tasks::Policy,
    /// Embedding models, or [`embedding::NoModels`].
    pub models: Arc<dyn embedding::Embed>,
    /// Keys that live as long as this process (an administrator's from the environment).
    pub process_keys: Vec<keys::ProcessKey>,
}

/// Everything a dialect can ask for. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) tables: Arc<Tables>,
    pub(crate) catalog: Catalog,
    pub(crate) stores: Arc<Stores>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) clock: SharedClock,
    pub(crate) models: Arc<dyn embedding::Embed>,
    pub(crate) images: embedding::ImageRoom,
    pub(crate) keys: keys::Keys,
    pub(crate) open: collections::Open,
    pub(crate) tasks: tasks::Scheduler,
    pub(crate) policy: tasks::Policy,
}

impl Service {
    /// Hands all pins to the engine, sweeps what no name refers to any more, and resumes every open task.
    ///
    /// # Errors
    /// Those of the catalog and the engine; nothing runs then.
    pub async fn open(parts: Parts) -> Result<Self> {
        let Parts { tables, catalog, stores, pool, clock, policy, models, process_keys } = parts;
        let live = catalog.table_ids().await?;
        let dropped = catalog.dropped_tables().await?;
        let pins = catalog.pins().await?;
        let swept = {
            let (tables, keep, dropped) = (tables.clone(), live.clone(), dropped.clone());
            blocking(move || {
                let swept = tables.sweep(&keep, &dropped)?;
                // No task of this release stages files inside a table.
                tables.start_maintenance(pins, Arc::new(|_| false));
                Ok::<_, knarr_engine::Error>(swept)
            })
            .await??
        };
        for table in &swept {
            tracing::info!(%table, "removed the files of a table without a collection");
        }
        for table in dropped {
            catalog.forget_dropped_table(table).await?;
        }
        let inner = Inner {
            tables,
            catalog,
            stores,
            pool,
            clock,
            models,
            images: embedding::ImageRoom::default(),
            keys: keys::Keys::new(process_keys),
            open: collections::Open::default(),
            tasks: tasks::Scheduler::new(),
            policy,
        };
        let service = Self { inner: Arc::new(inner) };
        tasks::resume(&service.inner, &live).await?;
        Ok(service)
    }

    /// Stops the tasks where they stand (they resume at the next start), then the engine.
    pub async fn shutdown(&self) {
        self.inner.tasks.stop().await;
        let tables = self.inner.tables.clone();
        if let Err(error) = blocking(move || tables.close()).await {
            tracing::error!(error = error.chain(), "closing the tables failed");
        }
        self.inner.pool.stop();
        self.inner.catalog.close().await;
    }

    /// The clock requests are checked against.
    pub fn clock(&self) -> &SharedClock {
        &self.inner.clock
    }
}

/// Runs CPU work in place, telling the runtime first when it is large. (A current-thread runtime, as in small tests,
/// has no other thread to hand its work to.)
pub(crate) fn heavy<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes > limit::DECODE_INLINE_BYTES && Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}

/// Runs work that may wait for a disk off the runtime's threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.map_err(|e| Error::new(Kind::Internal, "a blocking step was lost").with_source(e))
}
