//! Task deletes that are undone: what comes back, what does not, and what it costs until then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use knarr_base::Kind;
use knarr_base::id::{TableId, TaskId};
use knarr_base::limit;
use knarr_base::value::{Key, KeyType};
use proptest::prelude::*;

use super::concurrent::{busy_world, compact_all, rounds};
use super::model::{Entry, Model, Op, Run, config, op, run};
use super::world::*;
use crate::disk::OsDisk;
use crate::disk::fault::{Fault, FaultDisk};
use crate::error::Error;
use crate::table::keys::KeyColumn;
use crate::table::{Restored, Table, UNDO_UNIT};

/// What tasks deleted in a model.
#[derive(Default)]
pub(super) struct Deletions {
    open: Vec<Deletion>,
    undone: Vec<(TaskId, Restored)>,
}

struct Deletion {
    task: TaskId,
    deleted: u64,
    until_ms: i64,
    /// Not written since; those that had not expired.
    rows: Model,
}

impl Deletions {
    pub(super) fn add(&mut self, unit: u32, deleted: u64, now_ms: i64, rows: Model) {
        let until_ms = now_ms + UNDO_SECONDS * 1000;
        self.open.push(Deletion { task: publication(unit).task, deleted, until_ms, rows });
    }

    pub(super) fn wrote(&mut self, key: &Key) {
        self.open.iter_mut().for_each(|deletion| {
            deletion.rows.remove(key);
        });
    }

    pub(super) fn wrote_all(&mut self) {
        self.open.iter_mut().for_each(|deletion| deletion.rows.clear());
    }

    pub(super) fn check(&self, table: &Table) {
        check_lists(table);
        for (task, counts) in &self.undone {
            assert_eq!(table.undone(*task).expect("reads"), Some(*counts), "until somebody acknowledges it");
        }
    }
}

impl Run {
    pub(super) fn undo(&mut self, which: u8) {
        if self.deletions.open.is_empty() {
            return;
        }
        let at = usize::from(which) % self.deletions.open.len();
        let Deletion { task, deleted, until_ms, rows } = self.deletions.open.remove(at);
        let now = self.now();
        if deleted == 0 || until_ms <= now {
            assert!(matches!(self.table.undo(task), Err(Error::NotUndoable(of)) if of == task));
            return;
        }
        let back: Model = rows.into_iter().filter(|(_, entry): &(_, Entry)| entry.live(now)).collect();
        let counts = self.table.undo(task).expect("undoes");
        assert_eq!(counts.restored, back.len() as u64, "{counts:?}");
        assert_eq!(counts.restored + counts.changed_since + counts.expired, deleted, "{counts:?}");
        assert!(matches!(self.table.undo(task), Err(Error::AlreadyPublished(p)) if Restored::from(p) == counts));
        self.model.extend(back);
        self.deletions.undone.push((task, counts));
    }
}

/// A key is alive or can be had back at most once; what can be had back is dead, and of one known task; no segment is
/// kept for nothing.
fn check_lists(table: &Table) {
    let version = table.view.load().version.clone();
    let mut keys = BTreeSet::new();
    for held in &version.segments {
        assert!(!held.gone && !held.spent());
        let mut dead = held.dead().expect("healthy").cloned().unwrap_or_default();
        for restorable in &held.restorable {
            assert!(version.undoable.iter().any(|one| one.task == restorable.task));
            assert!(!restorable.rows().is_empty() && restorable.rows().is_subset(&dead));
            dead -= &**restorable.rows();
        }
        assert_eq!(held.lost_count(), dead.len());
        assert_eq!(held.lost().expect("healthy").unwrap_or_default(), dead);
        let key_column = held.segment.key_column().expect("healthy");
        for row in (0..held.segment.rows()).filter(|row| !dead.contains(*row)) {
            let (index, at) = held.segment.place(row).expect("healthy");
            let column = KeyColumn::new(held.segment.scalars(index).expect("healthy").column(key_column));
            assert!(keys.insert(column.get(at).to_key()), "a key twice");
        }
    }
}

