//! All tables of a data directory: who owns it, what is open, birth and death.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use knarr_base::clock::SharedClock;
use knarr_base::id::{TableId, TaskId};
use knarr_base::schema::Schema;
use parking_lot::Mutex;
use std::io::Write;

use super::Table;
use super::keeper::Keeper;
use super::layout::{Layout, number_of, table_dir, tables_dir};
use super::version::Version;
use crate::compute::Pool;
use crate::disk::Disk;
use crate::error::{Error, Result};

/// How tables are opened.
#[derive(Clone)]
pub struct Options {
    /// The data directory; it must exist.
    pub dir: PathBuf,
    /// Time for expiry, snapshots and deadlines.
    pub clock: SharedClock,
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// Where compaction copies rows.
    pub pool: Arc<Pool>,
    /// Bytes of a memtable before it is flushed; `limit::MEMTABLE_BYTES` unless a test wants small ones.
    pub memtable_bytes: usize,
    /// Rows of a segment from which it gets search structures; `limit::INDEX_SEGMENT_ROWS` but in tests.
    pub structure_rows: u32,
}

/// Says whether the staging directory of a task must stay: true until the task is final.
pub type StagingKept = Arc<dyn Fn(TaskId) -> bool + Send + Sync>;

type Slot = Arc<Mutex<Option<Arc<Table>>>>;

/// All tables below `DIR/tables`. One process per directory.
pub struct Tables {
    options: Options,
    keeper: Arc<Keeper>,
    open: Arc<Mutex<HashMap<TableId, Slot>>>,
    /// Pins of tables that are not open yet.
    pins: Mutex<HashMap<TableId, Vec<u64>>>,
    closed: Mutex<bool>,
    /// Held for as long as this lives.
    _lock: File,
}

impl Tables {
    /// Takes the directory for this process. Opens no table.
    ///
    /// # Errors
    /// `Locked` when another process has it; disk errors.
    pub fn open(options: Options) -> Result<Arc<Self>> {
        let lock = lock_dir(&options.dir)?;
        let dir = tables_dir(&options.dir);
        let made = options.disk.create_dir(&dir).and_then(|()| options.disk.sync_dir(&options.dir));
        made.map_err(|e| Error::io(format!("creating {}", dir.display()), e))?;
        let open: Arc<Mutex<HashMap<TableId, Slot>>> = Arc::default();
        let listed = Arc::downgrade(&open);
        let keeper = Keeper::start(move || {
            let slots: Vec<Slot> =
                listed.upgrade().map(|open| open.lock().values().cloned().collect()).unwrap_or_default();
            // A table that is being opened has its slot locked; its turn comes next time.
            slots.iter().filter_map(|slot| slot.try_lock()?.clone()).collect()
        })?;
        let (pins, closed) = (Mutex::default(), Mutex::new(false));
        Ok(Arc::new(Self { options, keeper, open, pins, closed, _lock: lock }))
    }

    fn slot(&self, id: TableId) -> Result<Slot> {
        let closed = self.closed.lock();
        if *closed {
            return Err(Error::Stopped);
        }
        Ok(self.open.lock().entry(id).or_default().clone())
    }

    /// Makes a table: its directories and manifest 0, durable. Blocking.
    ///
    /// # Errors
    /// `TableExists`; disk errors, after which the id must not be used again.
    pub fn create(&self, id: TableId, schema: Schema) -> Result<Arc<Table>> {
        let slot = self.slot(id)?;
        let mut table = slot.lock();
        if table.is_some() {
            return Err(Error::TableExists(id));
        }
        create_files(&*self.options.disk, &self.options.dir, id, schema)?;
        Ok(table.insert(Table::open(&self.options, id, self.keeper.clone(), &[])?).clone())
    }

    /// A table, opened on first use. Blocking then.
    ///
    /// # Errors
    /// `TableMissing`; `Corrupt` when its newest manifest or its log is damaged; disk errors.
    pub fn table(&self, id: TableId) -> Result<Arc<Table>> {
        let slot = self.slot(id)?;
        let mut table = slot.lock();
        if let Some(table) = &*table {
            return Ok(table.clone());
        }
        let pins = self.pins.lock().get(&id).cloned().unwrap_or_default();
        let opened = Table::open(&self.options, id, self.keeper.clone(), &pins)?;
        self.pins.lock().remove(&id);
        Ok(table.insert(opened).clone())
    }

    /// Closes a table and removes its files. Idempotent. Blocking.
    ///
    /// # Errors
    /// Disk errors; what is left is removed by [`Tables::sweep`].
    pub fn drop_table(&self, id: TableId) -> Result<()> {
        let slot = self.slot(id)?;
        let mut table = slot.lock();
        if let Some(table) = table.take() {
            table.stop();
        }
        self.pins.lock().remove(&id);
        fail::fail_point!("table::drop::before_remove");
        let dir = table_dir(&self.options.dir, id);
        let removed = self.options.disk.remove_dir_all(&dir);
        removed.map_err(|e| Error::io(format!("removing {}", dir.display()), e))?;
        self.open.lock().remove(&id);
        Ok(())
    }

