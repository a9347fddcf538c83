//! The table engine: rows by primary key, durable, scanned in place.
//!
//! A table is a log, a memtable with frozen ones behind it, sorted segments with masks of dead rows, and manifests that
//! say what belongs together (FORMAT.md). Callers write and read by key, freeze a [`Snapshot`] for bulk work, and
//! publish a task's deletions; everything else here runs behind their backs.
//!
//! Who does what, and under which lock (taken in this order):
//! | lock | who holds it |
//! |---|---|
//! | `flushing` | a flush, from its first look at a frozen memtable to the trimmed log |
//! | `commit` | a publication, from reading the current version to the swap of the view |
//! | `structures.building` | a look at what structures are missing, until they are built |
//! | `updates` | shared: a group with updates; exclusive: a task delete, so no update revives what it counts as deleted |
//! | `writer` | the committer for one group, a freeze, a trim |
//! | `change` | a swap of the view, for nanoseconds |
//!
//! What it never does: serve a byte whose checksum failed, show a write that is not synced, reuse a sequence number or
//! a segment id, fall back to an older manifest.

mod commit;
mod compact;
mod delete;
mod flush;
mod framed;
mod gather;
mod keeper;
pub(crate) mod keys;
mod layout;
mod manifest;
mod mask;
mod masking;
mod memtable;
pub(crate) mod moment;
mod open;
mod publish;
mod read;
mod record;
mod restorable;
mod segment;
mod snapshot;
pub(crate) mod structures;
mod tables;
#[cfg(test)]
mod tests;
mod undo;
mod update;
mod version;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use knarr_base::clock::SharedClock;
use knarr_base::id::{TableId, TaskId};
use knarr_base::schema::{Field, Schema};
use parking_lot::{Condvar, Mutex, RwLock};

use crate::compute::Pool;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::log::Log;
use commit::Committer;
use keeper::Keeper;
use layout::Layout;
use publish::{Acknowledged, CommitState};
use structures::Structures;
use version::SegmentCache;
use view::View;

pub use snapshot::Snapshot;
pub use structures::{Progress, Wanted};
pub use tables::{Options, StagingKept, Tables};
pub use undo::UNDO_UNIT;

/// Every named place where a crash can be provoked, in the order of their files. The kill loop walks them.
pub const FAILPOINTS: &[&str] = &[
    "log::start::before_sync",
    "log::start::before_link",
    "log::start::before_dir_sync",
    "log::start::after_dir_sync",
    "log::append::before_write",
    "log::append::before_sync",
    "log::append::after_sync",
    "log::trim::before_remove",
    "table::commit::before_apply",
    "table::commit::before_ack",
    "table::freeze::before_swap",
    "table::flush::before_segment",
    "table::segment::before_sync",
    "table::segment::before_meta",
    "table::flush::after_segment",
    "table::mask::before_sync",
    "table::publish::before_manifest",
    "table::publish::before_sync",
    "table::publish::before_link",
    "table::publish::before_dir_sync",
    "table::publish::before_swap",
    "table::publish::after_swap",
    "table::flush::before_trim",
    "table::flush::after_trim",
    "table::delete::before_mask",
    "table::delete::before_publish",
    "table::undo::before_mask",
    "table::undo::before_publish",
    "table::compact::before_segment",
    "table::compact::before_publish",
    "table::compact::after_publish",
    "table::collect::before_remove",
    "table::structures::before_postings",
    "table::structures::before_cells",
    "table::structures::before_build",
    "table::structures::after_build",
    "table::create::before_manifest",
    "table::create::before_dir_sync",
    "table::drop::before_remove",
];

/// What makes a publication of a task unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publication {
    /// The task.
    pub task: TaskId,
    /// Its unit.
    pub unit: u32,
    /// The lease's fence, kept for the record.
    pub fence: u64,
}

/// What a publication did, as the manifest remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The lease's fence.
    pub fence: u64,
    /// Rows deleted.
    pub deleted: u64,
    /// Rows left alone because they were written after the snapshot.
    pub changed_since: u64,
    /// Rows that were gone already.
    pub missing: u64,
    /// Rows that came back.
    pub restored: u64,
}

/// Result of an undo: together the rows that the task had deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Restored {
    /// Rows that came back.
    pub restored: u64,
    /// Rows left as they are because their key was written since, if only to be deleted.
    pub changed_since: u64,
    /// Rows that had expired.
    pub expired: u64,
}

/// Result of a task delete: together the rows that matched in the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deleted {
    /// Rows deleted.
    pub deleted: u64,
    /// Rows left alone because they were written after the snapshot.
    pub changed_since: u64,
    /// Rows that were gone already.
    pub missing: u64,
}

/// Figures of a table, sampled one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Rows that are alive. An estimate: a key in the memtable may replace one in a segment.
    pub rows: u64,
    /// Bytes of segments and memtables.
    pub bytes: u64,
    /// Segments of the newest version.
    pub segments: usize,
    /// Bytes of the memtable and the frozen ones.
    pub memtable_bytes: u64,
    /// Number of the newest version.
    pub manifest_version: u64,
    /// Every write up to here is in segments.
    pub flushed_seq: u64,
    /// The newest write.
    pub seq: u64,
}

