//! Moving rows in bulk: count what a filter matches and plan the work, then write each piece of it to an object.
//!
//! Called by the workers of tasks through the service. It reads a frozen [`Source`] and writes to [`Stores`]; it keeps
//! nothing of its own, so a unit can be run again, here or elsewhere, and gives the same bytes. CPU work runs on the
//! compute pool in jobs of some ten milliseconds; nothing waits for a store there.

mod count;
mod encode;
mod export;
mod json;
mod parquet;
mod plan;
mod sink;

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::BooleanBuffer;

use knarr_base::filter::Filter;

pub use self::export::Export;
use crate::compute::{Cancel, Meter, Pool};
use crate::error::Error;
use crate::filter::Predicate;
use crate::objects::Stores;
use crate::scan::Source;
use crate::table::Snapshot;

/// Every named failpoint of this module.
pub const FAILPOINTS: &[&str] = &["bulk::export::step"];

/// What an export writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Row groups of typed columns, vectors plain.
    Parquet,
    /// One JSON object per line.
    Json,
}

impl Format {
    /// As in task parameters and file names.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Parquet => "parquet",
            Format::Json => "json",
        }
    }

    /// The format of that name.
    pub fn parse(text: &str) -> Option<Self> {
        [Format::Parquet, Format::Json].into_iter().find(|format| format.as_str() == text)
    }
}

/// Rows `start..end` of a segment, dead and unmatched ones included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowRange {
    /// Segment id.
    pub segment: u64,
    /// First row.
    pub start: u32,
    /// One past the last row.
    pub end: u32,
}

/// The smallest resumable piece of an export: one file. A description, never a live handle.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnitSpec {
    /// Where its rows are; in the order in which they are written.
    pub ranges: Vec<RowRange>,
    /// Rows that match.
    pub matched: u64,
}

/// What a counting scan found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// Rows looked at: live ones, and all rows of the segments that their bounds ruled out.
    pub scanned: u64,
    /// Rows that match.
    pub matched: u64,
    /// JSON array of the first `limit::SAMPLE_ROWS` matches in key order, without dense and sparse vectors.
    pub sample: String,
    /// At least one, even if nothing matched.
    pub units: Vec<UnitSpec>,
}

/// What an export unit wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileReport {
    /// Rows in the file.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// Its checksum.
    pub sha256: [u8; 32],
    /// Sum of its rows' digests modulo 2^128 (FORMAT.md, section "Content digest").
    pub digest: u128,
}

/// Scans a snapshot once: what matches, a sample of it, and the units that would export it. The result does not depend
/// on the number of threads.
///
/// # Errors
/// `Filter`, `Cancelled`, `Corrupt`, what the pool answers.
pub async fn count(
    pool: &Arc<Pool>,
    snapshot: &Snapshot,
    filter: &Filter,
    meter: &Meter,
    cancel: &Cancel,
) -> Result<Counted, Error> {
    count::count(pool, &shared(snapshot), filter, meter, cancel).await
}

/// Writes one file. The same unit of the same snapshot gives the same bytes, so a file of that name with the same size
/// and checksum, left by an earlier attempt, counts as written.
///
/// # Errors
/// `ObjectExists` for another file of that name, `Cancelled`, `Corrupt`, what pool and store answer. The object does
/// not exist then, unless the store failed to say whether it finished it.
pub async fn export_unit(
    pool: &Arc<Pool>,
    stores: &Stores,
    snapshot: &Snapshot,
    export: Export<'_>,
    meter: &Meter,
    cancel: &Cancel,
) -> Result<FileReport, Error> {
    export::export_unit(pool, stores, &shared(snapshot), export, meter, cancel).await
}

fn shared(snapshot: &Snapshot) -> SharedSource {
    Arc::new(snapshot.clone())
}

/// A batch of a part, as far as a range covers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    segment: u64,
    batch: usize,
    /// Rows before it in the batch.
    skip: usize,
    rows: usize,
}

/// The rows of a piece that live and match.
struct Matches {
    batch: RecordBatch,
    rows: BooleanBuffer,
    /// Rows that live.
    live: usize,
    /// Rows that live and match.
    count: usize,
}

impl Piece {
    /// Its rows with everything in them.
    fn whole(&self, source: &dyn Source) -> Result<RecordBatch, Error> {
        Ok(source.read(self.segment, self.batch)?.batch.slice(self.skip, self.rows))
    }

    /// Evaluates a filter without looking at vectors.
    fn matches(&self, source: &dyn Source, predicate: &Predicate) -> Result<Matches, Error> {
        let read = source.read_scalars(self.segment, self.batch)?;
        let batch = read.batch.slice(self.skip, self.rows);
        let live = read.live.map(|live| live.slice(self.skip, self.rows));
        let rows = predicate.evaluate(&batch, live.as_ref());
        let live = live.map_or(self.rows, |live| live.count_set_bits());
        let count = rows.count_set_bits();
        Ok(Matches { batch, rows, live, count })
    }
}

/// A source that jobs can hold.
type SharedSource = Arc<dyn Source>;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
