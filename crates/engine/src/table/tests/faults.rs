//! Disks that fail, fill up, lose power or flip bits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use knarr_base::Kind;
use knarr_base::id::TableId;
use knarr_base::limit;
use knarr_base::value::{Key, KeyType};

use super::world::*;
use crate::disk::OsDisk;
use crate::disk::fault::{Fault, FaultDisk};
use crate::error::{Error, Result};
use crate::table::{Snapshot, Table, UNDO_UNIT};

type Model = BTreeMap<Key, Row>;

/// One step of the story that all faults are tried on.
#[derive(Debug, Clone, Copy)]
enum Step {
    Upsert(i64, i64),
    Update(i64, i64),
    Delete(i64, i64),
    Truncate,
    Flush,
    Snapshot,
    DeleteMatching(i64, i64),
    Undo,
    Compact,
    Collect,
}

const STORY: &[Step] = &[
    Step::Upsert(0, 20),
    Step::Upsert(10, 30),
    Step::Flush,
    Step::Update(3, 6),
    Step::Delete(7, 9),
    Step::Upsert(25, 40),
    Step::Snapshot,
    Step::Upsert(11, 13),
    Step::DeleteMatching(5, 15),
    Step::Upsert(12, 18),
    Step::Flush,
    Step::Compact,
    Step::Upsert(9, 11),
    Step::Undo,
    Step::Collect,
    Step::Truncate,
    Step::Upsert(0, 5),
    Step::Flush,
    Step::Upsert(3, 9),
];

/// What a table must hold: the acknowledged writes, and perhaps the one whose outcome is unknown.
#[derive(Debug, Clone, Default)]
struct Truth {
    acked: Model,
    maybe: Option<Model>,
}

impl Truth {
    fn allows(&self, found: &Model) -> bool {
        *found == self.acked || self.maybe.as_ref() == Some(found)
    }
}

struct Story {
    table: Arc<Table>,
    truth: Truth,
    snapshot: Option<(Snapshot, Model)>,
    /// What the task deleted and nobody wrote since.
    taken: Model,
    round: i64,
}

impl Story {
    fn new(table: Arc<Table>) -> Self {
        Self { table, truth: Truth::default(), snapshot: None, taken: Model::new(), round: 0 }
    }

    /// Runs a step; on success the truth moves, on failure it becomes uncertain.
    fn run(&mut self, step: Step) -> Result<()> {
        let keys = |low, high| (low..high).map(int).collect::<Vec<_>>();
        self.round += 1;
        let mut after = self.truth.acked.clone();
        let result = match step {
            Step::Upsert(low, high) => {
                let content: Vec<_> = (low..high).map(|n| (int(n), row(n + 100 * self.round % 700))).collect();
                after.extend(content.iter().cloned());
                upsert(&self.table, &content).map(drop)
            }
            Step::Update(low, high) => {
                let content: Vec<_> =
                    keys(low, high).into_iter().map(|k| (k, format!("moved{}", self.round))).collect();
                for (key, city) in &content {
                    if let Some(row) = after.get_mut(key) {
                        row.city.clone_from(city);
                    }
                }
                match wait(self.table.update(new_cities(&self.table.schema(), &content), 0)) {
                    // Happens where an earlier step failed.
                    Err(Error::RowMissing(_)) => return Ok(()),
                    other => other.map(drop),
                }
            }
            Step::Delete(low, high) => {
                keys(low, high).iter().for_each(|key| {
                    after.remove(key);
                });
                wait(self.table.delete(keys(low, high))).map(drop)
            }
            Step::Truncate => {
                after.clear();
                wait(self.table.truncate()).map(drop)
            }
            Step::Flush => self.table.flush(),
            Step::Snapshot => {
                self.snapshot = Some((self.table.snapshot()?, self.truth.acked.clone()));
                Ok(())
            }
            Step::DeleteMatching(low, high) => {
                let Some((snapshot, then)) = &self.snapshot else { return Ok(()) };
                after.retain(|key, row| then.get(key) != Some(row) || !(low..high).contains(&row.n));
                delete_matching(&self.table, snapshot, &n_between(low, high), 1).map(drop)
            }
            Step::Undo => {
                after.extend(self.taken.clone());
                match self.table.undo(publication(1).task) {
                    Err(Error::NotUndoable(_)) => {
                        assert!(self.taken.is_empty(), "only where the delete failed, or the undo is done");
                        return Ok(());
                    }
                    other => other.map(drop),
                }
            }
            Step::Compact => {
                let view = self.table.view.load_full();
                let all: Vec<_> = view.version.segments.iter().map(|held| held.id()).collect();
                if all.is_empty() { Ok(()) } else { self.table.compact(&all).map(drop) }
            }
            Step::Collect => self.table.collect(&|_| true).map(drop),
        };
        match &result {
            Ok(()) => self.moved(step, after),
            // A later success of another step shows that the failed one is out for good.
            Err(_) => self.truth.maybe = Some(after),
        }
        result
    }

