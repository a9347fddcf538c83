//! Task delete: rows of a snapshot that match a filter and were not written since, in one publication.
//!
//! The filter runs over the segments of the newest version, so a compaction in between changes nothing: a row that is
//! still alive kept its `_seq`. The counts add up to what the snapshot selects, row by row.

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_buffer::BooleanBuffer;
use knarr_base::filter::Filter;
use knarr_base::id::TaskId;
use knarr_base::limit;
use knarr_base::value::Number;
use roaring::RoaringBitmap;

use super::keys::{KeyColumn, KeyList, KeyRef};
use super::mask::{bitmap_of, live_rows};
use super::masking::Remask;
use super::publish::Committing;
use super::restorable::{Undoable, forget};
use super::snapshot::{Snapshot, both, unexpired};
use super::version::{Held, Version};
use super::view::{Known, Lookup, View, find_in_segments};
use super::{Deleted, Publication, Published, Table};
use crate::columns;
use crate::compute::{Cancel, Meter};
use crate::error::{Error, Result};
use crate::filter::Predicate;

/// Which rows: everything that is frozen with the confirmation.
struct Selection<'a> {
    predicate: Predicate,
    snapshot: &'a Snapshot,
    /// The newest version; rows are widened to its schema.
    version: &'a Version,
    meter: &'a Meter,
    cancel: &'a Cancel,
}

/// Rows of one segment of the newest version.
struct Plan<'a> {
    held: &'a Held,
    /// What the snapshot selects of it. `None`: the snapshot does not have this segment.
    selected: Option<RoaringBitmap>,
    /// Rows to delete.
    doomed: RoaringBitmap,
}

impl Plan<'_> {
    /// The rows as dead ones, which `keep_for` can have back.
    fn remask(self, at: usize, keep_for: Option<TaskId>) -> Remask {
        let before = self.held.mask.as_ref();
        let dead = before.map_or_else(|| self.doomed.clone(), |mask| &*mask.rows | &self.doomed);
        let restorable = keep_for.map(|task| (task, self.doomed));
        Remask { at, dead: Some(dead), restorable: restorable.into_iter().collect() }
    }
}

impl Table {
    /// Deletes what `filter` selects in `snapshot`, leaving rows alone that were written since. One publication, all or
    /// nothing. Blocking. An update that runs at the same time waits, so that none revives a row counted as deleted.
    /// Until `undo_until_ms` (unix milliseconds; `None`: not at all) [`Table::undo`] can bring them back.
    ///
    /// # Errors
    /// `AlreadyPublished` with the counts of then; `Cancelled` before the publication begins; `Corrupt` when a segment
    /// that may hold selected rows is damaged; disk errors, after which [`Table::published`] tells the outcome.
    pub fn delete_matching(
        &self,
        snapshot: &Snapshot,
        filter: &Filter,
        publication: Publication,
        undo_until_ms: Option<i64>,
        meter: &Meter,
        cancel: &Cancel,
    ) -> Result<Deleted> {
        let mut committing = self.lock_commit_flushed()?;
        let version = self.view.load().version.clone();
        let key = (publication.task, publication.unit);
        if let Some(before) = version.publications.get(&key) {
            return Err(Error::AlreadyPublished(*before));
        }
        let predicate = Predicate::compile(filter, &version.schema)?;
        let selection = Selection { predicate, snapshot, version: &version, meter, cancel };
        let mut plans = selection.plans()?;
        let gone = selection.gone_segments()?;

        let _updates_wait = self.updates.write();
        let counts = {
            let view = self.view.load_full();
            let present = Present { view: &view, lookup: Lookup::new(&view), now_ms: self.clock.now_ms() };
            let mut counts = Deleted::default();
            spare_rewritten(&present, &mut plans, &mut counts)?;
            counts.deleted = plans.iter().map(|plan| plan.doomed.len()).sum();
            count_masked(&present, &plans, &mut counts)?;
            count_gone(&present, &plans, &gone, &mut counts)?;
            counts
        };
        cancel.check()?;
        let keep_for = undo_until_ms.map(|_| publication.task);
        let deleting = plans.into_iter().enumerate().filter(|(_, plan)| !plan.doomed.is_empty());
        let changed = deleting.map(|(at, plan)| plan.remask(at, keep_for)).collect();
        self.publish_deletion(&mut committing, changed, publication, undo_until_ms, counts)?;
        drop(committing);
        meter.add_rows_done(counts.deleted);
        self.request_compaction();
        Ok(counts)
    }

