//! Undo: rows that a task deleted come back, in one publication, but for those whose key was written since.

use std::collections::BTreeMap;

use knarr_base::id::TaskId;
use roaring::RoaringBitmap;

use super::delete::Written;
use super::mask::bitmap_of;
use super::masking::Remask;
use super::publish::Committing;
use super::restorable::{Undoable, forget};
use super::snapshot::unexpired;
use super::version::{Held, Version};
use super::view::Lookup;
use super::{Published, Restored, Table};
use crate::error::{Error, Result};

/// Unit under which the undo of a task is published; no unit of a task has this number.
pub const UNDO_UNIT: u32 = u32::MAX;

impl Table {
    /// Brings back the rows that the deletion of `task` took, but for those whose key was written since, if only to be
    /// deleted, and those that have expired. Once per task. One publication, all or nothing, seen by the next read.
    /// Blocking.
    ///
    /// # Errors
    /// `AlreadyPublished` with the counts of then; `NotUndoable` for a deletion that is not kept, or not any more;
    /// `Corrupt` when rows that could come back are damaged; disk errors, after which [`Table::undone`] tells the
    /// outcome.
    pub fn undo(&self, task: TaskId) -> Result<Restored> {
        let mut committing = self.lock_commit_flushed()?;
        let version = self.view.load().version.clone();
        if let Some(before) = version.publications.get(&(task, UNDO_UNIT)) {
            return Err(Error::AlreadyPublished(*before));
        }
        let now_ms = self.clock.now_ms();
        let kept = version.undoable.iter().find(|one| one.task == task && one.until_ms > now_ms);
        let undoable = *kept.ok_or(Error::NotUndoable(task))?;
        if undoable.damaged {
            return Err(Error::corrupt(format!("deletion of task {task}"), "rows that can be had back are not known"));
        }
        let (changed, restored) = self.resurrect(&version, &undoable, now_ms)?;
        self.publish_undo(&mut committing, &version, changed, task, restored)?;
        drop(committing);
        self.request_compaction();
        Ok(restored)
    }

    /// What [`Table::undo`] did, as long as nobody acknowledged it. Blocking, see [`Table::published`].
    ///
    /// # Errors
    /// Disk errors while settling; the answer is unknown then.
    pub fn undone(&self, task: TaskId) -> Result<Option<Restored>> {
        Ok(self.published(task, UNDO_UNIT)?.map(Restored::from))
    }

    /// Later manifests need not carry what undoing `task` did any more. Nothing is written now.
    pub fn acknowledge_undo(&self, task: TaskId) {
        self.acknowledged.lock().insert((task, true));
    }

    /// Until when the deletion of `task` can be undone, in unix milliseconds; `None` if it cannot.
    pub fn undoable_until(&self, task: TaskId) -> Option<i64> {
        let version = &self.view.load().version;
        version.undoable.iter().find(|one| one.task == task && !one.damaged).map(|one| one.until_ms)
    }

    /// Gives up the rows that `task` deleted: they can not be had back, and compaction may drop them. Blocking.
    ///
    /// # Errors
    /// Disk errors.
    pub fn forget_deletion(&self, task: TaskId) -> Result<()> {
        self.forget_where(|one| one.task == task)
    }

    /// Gives up what can not be undone any more: what is over, and the lists of what is damaged, which stays known as
    /// that.
    pub(super) fn forget_overdue(&self) -> Result<()> {
        let now_ms = self.clock.now_ms();
        self.forget_where(|one| one.until_ms <= now_ms)
    }

    fn forget_where(&self, gone: impl Fn(&Undoable) -> bool) -> Result<()> {
        let version = self.view.load().version.clone();
        let listed = |one: &Undoable| version.segments.iter().any(|held| held.restorable(one.task).is_some());
        if !version.undoable.iter().any(|one| gone(one) || (one.damaged && listed(one))) {
            return Ok(());
        }
        let mut committing = self.lock_commit()?;
        let version = self.view.load().version.clone();
        let (mut segments, mut undoable) = (version.segments.clone(), version.undoable.clone());
        forget(&mut segments, &mut undoable, gone);
        self.replace_masks(&committing, &mut segments, Vec::new())?;
        committing.publish(Version { segments, undoable, ..(*version).clone() })?;
        drop(committing);
        self.request_compaction();
        Ok(())
    }