/// Many deletes, and much that can happen until they are undone.
fn ops() -> impl Strategy<Value = Vec<Op>> {
    let one = prop_oneof![
        8 => op(),
        2 => Just(Op::TakeSnapshot),
        3 => (0i64..100, 1i64..60).prop_map(|(low, width)| Op::DeleteMatching { low, high: low + width }),
        3 => any::<u8>().prop_map(Op::Undo),
        1 => any::<u8>().prop_map(Op::BeginCompact),
        1 => Just(Op::EndCompact),
    ];
    proptest::collection::vec(one, 1..50)
}

proptest! {
    #![proptest_config(config())]

    /// T7: an undo brings back exactly the rows that its task deleted and nobody wrote since, whatever flushes,
    /// compactions, restarts and other deletes came between.
    #[test]
    fn undo_roundtrip(ops in ops()) {
        run(KeyType::Int, false, &ops);
    }
}

fn present(table: &Table, keys: std::ops::Range<i64>) -> Vec<i64> {
    let asked: Vec<_> = keys.clone().map(int).collect();
    let found = asked.chunks(100).flat_map(|keys| fetch(table, keys).expect("fetches"));
    keys.zip(found).filter(|(_, row)| row.is_some()).map(|(key, _)| key).collect()
}

fn task(unit: u32) -> TaskId {
    publication(unit).task
}

fn delete(table: &Table, low: i64, high: i64, unit: u32) {
    let snapshot = table.snapshot().expect("snapshots");
    let counts = delete_matching(table, &snapshot, &n_between(low, high), unit).expect("deletes");
    assert_eq!(counts.deleted, (high - low).unsigned_abs());
}

fn is_over(table: &Table, unit: u32) -> bool {
    matches!(table.undo(task(unit)), Err(Error::NotUndoable(_)))
}

#[test]
fn a_dead_segment_stays_until_its_time_is_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let table = world.create(schema(KeyType::Int));
    upsert_ints(&table, 0..50);
    delete(&table, 0, 50, 1);
    assert_eq!((table.stats().rows, table.stats().segments), (0, 1));
    table.compact_while_due().expect("compacts");
    table.collect(&|_| true).expect("collects");
    assert!(present(&table, 0..50).is_empty());
    assert_eq!(table.undo(task(1)).expect("undoes").restored, 50);
    assert_eq!((present(&table, 0..50).len(), table.stats().rows), (50, 50));

    delete(&table, 0, 50, 2);
    world.clock.advance(Duration::from_secs(UNDO_SECONDS.unsigned_abs()));
    assert!(is_over(&table, 2), "though nobody has cleaned up yet");
    assert_eq!(table.stats().segments, 1);
    table.forget_overdue().expect("forgets");
    assert_eq!(table.stats().segments, 0);
    assert!(is_over(&table, 2));
    assert_eq!(table.undoable_until(task(2)), None);
}

/// Rows that can be had back are no reason to rewrite a segment; once they cannot, they are.
#[test]
fn compaction_lets_them_go_in_the_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let table = world.create(schema(KeyType::Int));
    upsert_ints(&table, 0..100);
    delete(&table, 0, 80, 1);
    assert_eq!(table.compact_while_due().expect("compacts"), 0);
    let only = || table.view.load().version.segments[0].id();
    table.compact(&[only()]).expect("compacts");
    assert_eq!(table.view.load().version.segments[0].segment.rows(), 100, "carried along");
    assert_eq!(table.compact_while_due().expect("compacts"), 0);
    table.forget_deletion(task(1)).expect("forgets");
    assert!(is_over(&table, 1));
    assert_eq!(table.compact_while_due().expect("compacts"), 1);
    assert_eq!(table.view.load().version.segments[0].segment.rows(), 20);
    assert_eq!(present(&table, 0..100), (80..100).collect::<Vec<_>>());
}

