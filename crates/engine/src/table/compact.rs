//! Compaction: several segments become one, sorted, without their dead and expired rows. Dead rows that can be had
//! back are carried along.
//!
//! Inputs are read without any lock. When the result is published, its masks are made from what is dead and what can be
//! had back in the inputs by then; if an input is gone, the work is thrown away.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::BooleanBuffer;
use knarr_base::limit;
use roaring::RoaringBitmap;

use super::Table;
use super::flush::Output;
use super::gather::{BatchCutter, RowSizes, gather};
use super::keys::{KeyColumn, KeyRef};
use super::manifest::SegmentDisk;
use super::mask::live_rows;
use super::masking::Remask;
use super::restorable::Undoable;
use super::segment::Segment;
use super::snapshot::{both, unexpired};
use super::version::{Held, Version};
use super::view::{expiry_of, is_expired};
use crate::columns;
use crate::error::{Error, Result};
use crate::index::vector::Part;

/// What the decision looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) id: u64,
    /// Bytes of the rows that a rewrite would keep.
    pub(super) live_bytes: u64,
    /// The others, dead and expired ones, in percent.
    pub(super) dead_percent: u64,
}

/// Segments to merge now, or none. Pure.
///
/// Segments whose sizes lie within one power of the fan-out form a tier; a tier with as many segments as the fan-out is
/// merged, the smallest tier first. Segments near the largest size are only rewritten, alone, when much of them is dead.
pub(super) fn decide(candidates: &[Candidate]) -> Vec<u64> {
    if let Some(worn) = candidates.iter().find(|c| c.dead_percent > limit::COMPACTION_DEAD_PERCENT) {
        return vec![worn.id];
    }
    let mut tiers = BTreeMap::<u32, Vec<Candidate>>::new();
    for candidate in candidates.iter().filter(|c| c.live_bytes < limit::SEGMENT_BYTES / 2) {
        let tier = candidate.live_bytes.max(1).ilog(limit::COMPACTION_FANOUT as u64);
        tiers.entry(tier).or_default().push(*candidate);
    }
    let due = tiers.into_values().find(|tier| tier.len() >= limit::COMPACTION_FANOUT);
    due.unwrap_or_default().iter().map(|candidate| candidate.id).collect()
}

impl Table {
    /// Compacts until nothing is due. Returns how many times.
    pub(super) fn compact_while_due(&self) -> Result<usize> {
        let mut rounds = 0;
        while !self.stopped() {
            let inputs = decide(&self.candidates());
            if inputs.is_empty() || !self.compact(&inputs)? {
                break;
            }
            rounds += 1;
        }
        Ok(rounds)
    }

    fn candidates(&self) -> Vec<Candidate> {
        let (version, now_ms) = (self.view.load().version.clone(), self.clock.now_ms());
        let healthy = version.segments.iter().filter(|held| held.healthy());
        let candidate = |held: &Held| {
            let rows = u64::from(held.segment.rows()).max(1);
            let gone = gone_rows(held, now_ms).unwrap_or(held.lost_count()).min(rows);
            // Rows of a segment are of about one size.
            let live_bytes = held.segment.file_bytes() * (rows - gone) / rows;
            Candidate { id: held.id(), live_bytes, dead_percent: gone * 100 / rows }
        };
        healthy.map(candidate).collect()
    }

    /// Merges segments of the current version. False if the work was abandoned.
    pub(super) fn compact(&self, inputs: &[u64]) -> Result<bool> {
        let _one_at_a_time = self.compacting.lock();
        let mut ids = Vec::new();
        let rewritten = self.rewrite(inputs, &mut ids);
        let result = rewritten.and_then(|rewritten| rewritten.map_or(Ok(false), |rewritten| self.replace(rewritten)));
        self.give_back_segment_ids(ids);
        result
    }

