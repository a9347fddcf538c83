//! Flush: frozen memtables become segments.

use std::sync::Arc;

use arrow_array::RecordBatch;
use roaring::RoaringBitmap;

use super::Table;
use super::gather::{BatchCutter, RowSizes, gather};
use super::keys::KeyList;
use super::manifest::SegmentDisk;
use super::masking::Remask;
use super::memtable::{Kept, Memtable, Slot};
use super::segment::Segment;
use super::segment::writer::SegmentWriter;
use super::version::{Held, Version};
use crate::columns;
use crate::error::{Error, Result};

impl Table {
    /// Freezes the memtable and flushes everything. Blocking.
    pub(super) fn flush(&self) -> Result<()> {
        self.freeze(&mut self.writer.lock());
        self.flush_frozen()
    }

    /// Flushes frozen memtables, oldest first, until there are none.
    pub(super) fn flush_frozen(&self) -> Result<()> {
        let _one_at_a_time = self.flushing.lock();
        loop {
            let Some(memtable) = self.view.load().frozen.first().cloned() else { return Ok(()) };
            let mut ids = Vec::new();
            let result = self.flush_one(&memtable, &mut ids);
            self.give_back_segment_ids(ids);
            result?;
        }
    }

    fn flush_one(&self, memtable: &Arc<Memtable>, ids: &mut Vec<u64>) -> Result<()> {
        fail::fail_point!("table::flush::before_segment");
        let version = self.view.load().version.clone();
        let (keys, slots, batches, last_seq) = {
            let content = memtable.read();
            let (keys, slots) = content.sorted();
            let widen = |kept: &Arc<Kept>| columns::widen(&kept.batch, &version.schema, &version.stored);
            (keys, slots, content.batches().iter().map(widen).collect::<Vec<_>>(), content.last_seq())
        };
        let entries = self.write_rows(&version, &batches, &slots, ids).inspect_err(|_| self.discard(ids))?;
        fail::fail_point!("table::flush::after_segment");

        let mut committing = self.lock_commit()?;
        let view = self.view.load_full();
        if !view.frozen.first().is_some_and(|first| Arc::ptr_eq(first, memtable)) {
            // Truncated meanwhile, or a publication of unknown outcome turned out to have landed.
            return Ok(());
        }
        let mut segments = if memtable.clears { Vec::new() } else { view.version.segments.clone() };
        let changed = find_older(&mut segments, &keys);
        self.replace_masks(&committing, &mut segments, changed)?;
        for entry in &entries {
            let segment = Segment::open(&*self.disk, &self.layout, entry, &version.schema);
            self.segments.lock().insert(entry.id, Arc::downgrade(&segment));
            segments.push(Held::new(segment));
        }
        committing.publish(Version { segments, flushed_seq: last_seq, ..(*view.version).clone() })?;
        drop(committing);
        fail::fail_point!("table::flush::before_trim");
        self.writer.lock().log.trim(last_seq);
        fail::fail_point!("table::flush::after_trim");
        self.request_compaction();
        self.request_structures();
        Ok(())
    }

    /// Removes files of an attempt that failed before anything could name them: on a full disk they must not wait for
    /// the collector.
    pub(super) fn discard(&self, ids: &[u64]) {
        for id in ids {
            let files = [self.layout.segment(*id), self.layout.segment_meta(*id)];
            if let Some(error) = files.iter().find_map(|file| self.disk.remove(file).err()) {
                tracing::warn!(table = %self.id, segment = id, %error, "an unfinished segment is left to the collector");
            }
        }
    }

    /// Writes the rows among `slots`, which are in key order, to one or more segments.
    fn write_rows(
        &self,
        version: &Version,
        batches: &[RecordBatch],
        slots: &[Slot],
        ids: &mut Vec<u64>,
    ) -> Result<Vec<SegmentDisk>> {
        let sizes: Vec<_> = batches.iter().map(RowSizes::new).collect();
        let mut out = Output::new(self, version, ids);
        let mut cutter = BatchCutter::new();
        let mut places = Vec::new();
        for (batch, row) in slots.iter().filter_map(Slot::place) {
            places.push((batch, row));
            if cutter.add(sizes[batch].row(row)) {
                out.write(&gather(&version.stored, batches, &places)?)?;
                places.clear();
            }
        }
        if !places.is_empty() {
            out.write(&gather(&version.stored, batches, &places)?)?;
        }
        out.finish()
    }
}

/// Sorted batches to as many segments as they need.
pub(super) struct Output<'a> {
    table: &'a Table,
    version: &'a Version,
    ids: &'a mut Vec<u64>,
    open: Option<SegmentWriter>,
    done: Vec<SegmentDisk>,
}

impl<'a> Output<'a> {
    pub(super) fn new(table: &'a Table, version: &'a Version, ids: &'a mut Vec<u64>) -> Self {
        Self { table, version, ids, open: None, done: Vec::new() }
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if let Some(full) = self.open.take_if(|writer| writer.full()) {
            self.done.push(full.finish()?);
        }
        let writer = match &mut self.open {
            Some(writer) => writer,
            None => {
                let (id, table) = (self.table.take_segment_id(), self.table);
                self.ids.push(id);
                let (disk, layout) = (table.disk.clone(), table.layout.clone());
                self.open.insert(SegmentWriter::create(disk, layout, id, &self.version.schema)?)
            }
        };
        writer.write(batch)
    }

    /// All files are durable under their names when this returns.
    pub(super) fn finish(mut self) -> Result<Vec<SegmentDisk>> {
        if let Some(writer) = self.open.take() {
            self.done.push(writer.finish()?);
        }
        if !self.done.is_empty() {
            let dir = self.table.layout.segment_dir();
            self.table.disk.sync_dir(&dir).map_err(|e| Error::io(format!("syncing {}", dir.display()), e))?;
        }
        Ok(self.done)
    }
}

/// What writes of ascending `keys` change of `segments`: their rows there are dead from now on, and never to be had back.
/// A damaged segment in their way is marked: its mask can no longer be complete.
fn find_older(segments: &mut [Held], keys: &KeyList) -> Vec<Remask> {
    let mut changed = Vec::new();
    for (at, held) in segments.iter_mut().enumerate().filter(|(_, held)| !held.damaged) {
        match overtaken(at, held, keys) {
            Ok(remask) => changed.extend(remask),
            Err(error) => {
                tracing::error!(segment = held.segment.id(), %error, "a segment is quarantined for good");
                held.damaged = true;
            }
        }
    }
    changed
}

fn overtaken(at: usize, held: &Held, keys: &KeyList) -> Result<Option<Remask>> {
    if held.segment.overlap(keys).is_empty() {
        return Ok(None);
    }
    let mut rows = Vec::new();
    held.segment.intersect(keys, |_, row| rows.push(row))?;
    // Keys ascend, so rows do.
    let found = RoaringBitmap::from_sorted_iter(rows).map_err(|e| Error::corrupt("segment order", e))?;
    let dead = match held.dead()? {
        Some(dead) if found.is_subset(dead) => None,
        Some(dead) => Some(dead | &found),
        None => Some(found.clone()).filter(|found| !found.is_empty()),
    };
    let met = held.restorable.iter().filter(|restorable| !restorable.rows().is_disjoint(&found));
    let restorable: Vec<_> = met.map(|restorable| (restorable.task, &**restorable.rows() - &found)).collect();
    Ok((dead.is_some() || !restorable.is_empty()).then_some(Remask { at, dead, restorable }))
}
