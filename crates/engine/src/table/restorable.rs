//! Rows that a task deleted and that can be had back: which they are, and until when.
//!
//! They are dead like any other, and listed once more beside the dead rows of their segment, under their task. Whatever
//! is written under their key takes them off that list, for ever; compaction carries them along.

use std::sync::Arc;

use knarr_base::id::TaskId;
use roaring::RoaringBitmap;

use super::manifest::{RestorableDisk, UndoableDisk};
use super::mask::Mask;
use super::version::Held;
use crate::error::{Error, Result};

/// A task's deletion that can be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Undoable {
    pub(crate) task: TaskId,
    /// Unix milliseconds from which on it cannot.
    pub(crate) until_ms: i64,
    /// Rows that the task deleted.
    pub(crate) deleted: u64,
    /// Those of them that compaction left out because they had expired.
    pub(crate) expired: u64,
    /// Some of its rows are not known any more, so none is restored.
    pub(crate) damaged: bool,
}

/// Rows of one segment that one task deleted and nobody wrote since; never empty. They are among the dead.
#[derive(Debug, Clone)]
pub(crate) struct Restorable {
    pub(crate) task: TaskId,
    pub(crate) mask: Mask,
}

impl Restorable {
    pub(crate) fn rows(&self) -> &Arc<RoaringBitmap> {
        &self.mask.rows
    }

    pub(crate) fn entry(&self) -> RestorableDisk {
        RestorableDisk { task: self.task.to_string(), mask: self.mask.place }
    }
}

impl Undoable {
    pub(crate) fn entry(&self) -> UndoableDisk {
        let Self { task, until_ms, deleted, expired, damaged } = *self;
        UndoableDisk { task: task.to_string(), until_ms, deleted, expired, damaged }
    }

    pub(crate) fn from_entry(entry: &UndoableDisk, what: &str) -> Result<Self> {
        let task = entry.task.parse().map_err(|e| Error::corrupt(what, e))?;
        let UndoableDisk { until_ms, deleted, expired, damaged, .. } = *entry;
        Ok(Self { task, until_ms, deleted, expired, damaged })
    }
}

impl Held {
    /// Rows that a task deleted and that can be had back.
    pub(crate) fn restorable(&self, task: TaskId) -> Option<&Restorable> {
        self.restorable.iter().find(|restorable| restorable.task == task)
    }

    /// Dead rows that nobody can have back, where there are any.
    pub(crate) fn lost(&self) -> Result<Option<RoaringBitmap>> {
        let Some(dead) = self.dead()? else { return Ok(None) };
        let mut lost = dead.clone();
        self.restorable.iter().for_each(|restorable| lost -= &**restorable.rows());
        Ok(Some(lost).filter(|lost| !lost.is_empty()))
    }

    /// How many those are.
    pub(crate) fn lost_count(&self) -> u64 {
        let restorable: u64 = self.restorable.iter().map(|restorable| restorable.rows().len()).sum();
        self.dead_count().saturating_sub(restorable)
    }

    /// True if no row is alive and none can be had back: the next version does without the segment.
    pub(crate) fn spent(&self) -> bool {
        self.live_count() == 0 && self.restorable.is_empty()
    }
}

/// Gives up what `gone` names, and the lists of what is damaged, of which nothing comes back: their rows stay dead.
/// Segments that are spent then are for the caller to drop.
pub(crate) fn forget(segments: &mut [Held], undoable: &mut Vec<Undoable>, gone: impl Fn(&Undoable) -> bool) {
    undoable.retain(|one| !gone(one));
    for held in segments {
        held.restorable.retain(|list| undoable.iter().any(|one| one.task == list.task && !one.damaged));
    }
}