/// Expired rows that compaction left out do not come back, and are counted as what they are.
#[test]
fn counts_add_up_when_rows_expired() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let table = world.create(schema(KeyType::Int));
    upsert_ints(&table, 0..10);
    let content: Vec<_> = (10..30).map(|n| (int(n), row(n))).collect();
    wait(table.upsert(rows(&table.schema(), &content), 5)).expect("upserts");
    delete(&table, 0, 30, 1);
    upsert(&table, &[(int(3), row(1003)), (int(10), row(1010))]).expect("upserts");
    wait(table.delete(vec![int(4)])).expect("deletes");
    table.flush().expect("flushes");
    world.clock.advance(Duration::from_secs(6));
    let all: Vec<_> = table.view.load().version.segments.iter().map(|held| held.id()).collect();
    table.compact(&all).expect("compacts");
    let counts = table.undo(task(1)).expect("undoes");
    assert_eq!(counts, Restored { restored: 8, changed_since: 3, expired: 19 });
    assert_eq!(present(&table, 0..30), [0, 1, 2, 3, 5, 6, 7, 8, 9, 10]);
}

/// A snapshot that was taken while rows were dead does not have them, also after they came back and moved.
#[test]
fn a_task_leaves_alone_what_came_back_after_its_snapshot() {
    for compact in [false, true] {
        let dir = tempfile::tempdir().expect("a directory");
        let world = World::new(dir.path());
        let table = world.create(schema(KeyType::Int));
        upsert_ints(&table, 0..20);
        delete(&table, 0, 10, 1);
        let snapshot = table.snapshot().expect("snapshots");
        table.undo(task(1)).expect("undoes");
        if compact {
            let only = table.view.load().version.segments[0].id();
            table.compact(&[only]).expect("compacts");
        }
        let counts = delete_matching(&table, &snapshot, &n_between(5, 15), 2).expect("deletes");
        assert_eq!((counts.deleted, counts.changed_since, counts.missing), (5, 0, 0), "compacted: {compact}");
        assert_eq!(present(&table, 0..20), (0..10).chain(15..20).collect::<Vec<_>>());
    }
}

#[test]
fn only_so_many_deletions_are_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let table = world.create(schema(KeyType::Int));
    let most = limit::UNDOABLE_PER_TABLE as u32;
    upsert_ints(&table, 0..i64::from(most) + 2);
    (0..=most).for_each(|unit| delete(&table, i64::from(unit), i64::from(unit) + 1, unit));
    assert_eq!(table.view.load().version.undoable.len(), limit::UNDOABLE_PER_TABLE);
    check_lists(&table);
    assert!(is_over(&table, 0));
    for unit in 1..=most {
        assert_eq!(table.undo(task(unit)).expect("undoes").restored, 1);
    }
    assert_eq!(present(&table, 0..i64::from(most) + 2), (1..i64::from(most) + 2).collect::<Vec<_>>());
}

/// A list of rows that is damaged keeps them from coming back, now and later, and nothing else.
#[test]
fn a_damaged_list_only_refuses_the_undo() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let table = world.create(schema(KeyType::Int));
    upsert_ints(&table, 0..50);
    delete(&table, 0, 10, 1);
    delete(&table, 10, 20, 2);
    let lists = table.view.load().version.segments[0].restorable.clone();
    let place = lists.iter().find(|list| list.task == task(1)).expect("is kept").mask.place;
    let file = table.layout.mask(place.file);
    let id = world.id;
    drop((lists, table, world));
    let whole = std::fs::read(&file).expect("reads");
    let mut bytes = whole.clone();
    bytes[place.offset as usize + 9] ^= 1;
    std::fs::write(&file, bytes).expect("writes");

    let reopen = || {
        let world = World::open(dir.path(), OsDisk::shared(), id, 1 << 20).expect("opens");
        let table = world.tables.table(id).expect("opens");
        (world, table)
    };
    let refused = |table: &Table| table.undo(task(1)).map_err(|error| error.kind());
    let (world, table) = reopen();
    assert_eq!(refused(&table), Err(Kind::Corrupt));
    assert_eq!(table.undoable_until(task(1)), None);
    assert_eq!(present(&table, 0..50), (20..50).collect::<Vec<_>>());
    // A key of it is written while nobody can tell that it is one.
    upsert(&table, &[(int(3), row(3))]).expect("upserts");
    table.flush().expect("flushes");
    drop((table, world));
    std::fs::write(&file, whole).expect("writes");
    let (_world, table) = reopen();
    assert_eq!(refused(&table), Err(Kind::Corrupt), "what is readable again misses a write");
    assert_eq!(table.undo(task(2)).expect("the other is whole").restored, 10);
    let expected: Vec<_> = [3].into_iter().chain(10..50).collect();
    assert_eq!(present(&table, 0..50), expected);
    check_lists(&table);
}