    /// The masks without the rows that come back, and the counts. The caller holds the commit lock: a write that comes
    /// now is newer than the undo, and hides the row as it hides any other.
    fn resurrect(&self, version: &Version, undoable: &Undoable, now_ms: i64) -> Result<(Vec<Remask>, Restored)> {
        // Disks are read before the memtables are locked: writes, and reads behind them, stand still while they are.
        let mut listed = listed(version, undoable.task, now_ms)?;
        {
            let view = self.view.load_full();
            let lookup = Lookup::new(&view);
            let mut written = Written::new(&lookup);
            for Listed { held, rows, .. } in &mut listed {
                let newer = written.among(held, rows)?;
                *rows -= newer;
            }
        }
        let mut counts = Restored { expired: undoable.expired, ..Restored::default() };
        let mut changed = Vec::new();
        for Listed { at, dead, rows, expired, .. } in listed {
            let back = &rows - &expired;
            counts.restored += back.len();
            counts.expired += rows.len() - back.len();
            let restorable = vec![(undoable.task, RoaringBitmap::new())];
            changed.push(Remask { at, dead: Some(dead - &back), restorable });
        }
        counts.changed_since = undoable.deleted.saturating_sub(counts.restored + counts.expired);
        Ok((changed, counts))
    }

    fn publish_undo(
        &self,
        committing: &mut Committing<'_>,
        version: &Version,
        changed: Vec<Remask>,
        task: TaskId,
        restored: Restored,
    ) -> Result<()> {
        fail::fail_point!("table::undo::before_mask");
        let mut segments = version.segments.clone();
        self.replace_masks(committing, &mut segments, changed)?;
        let mut undoable = version.undoable.clone();
        undoable.retain(|one| one.task != task);
        let mut publications: BTreeMap<_, _> = version.publications.clone();
        publications.insert((task, UNDO_UNIT), restored.into());
        fail::fail_point!("table::undo::before_publish");
        let undone = version.number + 1;
        committing.publish(Version { segments, undoable, publications, undone, ..version.clone() })?;
        Ok(())
    }
}

impl From<Published> for Restored {
    fn from(published: Published) -> Self {
        let Published { restored, changed_since, missing, .. } = published;
        Self { restored, changed_since, expired: missing }
    }
}

impl From<Restored> for Published {
    fn from(restored: Restored) -> Self {
        let Restored { restored, changed_since, expired } = restored;
        Self { fence: 0, deleted: 0, changed_since, missing: expired, restored }
    }
}

/// Rows of one segment that can be had back.
struct Listed<'a> {
    /// Its place among the segments.
    at: usize,
    held: &'a Held,
    dead: &'a RoaringBitmap,
    rows: RoaringBitmap,
    /// Those of them that have expired.
    expired: RoaringBitmap,
}

fn listed(version: &Version, task: TaskId, now_ms: i64) -> Result<Vec<Listed<'_>>> {
    let mut all = Vec::new();
    for (at, held) in version.segments.iter().enumerate() {
        let Some(restorable) = held.restorable(task) else { continue };
        if held.segment.quarantined() {
            return Err(Error::corrupt(format!("segment {}", held.id()), "it is quarantined"));
        }
        let Some(dead) = held.dead()? else { continue };
        let rows = (**restorable.rows()).clone();
        let expired = expired_rows(held, &rows, now_ms)?;
        all.push(Listed { at, held, dead, rows, expired });
    }
    Ok(all)
}

/// Those of `rows` that have expired. Batches without any of them are not looked at.
fn expired_rows(held: &Held, rows: &RoaringBitmap, now_ms: i64) -> Result<RoaringBitmap> {
    let (meta, mut expired) = (held.segment.meta()?, RoaringBitmap::new());
    if meta.expiring == 0 || meta.first_expiry > now_ms {
        return Ok(expired);
    }
    let starts = held.segment.starts()?;
    for (index, first) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(held.segment.rows());
        if rows.range_cardinality(*first..end) == 0 {
            continue;
        }
        if let Some(fresh) = unexpired(held, held.segment.scalars(index)?, now_ms)? {
            expired |= bitmap_of(&!&fresh, *first);
        }
    }
    Ok(expired & rows)
}
