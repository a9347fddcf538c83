//! What a publication changes of its segments' masks.

use knarr_base::id::TaskId;
use roaring::RoaringBitmap;

use super::Table;
use super::mask::Mask;
use super::publish::Committing;
use super::restorable::Restorable;
use super::version::Held;
use crate::error::Result;

/// Changed masks of one segment.
pub(super) struct Remask {
    /// Its place among the segments.
    pub(super) at: usize,
    /// All its dead rows from now on; `None`: as before.
    pub(super) dead: Option<RoaringBitmap>,
    /// All its rows that can be had back from now on, for the tasks for which they change.
    pub(super) restorable: Vec<(TaskId, RoaringBitmap)>,
}

impl Remask {
    pub(super) fn nothing(at: usize) -> Self {
        Self { at, dead: None, restorable: Vec::new() }
    }

    pub(super) fn add_restorable(&mut self, task: TaskId, rows: RoaringBitmap) {
        match self.restorable.iter_mut().find(|(of, _)| *of == task) {
            Some((_, all)) => *all |= rows,
            None => self.restorable.push((task, rows)),
        }
    }

    /// Takes the old masks off, and says which bitmaps come in their place: the dead rows, and those of tasks.
    fn strip(self, held: &mut Held) -> Vec<(Option<TaskId>, RoaringBitmap)> {
        let Self { dead, restorable, .. } = self;
        held.restorable.retain(|old| restorable.iter().all(|(task, _)| *task != old.task));
        let restorable: Vec<_> = restorable.into_iter().filter(|(_, rows)| !rows.is_empty()).collect();
        let dead_count = dead.as_ref().map_or(held.dead_count(), RoaringBitmap::len);
        held.gone = dead_count == u64::from(held.segment.rows()) && held.restorable.is_empty() && restorable.is_empty();
        if held.gone {
            return Vec::new();
        }
        if dead.is_some() {
            held.mask = None;
        }
        let dead = dead.filter(|dead| !dead.is_empty()).map(|dead| (None, dead));
        dead.into_iter().chain(restorable.into_iter().map(|(task, rows)| (Some(task), rows))).collect()
    }
}

impl Table {
    /// Stores changed masks and drops segments of which nothing is left.
    pub(super) fn replace_masks(
        &self,
        committing: &Committing<'_>,
        segments: &mut Vec<Held>,
        changed: Vec<Remask>,
    ) -> Result<()> {
        let (mut places, mut bitmaps) = (Vec::new(), Vec::new());
        for remask in changed {
            let at = remask.at;
            for (task, rows) in remask.strip(&mut segments[at]) {
                places.push((at, task));
                bitmaps.push(rows);
            }
        }
        if !bitmaps.is_empty() {
            let masks = committing.write_masks(bitmaps)?;
            places.into_iter().zip(masks).for_each(|((at, task), mask)| put(&mut segments[at], task, mask));
        }
        segments.retain(|held| !held.gone && !held.spent());
        Ok(())
    }
}

fn put(held: &mut Held, task: Option<TaskId>, mask: Mask) {
    match task {
        None => held.mask = Some(mask),
        Some(task) => held.restorable.push(Restorable { task, mask }),
    }
}