/// Of a damaged list nothing comes back, so it keeps no rows on the disk; that it is damaged stays known.
#[test]
fn a_damaged_list_takes_no_space() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let table = world.create(schema(KeyType::Int));
    upsert_ints(&table, 0..10);
    table.flush().expect("flushes");
    upsert_ints(&table, 10..30);
    delete(&table, 0, 20, 1);
    let places = |table: &Table| -> Vec<_> {
        let lists =
            table.view.load().version.segments.iter().flat_map(|held| held.restorable.clone()).collect::<Vec<_>>();
        lists.iter().map(|list| list.mask.place).collect()
    };
    let place = places(&table)[1];
    let (file, id) = (table.layout.mask(place.file), world.id);
    assert_eq!((places(&table).len(), table.stats().segments), (2, 2));
    drop((table, world));
    let mut bytes = std::fs::read(&file).expect("reads");
    bytes[place.offset as usize + 9] ^= 1;
    std::fs::write(&file, bytes).expect("writes");

    for _ in 0..2 {
        let world = World::open(dir.path(), OsDisk::shared(), id, 1 << 20).expect("opens");
        let table = world.tables.table(id).expect("opens");
        table.forget_overdue().expect("forgets");
        assert_eq!((places(&table).len(), table.stats().segments), (0, 1));
        assert_eq!(table.undo(task(1)).map_err(|error| error.kind()), Err(Kind::Corrupt));
        assert_eq!(present(&table, 0..30), (20..30).collect::<Vec<_>>());
        let number = table.stats().manifest_version;
        table.forget_overdue().expect("forgets");
        assert_eq!(table.stats().manifest_version, number, "there is nothing to forget any more");
        check_lists(&table);
    }
}

/// A disk that does not answer for a moment says nothing about a list: nobody loses an undo to it.
#[test]
fn a_list_that_cannot_be_read_now_is_not_given_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let table = world.create(schema(KeyType::Int));
    upsert_ints(&table, 0..50);
    delete(&table, 0, 10, 1);
    delete(&table, 10, 20, 2);
    // The second delete wrote the dead rows anew, but not the list of the first.
    let version = table.view.load().version.clone();
    let held = &version.segments[0];
    let place = held.restorable(task(1)).expect("is kept").mask.place;
    assert_ne!(place.file, held.mask.as_ref().expect("has dead rows").place.file);
    let name: &'static str =
        table.layout.mask(place.file).file_name().expect("a file").to_string_lossy().into_owned().leak();
    let (list, id) = (table.layout.mask(place.file), world.id);
    drop((version, table, world));

    let disk = FaultDisk::new(dir.path());
    let world = World::open(dir.path(), disk.clone(), id, 1 << 20).expect("opens");
    disk.fail_matching("read_at", name, Fault::Eio);
    let error = world.tables.table(id).expect_err("what can be had back is not known");
    assert_eq!(error.kind(), Kind::Unavailable, "{error:?}");
    let table = world.tables.table(id).expect("the disk answers again");
    assert_eq!(table.undo(task(1)).expect("undoes").restored, 10);
    assert_eq!(present(&table, 0..50), (0..10).chain(20..50).collect::<Vec<_>>());

    delete(&table, 0, 10, 3);
    delete(&table, 30, 40, 4);
    let held = table.view.load().version.segments[0].clone();
    let gone = table.layout.mask(held.restorable(task(3)).expect("is kept").mask.place.file);
    assert_ne!(gone, list);
    drop((held, table, world));
    std::fs::remove_file(gone).expect("removes");
    let world = World::open(dir.path(), OsDisk::shared(), id, 1 << 20).expect("opens");
    let table = world.tables.table(id).expect("a list that is gone keeps nobody out");
    assert_eq!(table.undo(task(3)).map_err(|error| error.kind()), Err(Kind::Corrupt));
    assert_eq!(table.undo(task(4)).expect("undoes").restored, 10);
}

