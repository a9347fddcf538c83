//! Housekeeping of all tables: flushes, compaction, removal of files that nobody names.
//!
//! Three threads, because a flush must not wait for a compaction, nor a compaction for search structures. Woken by
//! requests and by the clock; both do the same work. They never hold a table alive.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use knarr_base::id::TaskId;
use knarr_base::limit;
use parking_lot::{Condvar, Mutex};

use super::Table;
use super::layout::number_of;
use super::manifest::SegmentDisk;
use super::tables::StagingKept;
use super::version::read_manifest;
use crate::error::{Error, Result};

/// See the module.
pub(super) struct Keeper {
    flushes: Lane,
    chores: Lane,
    structures: Lane,
    /// Set once the service has handed over all pins: only from then on may files be removed.
    staging_kept: Mutex<Option<StagingKept>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Priorities of the threads that nobody waits for, as `nice` counts; threads that help them inherit theirs. Compaction
/// goes before structures, since it ends what they are built for.
const CHORES_NICENESS: i32 = 5;
const STRUCTURES_NICENESS: i32 = 10;

#[derive(Default)]
struct Lane {
    queue: Mutex<VecDeque<Weak<Table>>>,
    wake: Condvar,
    stopping: AtomicBool,
}

impl Lane {
    fn push(&self, table: Weak<Table>) {
        self.queue.lock().push_back(table);
        self.wake.notify_one();
    }

    fn stop(&self) {
        let _queue = self.queue.lock();
        self.stopping.store(true, Ordering::Release);
        self.wake.notify_all();
    }

    /// The next table, or `None` after the interval. Ends with an error when stopping.
    fn next(&self, interval: Duration) -> Result<Option<Weak<Table>>> {
        let mut queue = self.queue.lock();
        loop {
            if self.stopping.load(Ordering::Acquire) {
                return Err(Error::Stopped);
            }
            if let Some(table) = queue.pop_front() {
                return Ok(Some(table));
            }
            if self.wake.wait_for(&mut queue, interval).timed_out() {
                return Ok(None);
            }
        }
    }
}

/// Whoever waits for an answer goes first. Without the right it is only less polite.
fn give_way(niceness: i32) {
    let _ = rustix::process::setpriority_process(None, niceness);
}

impl Keeper {
    /// Starts the threads. `tables` lists what is open, for the regular round.
    pub(super) fn start(tables: impl Fn() -> Vec<Arc<Table>> + Send + Sync + 'static) -> Result<Arc<Self>> {
        let tables = Arc::new(tables);
        let keeper = Arc::new(Self {
            flushes: Lane::default(),
            chores: Lane::default(),
            structures: Lane::default(),
            staging_kept: Mutex::new(None),
            threads: Mutex::new(Vec::new()),
        });
        let flusher = keeper.clone();
        keeper.spawn("flush", move || {
            while let Ok(next) = flusher.flushes.next(limit::MAINTENANCE_INTERVAL) {
                if let Some(table) = next.and_then(|table| table.upgrade()) {
                    table.flush_in_background();
                }
            }
        })?;
        let (chores, all) = (keeper.clone(), tables.clone());
        keeper.spawn("chores", move || {
            give_way(CHORES_NICENESS);
            while let Ok(next) = chores.chores.next(limit::MAINTENANCE_INTERVAL) {
                match next {
                    Some(table) => table.upgrade().into_iter().for_each(|table| chores.keep(&table)),
                    None => all().iter().for_each(|table| {
                        chores.keep(table);
                        table.scrub_next();
                    }),
                }
            }
        })?;
        let builder = keeper.clone();
        keeper.spawn("structures", move || {
            give_way(STRUCTURES_NICENESS);
            while let Ok(next) = builder.structures.next(limit::MEMTABLE_IDLE) {
                match next {
                    Some(table) => table.upgrade().into_iter().for_each(|table| table.structures_in_background()),
                    None => tables().iter().for_each(|table| table.flush_when_idle()),
                }
            }
        })?;
        Ok(keeper)
    }

    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
        self.threads.lock().push(thread.map_err(|e| Error::io("starting a thread", e))?);
        Ok(())
    }

    pub(super) fn start_collecting(&self, staging_kept: StagingKept) {
        *self.staging_kept.lock() = Some(staging_kept);
    }

    fn collecting(&self) -> Option<StagingKept> {
        self.staging_kept.lock().clone()
    }

    pub(super) fn stop(&self) {
        self.flushes.stop();
        self.chores.stop();
        self.structures.stop();
        let me = std::thread::current().id();
        for thread in self.threads.lock().drain(..) {
            if thread.thread().id() != me {
                // A panic there was reported by the thread.
                let _ = thread.join();
            }
        }
    }

    /// Asks for a look at the structures of a table.
    pub(super) fn build(&self, table: Weak<Table>) {
        self.structures.push(table);
    }