    fn moved(&mut self, step: Step, after: Model) {
        let before = std::mem::take(&mut self.truth.acked);
        if matches!(step, Step::DeleteMatching(..)) {
            self.taken = before.into_iter().filter(|(key, _)| !after.contains_key(key)).collect();
        } else {
            // Nothing of it is deleted by key in this story.
            self.taken.retain(|key, _| before.get(key) == after.get(key));
        }
        self.truth = Truth { acked: after, maybe: None };
    }

    /// After a failed task delete or undo: what the engine says decides.
    fn settle(&mut self, step: Step) {
        let unit = match step {
            Step::DeleteMatching(..) => 1,
            Step::Undo => UNDO_UNIT,
            _ => return,
        };
        let published = self.table.published(publication(1).task, unit).expect("the disk works again");
        let maybe = self.truth.maybe.take().expect("it failed");
        if published.is_some() {
            self.moved(step, maybe);
        }
    }

    fn check(&self) {
        let keys: Vec<_> = (0..60).map(int).collect();
        let expected: Vec<_> = keys.iter().map(|key| self.truth.acked.get(key).cloned()).collect();
        assert_eq!(fetch(&self.table, &keys).expect("fetches"), expected, "only what was acknowledged is visible");
        if let Some((snapshot, then)) = &self.snapshot {
            let found: Model = scan(snapshot).expect("scans").into_iter().map(|(key, (row, _))| (key, row)).collect();
            assert_eq!(&found, then, "a snapshot never changes");
        }
    }
}

/// Everything that a fresh process finds.
fn found_in(dir: &Path, id: TableId) -> Result<Model> {
    let world = World::open(dir, OsDisk::shared(), id, 1 << 20)?;
    let table = world.tables.table(id)?;
    let keys: Vec<_> = (0..60).map(int).collect();
    let fetched = fetch(&table, &keys)?;
    let by_key: Model = keys.into_iter().zip(fetched).filter_map(|(key, row)| Some((key, row?))).collect();
    let snapshot = table.snapshot()?;
    let scanned: Model = scan(&snapshot)?.into_iter().map(|(key, (row, _))| (key, row)).collect();
    assert_eq!(by_key, scanned, "reads by key and scans agree");
    Ok(scanned)
}

/// Opens the world and creates the table, trying again after a fault as an operator would.
fn begin(dir: &Path, disk: &Arc<FaultDisk>) -> (World, Arc<Table>) {
    let attempt = || {
        let world = World::open(dir, disk.clone(), TableId::random(), 1 << 20)?;
        let table = world.tables.create(world.id, schema(KeyType::Int))?;
        Ok::<_, Error>((world, table))
    };
    attempt().unwrap_or_else(|_| {
        disk.heal();
        attempt().expect("the fault is over")
    })
}

/// Loop rule: the first, second, ... n-th call fails until a run sees no failure. After each the process goes on, and
/// a restart finds all that was acknowledged and nothing by halves.
#[test]
fn eio_on_nth_write() {
    for fault in [Fault::Eio, Fault::Half, Fault::Full] {
        // A lost answer and a short write look alike to most calls; the short run thins them out.
        let stride = if long() || fault == Fault::Eio { 1 } else { 3 };
        for n in (1..).step_by(stride) {
            let dir = tempfile::tempdir().expect("a directory");
            let disk = FaultDisk::new(dir.path());
            disk.fail_nth(n, fault);
            let (world, table) = begin(dir.path(), &disk);
            let mut story = Story::new(table);
            let mut fired = false;
            for step in STORY {
                if let Err(error) = story.run(*step) {
                    assert!(!fired, "call {n}, {fault:?}: one fault, then {step:?} fails as well: {error:?}");
                    fired = true;
                    disk.heal();
                    story.check();
                    story.settle(*step);
                    // The failed step is not repeated; the rest of the story must work.
                }
                story.check();
            }
            let done = !disk.heal() && !fired && n > disk.calls();
            let (truth, id) = (story.truth.clone(), world.id);
            drop((story, world));
            let found = found_in(dir.path(), id).expect("opens");
            assert!(truth.allows(&found), "call {n}, {fault:?}: found {found:?}, expected {truth:?}");
            if done {
                break;
            }
        }
    }
}