/// Segments are read before the memtables are locked: whoever writes does not wait for a disk.
#[test]
fn an_undo_reads_segments_without_a_lock_on_writes() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let table = world.create(schema(KeyType::Int));
    let content: Vec<_> = (0..50).map(|n| (int(n), row(n))).collect();
    wait(table.upsert(rows(&table.schema(), &content), 5)).expect("upserts");
    delete(&table, 0, 50, 1);
    let file = table.layout.segment(table.view.load().version.segments[0].id());
    let id = world.id;
    drop((table, world));
    let mut bytes = std::fs::read(&file).expect("reads");
    let quarter = bytes.len() / 4;
    bytes[quarter..3 * quarter].iter_mut().for_each(|byte| *byte ^= 1);
    std::fs::write(&file, bytes).expect("writes");

    let world = World::open(dir.path(), OsDisk::shared(), id, 1 << 20).expect("opens");
    world.clock.advance(Duration::from_secs(6));
    let table = world.tables.table(id).expect("opens");
    let view = table.view.load_full();
    let writing = view.memtable.write();
    let (said, heard) = std::sync::mpsc::channel();
    let other = table.clone();
    let undoing = thread::spawn(move || said.send(other.undo(task(1)).map_err(|error| error.kind())));
    let heard = heard.recv_timeout(Duration::from_secs(10));
    drop(writing);
    undoing.join().expect("ends").expect("is heard");
    assert_eq!(heard, Ok(Err(Kind::Corrupt)), "it had looked at the rows");
}

/// Nobody who acknowledges waits for a publication.
#[test]
fn an_acknowledgement_waits_for_no_disk() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let table = world.create(schema(KeyType::Int));
    upsert_ints(&table, 0..20);
    delete(&table, 0, 10, 1);
    table.undo(task(1)).expect("undoes");
    let publishing = table.lock_commit().expect("locks");
    let (said, heard) = std::sync::mpsc::channel();
    let other = table.clone();
    let acknowledging = thread::spawn(move || {
        other.acknowledge(task(1));
        other.acknowledge_undo(task(1));
        said.send(()).expect("is heard");
    });
    let heard = heard.recv_timeout(Duration::from_secs(10));
    drop(publishing);
    acknowledging.join().expect("ends");
    heard.expect("did not wait");
    delete(&table, 10, 11, 2);
    assert_eq!(table.undone(task(1)).expect("reads"), None);
    assert_eq!(table.published(task(1), 1).expect("reads"), None);
    assert!(table.published(task(2), 2).expect("reads").is_some());
}

/// An answer that got lost on the way: read back, never applied twice, and forgotten when it was acknowledged.
#[test]
fn a_lost_answer_is_read_back() {
    for (operation, part) in [("link", "manifest/"), ("sync_dir", "manifest"), ("sync", "manifest/"), ("sync", "mask/")]
    {
        let dir = tempfile::tempdir().expect("a directory");
        let disk = FaultDisk::new(dir.path());
        let world = World::open(dir.path(), disk.clone(), TableId::random(), 1 << 20).expect("opens");
        let table = world.create(schema(KeyType::Int));
        upsert_ints(&table, 0..40);
        delete(&table, 0, 10, 3);
        delete(&table, 10, 11, 4);
        disk.fail_matching(operation, part, Fault::Half);
        let error = table.undo(task(3)).expect_err("the answer is lost");
        assert_eq!(error.kind(), Kind::Unavailable, "{error:?}");
        upsert(&table, &[(int(4), row(1004))]).expect("upserts");
        let landed = table.undone(task(3)).expect("the disk works");
        assert_eq!(landed.is_some(), part.starts_with("manifest") && operation != "sync");
        let counts = match table.undo(task(3)) {
            Err(Error::AlreadyPublished(counts)) => Restored::from(counts),
            other => other.expect("undoes"),
        };
        let written = u64::from(landed.is_none());
        assert_eq!(counts, Restored { restored: 10 - written, changed_since: written, expired: 0 });
        // And the same after a restart; acknowledging the delete is not acknowledging its undo.
        table.acknowledge(task(3));
        table.flush().expect("flushes");
        drop(table);
        let id = world.id;
        drop(world);
        let world = World::open(dir.path(), OsDisk::shared(), id, 1 << 20).expect("opens");
        let table = world.tables.table(id).expect("opens");
        assert_eq!(table.published(task(3), 3).expect("reads"), None);
        assert_eq!(table.published(task(3), UNDO_UNIT).expect("reads").map(Restored::from), Some(counts));
        assert_eq!(present(&table, 0..40), (0..10).chain(11..40).collect::<Vec<_>>());
        assert_eq!(fetch(&table, &[int(4)]).expect("fetches"), [Some(row(1004))]);
        table.acknowledge_undo(task(3));
        table.undo(task(4)).expect("publishes without it");
        assert_eq!(table.undone(task(3)).expect("reads"), None);
        assert!(is_over(&table, 3));
    }
}

