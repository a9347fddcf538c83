//! Search structures of a table: which are wanted, which are there, how far their making is.
//!
//! A structure serves one distance over one segment, so indexes of one distance share it, and an index holds nothing of
//! its own. Segments carry theirs ([`Near`]) together with the cells it was built with; a search uses what a segment has
//! and scans the others, so nothing ever has to be swapped at once. All files are derived from segments: they may be
//! lost, and a damaged one is thrown away and built anew.
//!
//! `files` finds and removes them, `build` makes them in the background and before a compaction publishes.

mod build;
mod files;
mod postings;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, RecordBatch};
use knarr_base::index::Distance;
use knarr_base::limit;
use knarr_base::schema::Schema;
use parking_lot::Mutex;

use super::Table;
use super::segment::Segment;
use super::version::Held;
use super::view::View;
use crate::columns;
use crate::compute::Cancel;
use crate::error::Result;
use crate::index::postings::Arranged;
use crate::index::vector::{Batches, Cells, Structure};
use postings::FieldSet;
pub(crate) use postings::{Posted, scalars};

/// What a search uses in place of scanning a segment.
pub(crate) struct Near {
    /// Those of the structure.
    pub(crate) cells: Arc<Cells>,
    pub(crate) structure: Structure,
    arranged: ArcSwapOption<ArrangedFor>,
}

/// What is arranged of the postings that a segment has, or had.
struct ArrangedFor {
    posted: Weak<Posted>,
    arranged: Arc<Arranged>,
}

impl Near {
    fn new(cells: Arc<Cells>, structure: Structure) -> Self {
        Self { cells, structure, arranged: ArcSwapOption::empty() }
    }

    /// What is arranged of these postings, once it is.
    pub(crate) fn arranged(&self, posted: &Arc<Posted>) -> Option<Arc<Arranged>> {
        let arranged = self.arranged.load();
        let same = arranged.as_ref().filter(|arranged| std::ptr::eq(arranged.posted.as_ptr(), Arc::as_ptr(posted)))?;
        Some(same.arranged.clone())
    }

    /// Reads what searches of few rows and filters need, all of both files.
    ///
    /// # Errors
    /// `Corrupt` if one of them is damaged.
    fn prepare(&self, posted: Option<&Arc<Posted>>) -> Result<()> {
        self.structure.prepare()?;
        let Some(posted) = posted else {
            self.arranged.store(None);
            return Ok(());
        };
        if self.arranged(posted).is_none() {
            let arranged = Arc::new(Arranged::new(&posted.postings, |code| self.structure.arrange(code))?);
            self.arranged.store(Some(Arc::new(ArrangedFor { posted: Arc::downgrade(posted), arranged })));
        }
        Ok(())
    }
}

/// The structures of one segment.
#[derive(Default)]
pub(crate) struct Nears {
    /// By distance.
    vectors: [ArcSwapOption<Near>; Distance::ALL.len()],
    postings: ArcSwapOption<Posted>,
}

impl Nears {
    pub(crate) fn get(&self, distance: Distance) -> Option<Arc<Near>> {
        self.vectors[distance as usize].load_full()
    }

    fn set(&self, distance: Distance, near: Option<Arc<Near>>) {
        self.vectors[distance as usize].store(near);
    }

    /// Away with a damaged one, unless it was replaced meanwhile.
    pub(crate) fn remove(&self, distance: Distance, damaged: &Arc<Near>) {
        self.vectors[distance as usize].compare_and_swap(damaged, None);
    }

    pub(crate) fn postings(&self) -> Option<Arc<Posted>> {
        self.postings.load_full()
    }

    fn set_postings(&self, posted: Option<Arc<Posted>>) {
        self.postings.store(posted);
    }

    /// Away with damaged ones, unless they were replaced meanwhile.
    pub(crate) fn remove_postings(&self, damaged: &Arc<Posted>) {
        self.postings.compare_and_swap(damaged, None);
    }

    fn generation(&self, distance: Distance) -> Option<u64> {
        self.get(distance).map(|near| near.cells.generation())
    }
}

