//! A table at one instant, as a search reads it: what is in memory and what is in segments, each key at most once.
//!
//! Taken under the memtable's lock, read without it: writes that come later are known by their `_seq` and left out, so
//! a search never blocks a writer and never sees half a call. Rows are handed out in blocks, one batch each; a block
//! of a segment may be large, one of memory has the rows of one call.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_buffer::BooleanBuffer;
use knarr_base::index::Distance;
use knarr_base::schema::Schema;
use knarr_base::value::Number;
use roaring::RoaringBitmap;

use super::Table;
use super::keys::{KeyColumn, KeyList, KeyRef};
use super::mask::live_rows;
use super::memtable::{Kept, Memtable};
use super::snapshot::{both, unexpired};
use super::structures::{self, Near, Posted};
use super::version::Held;
use super::view::{View, is_expired};
use crate::columns;
use crate::error::Result;
use crate::index::postings::Scalars;
use crate::index::vector::{Batches, Bits};

/// Selected rows of a segment up to which each is looked up in the memtables; more are compared as a set.
const LOOKED_UP_ONE_BY_ONE: usize = 256;

/// See the module.
pub(crate) struct Moment {
    view: Arc<View>,
    /// Newest first; those that were empty are left out.
    recent: Vec<Recent>,
    seq: u64,
    now_ms: i64,
    /// Keys that any of `recent` mentions, ascending.
    keys: OnceLock<KeyList>,
    /// Rows of each segment that `recent` hides.
    hidden: Vec<OnceLock<RoaringBitmap>>,
}

struct Recent {
    memtable: Arc<Memtable>,
    batches: Vec<Arc<Kept>>,
}

/// One batch of a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Block {
    /// A batch of one of the memtables.
    Memory { recent: usize, batch: usize },
    /// A batch of one of the segments.
    Segment { held: usize, batch: usize },
}

impl Table {
    /// The table as it is now.
    pub(crate) fn moment(&self) -> Moment {
        let now_ms = self.clock.now_ms();
        loop {
            let view = self.view.load_full();
            let newest = view.memtable.read();
            // A view that was replaced before the lock was taken may miss writes that its memtable never got.
            if !Arc::ptr_eq(&view, &self.view.load()) {
                continue;
            }
            let seq = newest.last_seq().max(view.version.flushed_seq);
            let seq = view.frozen.iter().map(|memtable| memtable.read().last_seq()).fold(seq, u64::max);
            let recent = |memtable: &Arc<Memtable>, batches: &[Arc<Kept>], keys: usize| {
                (keys > 0).then(|| Recent { memtable: memtable.clone(), batches: batches.to_vec() })
            };
            let first = recent(&view.memtable, newest.batches(), newest.keys());
            drop(newest);
            let older = view.frozen.iter().rev().map(|memtable| {
                let content = memtable.read();
                recent(memtable, content.batches(), content.keys())
            });
            let recent = std::iter::once(first).chain(older).flatten().collect();
            let hidden = view.segments().iter().map(|_| OnceLock::new()).collect();
            return Moment { view, recent, seq, now_ms, keys: OnceLock::new(), hidden };
        }
    }
}

impl Moment {
    pub(crate) fn schema(&self) -> &Arc<Schema> {
        self.view.schema()
    }

    /// The blocks, memory first. Segments are left out in which `may_match` excludes every row by the least and
    /// greatest values of the user columns.
    ///
    /// # Errors
    /// `Corrupt` if a segment that may match is quarantined.
    pub(crate) fn blocks(
        &self,
        may_match: impl Fn(&dyn Fn(usize) -> Option<(Number, Number)>) -> bool,
    ) -> Result<Vec<Block>> {
        let mut blocks = Vec::new();
        for (recent, one) in self.recent.iter().enumerate() {
            blocks.extend((0..one.batches.len()).map(|batch| Block::Memory { recent, batch }));
        }
        for (at, held) in self.view.segments().iter().enumerate() {
            let segment = &held.segment;
            let hidden_columns_from = segment.width()? - 2;
            let bounds = |column: usize| (column < hidden_columns_from).then(|| segment.bounds(column)).flatten();
            if may_match(&bounds) {
                blocks.extend((0..segment.starts()?.len()).map(|batch| Block::Segment { held: at, batch }));
            }
        }
        Ok(blocks)
    }