#[test]
fn nothing_is_kept_without_a_window() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let table = world.create(schema(KeyType::Int));
    upsert_ints(&table, 0..10);
    let snapshot = table.snapshot().expect("snapshots");
    let (meter, cancel) = (crate::compute::Meter::new(), crate::compute::Cancel::new());
    let filter = n_between(0, 10);
    table.delete_matching(&snapshot, &filter, publication(1), None, &meter, &cancel).expect("deletes");
    assert!(is_over(&table, 1));
    assert_eq!(table.stats().segments, 0);
}

/// Writes and deletes keys of its own, again and again; what they must be in the end.
fn write_until(table: &Table, done: &AtomicBool, keys: std::ops::Range<i64>) -> BTreeMap<i64, Option<Row>> {
    let (mut written, mut n) = (BTreeMap::new(), 0);
    while !done.load(Ordering::Acquire) {
        n += 1;
        let key = keys.start + n * 7 % (keys.end - keys.start);
        if n % 5 == 0 {
            wait(table.delete(vec![int(key)])).expect("deletes");
        } else {
            upsert(table, &[(int(key), row(n))]).expect("upserts");
        }
        written.insert(key, (n % 5 != 0).then(|| row(n)));
    }
    written
}

/// I4: deletes that are all undone, beside writers, flushes and compactions: in the end every key is what was written
/// last, and has one row.
#[test]
fn what_is_written_beside_an_undo_stays() {
    const KEYS: i64 = 200;
    let dir = tempfile::tempdir().expect("a directory");
    let (_world, table) = busy_world(dir.path());
    upsert_ints(&table, 0..2 * KEYS);
    let (table, done) = (&*table, &AtomicBool::new(false));
    let written = thread::scope(|scope| {
        let writers = [0, KEYS].map(|first| scope.spawn(move || write_until(table, done, first..first + KEYS)));
        let compactions = scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                compact_all(table);
            }
        });
        let mut restored = 0;
        for unit in 0..rounds() as u32 {
            let snapshot = table.snapshot().expect("snapshots");
            let deleted = delete_matching(table, &snapshot, &n_between(0, i64::MAX), unit).expect("deletes").deleted;
            match table.undo(task(unit)) {
                Ok(counts) => {
                    assert_eq!(counts.restored + counts.changed_since, deleted, "{counts:?}");
                    restored += counts.restored;
                }
                Err(error) => assert!(deleted == 0 && matches!(error, Error::NotUndoable(_)), "{error:?}"),
            }
        }
        done.store(true, Ordering::Release);
        compactions.join().expect("ends");
        assert!(restored > 0);
        writers.map(|writer| writer.join().expect("ends"))
    });
    let first = (0..2 * KEYS).map(|key| (key, Some(row(key))));
    let expected: BTreeMap<_, _> = first.chain(written.into_iter().flatten()).collect();
    let keys: Vec<_> = (0..2 * KEYS).map(int).collect();
    for _ in 0..2 {
        let found = keys.chunks(100).flat_map(|keys| fetch(table, keys).expect("fetches"));
        (0..).zip(found).for_each(|(key, found)| assert_eq!(found, expected[&key], "key {key}"));
        table.flush().expect("flushes");
        compact_all(table);
        check_lists(table);
    }
}