    /// Writes what is to come in the place of segments of the current version; `None` if one of them is gone. `ids`: those
    /// of the new segments, which are the caller's to give back.
    pub(super) fn rewrite(&self, inputs: &[u64], ids: &mut Vec<u64>) -> Result<Option<Rewritten>> {
        let version = self.view.load().version.clone();
        let held: Vec<_> = version.segments.iter().filter(|held| inputs.contains(&held.id())).cloned().collect();
        if held.len() != inputs.len() {
            return Ok(None);
        }
        let bytes: u64 = held.iter().map(|held| held.segment.file_bytes()).sum();
        self.check_space(usize::try_from(bytes).unwrap_or(usize::MAX))?;
        fail::fail_point!("table::compact::before_segment");
        let mut moves = Moves::new(&held);
        let entries = self.merge(&version, &held, ids, &mut moves).inspect_err(|_| self.discard(ids))?;
        let open = |entry| Segment::open(&*self.disk, &self.layout, entry, &version.schema);
        let outputs: Vec<_> = entries.iter().map(open).collect();
        self.prepare_structures(&held, &moves, &outputs)?;
        Ok(Some(Rewritten { inputs: held, moves, outputs }))
    }

    fn merge(
        &self,
        version: &Version,
        inputs: &[Held],
        ids: &mut Vec<u64>,
        moves: &mut Moves,
    ) -> Result<Vec<SegmentDisk>> {
        let now_ms = self.clock.now_ms();
        let mut cursors = Vec::with_capacity(inputs.len());
        for (input, held) in inputs.iter().enumerate() {
            cursors.extend(Cursor::open(input, held, version, now_ms)?);
        }
        let mut out = Output::new(self, version, ids);
        let mut cutter = BatchCutter::new();
        let mut picked = Picked::default();
        while let Some(at) = (0..cursors.len()).min_by(|a, b| cursors[*a].key().cmp(&cursors[*b].key())) {
            let cursor = &mut cursors[at];
            picked.push(cursor);
            moves.push(cursor);
            let ends = cutter.add(cursor.sizes.row(cursor.row));
            if !cursor.advance(version, now_ms)? {
                cursors.remove(at);
            }
            if ends || cursors.is_empty() {
                if self.stopped() {
                    return Err(Error::Stopped);
                }
                let Picked { batches, places, .. } = std::mem::take(&mut picked);
                out.write(&gather(&version.stored, &batches, &places)?)?;
            }
        }
        out.finish()
    }

    /// Publishes the outputs in place of the inputs.
    pub(super) fn replace(&self, Rewritten { inputs, moves, outputs }: Rewritten) -> Result<bool> {
        fail::fail_point!("table::compact::before_publish");
        let mut committing = self.lock_commit()?;
        let view = self.view.load_full();
        let version = &view.version;
        let now: Option<Vec<_>> =
            inputs.iter().map(|input| version.held(input.id()).filter(|held| held.healthy())).collect();
        let Some(now) = now.filter(|_| !view.cleared()) else { return Ok(false) };
        // The outputs take the place of the first input, so newer segments stay behind older ones.
        let is_input = |held: &Held| inputs.iter().any(|input| input.id() == held.id());
        let place = version.segments.iter().position(is_input).unwrap_or(0);
        let mut undoable = version.undoable.clone();
        let changed = moves.masks(&now, &outputs, place, &mut undoable)?;
        let mut segments: Vec<_> = version.segments.iter().filter(|held| !is_input(held)).cloned().collect();
        let outputs = outputs.into_iter().map(|segment| {
            self.segments.lock().insert(segment.id(), Arc::downgrade(&segment));
            Held::new(segment)
        });
        segments.splice(place..place, outputs);
        self.replace_masks(&committing, &mut segments, changed)?;
        committing.publish(Version { segments, undoable, ..(**version).clone() })?;
        fail::fail_point!("table::compact::after_publish");
        Ok(true)
    }
}

/// What a compaction wrote, before anybody sees it.
pub(super) struct Rewritten {
    /// As they were when it began.
    inputs: Vec<Held>,
    moves: Moves,
    outputs: Vec<Arc<Segment>>,
}

/// Where every row of the inputs went: its number among the rows of all outputs, one after another.
pub(super) struct Moves {
    /// By input and row; [`Part::GONE`] for those that are not in the outputs.
    inputs: Vec<Vec<u32>>,
    next: u32,
}

impl Moves {
    fn new(inputs: &[Held]) -> Self {
        Self { inputs: inputs.iter().map(|held| vec![Part::GONE; held.segment.rows() as usize]).collect(), next: 0 }
    }

    fn push(&mut self, cursor: &Cursor<'_>) {
        self.inputs[cursor.input][cursor.first as usize + cursor.row] = self.next;
        self.next += 1;
    }