    fn keep(&self, table: &Table) {
        table.compaction_queued.store(false, Ordering::Release);
        let Some(staging_kept) = self.collecting() else { return };
        let forgotten = table.forget_overdue();
        let result =
            forgotten.and_then(|()| table.compact_while_due()).and_then(|_| table.collect(&*staging_kept).map(drop));
        match result {
            Ok(()) | Err(Error::Stopped) => {}
            Err(error) => tracing::warn!(table = %table.id, %error, "maintenance failed, it will be tried again"),
        }
        table.request_structures();
    }
}

impl Table {
    /// Asks for a flush in the background.
    pub(super) fn request_flush(&self) {
        if !self.flush_queued.swap(true, Ordering::AcqRel) {
            self.keeper.flushes.push(self.me.clone());
        }
    }

    /// Asks for a look at what could be compacted or removed.
    pub(super) fn request_compaction(&self) {
        if !self.compaction_queued.swap(true, Ordering::AcqRel) {
            self.keeper.chores.push(self.me.clone());
        }
    }

    fn flush_in_background(&self) {
        self.flush_queued.store(false, Ordering::Release);
        if self.stopped() {
            return;
        }
        if let Err(error) = self.flush_frozen() {
            // Writers ask again when they need the room.
            tracing::error!(table = %self.id, %error, "a flush failed, it will be tried again");
        }
    }

    /// Reads one segment again from the disk, the one after the last that was; damage quarantines it.
    fn scrub_next(&self) {
        let version = self.view.load().version.clone();
        let last = self.scrubbed.load(Ordering::Acquire);
        let by_id = |after: u64| version.segments.iter().filter(move |held| held.id() > after).min_by_key(|h| h.id());
        let Some(held) = by_id(last).or_else(|| by_id(0)) else { return };
        self.scrubbed.store(held.id(), Ordering::Release);
        if let Err(error) = held.segment.scrub(&*self.disk, &self.layout) {
            tracing::error!(table = %self.id, %error, "a scrub found damage");
        }
    }

    /// Reads every segment again from the disk, past the page tables. Returns the ids of those that are damaged; they
    /// are quarantined. Blocking, and slow.
    pub fn scrub(&self) -> Vec<u64> {
        let version = self.view.load().version.clone();
        let damaged = version.segments.iter().filter(|held| held.segment.scrub(&*self.disk, &self.layout).is_err());
        damaged.map(|held| held.id()).collect()
    }

    /// Removes files that no live or pinned manifest names. Returns how many.
    pub(super) fn collect(&self, staging_kept: &dyn Fn(TaskId) -> bool) -> Result<u64> {
        let garbage = self.garbage()?;
        fail::fail_point!("table::collect::before_remove");
        let mut removed = 0;
        for path in garbage {
            self.disk.remove(&path).map_err(|e| Error::io(format!("removing {}", path.display()), e))?;
            removed += 1;
        }
        let dir = self.layout.staging_dir();
        for name in self.disk.list(&dir).map_err(|e| Error::io(format!("listing {}", dir.display()), e))? {
            if name.parse::<TaskId>().is_ok_and(|task| !staging_kept(task)) {
                let path = dir.join(&name);
                self.disk.remove_dir_all(&path).map_err(|e| Error::io(format!("removing {}", path.display()), e))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Under the commit lock no new name can appear in a manifest; what is found here stays garbage for ever. The
    /// directories are listed first: a file that appears later is not looked at, and one that is being written is
    /// still known as such when the lists of what to keep are made. A mask that an attempt left without a manifest has
    /// the number of the next publication, which may be on its way when the file is removed: it is that one's to remove.
    pub(super) fn garbage(&self) -> Result<Vec<PathBuf>> {
        let _committing = self.lock_commit()?;
        let layout = &self.layout;
        let list = |dir: PathBuf| -> Result<Vec<(u64, PathBuf)>> {
            let names = self.disk.list(&dir).map_err(|e| Error::io(format!("listing {}", dir.display()), e))?;
            Ok(names.iter().filter_map(|name| Some((number_of(name)?, dir.join(name)))).collect())
        };
        let mut files = [list(layout.segment_dir())?, list(layout.mask_dir())?, list(layout.manifest_dir())?];
        let current = self.view.load().version.number;
        files[1].retain(|(number, _)| *number <= current);
        let mut versions: BTreeSet<u64> = self.pins.lock().keys().copied().collect();
        versions.insert(current);
        let mut segments = self.unpublished.lock().clone();
        let mut masks = BTreeSet::new();
        for version in &versions {
            let manifest = match read_manifest(&*self.disk, layout, self.id, *version) {
                // A pin of a version that is gone holds nothing.
                Err(Error::VersionMissing { .. }) => continue,
                other => other?,
            };
            segments.extend(manifest.segments.iter().map(|entry| entry.id));
            let places = manifest.segments.iter().flat_map(SegmentDisk::masks);
            masks.extend(places.map(|place| place.file));
        }
        let unnamed = |(files, kept): (Vec<(u64, PathBuf)>, &BTreeSet<u64>)| {
            files.into_iter().filter(|(number, _)| !kept.contains(number)).map(|(_, path)| path).collect::<Vec<_>>()
        };
        Ok(files.into_iter().zip([&segments, &masks, &versions]).flat_map(unnamed).collect())
    }
}