/// The power goes at every single call: what was synced holds every acknowledged write and no half of another.
#[test]
fn power_loss_keeps_acked() {
    let stride = if long() { 1 } else { 3 };
    for n in (1..).step_by(stride) {
        let dir = tempfile::tempdir().expect("a directory");
        let disk = FaultDisk::new(dir.path());
        let world = World::open(dir.path(), disk.clone(), TableId::random(), 1 << 20).expect("opens");
        let table = world.create(schema(KeyType::Int));
        disk.fail_from(n, Fault::Eio);
        let mut story = Story::new(table);
        let failed = STORY.iter().any(|step| story.run(*step).is_err());
        let image = tempfile::tempdir().expect("a directory");
        disk.power_loss(image.path()).expect("the image is written");
        let found = found_in(image.path(), world.id).expect("opens");
        assert!(story.truth.allows(&found), "power loss at call {n}: found {found:?}, expected {:?}", story.truth);
        if !failed {
            break;
        }
    }
}

/// The log cut anywhere inside its last call: that call is there as a whole or not at all, all others are there.
#[test]
fn torn_batch() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let table = world.create(schema(KeyType::Int));
    upsert_ints(&table, 0..20);
    let log_file = files_below(&table.layout.log_dir()).pop().expect("a log file");
    let start = std::fs::metadata(&log_file).expect("exists").len();
    let content: Vec<_> = (10..30).map(|n| (int(n), row(n + 100))).collect();
    upsert(&table, &content).expect("upserts");
    let end = std::fs::metadata(&log_file).expect("exists").len();
    let id = world.id;
    drop((table, world));
    let before: Model = (0..20).map(|n| (int(n), row(n))).collect();
    let mut after = before.clone();
    after.extend(content);
    let stride = if long() { 1 } else { 97 };
    for cut in (start..=end).step_by(stride).chain([end]) {
        let copy = tempfile::tempdir().expect("a directory");
        copy_tree(dir.path(), copy.path());
        let target = copy.path().join(log_file.strip_prefix(dir.path()).expect("below"));
        let file = std::fs::OpenOptions::new().write(true).open(&target).expect("opens");
        file.set_len(cut).expect("cuts");
        let found = found_in(copy.path(), id).expect("a torn tail is no damage");
        assert_eq!(found, if cut == end { after.clone() } else { before.clone() }, "cut at {cut}");
    }
}

/// A failed sync is never retried on the same file: the next write goes to a new file that supersedes it.
#[test]
fn fsync_eio_stops_writer() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = FaultDisk::new(dir.path());
    let world = World::open(dir.path(), disk.clone(), TableId::random(), 1 << 20).expect("opens");
    let table = world.create(schema(KeyType::Int));
    upsert(&table, &[(int(1), row(1))]).expect("upserts");
    let log_files = || disk_names(&table.layout.log_dir());
    let before = log_files();
    disk.fail_matching("sync", "log/", Fault::Eio);
    let error = upsert(&table, &[(int(2), row(2))]).expect_err("the sync fails");
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(matches!(error, Error::WriteFailed(_)), "{error:?}");
    assert_eq!(fetch(&table, &[int(1), int(2)]).expect("reads go on"), vec![Some(row(1)), None]);
    upsert(&table, &[(int(3), row(3))]).expect("the writer has reopened");
    let after = log_files();
    assert!(before.iter().all(|name| after.contains(name)) && after.len() == before.len() + 1, "{before:?} {after:?}");
    let image = tempfile::tempdir().expect("a directory");
    disk.power_loss(image.path()).expect("the image is written");
    let found = found_in(image.path(), world.id).expect("opens");
    assert_eq!(found, Model::from([(int(1), row(1)), (int(3), row(3))]), "the failed write never comes back");
}