/// One open table. Shared; every method may be called from any thread.
pub struct Table {
    me: Weak<Table>,
    id: TableId,
    layout: Layout,
    disk: Arc<dyn Disk>,
    clock: SharedClock,
    pub(crate) pool: Arc<Pool>,
    keeper: Arc<Keeper>,
    memtable_bytes: usize,
    /// Rows of a segment from which it gets search structures.
    structure_rows: u32,
    structures: Structures,
    view: ArcSwap<View>,
    change: Mutex<()>,
    writer: Mutex<Writer>,
    updates: RwLock<()>,
    commit: Mutex<CommitState>,
    acknowledged: Acknowledged,
    flushing: Mutex<()>,
    compacting: Mutex<()>,
    committer: Mutex<Option<Committer>>,
    /// Signalled under its lock when a frozen memtable is gone.
    room: (Mutex<()>, Condvar),
    /// Manifest versions whose files must stay, with the number of those who want them.
    pins: Mutex<BTreeMap<u64, u64>>,
    segments: SegmentCache,
    next_segment: AtomicU64,
    /// Segments that are being written: not garbage, though no manifest names them yet.
    unpublished: Mutex<BTreeSet<u64>>,
    stopping: AtomicBool,
    flush_queued: AtomicBool,
    compaction_queued: AtomicBool,
    /// Id of the segment that was scrubbed last.
    scrubbed: AtomicU64,
}

/// What only one writer at a time may touch.
struct Writer {
    log: Log,
    next_seq: u64,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Table {
    /// Its incarnation.
    pub fn id(&self) -> TableId {
        self.id
    }

    /// The newest schema.
    pub fn schema(&self) -> Arc<Schema> {
        self.view.load().schema().clone()
    }

    /// Figures for status pages.
    pub fn stats(&self) -> Stats {
        let view = self.view.load();
        let memtables = || view.frozen.iter().chain(std::iter::once(&view.memtable));
        let memtable_bytes = memtables().map(|m| m.read().bytes() as u64).sum::<u64>();
        let segments = view.segments();
        Stats {
            rows: segments.iter().map(version::Held::live_count).sum::<u64>()
                + memtables().map(|m| m.read().keys() as u64).sum::<u64>(),
            bytes: segments.iter().map(|held| held.segment.file_bytes()).sum::<u64>() + memtable_bytes,
            segments: segments.len(),
            memtable_bytes,
            manifest_version: view.version.number,
            flushed_seq: view.version.flushed_seq,
            seq: memtables().map(|m| m.read().last_seq()).max().unwrap_or(0).max(view.version.flushed_seq),
        }
    }

    /// Adds fields at the end of the schema; rows written before read their default. Blocking.
    ///
    /// # Errors
    /// `Schema` when a field clashes; disk errors.
    pub fn add_fields(&self, added: Vec<Field>) -> Result<()> {
        let mut committing = self.lock_commit()?;
        let current = self.view.load().version.clone();
        let schema = current.schema.with_added(added).map_err(Error::Schema)?;
        if schema == *current.schema {
            return Ok(());
        }
        let stored = crate::columns::stored_schema(&schema);
        committing.publish(version::Version { schema: Arc::new(schema), stored, ..(*current).clone() })?;
        Ok(())
    }

    /// What a publication of (task, unit) did, if it landed and was not acknowledged yet. Blocking: an earlier
    /// publication whose outcome is unknown is settled first.
    ///
    /// # Errors
    /// Disk errors while settling; the answer is unknown then.
    pub fn published(&self, task: TaskId, unit: u32) -> Result<Option<Published>> {
        let _committing = self.lock_commit()?;
        Ok(self.view.load().version.publications.get(&(task, unit)).copied())
    }

    /// Later manifests need not carry the publications of `task` any more, but for that of its undo. Nothing is
    /// written now.
    pub fn acknowledge(&self, task: TaskId) {
        self.acknowledged.lock().insert((task, false));
    }

    /// Keeps the files of a version until [`Table::unpin`]. Counted.
    pub fn pin(&self, version: u64) {
        *self.pins.lock().entry(version).or_insert(0) += 1;
    }

    /// Takes one [`Table::pin`] back.
    pub fn unpin(&self, version: u64) {
        let mut pins = self.pins.lock();
        if let Some(count) = pins.get_mut(&version) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&version);
            }
        }
    }

    fn stopped(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn change_view(&self, change: impl FnOnce(&mut View)) {
        let _one_at_a_time = self.change.lock();
        let mut view = (*self.view.load_full()).clone();
        change(&mut view);
        self.view.store(Arc::new(view));
    }

    fn take_segment_id(&self) -> u64 {
        let id = self.next_segment.fetch_add(1, Ordering::AcqRel);
        self.unpublished.lock().insert(id);
        id
    }

    fn give_back_segment_ids(&self, ids: impl IntoIterator<Item = u64>) {
        let mut unpublished = self.unpublished.lock();
        ids.into_iter().for_each(|id| {
            unpublished.remove(&id);
        });
    }
}
