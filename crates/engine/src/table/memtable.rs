//! The newest row or tombstone of every key written since the last flush.
//!
//! Rows stay in the Arrow batches that callers brought, so nothing is copied before the flush. Writers apply a whole
//! group under one write lock and readers look all keys of a call up under one read lock: a call is seen whole or not
//! at all. A scan takes the list of batches under the lock and walks it without: each row knows the write that replaced
//! it, each key the first write that mentioned it, so what was alive at a `_seq` can be told later.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use knarr_base::value::KeyType;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::keys::{KeyColumn, KeyList, KeyRef};

/// Bytes charged per key for the map.
const KEY_OVERHEAD_BYTES: usize = 64;

/// What the newest write of a key left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) seq: u64,
    /// The first write of the key that this memtable knows.
    first: u64,
    batch: u32,
    row: u32,
}

const TOMBSTONE: u32 = u32::MAX;

impl Slot {
    /// Where the row is; `None` for a tombstone.
    pub(crate) fn place(&self) -> Option<(usize, usize)> {
        (self.batch != TOMBSTONE).then_some((self.batch as usize, self.row as usize))
    }
}

/// The rows of one call.
pub(crate) struct Kept {
    pub(crate) batch: RecordBatch,
    /// True if some row expires one day.
    pub(crate) expiring: bool,
    /// `_seq` of the write that replaced each row, 0 while there is none.
    replaced: Box<[AtomicU64]>,
    any_replaced: AtomicBool,
}

impl Kept {
    fn new(batch: RecordBatch) -> Self {
        let expiries = batch.column(batch.num_columns() - 1).as_primitive::<Int64Type>().values();
        let expiring = expiries.iter().any(|expiry| *expiry != 0);
        let replaced = (0..batch.num_rows()).map(|_| AtomicU64::new(0)).collect();
        Self { batch, expiring, replaced, any_replaced: AtomicBool::new(false) }
    }

    fn replace(&self, row: u32, seq: u64) {
        // Readers care only for writes up to a `_seq` that they saw under the lock, which orders these stores.
        self.replaced[row as usize].store(seq, Ordering::Relaxed);
        self.any_replaced.store(true, Ordering::Relaxed);
    }

    /// True if no row has ever been replaced.
    pub(crate) fn untouched(&self) -> bool {
        !self.any_replaced.load(Ordering::Relaxed)
    }

    /// True if the row was its key's newest once the write `seq` had been applied.
    pub(crate) fn newest_at(&self, row: usize, seq: u64) -> bool {
        let replaced = self.replaced[row].load(Ordering::Relaxed);
        replaced == 0 || replaced > seq
    }
}

enum Slots {
    Int(HashMap<i64, Slot>),
    Str(HashMap<Box<str>, Slot>),
}

/// See the module.
pub(crate) struct Memtable {
    /// True after a truncate: nothing older than this memtable is visible.
    pub(crate) clears: bool,
    content: RwLock<Content>,
}

/// What is behind the lock.
pub(crate) struct Content {
    batches: Vec<Arc<Kept>>,
    slots: Slots,
    bytes: usize,
    last_seq: u64,
}

