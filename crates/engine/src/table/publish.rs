//! Publishing a version: all or nothing, one at a time, never twice.
//!
//! A manifest is written under a temporary name, synced, and linked to its number, which must be free. Where a step
//! fails after the link may have happened, the outcome is unknown; the next publication reads back what is there and
//! publishes it once more under the next number before it does anything else.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use knarr_base::id::TaskId;
use parking_lot::{Mutex, MutexGuard};
use roaring::RoaringBitmap;

use super::layout::number_of;
use super::mask::{self, Mask};
use super::version::Version;
use super::{Table, UNDO_UNIT};
use crate::error::{Error, Result};

/// Behind the commit lock.
#[derive(Default)]
pub(super) struct CommitState {
    /// A manifest may or may not have landed.
    unsettled: bool,
}

/// Tasks whose publications the next manifest leaves out: their own, or (true) that of their undo. Behind a lock of its
/// own, which nobody holds while it waits for a disk.
pub(super) type Acknowledged = Mutex<BTreeSet<(TaskId, bool)>>;

/// The right to publish.
pub(super) struct Committing<'a> {
    table: &'a Table,
    state: MutexGuard<'a, CommitState>,
}

impl Table {
    /// Waits for the commit lock. The current version is then the newest there is.
    pub(super) fn lock_commit(&self) -> Result<Committing<'_>> {
        let mut committing = Committing { table: self, state: self.commit.lock() };
        committing.settle()?;
        Ok(committing)
    }
}

impl Committing<'_> {
    /// Publishes `next` (its number is set here) and makes it visible. Files that it names are synced; their
    /// directories are synced here.
    pub(super) fn publish(&mut self, mut next: Version) -> Result<Arc<Version>> {
        let table = self.table;
        let current = table.view.load().version.clone();
        next.number = current.number + 1;
        next.next_segment = table.next_segment.load(Ordering::Acquire);
        let acknowledged = table.acknowledged.lock().clone();
        next.publications.retain(|(task, unit), _| !acknowledged.contains(&(*task, *unit == UNDO_UNIT)));
        self.put(&next)?;
        table.acknowledged.lock().retain(|one| !acknowledged.contains(one));
        Ok(self.adopt(next))
    }

    /// Writes the full bitmaps of changed segments to the mask file of the next version.
    pub(super) fn write_masks(&self, bitmaps: Vec<RoaringBitmap>) -> Result<Vec<Mask>> {
        let table = self.table;
        let file = table.view.load().version.number + 1;
        // Left by an attempt that did not get as far as its manifest.
        let path = table.layout.mask(file);
        table.disk.remove(&path).map_err(|e| Error::io(format!("removing {}", path.display()), e))?;
        let masks = mask::write(&*table.disk, &table.layout, file, bitmaps)?;
        let dir = table.layout.mask_dir();
        table.disk.sync_dir(&dir).map_err(|e| Error::io(format!("syncing {}", dir.display()), e))?;
        Ok(masks)
    }

    fn put(&mut self, next: &Version) -> Result<()> {
        let (disk, layout) = (&self.table.disk, &self.table.layout);
        let path = layout.manifest(next.number);
        let temporary = path.with_extension("tmp");
        let bytes = next.encode(self.table.id);
        fail::fail_point!("table::publish::before_manifest");
        let prepare = || {
            disk.remove(&temporary)?;
            let mut file = disk.create_new(&temporary)?;
            file.write_all(&bytes)?;
            fail::fail_point!("table::publish::before_sync");
            file.sync()
        };
        prepare().map_err(|e| Error::io(format!("writing {}", temporary.display()), e))?;
        fail::fail_point!("table::publish::before_link");
        self.state.unsettled = true;
        disk.link_new(&temporary, &path).map_err(|e| Error::io(format!("naming {}", path.display()), e))?;
        fail::fail_point!("table::publish::before_dir_sync");
        let dir = layout.manifest_dir();
        disk.sync_dir(&dir).map_err(|e| Error::io(format!("syncing {}", dir.display()), e))?;
        self.state.unsettled = false;
        // A leftover temporary name is removed when the table opens.
        let _ = disk.remove(&temporary);
        Ok(())
    }

    /// Makes a durable version the current one.
    fn adopt(&self, version: Version) -> Arc<Version> {
        let version = Arc::new(version);
        fail::fail_point!("table::publish::before_swap");
        self.table.change_view(|view| {
            view.frozen.retain(|memtable| memtable.read().last_seq() > version.flushed_seq);
            view.version = version.clone();
        });
        self.table.signal_room();
        fail::fail_point!("table::publish::after_swap");
        version
    }

    /// Finds out what became of a publication that failed half-way, and makes it certain.
    fn settle(&mut self) -> Result<()> {
        if !self.state.unsettled {
            return Ok(());
        }
        let table = self.table;
        let current = table.view.load().version.clone();
        let dir = table.layout.manifest_dir();
        let names = table.disk.list(&dir).map_err(|e| Error::io(format!("listing {}", dir.display()), e))?;
        let newest = names.iter().filter(|n| !n.contains('.')).filter_map(|n| number_of(n)).max().unwrap_or(0);
        if newest <= current.number {
            self.state.unsettled = false;
            return Ok(());
        }
        let landed = Version::load(&*table.disk, &table.layout, table.id, newest, &table.segments)?;
        tracing::warn!(table = %table.id, version = newest, "a publication of unknown outcome had landed");
        // Its directory entry may be in the page cache only, and no later sync would tell.
        let again = Version { number: newest + 1, ..landed };
        self.put(&again)?;
        self.adopt(again);
        Ok(())
    }
}
