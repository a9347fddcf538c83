//! What keeps files, and what lets them go.

use std::path::Path;
use std::sync::Arc;

use knarr_base::clock::ManualClock;
use knarr_base::id::{TableId, TaskId};
use knarr_base::schema::FieldType;
use knarr_base::value::KeyType;

use super::world::*;
use crate::disk::OsDisk;
use crate::error::Error;
use crate::table::keeper::Keeper;
use crate::table::{Snapshot, Table};

fn files(table: &Table) -> usize {
    let dirs = [table.layout.segment_dir(), table.layout.mask_dir(), table.layout.manifest_dir()];
    dirs.iter().map(|dir| std::fs::read_dir(dir).expect("lists").count()).sum()
}

fn rewrite(table: &Table, round: i64) {
    let content: Vec<_> = (0..50).map(|n| (int(n), row(n + round))).collect();
    upsert(table, &content).expect("upserts");
    table.flush().expect("flushes");
}

#[test]
fn pin_vs_cleanup() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let table = world.create(schema(KeyType::Int));
    rewrite(&table, 0);
    upsert(&table, &[(int(3), row(33))]).expect("upserts");
    let snapshot = table.snapshot().expect("snapshots");
    let (version, seq, at_ms) = (snapshot.version(), snapshot.seq(), snapshot.at_ms());
    let frozen = scan(&snapshot).expect("scans");
    // The task's pin is committed, then the scan goes on with a clone.
    table.pin(version);
    let clone = snapshot.clone();
    drop(snapshot);
    for round in 1..4 {
        rewrite(&table, round);
        table.compact_while_due().expect("compacts");
        table.collect(&|_| true).expect("collects");
        assert_eq!(scan(&clone).expect("scans"), frozen);
    }
    drop(clone);
    table.collect(&|_| true).expect("collects");
    let again = table.snapshot_at(version, seq, at_ms).expect("is pinned");
    assert_eq!(scan(&again).expect("scans"), frozen);
    drop((again, table));
    let id = world.id;
    drop(world);

    // A new process removes nothing before it has all pins.
    let world = World::open(dir.path(), OsDisk::shared(), id, 1 << 20).expect("opens");
    let table = world.tables.table(id).expect("opens");
    rewrite(&table, 9);
    world.tables.start_maintenance(vec![(id, version)], Arc::new(|_| true));
    table.collect(&|_| true).expect("collects");
    let again = table.snapshot_at(version, seq, at_ms).expect("is pinned");
    assert_eq!(scan(&again).expect("scans"), frozen);
    drop(again);
    table.unpin(version);
    table.collect(&|_| true).expect("collects");
    assert!(matches!(table.snapshot_at(version, seq, at_ms), Err(Error::VersionMissing { .. })));
    assert_eq!(files(&table), 3, "one segment, its metadata, one manifest");
    assert_eq!(fetch(&table, &[int(3)]).expect("fetches"), vec![Some(row(12))]);
}

/// A table of 50 rows, a snapshot of them, what `later` does, and the end of the process. The snapshot as a task keeps
/// it: version, seq and time.
fn left_behind(dir: &Path, later: impl FnOnce(&Table)) -> (TableId, (u64, u64, i64)) {
    let world = World::new(dir);
    let table = world.create(schema(KeyType::Int));
    rewrite(&table, 0);
    let snapshot = table.snapshot().expect("snapshots");
    later(&table);
    (world.id, (snapshot.version(), snapshot.seq(), snapshot.at_ms()))
}

/// A pin that is handed over before its table is opened waits for it.
#[test]
fn pins_wait_for_their_table() {
    let dir = tempfile::tempdir().expect("a directory");
    let (id, (version, seq, at_ms)) = left_behind(dir.path(), |_| ());
    let world = World::open(dir.path(), OsDisk::shared(), id, 1 << 20).expect("opens");
    world.tables.start_maintenance(vec![(id, version)], Arc::new(|_| true));
    let table = world.tables.table(id).expect("opens");
    rewrite(&table, 1);
    table.collect(&|_| true).expect("collects");
    assert_eq!(table.snapshot_at(version, seq, at_ms).expect("is pinned").rows(), 50);
}

/// Housekeeping may come the moment a table is open, before whoever opened it has it in hand.
#[test]
fn a_table_opens_with_its_pins() {
    let dir = tempfile::tempdir().expect("a directory");
    let (id, (version, seq, at_ms)) = left_behind(dir.path(), |table| rewrite(table, 1));
    let keeper = Keeper::start(Vec::new).expect("starts");
    let options = options(dir.path(), OsDisk::shared(), ManualClock::new(START_MS), 1 << 20);
    let table = Table::open(&options, id, keeper.clone(), &[version]).expect("opens");
    table.collect(&|_| true).expect("collects");
    assert_eq!(table.snapshot_at(version, seq, at_ms).expect("is pinned").rows(), 50);
    keeper.stop();
}

/// Found by a kill loop: a mask that a dead process had left was listed as garbage, written anew by the next publication,
/// then removed.
#[test]
fn what_an_attempt_left_is_not_removed_under_its_successor() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let table = world.create(schema(KeyType::Int));
    rewrite(&table, 0);
    let next = table.layout.mask(table.stats().manifest_version + 1);
    std::fs::write(&next, b"left by an attempt").expect("writes");
    let garbage = table.garbage().expect("lists");
    let snapshot = table.snapshot().expect("snapshots");
    delete_matching(&table, &snapshot, &n_between(0, 9), 1).expect("deletes");
    assert!(next.exists() && !garbage.contains(&next));
    assert_eq!(snapshot_of_now(&table).rows(), 41, "the mask is read back");

    // Once its number is past and nobody named it, it goes.
    let next = table.layout.mask(table.stats().manifest_version + 1);
    std::fs::write(&next, b"left by an attempt").expect("writes");
    table.add_fields(vec![field("later", FieldType::Bool)]).expect("publishes without a mask");
    table.collect(&|_| true).expect("collects");
    assert!(!next.exists());
}

/// Read from its files, not from memory.
fn snapshot_of_now(table: &Table) -> Snapshot {
    let snapshot = table.snapshot().expect("snapshots");
    let (version, seq, at_ms) = (snapshot.version(), snapshot.seq(), snapshot.at_ms());
    table.add_fields(vec![field("another", FieldType::Bool)]).expect("another version is current");
    table.snapshot_at(version, seq, at_ms).expect("is pinned")
}

#[test]
fn staging_stays_until_its_task_is_final() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let table = world.create(schema(KeyType::Int));
    let (running, last) = (TaskId::from_u128(1), TaskId::from_u128(2));
    let staging = |task: TaskId| table.layout.staging_dir().join(task.to_string());
    for task in [running, last] {
        std::fs::create_dir(staging(task)).expect("creates");
        std::fs::write(staging(task).join("file"), b"x").expect("writes");
    }
    assert_eq!(table.collect(&|task| task == running).expect("collects"), 1);
    assert!(staging(running).exists() && !staging(last).exists());
}