    /// The rows of an input in the output whose rows are numbered `rows`.
    pub(super) fn of(&self, input: usize, rows: &Range<u32>) -> Vec<u32> {
        let within = |row: &u32| if rows.contains(row) { row - rows.start } else { Part::GONE };
        self.inputs[input].iter().map(within).collect()
    }

    /// The masks of the outputs, which stand from `place` on, made from those of the inputs as they are `now`. Rows that
    /// could be had back and are in no output have expired, and are counted as such.
    fn masks(
        &self,
        now: &[&Held],
        outputs: &[Arc<Segment>],
        place: usize,
        undoable: &mut [Undoable],
    ) -> Result<Vec<Remask>> {
        let ends = outputs.iter().scan(0, |end, output| {
            *end += output.rows();
            Some(*end)
        });
        let ends: Vec<u32> = ends.collect();
        let mut masks: Vec<_> = (place..place + outputs.len()).map(Remask::nothing).collect();
        for (input, held) in now.iter().enumerate() {
            for (output, rows) in self.carried(input, held.dead()?, &ends) {
                *masks[output].dead.get_or_insert_default() |= rows;
            }
            for restorable in &held.restorable {
                let mut left = restorable.rows().len();
                for (output, rows) in self.carried(input, Some(restorable.rows()), &ends) {
                    left -= rows.len();
                    masks[output].add_restorable(restorable.task, rows);
                }
                let of_task = undoable.iter_mut().find(|one| one.task == restorable.task);
                of_task.into_iter().for_each(|one| one.expired += left);
            }
        }
        masks.retain(|remask| remask.dead.is_some());
        Ok(masks)
    }

    /// Where `rows` of an input are now: outputs, and rows of them. `ends`: where the rows of each output end.
    fn carried(&self, input: usize, rows: Option<&RoaringBitmap>, ends: &[u32]) -> Vec<(usize, RoaringBitmap)> {
        let mut carried = vec![RoaringBitmap::new(); ends.len()];
        let moved = rows.into_iter().flatten().map(|row| self.inputs[input][row as usize]);
        for row in moved.filter(|row| *row != Part::GONE) {
            let output = ends.partition_point(|end| *end <= row);
            let first = output.checked_sub(1).map_or(0, |before| ends[before]);
            carried[output].insert(row - first);
        }
        carried.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()).collect()
    }
}

/// One input, read batch by batch; always at a row that is kept: alive, or to be had back.
struct Cursor<'a> {
    /// Its number.
    input: usize,
    held: &'a Held,
    /// Rows that are dead for good.
    lost: Option<RoaringBitmap>,
    /// Number of the batch.
    index: usize,
    /// First row of that batch.
    first: u32,
    batch: RecordBatch,
    key_column: usize,
    kept: Option<BooleanBuffer>,
    sizes: RowSizes,
    row: usize,
}

impl<'a> Cursor<'a> {
    /// At the first kept row; `None` without any.
    fn open(input: usize, held: &'a Held, version: &Version, now_ms: i64) -> Result<Option<Self>> {
        let key_column = held.segment.key_column()?;
        let lost = held.lost()?;
        let (batch, kept, sizes) = load(held, lost.as_ref(), 0, version, now_ms)?;
        let mut cursor = Self { input, held, lost, index: 0, first: 0, batch, key_column, kept, sizes, row: 0 };
        Ok(cursor.settle(version, now_ms)?.then_some(cursor))
    }

    fn key(&self) -> KeyRef<'_> {
        KeyColumn::new(self.batch.column(self.key_column)).get(self.row)
    }

    /// To the next kept row. False at the end.
    fn advance(&mut self, version: &Version, now_ms: i64) -> Result<bool> {
        self.row += 1;
        self.settle(version, now_ms)
    }

    /// Stays if it is at a kept row, else goes on to the next.
    fn settle(&mut self, version: &Version, now_ms: i64) -> Result<bool> {
        loop {
            let rows = self.batch.num_rows();
            if let Some(kept) = &self.kept {
                while self.row < rows && !kept.value(self.row) {
                    self.row += 1;
                }
            }
            if self.row < rows {
                return Ok(true);
            }
            self.index += 1;
            if self.index == self.held.segment.starts()?.len() {
                return Ok(false);
            }
            (self.batch, self.kept, self.sizes) = load(self.held, self.lost.as_ref(), self.index, version, now_ms)?;
            self.first = self.held.segment.starts()?[self.index];
            self.row = 0;
        }
    }
}

