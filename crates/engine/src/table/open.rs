//! Opening a table: newest manifest, mapped segments, replayed log.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use knarr_base::id::TableId;
use parking_lot::{Condvar, Mutex, RwLock};

use super::commit::Change;
use super::keeper::Keeper;
use super::layout::{Layout, number_of};
use super::memtable::Memtable;
use super::publish::{Acknowledged, CommitState};
use super::record::{LoggedRows, decode_keys};
use super::structures::Structures;
use super::tables::Options;
use super::version::Version;
use super::view::View;
use super::{Table, Writer};
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::log::{self, Record, RecordKind};

impl Table {
    /// Opens the newest version. Maps segments without reading them, replays the log.
    pub(super) fn open(options: &Options, id: TableId, keeper: Arc<Keeper>, pinned: &[u64]) -> Result<Arc<Self>> {
        // Here, before anything can ask for a collection.
        let mut pins = BTreeMap::new();
        pinned.iter().for_each(|version| *pins.entry(*version).or_insert(0) += 1);
        let Options { dir, clock, disk, pool, memtable_bytes, structure_rows } = options;
        let layout = Layout::new(dir, id);
        let newest = newest_manifest(&**disk, &layout)?.ok_or(Error::TableMissing(id))?;
        let segments = Mutex::new(HashMap::new());
        let version = Version::load(&**disk, &layout, id, newest, &segments)?;
        let next_segment = next_segment(&**disk, &layout, &version)?;
        let recovered = log::recover(disk.clone(), &layout.log_dir(), version.flushed_seq)?;
        if let Some(tail) = recovered.torn {
            tracing::warn!(table = %id, ?tail, "a torn tail of the log was cut");
        }
        let memtable = Arc::new(Memtable::new(version.schema.key_type(), None));
        let next_seq = recovered.last_seq.max(version.flushed_seq) + 1;
        let table = Arc::new_cyclic(|me: &Weak<Table>| Table {
            me: me.clone(),
            id,
            layout,
            disk: disk.clone(),
            clock: clock.clone(),
            pool: pool.clone(),
            keeper,
            memtable_bytes: *memtable_bytes,
            structure_rows: *structure_rows,
            structures: Structures::default(),
            view: ArcSwap::from_pointee(View { memtable, frozen: Vec::new(), version: Arc::new(version) }),
            change: Mutex::new(()),
            writer: Mutex::new(Writer { log: recovered.log, next_seq }),
            updates: RwLock::new(()),
            commit: Mutex::new(CommitState::default()),
            acknowledged: Acknowledged::default(),
            flushing: Mutex::new(()),
            compacting: Mutex::new(()),
            committer: Mutex::new(None),
            room: (Mutex::new(()), Condvar::new()),
            pins: Mutex::new(pins),
            segments,
            next_segment: AtomicU64::new(next_segment),
            unpublished: Mutex::new(BTreeSet::new()),
            stopping: AtomicBool::new(false),
            flush_queued: AtomicBool::new(false),
            compaction_queued: AtomicBool::new(false),
            scrubbed: AtomicU64::new(0),
        });
        table.replay(recovered.records)?;
        table.secure_log()?;
        table.request_compaction();
        Ok(table)
    }

    fn replay(&self, records: Vec<Record>) -> Result<()> {
        for record in records {
            let change = self.change_of(&record)?;
            let mut writer = self.writer.lock();
            if record.kind == RecordKind::Reserve {
                writer.next_seq = writer.next_seq.max(reserved_until(&record)?);
            }
            self.apply(vec![(record.seq, change)]);
            if self.memtable_is_full(&self.view.load()) {
                self.freeze(&mut writer);
            }
        }
        if !self.view.load().frozen.is_empty() {
            self.request_flush();
        }
        Ok(())
    }

    fn change_of(&self, record: &Record) -> Result<Change> {
        let view = self.view.load();
        let schema = view.schema();
        match record.kind {
            RecordKind::Rows | RecordKind::KeyedRows => {
                let (fields, keyed) = (usize::from(record.fields), record.kind == RecordKind::KeyedRows);
                if fields > schema.fields().len() {
                    return Err(Error::corrupt(format!("log record {}", record.seq), "has more fields than the table"));
                }
                let rows = LoggedRows::decode(&record.payload, schema, fields, keyed)?;
                Ok(Change::Rows(rows.into_stored(schema, record.seq, keyed)?, record.payload.len()))
            }
            RecordKind::Delete => Ok(Change::Delete(decode_keys(schema.key_type(), &record.payload)?)),
            RecordKind::Truncate => Ok(Change::Truncate),
            RecordKind::Reserve => Ok(Change::Nothing),
        }
    }

    /// Bytes that were replayed may never have been synced: copies them to a synced file before anybody builds on
    /// them. A full disk does not keep the table from being read; then the first write does it.
    fn secure_log(&self) -> Result<()> {
        let mut writer = self.writer.lock();
        if !writer.log.needs_repair() {
            return Ok(());
        }
        match writer.log.begin(self.view.load().version.flushed_seq) {
            Ok(_) => Ok(()),
            Err(Error::DiskFull | Error::WriteFailed(_)) => {
                tracing::error!(table = %self.id, "the log could not be copied, the table is read-only until it can");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

fn reserved_until(record: &Record) -> Result<u64> {
    let count = record.payload.as_ref().try_into().map(u64::from_le_bytes);
    let count = count.map_err(|_| Error::corrupt(format!("log record {}", record.seq), "reservation"))?;
    Ok(record.seq.saturating_add(count))
}

/// Greatest number among the manifests; removes temporary names of attempts that never finished.
fn newest_manifest(disk: &dyn Disk, layout: &Layout) -> Result<Option<u64>> {
    let dir = layout.manifest_dir();
    let names = match disk.list(&dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|e| Error::io(format!("listing {}", dir.display()), e))?,
    };
    let mut newest = None;
    for name in names {
        if name.ends_with(".tmp") {
            // A leftover does no harm; it is overwritten when its number comes.
            let _ = disk.remove(&dir.join(&name));
        } else {
            newest = newest.max(number_of(&name));
        }
    }
    Ok(newest)
}

/// Above every id that was ever used, also by attempts that were never published.
fn next_segment(disk: &dyn Disk, layout: &Layout, version: &Version) -> Result<u64> {
    let dir = layout.segment_dir();
    let names = disk.list(&dir).map_err(|e| Error::io(format!("listing {}", dir.display()), e))?;
    let used = names.iter().filter_map(|name| number_of(name)).max().unwrap_or(0);
    Ok(version.next_segment.max(used + 1))
}