impl Memtable {
    /// Empty. `clears`: it starts with a truncate that has this `_seq`.
    pub(crate) fn new(kind: KeyType, clears: Option<u64>) -> Self {
        let slots = match kind {
            KeyType::Int => Slots::Int(HashMap::new()),
            KeyType::Str => Slots::Str(HashMap::new()),
        };
        let content = Content { batches: Vec::new(), slots, bytes: 0, last_seq: clears.unwrap_or(0) };
        Self { clears: clears.is_some(), content: RwLock::new(content) }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Content> {
        self.content.read()
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Content> {
        self.content.write()
    }

    /// True if a flush would publish nothing.
    pub(crate) fn is_empty(&self) -> bool {
        !self.clears && self.read().last_seq == 0
    }
}

/// Sets what is known of a key and marks the row that it replaces. Returns the bytes that the map grew by.
fn put<K: Borrow<Q> + Hash + Eq, Q: ?Sized + Hash + Eq>(
    map: &mut HashMap<K, Slot>,
    batches: &[Arc<Kept>],
    key: &Q,
    own: impl FnOnce(&Q) -> K,
    slot: Slot,
) -> usize {
    match map.get_mut(key) {
        Some(old) => {
            if old.batch != TOMBSTONE {
                batches[old.batch as usize].replace(old.row, slot.seq);
            }
            *old = Slot { first: old.first, ..slot };
            0
        }
        None => {
            map.insert(own(key), slot);
            KEY_OVERHEAD_BYTES
        }
    }
}

fn put_int(map: &mut HashMap<i64, Slot>, batches: &[Arc<Kept>], key: i64, slot: Slot) -> usize {
    put(map, batches, &key, |key| *key, slot)
}

fn put_str(map: &mut HashMap<Box<str>, Slot>, batches: &[Arc<Kept>], key: &str, slot: Slot) -> usize {
    put(map, batches, key, |key: &str| key.into(), slot) + key.len()
}

impl Content {
    /// Adds rows (stored columns; each key at most once) that were charged `bytes`.
    pub(crate) fn put_rows(&mut self, batch: RecordBatch, key_column: usize, seq: u64, bytes: usize) {
        let at = u32::try_from(self.batches.len()).expect("a memtable is flushed long before 2^32 calls");
        let mut added = bytes;
        match (&mut self.slots, KeyColumn::new(batch.column(key_column))) {
            (Slots::Int(map), KeyColumn::Int(keys)) => {
                for (row, key) in (0..).zip(keys) {
                    added += put_int(map, &self.batches, *key, Slot { seq, first: seq, batch: at, row });
                }
            }
            (Slots::Str(map), KeyColumn::Str(keys)) => {
                for (row, key) in (0..).zip(keys.iter().flatten()) {
                    added += put_str(map, &self.batches, key, Slot { seq, first: seq, batch: at, row });
                }
            }
            (Slots::Int(_), KeyColumn::Str(_)) | (Slots::Str(_), KeyColumn::Int(_)) => {}
        }
        self.batches.push(Arc::new(Kept::new(batch)));
        self.bytes += added;
        self.last_seq = seq;
    }

    /// Adds tombstones.
    pub(crate) fn put_tombstones(&mut self, keys: &KeyList, seq: u64) {
        let slot = Slot { seq, first: seq, batch: TOMBSTONE, row: 0 };
        match (&mut self.slots, keys) {
            (Slots::Int(map), KeyList::Int(keys)) => {
                self.bytes += keys.iter().map(|key| put_int(map, &self.batches, *key, slot)).sum::<usize>();
            }
            (Slots::Str(map), KeyList::Str(keys)) => {
                self.bytes += keys.iter().map(|key| put_str(map, &self.batches, key, slot)).sum::<usize>();
            }
            (Slots::Int(_), KeyList::Str(_)) | (Slots::Str(_), KeyList::Int(_)) => {}
        }
        self.last_seq = seq;
    }

    /// Takes note of a record that leaves nothing behind.
    pub(crate) fn pass(&mut self, seq: u64) {
        self.last_seq = seq;
    }

    pub(crate) fn get(&self, key: KeyRef<'_>) -> Option<Slot> {
        match (&self.slots, key) {
            (Slots::Int(map), KeyRef::Int(key)) => map.get(&key).copied(),
            (Slots::Str(map), KeyRef::Str(key)) => map.get(key).copied(),
            (Slots::Int(_), KeyRef::Str(_)) | (Slots::Str(_), KeyRef::Int(_)) => None,
        }
    }

    pub(crate) fn batch(&self, at: usize) -> &RecordBatch {
        &self.batches[at].batch
    }

    pub(crate) fn batches(&self) -> &[Arc<Kept>] {
        &self.batches
    }

    /// True if a write up to `seq` mentions the key: what older parts hold of it was dead by then.
    pub(crate) fn mentions(&self, key: KeyRef<'_>, seq: u64) -> bool {
        self.get(key).is_some_and(|slot| slot.first <= seq)
    }

    /// Keys that writes up to `seq` mention, in no order.
    pub(crate) fn keys_until(&self, seq: u64) -> KeyList {
        match &self.slots {
            Slots::Int(map) => KeyList::Int(map.iter().filter(|(_, s)| s.first <= seq).map(|(key, _)| *key).collect()),
            Slots::Str(map) => {
                KeyList::Str(map.iter().filter(|(_, s)| s.first <= seq).map(|(key, _)| key.clone()).collect())
            }
        }
    }

    /// Keys it knows, tombstones included.
    pub(crate) fn keys(&self) -> usize {
        match &self.slots {
            Slots::Int(map) => map.len(),
            Slots::Str(map) => map.len(),
        }
    }

    /// Rows and tombstones in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// `_seq` of the newest record, 0 without one.
    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// All keys ascending, with what is known of each.
    pub(crate) fn sorted(&self) -> (KeyList, Vec<Slot>) {
        match &self.slots {
            Slots::Int(map) => {
                let mut all: Vec<_> = map.iter().map(|(key, slot)| (*key, *slot)).collect();
                all.sort_unstable_by_key(|(key, _)| *key);
                let (keys, slots) = all.into_iter().unzip();
                (KeyList::Int(keys), slots)
            }
            Slots::Str(map) => {
                let mut all: Vec<_> = map.iter().map(|(key, slot)| (key.clone(), *slot)).collect();
                all.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
                let (keys, slots) = all.into_iter().unzip();
                (KeyList::Str(keys), slots)
            }
        }
    }
}