#[test]
fn enospc_then_free() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = FaultDisk::new(dir.path());
    let world = World::open(dir.path(), disk.clone(), TableId::random(), 1 << 20).expect("opens");
    let table = world.create(schema(KeyType::Int));
    upsert_ints(&table, 0..50);
    disk.set_full(true);
    for _ in 0..2 {
        let error = upsert(&table, &[(int(1), row(900))]).expect_err("no space");
        assert!(matches!(error, Error::DiskFull), "{error:?}");
        assert_eq!(error.kind(), Kind::DiskFull);
        let error = table.snapshot().expect_err("no space");
        assert!(matches!(error, Error::DiskFull), "{error:?}");
        assert_eq!(fetch(&table, &[int(1)]).expect("reads go on"), vec![Some(row(1))]);
    }
    disk.set_full(false);
    upsert(&table, &[(int(1), row(901))]).expect("there is space again");
    let snapshot = table.snapshot().expect("flushes");
    assert_eq!(snapshot.rows(), 50);
    // Space that runs out in the middle of a write is the same, after a reopened writer.
    disk.fail_matching("write", "log/", Fault::Full);
    assert!(matches!(upsert(&table, &[(int(2), row(2))]), Err(Error::DiskFull)));
    upsert(&table, &[(int(2), row(902))]).expect("there is space again");
    drop((snapshot, table));
    let id = world.id;
    drop(world);
    let found = found_in(dir.path(), id).expect("opens");
    assert_eq!((found[&int(1)].n, found[&int(2)].n), (901, 902));
}

/// Full memtables make writers wait, then answer `Busy`; room lets them go on.
#[test]
fn full_memtables_refuse_until_flushed() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = FaultDisk::new(dir.path());
    let world = World::open(dir.path(), disk.clone(), TableId::random(), 1).expect("opens");
    let table = world.create(schema(KeyType::Int));
    disk.fail_every_matching("create", "seg/", Fault::Eio);
    for n in 0..=limit::MEMTABLES_FROZEN as i64 {
        upsert(&table, &[(int(n), row(n))]).expect("there is room");
    }
    let refused = std::thread::scope(|scope| {
        let writer = scope.spawn(|| upsert(&table, &[(int(9), row(9))]));
        while !writer.is_finished() {
            world.clock.advance(limit::WRITE_WAIT);
            table.signal_room();
            std::thread::yield_now();
        }
        writer.join().expect("ends")
    });
    assert!(matches!(refused, Err(Error::Busy { .. })), "{refused:?}");
    assert_eq!(fetch(&table, &[int(0), int(9)]).expect("reads go on"), vec![Some(row(0)), None]);
    disk.heal();
    table.flush().expect("flushes");
    upsert(&table, &[(int(50), row(50))]).expect("there is room");
}

/// An answer that got lost on the way of a publication: read back, never applied twice.
#[test]
fn lost_ack_no_double_apply() {
    for (operation, part) in [("link", "manifest/"), ("sync_dir", "manifest"), ("sync", "manifest/"), ("sync", "mask/")]
    {
        let dir = tempfile::tempdir().expect("a directory");
        let disk = FaultDisk::new(dir.path());
        let world = World::open(dir.path(), disk.clone(), TableId::random(), 1 << 20).expect("opens");
        let table = world.create(schema(KeyType::Int));
        upsert_ints(&table, 0..40);
        let snapshot = table.snapshot().expect("flushes");
        disk.fail_matching(operation, part, Fault::Half);
        let error = delete_matching(&table, &snapshot, &n_between(0, 10), 3).expect_err("the answer is lost");
        assert_eq!(error.kind(), Kind::Unavailable, "{error:?}");
        // A row is written again before anybody asks what happened.
        upsert(&table, &[(int(4), row(4))]).expect("upserts");
        let landed = table.published(publication(3).task, 3).expect("the disk works");
        assert_eq!(landed.is_some(), part.starts_with("manifest") && operation != "sync");
        let counts = match delete_matching(&table, &snapshot, &n_between(0, 10), 3) {
            Err(Error::AlreadyPublished(counts)) => {
                assert_eq!(Some(counts), landed);
                counts.deleted + counts.changed_since
            }
            other => {
                let counts = other.expect("deletes");
                assert_eq!((landed, counts.deleted, counts.changed_since), (None, 9, 1));
                10
            }
        };
        assert_eq!(counts, 10);
        let expected: Vec<_> = (0..12).map(|n| (n == 4 || n > 9).then(|| row(n))).collect();
        let keys: Vec<_> = (0..12).map(int).collect();
        assert_eq!(fetch(&table, &keys).expect("fetches"), expected, "{operation} {part}");
        // And the same after a restart.
        let again = table.published(publication(3).task, 3).expect("reads").expect("landed");
        drop((table, snapshot));
        let id = world.id;
        drop(world);
        let world = World::open(dir.path(), OsDisk::shared(), id, 1 << 20).expect("opens");
        let table = world.tables.table(id).expect("opens");
        assert_eq!(table.published(publication(3).task, 3).expect("reads"), Some(again));
        table.acknowledge(publication(3).task);
        upsert(&table, &[(int(1), row(1))]).expect("upserts");
        table.flush().expect("publishes without it");
        assert_eq!(table.published(publication(3).task, 3).expect("reads"), None);
    }
}