    /// Removes the files of tables that are in `dropped`, and of those that are not in `keep` and never held a row: a
    /// crash leaves such when a collection is being made. Returns which there were. Blocking.
    ///
    /// # Errors
    /// `TableUnknown` for a table with rows that is in neither list: whoever made the lists has lost something, and
    /// nothing is removed. Disk errors.
    pub fn sweep(&self, keep: &HashSet<TableId>, dropped: &HashSet<TableId>) -> Result<Vec<TableId>> {
        let dir = tables_dir(&self.options.dir);
        let names = self.options.disk.list(&dir).map_err(|e| Error::io(format!("listing {}", dir.display()), e))?;
        let orphans: Vec<TableId> =
            names.iter().filter_map(|name| name.parse().ok()).filter(|id| !keep.contains(id)).collect();
        for id in &orphans {
            if !dropped.contains(id) && self.was_written(*id)? {
                return Err(Error::TableUnknown(*id));
            }
        }
        orphans.iter().try_for_each(|id| self.drop_table(*id))?;
        Ok(orphans)
    }

    /// True unless the table is as `create` left it.
    fn was_written(&self, id: TableId) -> Result<bool> {
        let layout = Layout::new(&self.options.dir, id);
        let list = |dir: PathBuf| match self.options.disk.list(&dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other.map_err(|e| Error::io(format!("listing {}", dir.display()), e)),
        };
        if list(layout.manifest_dir())?.iter().any(|name| number_of(name).is_some_and(|number| number > 0)) {
            return Ok(true);
        }
        for name in list(layout.log_dir())? {
            let path = layout.log_dir().join(name);
            let bytes =
                self.options.disk.read(&path).map_err(|e| Error::io(format!("reading {}", path.display()), e))?;
            if bytes.len() > crate::log::EMPTY_FILE_BYTES {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Hands over every durable pin. From now on files that nobody names are removed and segments are compacted.
    pub fn start_maintenance(&self, pins: Vec<(TableId, u64)>, staging_kept: StagingKept) {
        for (id, version) in pins {
            let Ok(slot) = self.slot(id) else { return };
            // With the slot locked the table is either open or will look at the waiting pins when it opens.
            let table = slot.lock();
            match &*table {
                Some(table) => table.pin(version),
                None => self.pins.lock().entry(id).or_default().push(version),
            }
        }
        self.keeper.start_collecting(staging_kept);
        let slots: Vec<Slot> = self.open.lock().values().cloned().collect();
        for table in slots.iter().filter_map(|slot| slot.lock().clone()) {
            table.request_compaction();
        }
    }

    /// Stops committers and background work and waits for them. Flushes nothing: the log has it.
    pub fn close(&self) {
        *self.closed.lock() = true;
        let slots: Vec<Slot> = self.open.lock().drain().map(|(_, slot)| slot).collect();
        let tables: Vec<_> = slots.iter().filter_map(|slot| slot.lock().take()).collect();
        tables.iter().for_each(|table| table.stop());
        self.keeper.stop();
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        self.close();
    }
}

impl Table {
    /// No more writes, no more background work. Readers may go on.
    fn stop(&self) {
        self.stop_committer();
        self.signal_room();
        // Whatever runs sees the flag soon; holding its lock shows that it has ended. Structures first: a compaction
        // builds them as well.
        self.structures.stop();
        drop(self.flushing.lock());
        drop(self.compacting.lock());
    }
}

fn lock_dir(dir: &Path) -> Result<File> {
    let path = dir.join("LOCK");
    let open = File::options().create(true).truncate(false).write(true).open(&path);
    let file = open.map_err(|e| Error::io(format!("opening {}", path.display()), e))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Locked),
        Err(error) => Err(Error::io(format!("locking {}", path.display()), error.into())),
    }
}

fn create_files(disk: &dyn Disk, data: &Path, id: TableId, schema: Schema) -> Result<()> {
    let (root, layout) = (table_dir(data, id), Layout::new(data, id));
    let first = Version::first(schema);
    let manifest = layout.manifest(first.number);
    let make = || {
        disk.create_dir(&root)?;
        disk.create_dir(layout.shard())?;
        for dir in layout.dirs() {
            disk.create_dir(&dir)?;
        }
        fail::fail_point!("table::create::before_manifest");
        let mut file = disk.create_new(&manifest)?;
        file.write_all(&first.encode(id))?;
        file.sync()?;
        fail::fail_point!("table::create::before_dir_sync");
        disk.sync_dir(&layout.manifest_dir())?;
        disk.sync_dir(layout.shard())?;
        disk.sync_dir(&root)?;
        disk.sync_dir(&tables_dir(data))
    };
    make().map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Error::TableExists(id),
        _ => Error::io(format!("creating {}", root.display()), error),
    })
}
