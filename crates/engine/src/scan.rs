//! The seam between what stores rows (`table`) and what moves them in bulk (`bulk`): parts made of batches.

use arrow_array::RecordBatch;
use arrow_buffer::BooleanBuffer;
use knarr_base::schema::Schema;
use knarr_base::value::Number;
use std::sync::Arc;

use crate::error::Error;

/// One segment as a scan sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// Segment id, unique in the table and never used again.
    pub(crate) segment: u64,
    /// Rows, dead ones included. Row numbers of a part are 0..rows.
    pub(crate) rows: u32,
    /// Bytes of its column buffers.
    pub(crate) bytes: u64,
    /// First row of each batch, ascending; the first is 0. Batches cover all rows.
    pub(crate) batches: Vec<u32>,
}

/// A batch and which of its rows a snapshot sees.
#[derive(Debug, Clone)]
pub(crate) struct LiveBatch {
    /// Columns of `columns::stored_schema`, widened to the snapshot's schema, checksums verified. Sorted by key.
    pub(crate) batch: RecordBatch,
    /// Rows that are alive (not masked, not expired at the snapshot's time). `None`: all of them.
    pub(crate) live: Option<BooleanBuffer>,
}

/// A frozen set of rows that can be read again and again with the same result. Implemented by `table::Snapshot`.
pub(crate) trait Source: Send + Sync {
    /// The schema of every batch.
    fn schema(&self) -> Arc<Schema>;
    /// The parts, in a fixed order. Each key is live in at most one part.
    fn parts(&self) -> Vec<Part>;
    /// Batch `index` of the part with this segment id. Blocking: may page in and verify.
    ///
    /// # Errors
    /// `Error::Corrupt` when bytes fail their checksum, `Error::SegmentMissing` when the snapshot has no such part.
    fn read(&self, segment: u64, index: usize) -> Result<LiveBatch, Error>;
    /// As [`Source::read`], but the bytes of the dense vector may be unverified and must not be looked at. For filters:
    /// it does not page vectors in. Before a matching row's vector is used, the batch is read again with `read`.
    ///
    /// # Errors
    /// As [`Source::read`].
    fn read_scalars(&self, segment: u64, index: usize) -> Result<LiveBatch, Error> {
        self.read(segment, index)
    }
    /// Least and greatest value of a numeric stored column of a part, where known.
    fn bounds(&self, segment: u64, column: usize) -> Option<(Number, Number)>;
}