fn disk_names(dir: &Path) -> Vec<String> {
    crate::disk::Disk::list(&OsDisk, dir).expect("lists")
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("lists") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn copy_tree(from: &Path, to: &Path) {
    for file in files_below(from) {
        let target = to.join(file.strip_prefix(from).expect("below"));
        std::fs::create_dir_all(target.parent().expect("a directory")).expect("creates");
        std::fs::copy(&file, &target).expect("copies");
    }
    for dir in ["log", "seg", "mask", "manifest", "staging"] {
        for table in std::fs::read_dir(from.join("tables")).expect("lists") {
            let table = table.expect("an entry").file_name();
            std::fs::create_dir_all(to.join("tables").join(table).join("shard=0000").join(dir)).expect("creates");
        }
    }
}

/// Each byte of each file, or a random choice of them: flipped, it is either noticed or changes nothing. Where it is
/// the last record of the log, it cannot be told from a torn tail, and that call alone may be missing.
#[test]
fn flip_any_byte_detected() {
    // Segments with a mask and nothing in the log; and a log with nothing flushed.
    for flushed in [true, false] {
        let dir = tempfile::tempdir().expect("a directory");
        let world = World::new(dir.path());
        let table = world.create(schema(KeyType::Int));
        upsert_ints(&table, 0..30);
        if flushed {
            table.flush().expect("flushes");
        }
        upsert(&table, &[(int(3), row(303)), (int(40), row(40))]).expect("upserts");
        let mut before_last = (0..30).map(|n| (int(n), row(n))).collect::<Model>();
        before_last.extend([(int(3), row(303)), (int(40), row(40))]);
        wait(table.delete(vec![int(5)])).expect("deletes");
        let mut expected = before_last.clone();
        expected.remove(&int(5));
        if flushed {
            table.flush().expect("flushes");
        }
        let id = world.id;
        drop((table, world));
        let mut seed = 7u64;
        for file in files_below(dir.path()).iter().filter(|file| file.file_name().is_some_and(|n| n != "LOCK")) {
            let length = std::fs::metadata(file).expect("exists").len() as usize;
            let is_log = file.extension().is_some_and(|e| e == "log");
            let old = file.to_string_lossy().contains("manifest/") && !file.ends_with(newest_manifest(file));
            let flips: Vec<usize> = if long() {
                (0..length).collect()
            } else {
                let mut random = || {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (seed >> 33) as usize % length
                };
                (0..120.min(length)).map(|_| random()).collect()
            };
            for at in flips {
                let copy = tempfile::tempdir().expect("a directory");
                copy_tree(dir.path(), copy.path());
                let target = copy.path().join(file.strip_prefix(dir.path()).expect("below"));
                let mut bytes = std::fs::read(&target).expect("reads");
                bytes[at] ^= 1 << (at % 8);
                std::fs::write(&target, bytes).expect("writes");
                match found_in(copy.path(), id) {
                    Err(error) => {
                        assert_eq!(error.kind(), Kind::Corrupt, "{target:?} byte {at}: {error:?}");
                        assert!(!old, "{target:?} is not looked at");
                    }
                    Ok(found) => {
                        let harmless = found == expected || (is_log && found == before_last);
                        assert!(harmless && (is_log || old), "{target:?} byte {at} was not noticed");
                    }
                }
            }
        }
    }
}

fn newest_manifest(file: &Path) -> String {
    disk_names(file.parent().expect("a directory")).into_iter().next_back().expect("at least one")
}

/// One damaged segment answers errors for its keys; the rest of the table reads and writes.
#[test]
fn damaged_segment_is_quarantined_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let table = world.create(schema(KeyType::Int));
    upsert_ints(&table, 0..50);
    table.flush().expect("flushes");
    upsert_ints(&table, 100..150);
    table.flush().expect("flushes");
    let id = world.id;
    let first = table.layout.segment(1);
    drop((table, world));
    let mut bytes = std::fs::read(&first).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&first, bytes).expect("writes");

    let world = World::open(dir.path(), OsDisk::shared(), id, 1 << 20).expect("opens");
    let table = world.tables.table(id).expect("opens");
    let kind_of = |key: i64| fetch(&table, &[int(key)]).map_err(|e| e.kind());
    assert_eq!(kind_of(7), Err(Kind::Corrupt));
    assert_eq!(kind_of(120), Ok(vec![Some(row(120))]));
    assert_eq!(kind_of(60), Ok(vec![None]));
    let snapshot = table.snapshot().expect("snapshots");
    assert_eq!(scan(&snapshot).map_err(|e| e.kind()), Err(Kind::Corrupt));
    let refused = delete_matching(&table, &snapshot, &n_between(0, 200), 1).expect_err("cannot know what matches");
    assert_eq!(refused.kind(), Kind::Corrupt);
    drop(snapshot);
    // A key of it that is written again is served again; its other keys stay errors, also after a restart.
    upsert(&table, &[(int(7), row(7))]).expect("upserts");
    table.flush().expect("flushes");
    assert_eq!(kind_of(7), Ok(vec![Some(row(7))]));
    assert_eq!(kind_of(8), Err(Kind::Corrupt));
    drop((table, world));
    let world = World::open(dir.path(), OsDisk::shared(), id, 1 << 20).expect("opens");
    let table = world.tables.table(id).expect("opens");
    assert_eq!(fetch(&table, &[int(7)]).expect("fetches"), vec![Some(row(7))]);
    assert_eq!(fetch(&table, &[int(8)]).map_err(|e| e.kind()), Err(Kind::Corrupt));
    wait(table.truncate()).expect("truncates");
    table.flush().expect("flushes");
    assert_eq!(fetch(&table, &[int(8)]).expect("nothing damaged is left"), vec![None]);
}

