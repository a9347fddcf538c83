//! What readers see at one instant: the memtable, the frozen ones, a version.

use std::sync::Arc;

use arc_swap::ArcSwap;
use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt64Type};
use knarr_base::schema::Schema;
use parking_lot::RwLockReadGuard;

use super::keys::{KeyList, KeyRef};
use super::memtable::{Content, Memtable};
use super::version::{Held, Version};
use crate::columns;
use crate::error::Result;

/// See the module.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) memtable: Arc<Memtable>,
    /// Oldest first.
    pub(crate) frozen: Vec<Arc<Memtable>>,
    pub(crate) version: Arc<Version>,
}

/// A row in a batch, alive or expired.
#[derive(Debug, Clone)]
pub(crate) struct Hit {
    pub(crate) batch: RecordBatch,
    pub(crate) row: usize,
}

impl Hit {
    pub(crate) fn seq(&self) -> u64 {
        seq_of(&self.batch, self.row)
    }

    /// Unix milliseconds, 0 = never.
    pub(crate) fn expiry(&self) -> i64 {
        expiry_of(&self.batch, self.row)
    }

    pub(crate) fn expired(&self, now_ms: i64) -> bool {
        is_expired(self.expiry(), now_ms)
    }

    /// The row under a schema that may have gained fields since it was written.
    pub(crate) fn widened(self, version: &Version) -> Self {
        if self.batch.num_columns() >= version.stored.fields().len() {
            return self;
        }
        Self { batch: columns::widen(&self.batch.slice(self.row, 1), &version.schema, &version.stored), row: 0 }
    }
}

/// `_seq` of a row of a stored batch.
pub(crate) fn seq_of(batch: &RecordBatch, row: usize) -> u64 {
    batch.column(batch.num_columns() - 2).as_primitive::<UInt64Type>().value(row)
}

/// Expiry of a row of a stored batch.
pub(crate) fn expiry_of(batch: &RecordBatch, row: usize) -> i64 {
    batch.column(batch.num_columns() - 1).as_primitive::<Int64Type>().value(row)
}

/// The one place that says what expiry means.
pub(crate) fn is_expired(expiry: i64, now_ms: i64) -> bool {
    expiry != 0 && expiry <= now_ms
}

impl View {
    /// True while a truncate waits for its flush: no segment is visible.
    pub(crate) fn cleared(&self) -> bool {
        self.memtable.clears || self.frozen.iter().any(|memtable| memtable.clears)
    }

    /// Segments that readers see.
    pub(crate) fn segments(&self) -> &[Held] {
        if self.cleared() { &[] } else { &self.version.segments }
    }

    pub(crate) fn schema(&self) -> &Arc<Schema> {
        &self.version.schema
    }
}

/// What the memtables know of `keys` at one instant, and the view of that instant: its segments never change, so they
/// can be searched without a lock.
pub(crate) fn look_up<'k>(
    current: &ArcSwap<View>,
    keys: impl Iterator<Item = KeyRef<'k>> + Clone,
) -> (Arc<View>, Vec<Known>) {
    loop {
        let view = current.load_full();
        let lookup = Lookup::new(&view);
        // A view that was replaced before the lock was taken may miss writes that its memtable never got.
        if Arc::ptr_eq(&view, &current.load()) {
            let known = keys.clone().map(|key| lookup.get(key)).collect();
            drop(lookup);
            return (view, known);
        }
    }
}

/// Memtables of a view, newest first, locked for reading.
pub(crate) struct Lookup<'a> {
    memtables: Vec<RwLockReadGuard<'a, Content>>,
}

/// What the memtables know of a key.
pub(crate) enum Known {
    Row(Hit),
    Deleted,
    Nothing,
}

impl<'a> Lookup<'a> {
    pub(crate) fn new(view: &'a View) -> Self {
        let frozen = view.frozen.iter().rev().map(|memtable| memtable.read());
        Self { memtables: std::iter::once(view.memtable.read()).chain(frozen).collect() }
    }

    /// The newest write of a key.
    pub(crate) fn get(&self, key: KeyRef<'_>) -> Known {
        for memtable in &self.memtables {
            if let Some(slot) = memtable.get(key) {
                return match slot.place() {
                    Some((batch, row)) => Known::Row(Hit { batch: memtable.batch(batch).clone(), row }),
                    None => Known::Deleted,
                };
            }
        }
        Known::Nothing
    }
}

impl Lookup<'_> {
    /// Keys that the memtables know, those in several counted several times.
    pub(crate) fn key_count(&self) -> usize {
        self.memtables.iter().map(|content| content.keys()).sum()
    }

    /// The same keys, ascending, once each.
    pub(crate) fn sorted_keys(&self) -> KeyList {
        KeyList::union(self.memtables.iter().map(|content| content.sorted().0))
    }
}

/// The live row of a key among segments; `whole`: with its vector verified.
///
/// # Errors
/// `Error::Corrupt` if no healthy segment has it and a quarantined one may.
pub(crate) fn find_in_segments(segments: &[Held], key: KeyRef<'_>, whole: bool) -> Result<Option<Hit>> {
    let mut damage = Ok(None);
    for held in segments.iter().rev().filter(|held| held.segment.covers(key)) {
        match find_in(held, key, whole) {
            Ok(None) => {}
            Ok(hit) => return Ok(hit),
            // A live row elsewhere is newer than anything this segment holds, or it would have been masked.
            Err(error) => damage = Err(error),
        }
    }
    damage
}

fn find_in(held: &Held, key: KeyRef<'_>, whole: bool) -> Result<Option<Hit>> {
    let segment = &held.segment;
    let dead = held.dead()?;
    let Some((index, row)) = segment.find(key)? else { return Ok(None) };
    // A batch has at most 2^16 rows.
    let absolute = segment.starts()?[index] + row as u32;
    if dead.is_some_and(|dead| dead.contains(absolute)) {
        return Ok(None);
    }
    let batch = if whole { segment.batch(index)? } else { segment.scalars(index)? };
    Ok(Some(Hit { batch: batch.clone(), row }))
}