type Loaded = (RecordBatch, Option<BooleanBuffer>, RowSizes);

fn load(held: &Held, lost: Option<&RoaringBitmap>, index: usize, version: &Version, now_ms: i64) -> Result<Loaded> {
    let batch = held.segment.batch(index)?;
    let first = held.segment.starts()?[index];
    let unmasked = lost.and_then(|lost| live_rows(lost, first, batch.num_rows()));
    let kept = both(unmasked, unexpired(held, batch, now_ms)?);
    let batch = columns::widen(batch, &version.schema, &version.stored);
    let sizes = RowSizes::new(&batch);
    Ok((batch, kept, sizes))
}

/// Rows of the next output batch.
#[derive(Default)]
struct Picked {
    batches: Vec<RecordBatch>,
    places: Vec<(usize, usize)>,
    /// Position in `batches` by (segment, batch).
    known: HashMap<(u64, usize), usize>,
    last: Option<((u64, usize), usize)>,
}

impl Picked {
    fn push(&mut self, cursor: &Cursor<'_>) {
        let id = (cursor.held.id(), cursor.index);
        let at = match self.last {
            Some((last, at)) if last == id => at,
            _ => *self.known.entry(id).or_insert_with(|| {
                self.batches.push(cursor.batch.clone());
                self.batches.len() - 1
            }),
        };
        self.last = Some((id, at));
        self.places.push((at, cursor.row));
    }
}

/// Rows that a compaction would leave out.
fn gone_rows(held: &Held, now_ms: i64) -> Result<u64> {
    let (meta, mut gone) = (held.segment.meta()?, held.lost_count());
    if meta.expiring == 0 || meta.first_expiry > now_ms {
        return Ok(gone);
    }
    let lost = held.lost()?;
    for (index, first) in held.segment.starts()?.iter().enumerate() {
        let batch = held.segment.scalars(index)?;
        let expired = |row: &usize| {
            is_expired(expiry_of(batch, *row), now_ms)
                && !lost.as_ref().is_some_and(|lost| lost.contains(first + *row as u32))
        };
        gone += (0..batch.num_rows()).filter(expired).count() as u64;
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn sizes(sizes: &[u64]) -> Vec<Candidate> {
        (1..).zip(sizes).map(|(id, mib)| Candidate { id, live_bytes: mib * MIB, dead_percent: 0 }).collect()
    }

    #[test]
    fn equals_are_merged_and_others_left_alone() {
        assert_eq!(decide(&[]), Vec::<u64>::new());
        assert_eq!(decide(&sizes(&[50, 50, 50])), Vec::<u64>::new());
        assert_eq!(decide(&sizes(&[50, 50, 50, 50])), [1, 2, 3, 4]);
        assert_eq!(decide(&sizes(&[200, 50, 50, 50, 45])), [2, 3, 4, 5]);
        assert_eq!(decide(&sizes(&[200, 200, 200, 200, 50])), [1, 2, 3, 4]);
        assert_eq!(decide(&sizes(&[1500, 1500, 1500, 1500])), Vec::<u64>::new(), "they would not become fewer");
    }

    #[test]
    fn worn_segments_are_rewritten_alone() {
        let mut candidates = sizes(&[50, 1500]);
        candidates[1].dead_percent = limit::COMPACTION_DEAD_PERCENT;
        assert_eq!(decide(&candidates), Vec::<u64>::new());
        candidates[1].dead_percent += 1;
        assert_eq!(decide(&candidates), [2]);
    }

    /// However many flushes there were, few segments remain.
    #[test]
    fn segments_stay_logarithmic() {
        let mut live = Vec::<u64>::new();
        for flush in 0..500 {
            live.push(40 + flush % 20);
            loop {
                let merged = decide(&sizes(&live));
                if merged.is_empty() {
                    break;
                }
                let total: u64 = merged.iter().map(|id| live[*id as usize - 1]).sum();
                let whole = limit::SEGMENT_BYTES / MIB;
                live = (1..).zip(&live).filter(|(id, _)| !merged.contains(id)).map(|(_, size)| *size).collect();
                live.extend((0..total / whole).map(|_| whole).chain([total % whole]).filter(|size| *size > 0));
            }
        }
        assert!(live.len() <= 35, "{live:?}");
    }
}