    /// The commit lock, with no truncate waiting for its flush: segments of the current version are what readers see.
    pub(super) fn lock_commit_flushed(&self) -> Result<Committing<'_>> {
        loop {
            let committing = self.lock_commit()?;
            if !self.view.load().cleared() {
                return Ok(committing);
            }
            drop(committing);
            self.flush()?;
        }
    }

    fn publish_deletion(
        &self,
        committing: &mut Committing<'_>,
        changed: Vec<Remask>,
        publication: Publication,
        undo_until_ms: Option<i64>,
        counts: Deleted,
    ) -> Result<()> {
        let Publication { task, unit, fence } = publication;
        let Deleted { deleted, changed_since, missing } = counts;
        let version = self.view.load().version.clone();
        fail::fail_point!("table::delete::before_mask");
        let (mut segments, mut undoable) = (version.segments.clone(), version.undoable.clone());
        if let Some(until_ms) = undo_until_ms.filter(|_| deleted > 0) {
            undoable.push(Undoable { task, until_ms, deleted, expired: 0, damaged: false });
            let oldest = undoable.len().saturating_sub(limit::UNDOABLE_PER_TABLE);
            let over: Vec<_> = undoable[..oldest].iter().map(|one| one.task).collect();
            forget(&mut segments, &mut undoable, |one| over.contains(&one.task));
        }
        self.replace_masks(committing, &mut segments, changed)?;
        let mut publications = version.publications.clone();
        publications.insert((task, unit), Published { fence, deleted, changed_since, missing, restored: 0 });
        fail::fail_point!("table::delete::before_publish");
        committing.publish(Version { segments, publications, undoable, ..(*version).clone() })?;
        Ok(())
    }
}

impl Selection<'_> {
    fn plans(&self) -> Result<Vec<Plan<'_>>> {
        let then = self.snapshot.inner_version();
        let plan = |held| {
            let shared = then.held(Held::id(held));
            let found = self.select(held, shared.unwrap_or(held))?;
            let mut doomed = match held.dead()? {
                Some(dead) => &found - dead,
                None => found.clone(),
            };
            if shared.is_none() && self.version.undone > then.number {
                doomed = self.alive_then(held, &doomed)?;
            }
            Ok(Plan { held, selected: shared.is_some().then_some(found), doomed })
        };
        self.version.segments.iter().map(plan).collect()
    }

    /// Those of `rows` that the snapshot has: others, which were dead then, may have come back since.
    fn alive_then(&self, held: &Held, rows: &RoaringBitmap) -> Result<RoaringBitmap> {
        let then = self.snapshot.inner_version();
        let mut alive = RoaringBitmap::new();
        for_keys(held, rows, |row, key, seq| {
            if find_in_segments(&then.segments, key, false)?.is_some_and(|hit| hit.seq() == seq) {
                alive.insert(row);
            }
            Ok(())
        })?;
        Ok(alive)
    }

    /// What the snapshot selects of segments that are no more.
    fn gone_segments(&self) -> Result<Vec<(&Held, RoaringBitmap)>> {
        let then = self.snapshot.inner_version().segments.iter();
        then.filter(|held| self.version.held(held.id()).is_none())
            .map(|held| Ok((held, self.select(held, held)?)))
            .collect()
    }

    /// Rows of a segment that match, were there at the snapshot and had not expired then; minus those that `mask`'s
    /// version has as dead.
    fn select(&self, held: &Held, mask: &Held) -> Result<RoaringBitmap> {
        let segment = &held.segment;
        let dead = mask.dead()?;
        let meta = segment.meta()?;
        let hidden = segment.width()? - 2;
        let bounds =
            |column: usize| -> Option<(Number, Number)> { (column < hidden).then(|| segment.bounds(column)).flatten() };
        let mut rows = RoaringBitmap::new();
        if meta.min_seq() > self.snapshot.seq() || !self.predicate.may_match(&bounds) {
            return Ok(rows);
        }
        let all_old = meta.max_seq() <= self.snapshot.seq();
        for (index, first) in segment.starts()?.iter().enumerate() {
            self.cancel.check()?;
            let batch = segment.scalars(index)?;
            let mut live = dead.and_then(|dead| live_rows(dead, *first, batch.num_rows()));
            live = both(live, unexpired(held, batch, self.snapshot.at_ms())?);
            if !all_old {
                live = both(live, Some(written_by(batch, self.snapshot.seq())));
            }
            let wide = columns::widen(batch, &self.version.schema, &self.version.stored);
            let matched = self.predicate.evaluate(&wide, live.as_ref());
            rows |= bitmap_of(&matched, *first);
            self.meter.add_scanned(batch.num_rows() as u64, matched.count_set_bits() as u64);
        }
        Ok(rows)
    }
}