    fn held(&self, at: usize) -> &Held {
        &self.view.segments()[at]
    }

    /// The structure for a distance of the segment at `held`, if it has one.
    pub(crate) fn near(&self, held: usize, distance: Distance) -> Option<Arc<Near>> {
        self.held(held).segment.nears().get(distance)
    }

    /// Searches of this segment scan from now on, until its structure was built anew.
    pub(crate) fn discard_near(&self, held: usize, distance: Distance, damaged: &Arc<Near>) {
        self.held(held).segment.nears().remove(distance, damaged);
    }

    /// The vectors of the segment at `held`, verified.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn vectors(&self, held: usize) -> Result<Batches<'_>> {
        structures::vectors(&self.held(held).segment, self.schema())
    }

    /// The postings of the segment at `held`, if it has any.
    pub(crate) fn postings(&self, held: usize) -> Option<Arc<Posted>> {
        self.held(held).segment.nears().postings()
    }

    /// Filters of this segment look at its columns from now on, until its postings were built anew.
    pub(crate) fn discard_postings(&self, held: usize, damaged: &Arc<Posted>) {
        self.held(held).segment.nears().remove_postings(damaged);
    }

    /// The scalar columns of the segment at `held`.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn columns(&self, held: usize) -> Result<Scalars<'_>> {
        structures::scalars(&self.held(held).segment)
    }

    /// Rows of the segment at `held` that its mask leaves; `None`: all.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn unmasked(&self, held: usize) -> Result<Option<&Bits>> {
        let held = self.held(held);
        held.dead()?;
        Ok(held.mask.as_ref().map(|mask| mask.live(held.segment.rows())))
    }

    /// True if a row of the segment at `held` may have expired.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn expires(&self, held: usize) -> Result<bool> {
        let meta = self.held(held).segment.meta()?;
        Ok(meta.expiring > 0 && is_expired(meta.first_expiry, self.now_ms))
    }

    /// The batch of the segment at `held` that holds a row, and the row in it.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn place(&self, held: usize, row: u32) -> Result<(usize, usize)> {
        self.held(held).segment.place(row)
    }

    /// True if rows of segments may be hidden by newer parts.
    pub(crate) fn hides_any(&self) -> bool {
        !self.recent.is_empty()
    }

    /// The block's columns as they were stored: without fields that were added since, keys at their place. Vector bytes
    /// may be unverified and must not be looked at.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn stored(&self, block: Block) -> Result<&RecordBatch> {
        match block {
            Block::Memory { recent, batch } => Ok(&self.recent[recent].batches[batch].batch),
            Block::Segment { held, batch } => self.held(held).segment.scalars(batch),
        }
    }

    /// A batch under the newest schema, all verified, with a row of the block, and where in it.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn row(&self, block: Block, row: usize) -> Result<(RecordBatch, usize)> {
        let batch = match block {
            Block::Memory { .. } => self.stored(block)?,
            Block::Segment { held, batch } => self.held(held).segment.batch(batch)?,
        };
        if self.is_wide(batch) {
            return Ok((batch.clone(), row));
        }
        // Defaults for one row, not for all of them.
        Ok((self.widened(&batch.slice(row, 1)).into_owned(), 0))
    }

    /// The block's columns under the newest schema. Vector bytes may be unverified and must not be looked at.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn scalars(&self, block: Block) -> Result<Cow<'_, RecordBatch>> {
        Ok(self.widened(self.stored(block)?))
    }

    /// The block's columns under the newest schema, all verified.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn whole(&self, block: Block) -> Result<Cow<'_, RecordBatch>> {
        match block {
            Block::Memory { .. } => self.scalars(block),
            Block::Segment { held, batch } => Ok(self.widened(self.held(held).segment.batch(batch)?)),
        }
    }

    fn widened<'a>(&self, batch: &'a RecordBatch) -> Cow<'a, RecordBatch> {
        let version = &self.view.version;
        if self.is_wide(batch) {
            Cow::Borrowed(batch)
        } else {
            Cow::Owned(columns::widen(batch, &version.schema, &version.stored))
        }
    }

    fn is_wide(&self, batch: &RecordBatch) -> bool {
        batch.num_columns() >= self.view.version.stored.fields().len()
    }

    /// Rows that were neither replaced within their part nor expired; newer parts may still hide them. `None`: all.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn live(&self, block: Block) -> Result<Option<BooleanBuffer>> {
        match block {
            Block::Memory { recent, batch } => Ok(self.live_in_memory(&self.recent[recent].batches[batch])),
            Block::Segment { held, batch: index } => {
                let held = self.held(held);
                let batch = held.segment.scalars(index)?;
                let first = held.segment.starts()?[index];
                let unmasked = held.dead()?.and_then(|dead| live_rows(dead, first, batch.num_rows()));
                Ok(both(unmasked, unexpired(held, batch, self.now_ms)?))
            }
        }
    }

    fn live_in_memory(&self, kept: &Kept) -> Option<BooleanBuffer> {
        if kept.untouched() && !kept.expiring {
            return None;
        }
        let batch = &kept.batch;
        let expiries = batch.column(batch.num_columns() - 1).as_primitive::<Int64Type>().values();
        Some(BooleanBuffer::collect_bool(batch.num_rows(), |row| {
            kept.newest_at(row, self.seq) && !is_expired(expiries[row], self.now_ms)
        }))
    }

    /// True if a newer part mentions the key of a row of `block`.
    pub(crate) fn hides(&self, block: Block, key: KeyRef<'_>) -> bool {
        let newer = match block {
            Block::Memory { recent, .. } => &self.recent[..recent],
            Block::Segment { .. } => &self.recent[..],
        };
        newer.iter().any(|one| one.memtable.read().mentions(key, self.seq))
    }

    /// `selected` without the rows that newer parts hide.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn visible(&self, block: Block, selected: BooleanBuffer) -> Result<BooleanBuffer> {
        match block {
            Block::Memory { recent: 0, .. } => Ok(selected),
            Block::Segment { .. } if self.recent.is_empty() => Ok(selected),
            Block::Segment { held, batch } if selected.count_set_bits() > LOOKED_UP_ONE_BY_ONE => {
                let first = self.held(held).segment.starts()?[batch];
                let hidden = self.hidden_rows(held)?;
                Ok(live_rows(hidden, first, selected.len())
                    .map_or_else(|| selected.clone(), |shown| &selected & &shown))
            }
            Block::Memory { .. } | Block::Segment { .. } => {
                let batch = self.scalars(block)?;
                let keys = self.keys(&batch);
                let shown = |row| selected.value(row) && !self.hides(block, keys.get(row));
                Ok(BooleanBuffer::collect_bool(selected.len(), shown))
            }
        }
    }

    /// The rows of the segment at `at` that newer parts hide.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn hidden_rows(&self, at: usize) -> Result<&RoaringBitmap> {
        let cell = &self.hidden[at];
        if let Some(rows) = cell.get() {
            return Ok(rows);
        }
        let keys = self
            .keys
            .get_or_init(|| KeyList::union(self.recent.iter().map(|one| one.memtable.read().keys_until(self.seq))));
        let mut rows = RoaringBitmap::new();
        self.held(at).segment.intersect(keys, |_, row| {
            rows.insert(row);
        })?;
        Ok(cell.get_or_init(|| rows))
    }

    /// The key column of a batch of this moment.
    pub(crate) fn keys<'a>(&self, batch: &'a RecordBatch) -> KeyColumn<'a> {
        KeyColumn::new(batch.column(columns::key_column(self.schema())))
    }
}