/// A mask that cannot be read is still the mask: a later version must not do without it.
#[test]
fn the_dead_stay_dead_under_a_damaged_mask() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let table = world.create(schema(KeyType::Int));
    upsert_ints(&table, 0..50);
    let snapshot = table.snapshot().expect("flushes");
    delete_matching(&table, &snapshot, &n_between(0, 10), 1).expect("deletes");
    let place = table.view.load().version.segments[0].mask.as_ref().expect("a mask").place;
    let file = table.layout.mask(place.file);
    let id = world.id;
    drop((snapshot, table, world));
    let whole = std::fs::read(&file).expect("reads");
    let mut bytes = whole.clone();
    bytes[place.offset as usize + 9] ^= 1;
    std::fs::write(&file, bytes).expect("writes");
    let look = |path: &Path| {
        let world = World::open(path, OsDisk::shared(), id, 1 << 20).expect("opens");
        let table = world.tables.table(id).expect("opens");
        upsert(&table, &[(int(100 + table.stats().seq.cast_signed()), row(1))]).expect("upserts");
        table.flush().expect("flushes");
        table.collect(&|_| true).expect("collects");
        fetch(&table, &[int(5)]).map_err(|error| error.kind())
    };
    assert_eq!(look(dir.path()), Err(Kind::Corrupt));
    assert_eq!(look(dir.path()), Err(Kind::Corrupt), "a version was published meanwhile");
    std::fs::write(&file, whole).expect("writes");
    assert_eq!(look(dir.path()), Ok(vec![None]), "it is readable again");
}