fn written_by(batch: &RecordBatch, seq: u64) -> BooleanBuffer {
    let seqs = batch.column(batch.num_columns() - 2).as_primitive::<UInt64Type>().values();
    BooleanBuffer::collect_bool(batch.num_rows(), |row| seqs[row] <= seq)
}

/// The table as it is now; writes stand still while this lives.
struct Present<'a> {
    view: &'a View,
    lookup: Lookup<'a>,
    now_ms: i64,
}

impl Present<'_> {
    /// `_seq` of the row that a reader would find.
    fn live_seq(&self, key: KeyRef<'_>) -> Result<Option<u64>> {
        let hit = match self.lookup.get(key) {
            Known::Row(hit) => Some(hit),
            Known::Deleted => None,
            Known::Nothing => find_in_segments(self.view.segments(), key, false)?,
        };
        Ok(hit.filter(|hit| !hit.expired(self.now_ms)).map(|hit| hit.seq()))
    }
}

impl Deleted {
    fn count(&mut self, alive: bool) {
        if alive {
            self.changed_since += 1;
        } else {
            self.missing += 1;
        }
    }
}

/// Calls `each` with the key of every row of `rows`.
fn for_keys(held: &Held, rows: &RoaringBitmap, mut each: impl FnMut(u32, KeyRef<'_>, u64) -> Result<()>) -> Result<()> {
    let segment = &held.segment;
    let key_column = segment.key_column()?;
    for row in rows {
        let (index, at) = segment.place(row)?;
        let batch = segment.scalars(index)?;
        let seq = super::view::seq_of(batch, at);
        each(row, KeyColumn::new(batch.column(key_column)).get(at), seq)?;
    }
    Ok(())
}

/// Keys that the memtables know.
pub(super) struct Written<'a> {
    lookup: &'a Lookup<'a>,
    /// Ascending, once they are needed.
    sorted: Option<KeyList>,
}

impl<'a> Written<'a> {
    pub(super) fn new(lookup: &'a Lookup<'a>) -> Self {
        Self { lookup, sorted: None }
    }

    /// Those of `rows` whose key has a newer write in a memtable.
    pub(super) fn among(&mut self, held: &Held, rows: &RoaringBitmap) -> Result<RoaringBitmap> {
        let mut written = RoaringBitmap::new();
        if rows.len() <= self.lookup.key_count() as u64 {
            for_keys(held, rows, |row, key, _| {
                if !matches!(self.lookup.get(key), Known::Nothing) {
                    written.insert(row);
                }
                Ok(())
            })?;
        } else {
            let keys = self.sorted.get_or_insert_with(|| self.lookup.sorted_keys());
            let mut found = Vec::new();
            held.segment.intersect(keys, |_, row| found.extend(rows.contains(row).then_some(row)))?;
            written.extend(found);
        }
        Ok(written)
    }
}

/// Takes rows out of the plans whose key has a newer write in a memtable.
fn spare_rewritten(present: &Present<'_>, plans: &mut [Plan<'_>], counts: &mut Deleted) -> Result<()> {
    let mut written = Written::new(&present.lookup);
    for Plan { held, selected, doomed } in plans {
        let spared = written.among(held, doomed)?;
        *doomed -= &spared;
        if selected.is_some() {
            for_keys(held, &spared, |_, key, _| {
                counts.count(present.live_seq(key)?.is_some());
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// Selected rows that were dead in the newest version already.
fn count_masked(present: &Present<'_>, plans: &[Plan<'_>], counts: &mut Deleted) -> Result<()> {
    for Plan { held, selected, .. } in plans {
        if let (Some(selected), Some(dead)) = (selected, held.dead()?) {
            for_keys(held, &(selected & dead), |_, key, _| {
                counts.count(present.live_seq(key)?.is_some());
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// Selected rows of segments that were compacted away: those that are not doomed in their new place.
fn count_gone(
    present: &Present<'_>,
    plans: &[Plan<'_>],
    gone: &[(&Held, RoaringBitmap)],
    counts: &mut Deleted,
) -> Result<()> {
    let doomed: u64 = plans.iter().filter(|plan| plan.selected.is_none()).map(|plan| plan.doomed.len()).sum();
    if doomed == gone.iter().map(|(_, selected)| selected.len()).sum::<u64>() {
        return Ok(());
    }
    for (held, selected) in gone {
        for_keys(held, selected, |_, key, seq| {
            // The same row is deleted in its new place, also if it expired meanwhile.
            if matches!(present.lookup.get(key), Known::Nothing)
                && find_in_segments(present.view.segments(), key, false)?.is_some_and(|hit| hit.seq() == seq)
            {
                return Ok(());
            }
            counts.count(present.live_seq(key)?.is_some());
            Ok(())
        })?;
    }
    Ok(())
}