/// The vectors of a segment where they lie, verified.
///
/// # Errors
/// `Corrupt`.
///
/// # Panics
/// Without a vector field.
pub(crate) fn vectors<'a>(segment: &'a Segment, schema: &Schema) -> Result<Batches<'a>> {
    let (at, dim) = schema.vector().expect("whoever wants structures has vectors");
    let (column, dim) = (columns::field_column(schema, at), dim as usize);
    let batches = (0..segment.starts()?.len()).map(|index| segment.batch(index)).collect::<Result<Vec<_>>>()?;
    let floats = |batch: &'a RecordBatch| -> &'a [f32] {
        let lists = batch.column(column).as_fixed_size_list();
        &lists.values().as_primitive::<Float32Type>().values()[lists.offset() * dim..][..lists.len() * dim]
    };
    Ok(Batches::new(dim, batches.into_iter().map(floats)))
}

/// What is to be quick in searches of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Distances that rows are searched by.
    pub distances: Vec<Distance>,
    /// Fields that filters name; those that can have no postings are passed over.
    pub fields: BTreeSet<String>,
}

/// How far a table is with the structures of a distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// False while structures are made for the first time. Searches are answered all the same.
    pub ready: bool,
    /// Rows of segments for which a structure pays.
    pub rows: u64,
    /// Of these, rows of segments that have one; the others are scanned.
    pub built: u64,
    /// Bytes of the structures, and of the postings beside them.
    pub bytes: u64,
}

/// The part of a [`Table`] that is about structures.
#[derive(Default)]
pub(super) struct Structures {
    /// By distance.
    kinds: [Kind; Distance::ALL.len()],
    /// The postings that are wanted.
    set: Mutex<FieldSet>,
    /// The fields of the last set that was complete.
    posted: Mutex<BTreeSet<String>>,
    /// Held by the one who builds in the background.
    building: Mutex<()>,
    /// Held by the one who looks for files or removes them, never for long.
    files: Mutex<()>,
    queued: AtomicBool,
    /// The newest write when the table was last looked at.
    seen_seq: AtomicU64,
    /// True once somebody said what is wanted; nothing is removed before.
    declared: AtomicBool,
    cancel: Cancel,
}

#[derive(Default)]
struct Kind {
    wanted: AtomicBool,
    /// See [`Progress::ready`].
    ready: AtomicBool,
    /// The newest generation that was complete once, and says so.
    complete: AtomicU64,
    /// The newest.
    cells: Mutex<Option<Arc<Cells>>>,
}

impl Structures {
    fn kind(&self, distance: Distance) -> &Kind {
        &self.kinds[distance as usize]
    }

    fn cells(&self, distance: Distance) -> Option<Arc<Cells>> {
        self.kind(distance).cells.lock().clone()
    }

    fn wants(&self, distance: Distance) -> bool {
        self.kind(distance).wanted.load(Ordering::Acquire)
    }

    fn wanted(&self) -> impl Iterator<Item = Distance> + '_ {
        Distance::ALL.iter().copied().filter(|distance| self.wants(*distance))
    }

    /// Ends what is running and waits for it.
    pub(super) fn stop(&self) {
        self.cancel.cancel();
        drop(self.building.lock());
    }
}

impl Table {
    /// These searches are to be quick from now on. Maps what is there, blocking, and has the rest made in the
    /// background. What else was wanted stays so.
    pub fn want_structures(&self, wanted: &Wanted) {
        let is_new = |distance: &Distance| !self.structures.wants(*distance);
        let declared = self.structures.declared.load(Ordering::Acquire);
        let more =
            wanted.distances.iter().any(is_new) || !self.structures.set.lock().fields.is_superset(&wanted.fields);
        if self.schema().vector().is_none() || (declared && !more) {
            return;
        }
        {
            let _finding = self.structures.files.lock();
            if self.want_fields(&wanted.fields) {
                self.find_postings();
            }
            for distance in wanted.distances.iter().copied() {
                if is_new(&distance) {
                    self.find_structures(distance);
                    self.structures.kind(distance).wanted.store(true, Ordering::Release);
                }
            }
            self.structures.declared.store(true, Ordering::Release);
        }
        if self.memtable_is_full(&self.view.load()) {
            self.freeze(&mut self.writer.lock());
            self.request_flush();
        }
        self.request_structures();
    }

