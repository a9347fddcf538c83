//! Making structures: cells are trained when a table has enough rows and again when it has outgrown them, then every
//! large segment gets its structure, the largest first.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use knarr_base::index::Distance;
use knarr_base::limit;

use super::super::Table;
use super::super::compact::Moves;
use super::super::segment::Segment;
use super::super::version::Held;
use super::files::READY;
use super::{Kind, Near, vectors};
use crate::error::{Error, Result};
use crate::index::vector::{Cells, Crew, Part, build, cells_for, merge};

impl Table {
    /// Builds and removes until nothing is due.
    pub(in crate::table) fn structures_in_background(&self) {
        self.structures.queued.store(false, Ordering::Release);
        let _building = self.structures.building.lock();
        let mut result = self.build_all_postings();
        if result.is_ok() {
            result = Distance::ALL.iter().try_for_each(|distance| self.build_distance(*distance));
        }
        if result.is_ok() && !self.stopped() {
            result = self.collect_structures();
        }
        match result {
            Ok(()) | Err(Error::Stopped | Error::Cancelled) => {}
            Err(error) => {
                tracing::warn!(table = %self.id, %error, "search structures are not complete, it will be tried again");
            }
        }
    }

    fn build_distance(&self, distance: Distance) -> Result<()> {
        let kind = self.structures.kind(distance);
        while self.structures.wants(distance) {
            if self.stopped() {
                return Err(Error::Stopped);
            }
            // Looked at anew every time: a compaction may have replaced them.
            let large = self.large_segments();
            let Some(cells) = self.cells_of(distance, &large)? else {
                kind.ready.store(true, Ordering::Release);
                return Ok(());
            };
            let lacks = |held: &&Held| held.segment.nears().generation(distance) != Some(cells.generation());
            match large.iter().filter(lacks).max_by_key(|held| held.segment.rows()) {
                Some(held) => self.build_structure(&cells, &held.segment)?,
                None if large.iter().all(|held| prepared(&held.segment, distance)) => {
                    return self.mark_ready(kind, &cells);
                }
                // What was found damaged is built anew: structures above, the next time.
                None => self.build_all_postings()?,
            }
        }
        Ok(())
    }

    /// The cells to build with; `None` as long as no segment is large.
    fn cells_of(&self, distance: Distance, large: &[Held]) -> Result<Option<Arc<Cells>>> {
        let (Some((_, dim)), false) = (self.schema().vector(), large.is_empty()) else { return Ok(None) };
        let rows = large.iter().map(|held| u64::from(held.segment.rows())).sum();
        let known = self.structures.cells(distance);
        let wanted = cells_for(rows, dim as usize).0;
        if let Some(cells) = known.filter(|cells| !outgrown(cells.count(), wanted)) {
            return Ok(Some(cells));
        }
        let cells = Arc::new(self.train(distance, dim as usize, rows, large)?);
        *self.structures.kind(distance).cells.lock() = Some(cells.clone());
        Ok(Some(cells))
    }

    /// Trains on a sample of all large segments and stores the cells.
    fn train(&self, distance: Distance, dim: usize, rows: u64, large: &[Held]) -> Result<Cells> {
        let (count, sampled) = cells_for(rows, dim);
        self.check_space(count * (dim + 1) * size_of::<f32>())?;
        let mut sample = Vec::with_capacity(sampled * dim);
        for held in large {
            let share = sampled as u64 * u64::from(held.segment.rows()) / rows;
            vectors(&held.segment, &self.schema())?.sample(share as usize, held.id(), &mut sample);
        }
        let generation = self.generations(distance).last().map_or(1, |last| last + 1);
        let cells = Cells::train(distance, dim, sample, count, generation, &self.crew())?;
        let (near, dir) = (self.layout.near_dir(), self.layout.near_generation(distance, generation));
        let made = self.disk.create_dir(&near).and_then(|()| self.disk.create_dir(&dir));
        made.map_err(|e| Error::io(format!("creating {}", dir.display()), e))?;
        fail::fail_point!("table::structures::before_cells");
        if let Err(error) = cells.write(&*self.disk, &self.layout.near_cells(distance, generation)) {
            // On a full disk it must not wait for the collector, and the next attempt has the same number.
            let _ = self.disk.remove_dir_all(&dir);
            return Err(error);
        }
        Ok(cells)
    }

    /// Writes the structure of a segment and has searches use it.
    fn build_structure(&self, cells: &Arc<Cells>, segment: &Segment) -> Result<()> {
        let vectors = vectors(segment, &self.schema())?;
        self.write_structure(cells, segment, |path| {
            build(cells, segment.id(), &vectors, &*self.disk, path, &self.crew())
        })
    }

