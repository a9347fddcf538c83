//! Task delete: rows of a snapshot that match a filter and were not written since, in one publication.
//!
//! The filter runs over the segments of the newest version, so a compaction in between changes nothing: a row that is
//! still alive kept its `_seq`. The counts add up to what the snapshot selects, row by row.

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_buffer::BooleanBuffer;
use knarr_base::filter::Filter;
use knarr_base::value::Number;
use roaring::RoaringBitmap;

use super::keys::{KeyColumn, KeyRef};
use super::mask::{bitmap_of, live_rows};
use super::publish::Committing;
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

impl Table {
    /// Deletes what `filter` selects in `snapshot`, leaving rows alone that were written since. One publication, all or
    /// nothing. Blocking. An update that runs at the same time waits, so that none revives a row counted as deleted.
    ///
    /// # Errors
    /// `AlreadyPublished` with the counts of then; `Cancelled` before the publication begins; `Corrupt` when a segment
    /// that may hold selected rows is damaged; disk errors, after which [`Table::published`] tells the outcome.
    pub fn delete_matching(
        &self,
        snapshot: &Snapshot,
        filter: &Filter,
        publication: Publication,
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
        let dead = plans.into_iter().enumerate().filter(|(_, plan)| !plan.doomed.is_empty()).map(|(at, plan)| {
            let before = plan.held.mask.as_ref();
            (at, before.map_or_else(|| plan.doomed.clone(), |mask| &*mask.rows | &plan.doomed))
        });
        self.publish_deletion(&mut committing, dead.collect(), publication, counts)?;
        drop(committing);
        meter.add_rows_done(counts.deleted);
        self.request_compaction();
        Ok(counts)
    }

    /// The commit lock, with no truncate waiting for its flush: segments of the current version are what readers see.
    fn lock_commit_flushed(&self) -> Result<Committing<'_>> {
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
        dead: Vec<(usize, RoaringBitmap)>,
        publication: Publication,
        counts: Deleted,
    ) -> Result<()> {
        let Publication { task, unit, fence } = publication;
        let Deleted { deleted, changed_since, missing } = counts;
        let version = self.view.load().version.clone();
        fail::fail_point!("table::delete::before_mask");
        let mut segments = version.segments.clone();
        self.replace_masks(committing, &mut segments, dead)?;
        let mut publications = version.publications.clone();
        publications.insert((task, unit), Published { fence, deleted, changed_since, missing });
        fail::fail_point!("table::delete::before_publish");
        committing.publish(Version { segments, publications, ..(*version).clone() })?;
        Ok(())
    }
}

impl Selection<'_> {
    fn plans(&self) -> Result<Vec<Plan<'_>>> {
        let then = self.snapshot.inner_version();
        let plan = |held| {
            let shared = then.held(Held::id(held));
            let found = self.select(held, shared.unwrap_or(held))?;
            let doomed = match held.dead()? {
                Some(dead) => &found - dead,
                None => found.clone(),
            };
            Ok(Plan { held, selected: shared.is_some().then_some(found), doomed })
        };
        self.version.segments.iter().map(plan).collect()
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

/// Takes rows out of the plans whose key has a newer write in a memtable.
fn spare_rewritten(present: &Present<'_>, plans: &mut [Plan<'_>], counts: &mut Deleted) -> Result<()> {
    let mut written = None;
    for Plan { held, selected, doomed } in plans {
        let mut spared = Vec::new();
        if doomed.len() <= present.lookup.key_count() as u64 {
            for_keys(held, doomed, |row, key, _| {
                if !matches!(present.lookup.get(key), Known::Nothing) {
                    spared.push(row);
                }
                Ok(())
            })?;
        } else {
            let keys = written.get_or_insert_with(|| present.lookup.sorted_keys());
            held.segment.intersect(keys, |_, row| spared.extend(doomed.contains(row).then_some(row)))?;
        }
        let spared: RoaringBitmap = spared.into_iter().collect();
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