    /// Only these searches are still wanted; the files of others are removed in the background.
    pub fn keep_structures(&self, wanted: &Wanted) {
        for distance in Distance::ALL.iter().filter(|distance| !wanted.distances.contains(distance)) {
            self.structures.kind(*distance).wanted.store(false, Ordering::Release);
        }
        self.keep_fields(&wanted.fields);
        self.want_structures(wanted);
        self.request_structures();
    }

    /// How far structures for a distance are.
    pub fn structure_progress(&self, distance: Distance) -> Progress {
        let mut progress = Progress { ready: true, rows: 0, built: 0, bytes: 0 };
        for Held { segment, .. } in self.large_segments() {
            progress.rows += u64::from(segment.rows());
            progress.bytes += segment.nears().postings().map_or(0, |posted| posted.postings.bytes());
            if let Some(near) = segment.nears().get(distance) {
                progress.built += u64::from(segment.rows());
                progress.bytes += near.structure.bytes();
            }
        }
        progress.ready =
            progress.built == progress.rows || self.structures.kind(distance).ready.load(Ordering::Acquire);
        progress
    }

    /// True if a structure pays for so many rows in one segment.
    fn is_large(&self, view: &View, rows: u32) -> bool {
        let of_table = view.segments().iter().map(|held| u64::from(held.segment.rows())).sum();
        let dim = view.schema().vector().map_or(0, |(_, dim)| dim);
        pays(rows, dim, of_table, self.structure_rows)
    }

    /// The segments of the newest version that should have structures.
    fn large_segments(&self) -> Vec<Held> {
        let view = self.view.load();
        let large = |held: &&Held| held.healthy() && self.is_large(&view, held.segment.rows());
        view.segments().iter().filter(large).cloned().collect()
    }

    /// True if the memtable is to be frozen. What is in memory is scanned by every search, so a table that is searched
    /// keeps less there; but more again while the memtable before it is still being flushed, so that writers need not
    /// wait.
    pub(super) fn memtable_is_full(&self, view: &View) -> bool {
        let most = match (self.structures.wanted().next(), view.frozen.is_empty()) {
            (None, _) => usize::MAX,
            (Some(_), true) => limit::MEMTABLE_BYTES_SEARCHED,
            (Some(_), false) => limit::MEMTABLE_BYTES_SEARCHED_BUSY,
        };
        view.memtable.read().bytes() >= self.memtable_bytes.min(most)
    }

    /// Flushes rows that every search would scan for ever, because nobody adds to them any more.
    pub(super) fn flush_when_idle(&self) {
        if self.stopped() || self.structures.wanted().next().is_none() {
            return;
        }
        let (seq, large) = {
            let view = self.view.load();
            let memtable = view.memtable.read();
            (memtable.last_seq(), self.is_large(&view, u32::try_from(memtable.keys()).unwrap_or(u32::MAX)))
        };
        let idle = self.structures.seen_seq.swap(seq, Ordering::AcqRel) == seq;
        if idle && large {
            self.freeze(&mut self.writer.lock());
            self.request_flush();
        }
    }

    /// Asks for a look at what is to be built or removed.
    pub(crate) fn request_structures(&self) {
        if !self.structures.queued.swap(true, Ordering::AcqRel) {
            self.keeper.build(self.me.clone());
        }
    }
}

/// True if a structure pays for `rows` rows of a segment: they are many, or a part that takes long to scan of a table with
/// many. `least` rows are many.
fn pays(rows: u32, dim: u32, of_table: u64, least: u32) -> bool {
    let long = rows as usize * dim as usize * size_of::<f32>() >= limit::INDEX_SEGMENT_BYTES;
    rows >= least || long && of_table >= u64::from(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_structure_pays_for_many_rows_and_for_long_parts_of_many() {
        let pays = |rows, dim, of_table| pays(rows, dim, of_table, 10_000);
        assert!(pays(10_000, 4, 10_000) && !pays(9999, 4, 9999));
        assert!(pays(2048, 128, 10_000), "a megabyte of a large table");
        assert!(!pays(2048, 128, 9999), "as much of a small one");
        assert!(!pays(2047, 128, 1_000_000), "less of a large one");
        assert!(pays(64, 4096, 1_000_000) && !pays(0, 4096, 1_000_000));
    }
}