    fn write_structure(
        &self,
        cells: &Arc<Cells>,
        segment: &Segment,
        write: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let path = self.layout.near(cells.distance(), cells.generation(), segment.id());
        let wrong = |e| Error::io(format!("removing {}", path.display()), e);
        // Damaged, or left by a process that died.
        self.disk.remove(&path).map_err(wrong)?;
        self.check_space(segment.rows() as usize * (cells.dim() / 2 + BYTES_BESIDE_CODES))?;
        fail::fail_point!("table::structures::before_build");
        if let Err(error) = write(&path) {
            // On a full disk it must not wait for the collector.
            let _ = self.disk.remove(&path);
            return Err(error);
        }
        fail::fail_point!("table::structures::after_build");
        segment.nears().set(cells.distance(), self.open_structure(cells, segment));
        Ok(())
    }

    /// Structures for segments that a compaction is about to publish, so that no search has to scan one that large. Where
    /// all inputs have theirs they are joined, which is much less work. A failure is no reason to keep the inputs.
    ///
    /// # Errors
    /// `Stopped`.
    pub(in crate::table) fn prepare_structures(
        &self,
        inputs: &[Held],
        moves: &Moves,
        outputs: &[Arc<Segment>],
    ) -> Result<()> {
        let (set, view) = (self.structures.set.lock().clone(), self.view.load_full());
        let is_large = |segment: &Segment| self.is_large(&view, segment.rows());
        for segment in outputs.iter().filter(|segment| !set.fields.is_empty() && is_large(segment)) {
            self.note_unprepared(segment, self.build_postings(&set, segment))?;
        }
        for distance in self.structures.wanted() {
            let Some(cells) = self.structures.cells(distance) else { continue };
            let mut first = 0;
            for segment in outputs {
                let rows = first..first + segment.rows();
                first = rows.end;
                if !is_large(segment) {
                    continue;
                }
                let made = self.prepare_structure(&cells, segment, inputs, |input| moves.of(input, &rows));
                self.note_unprepared(segment, made)?;
                // If not, the next look finds out.
                let _ = prepared(segment, distance);
            }
        }
        Ok(())
    }

    fn note_unprepared(&self, segment: &Segment, prepared: Result<()>) -> Result<()> {
        match prepared {
            Err(Error::Stopped | Error::Cancelled) => Err(Error::Stopped),
            Err(error) => {
                tracing::warn!(table = %self.id, segment = segment.id(), %error, "no search structure yet");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn prepare_structure(
        &self,
        cells: &Arc<Cells>,
        segment: &Segment,
        inputs: &[Held],
        rows_of: impl Fn(usize) -> Vec<u32>,
    ) -> Result<()> {
        let near = |held: &Held| held.segment.nears().get(cells.distance());
        let same = |near: &Arc<Near>| near.cells.generation() == cells.generation();
        let nears: Option<Vec<_>> = inputs.iter().map(|held| near(held).filter(same)).collect();
        let Some(nears) = nears else { return self.build_structure(cells, segment) };
        let rows: Vec<_> = (0..inputs.len()).map(rows_of).collect();
        let parts = nears.iter().zip(&rows).map(|(near, rows)| Part { structure: &near.structure, rows });
        let parts: Vec<_> = parts.collect();
        let joined = self.write_structure(cells, segment, |path| {
            merge(cells, segment.id(), segment.rows(), &parts, &*self.disk, path, &self.crew())
        });
        match joined {
            // One of the old ones.
            Err(Error::Corrupt { .. }) => self.build_structure(cells, segment),
            other => other,
        }
    }

    fn mark_ready(&self, kind: &Kind, cells: &Cells) -> Result<()> {
        kind.ready.store(true, Ordering::Release);
        if kind.complete.swap(cells.generation(), Ordering::AcqRel) != cells.generation() {
            let path = self.layout.near_generation(cells.distance(), cells.generation()).join(READY);
            let made = self.disk.remove(&path).and_then(|()| self.disk.create_new(&path));
            made.map_err(|e| Error::io(format!("creating {}", path.display()), e))?;
        }
        Ok(())
    }

    fn crew(&self) -> Crew {
        Crew::new(self.pool.threads(), self.structures.cancel.clone())
    }
}

/// Reads what filters need; false if a file was damaged and is gone.
fn prepared(segment: &Segment, distance: Distance) -> bool {
    let nears = segment.nears();
    let Some(near) = nears.get(distance) else { return false };
    let posted = nears.postings();
    if let Some(posted) = &posted
        && let Err(error) = posted.postings.prepare()
    {
        tracing::warn!(segment = segment.id(), %error, "postings are built anew");
        nears.remove_postings(posted);
        return false;
    }
    let prepared = near.prepare(posted.as_ref());
    if let Err(error) = &prepared {
        tracing::warn!(segment = segment.id(), %error, "a search structure is built anew");
        nears.remove(distance, &near);
    }
    prepared.is_ok()
}

/// Row numbers, scales and terms of a row's code.
const BYTES_BESIDE_CODES: usize = 16;

/// True if so many more cells are wanted than there are that training again pays.
fn outgrown(cells: usize, wanted: usize) -> bool {
    wanted >= cells * limit::INDEX_RETRAIN_GROWTH
}
