//! Snapshots: a version that stays readable, as bulk work scans it.

use std::fmt;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_buffer::BooleanBuffer;
use knarr_base::schema::Schema;
use knarr_base::value::Number;

use super::Table;
use super::mask::live_rows;
use super::version::{Held, Version};
use super::view::is_expired;
use crate::columns;
use crate::error::{Error, Result};
use crate::scan::{LiveBatch, Part, Source};

/// A frozen set of rows. Its files stay while a clone of it lives; a durable pin ([`Table::pin`]) outlives the process.
#[derive(Clone)]
pub struct Snapshot(Arc<Inner>);

struct Inner {
    table: Arc<Table>,
    version: Arc<Version>,
    seq: u64,
    at_ms: i64,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.table.unpin(self.version.number);
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { table, version, seq, at_ms } = &*self.0;
        write!(f, "Snapshot({}, version {}, seq {seq}, at {at_ms})", table.id, version.number)
    }
}

impl Table {
    /// Flushes and freezes what is there: every write acknowledged before the call is in it. Blocking.
    ///
    /// # Errors
    /// Those of a flush.
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.flush()?;
        let table = self.me.upgrade().ok_or(Error::Stopped)?;
        let at_ms = self.clock.now_ms();
        let version = {
            // Under the lock of the pins the collector cannot run between the look and the pin.
            let mut pins = self.pins.lock();
            let version = self.view.load().version.clone();
            *pins.entry(version.number).or_insert(0) += 1;
            version
        };
        let seq = version.flushed_seq;
        Ok(Snapshot(Arc::new(Inner { table, version, seq, at_ms })))
    }

    /// The snapshot that had these figures, from a version that is pinned. Blocking.
    ///
    /// # Errors
    /// `VersionMissing` if it was not pinned, `Corrupt` if its manifest is damaged.
    pub fn snapshot_at(&self, version: u64, seq: u64, at_ms: i64) -> Result<Snapshot> {
        let table = self.me.upgrade().ok_or(Error::Stopped)?;
        self.pin(version);
        let current = self.view.load().version.clone();
        let loaded = if current.number == version {
            Ok(current)
        } else {
            Version::load(&*self.disk, &self.layout, self.id, version, &self.segments).map(Arc::new)
        };
        match loaded {
            Ok(version) => Ok(Snapshot(Arc::new(Inner { table, version, seq, at_ms }))),
            Err(error) => {
                self.unpin(version);
                Err(error)
            }
        }
    }
}

impl Snapshot {
    /// Number of the manifest.
    pub fn version(&self) -> u64 {
        self.0.version.number
    }

    /// The newest write it can hold.
    pub fn seq(&self) -> u64 {
        self.0.seq
    }

    /// Unix milliseconds at which it was taken; rows that had expired by then are not in it.
    pub fn at_ms(&self) -> i64 {
        self.0.at_ms
    }

    /// Rows, those counted that expired without being removed.
    pub fn rows(&self) -> u64 {
        self.0.version.segments.iter().map(Held::live_count).sum()
    }

    /// Bytes of its files.
    pub fn bytes(&self) -> u64 {
        self.0.version.segments.iter().map(|held| held.segment.file_bytes()).sum()
    }

    pub(super) fn inner_version(&self) -> &Arc<Version> {
        &self.0.version
    }

    fn held(&self, segment: u64) -> Result<&Held> {
        self.0.version.held(segment).ok_or(Error::SegmentMissing(segment))
    }

    fn live_batch(&self, segment: u64, index: usize, whole: bool) -> Result<LiveBatch> {
        let (held, version) = (self.held(segment)?, &self.0.version);
        let dead = held.dead()?;
        let batch = if whole { held.segment.batch(index)? } else { held.segment.scalars(index)? };
        let first = held.segment.starts()?[index];
        let unmasked = dead.and_then(|dead| live_rows(dead, first, batch.num_rows()));
        let live = both(unmasked, unexpired(held, batch, self.0.at_ms)?);
        Ok(LiveBatch { batch: columns::widen(batch, &version.schema, &version.stored), live })
    }
}

/// Rows in both, where `None` is all of them.
pub(super) fn both(a: Option<BooleanBuffer>, b: Option<BooleanBuffer>) -> Option<BooleanBuffer> {
    match (a, b) {
        (Some(a), Some(b)) => Some(&a & &b),
        (a, b) => a.or(b),
    }
}

/// Rows of a stored batch that have not expired at `at_ms`. `None`: all of them.
pub(super) fn unexpired(held: &Held, batch: &RecordBatch, at_ms: i64) -> Result<Option<BooleanBuffer>> {
    let meta = held.segment.meta()?;
    if meta.expiring == 0 || meta.first_expiry > at_ms {
        return Ok(None);
    }
    let expiries = batch.column(batch.num_columns() - 1).as_primitive::<Int64Type>().values();
    Ok(Some(BooleanBuffer::collect_bool(batch.num_rows(), |row| !is_expired(expiries[row], at_ms))))
}

impl Source for Snapshot {
    fn schema(&self) -> Arc<Schema> {
        self.0.version.schema.clone()
    }

    fn parts(&self) -> Vec<Part> {
        let part = |held: &Held| Part {
            segment: held.segment.id(),
            rows: held.segment.rows(),
            bytes: held.segment.file_bytes(),
            // A quarantined segment has no batches; the first read of it is what answers the error.
            batches: held.segment.starts().map_or_else(|_| vec![0], <[u32]>::to_vec),
        };
        self.0.version.segments.iter().map(part).collect()
    }

    fn read(&self, segment: u64, index: usize) -> Result<LiveBatch> {
        self.live_batch(segment, index, true)
    }

    fn read_scalars(&self, segment: u64, index: usize) -> Result<LiveBatch> {
        self.live_batch(segment, index, false)
    }

    fn bounds(&self, segment: u64, column: usize) -> Option<(Number, Number)> {
        let held = self.held(segment).ok()?;
        // The hidden columns come last; fields added since have no bounds here.
        if column + 2 >= held.segment.width().ok()? {
            return None;
        }
        held.segment.bounds(column)
    }
}
