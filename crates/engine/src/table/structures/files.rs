//! Files of structures: found when they are wanted, removed when nothing uses them.
//!
//! `near/<distance>-<generation>/` has the file `cells`, one `<segment>.near` per segment, and an empty file `ready` once
//! all large segments had one. A generation begins with each training.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use knarr_base::index::Distance;

use super::super::Table;
use super::super::layout::number_of;
use super::super::segment::Segment;
use super::super::version::Held;
use super::Near;
use crate::error::{Error, Result};
use crate::index::vector::{Cells, Structure};

/// Name of the file that says that a generation was complete once.
pub(super) const READY: &str = "ready";

impl Table {
    /// Maps the structures of a distance for the segments of the newest version.
    pub(super) fn find_structures(&self, distance: Distance) {
        let kind = self.structures.kind(distance);
        let segments = self.large_segments();
        let mut newest = None;
        for generation in self.generations(distance).into_iter().rev() {
            let Some(cells) = self.open_cells(distance, generation) else { continue };
            for held in segments.iter().filter(|held| held.segment.nears().get(distance).is_none()) {
                if let Some(near) = self.open_structure(&cells, &held.segment) {
                    held.segment.nears().set(distance, Some(near));
                }
            }
            if self.listed(&self.layout.near_generation(distance, generation)).iter().any(|name| name == READY) {
                kind.ready.store(true, Ordering::Release);
                kind.complete.fetch_max(generation, Ordering::AcqRel);
            }
            newest.get_or_insert(cells);
        }
        *kind.cells.lock() = newest;
    }

    /// Generations of a distance that have a directory, ascending.
    pub(super) fn generations(&self, distance: Distance) -> Vec<u64> {
        let names = self.listed(&self.layout.near_dir());
        let generation = |name: &String| {
            let (word, digits) = name.split_once('-')?;
            (word == distance.as_str()).then(|| number_of(digits)).flatten()
        };
        names.iter().filter_map(generation).collect()
    }

    /// Names in a directory of derived files. One that is not there yet has none; one that cannot be read is as good as
    /// that, since what is missing is made anew.
    pub(super) fn listed(&self, dir: &Path) -> Vec<String> {
        self.disk.list(dir).unwrap_or_else(|error| {
            if error.kind() != ErrorKind::NotFound {
                tracing::warn!(table = %self.id, dir = %dir.display(), %error, "search structures cannot be listed");
            }
            Vec::new()
        })
    }

    /// `None` if there are none that can be used; their directory is then removed.
    fn open_cells(&self, distance: Distance, generation: u64) -> Option<Arc<Cells>> {
        let dim = self.schema().vector().map(|(_, dim)| dim as usize);
        match Cells::open(&*self.disk, &self.layout.near_cells(distance, generation)) {
            Ok(cells) if (cells.distance(), cells.generation(), Some(cells.dim())) == (distance, generation, dim) => {
                Some(Arc::new(cells))
            }
            Ok(_) => {
                self.discard_generation(distance, generation, "they are others' cells");
                None
            }
            Err(error) => {
                self.discard_generation(distance, generation, &error.to_string());
                None
            }
        }
    }

    fn discard_generation(&self, distance: Distance, generation: u64, why: &str) {
        let distance_word = distance.as_str();
        tracing::warn!(table = %self.id, distance_word, generation, why, "cells cannot be used, they are trained again");
        // What cannot be removed now is looked at again when the distance is next wanted.
        let _ = self.disk.remove_dir_all(&self.layout.near_generation(distance, generation));
    }

    /// The structure of a segment, if there is one that can be used.
    pub(super) fn open_structure(&self, cells: &Arc<Cells>, segment: &Segment) -> Option<Arc<Near>> {
        let path = self.layout.near(cells.distance(), cells.generation(), segment.id());
        let opened = Structure::open(&*self.disk, &path).and_then(|structure| {
            structure.check(cells, segment.id(), segment.rows())?;
            Ok(structure)
        });
        match opened {
            Ok(structure) => Some(Arc::new(Near::new(cells.clone(), structure))),
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(table = %self.id, segment = segment.id(), %error, "a search structure is built anew");
                None
            }
        }
    }

    /// Removes what nothing will use again: files of distances that are not wanted, of segments that are gone, and of
    /// cells that no segment has any more. Files of segments that a compaction is about to publish stay.
    pub(super) fn collect_structures(&self) -> Result<()> {
        let _finding = self.structures.files.lock();
        if !self.structures.declared.load(Ordering::Acquire) {
            return Ok(());
        }
        for distance in Distance::ALL.iter().copied() {
            let wanted = self.structures.wants(distance);
            if !wanted {
                self.forget_structures(distance);
            }
            let newest = self.structures.cells(distance).map(|cells| cells.generation());
            for generation in self.generations(distance) {
                let dir = self.layout.near_generation(distance, generation);
                let of_use = |segment: &Segment| segment.nears().generation(distance) == Some(generation);
                let used =
                    newest == Some(generation) || self.view.load().segments().iter().any(|held| of_use(&held.segment));
                if wanted && used {
                    self.collect_files(&dir)?;
                } else {
                    self.remove_dir(&dir)?;
                }
            }
        }
        self.collect_postings()
    }

    /// Removes files of segments that are gone.
    pub(super) fn collect_files(&self, dir: &Path) -> Result<()> {
        // Listed before the segments are: what appears later is not looked at.
        let names = self.disk.list(dir).map_err(|e| Error::io(format!("listing {}", dir.display()), e))?;
        let mut kept = self.unpublished.lock().clone();
        kept.extend(self.view.load().segments().iter().map(Held::id));
        for name in names.iter().filter(|name| number_of(name).is_some_and(|id| !kept.contains(&id))) {
            let path = dir.join(name);
            self.disk.remove(&path).map_err(|e| Error::io(format!("removing {}", path.display()), e))?;
        }
        Ok(())
    }

    fn forget_structures(&self, distance: Distance) {
        let kind = self.structures.kind(distance);
        *kind.cells.lock() = None;
        kind.ready.store(false, Ordering::Release);
        kind.complete.store(0, Ordering::Release);
        self.view.load().segments().iter().for_each(|held| held.segment.nears().set(distance, None));
    }
}
