//! Many threads at once. Nothing here depends on how they are scheduled.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use arc_swap::ArcSwap;
use knarr_base::id::TableId;
use knarr_base::value::{Key, KeyType};
use parking_lot::Mutex;

use super::world::*;
use crate::disk::OsDisk;
use crate::error::Error;
use crate::table::keys::key_ref;
use crate::table::view::{Known, find_in_segments, look_up};
use crate::table::{Deleted, Table};

/// A table whose memtable is full after a few calls, with maintenance on.
pub(super) fn busy_world(dir: &std::path::Path) -> (World, Arc<Table>) {
    let world = World::open(dir, OsDisk::shared(), TableId::random(), 40_000).expect("opens");
    world.tables.start_maintenance(Vec::new(), Arc::new(|_| true));
    let table = world.create(schema(KeyType::Int));
    (world, table)
}

pub(super) fn rounds() -> i64 {
    if long() { 400 } else { 40 }
}

pub(super) fn compact_all(table: &Table) {
    let view = table.view.load_full();
    let all: Vec<_> = view.version.segments.iter().map(|held| held.id()).collect();
    if !all.is_empty() {
        table.compact(&all).expect("compacts or gives up");
    }
}

/// Rows rewritten or updated while a task deletes by filter survive, those only matched are gone, and every matched
/// row is counted as what happened to it.
#[test]
fn concurrent_upsert_survives_delete() {
    const KEYS: i64 = 300;
    let dir = tempfile::tempdir().expect("a directory");
    let (_world, table) = busy_world(dir.path());
    for round in 0..rounds() / 10 {
        upsert_ints(&table, 0..KEYS);
        let snapshot = table.snapshot().expect("snapshots");
        let table = &*table;
        // Keys by their last digit: 0-2 upserted, 3-5 updated, 6 deleted, the rest only matched.
        let (upserted, updated, counts) = thread::scope(|scope| {
            let upserts = scope.spawn(move || {
                let mine = (0..KEYS).filter(|n| n % 10 < 3);
                mine.inspect(|n| {
                    upsert(table, &[(int(*n), row(n + 1000 + round))]).expect("upserts");
                })
                .count()
            });
            let updates = scope.spawn(move || {
                let done = |n: &i64| {
                    let call = new_cities(&table.schema(), &[(int(*n), format!("moved{round}"))]);
                    match wait(table.update(call, 0)) {
                        Ok(_) => true,
                        Err(Error::RowMissing(_)) => false,
                        Err(other) => panic!("{other:?}"),
                    }
                };
                (0..KEYS).filter(|n| (3..6).contains(&(n % 10))).filter(done).collect::<Vec<_>>()
            });
            let deletes = scope.spawn(move || {
                for n in (0..KEYS).filter(|n| n % 10 == 6) {
                    wait(table.delete(vec![int(n)])).expect("deletes");
                }
            });
            let compactions = scope.spawn(move || (0..5).for_each(|_| compact_all(table)));
            let mut counts = Deleted::default();
            for unit in 0..3 {
                let filter = n_between(i64::from(unit) * 100, i64::from(unit) * 100 + 100);
                let part = delete_matching(table, &snapshot, &filter, round as u32 * 3 + unit).expect("deletes");
                counts.deleted += part.deleted;
                counts.changed_since += part.changed_since;
                counts.missing += part.missing;
            }
            deletes.join().expect("ends");
            compactions.join().expect("ends");
            (upserts.join().expect("ends"), updates.join().expect("ends"), counts)
        });
        assert_eq!(counts.deleted + counts.changed_since + counts.missing, KEYS as u64, "{counts:?}");
        // An update that succeeded came before the task, so its row was counted as changed; the others found no row.
        assert!(counts.changed_since >= updated.len() as u64, "{counts:?}, {} updated", updated.len());
        assert!(counts.changed_since <= (updated.len() + upserted) as u64);
        let keys: Vec<_> = (0..KEYS).map(int).collect();
        for pass in 0..2 {
            for (n, found) in (0..KEYS).zip(keys.chunks(100).flat_map(|keys| fetch(table, keys).expect("fetches"))) {
                let expected = match n % 10 {
                    0..3 => Some(row(n + 1000 + round)),
                    3..6 if updated.contains(&n) => Some(Row { city: format!("moved{round}"), ..row(n) }),
                    _ => None,
                };
                assert_eq!(found, expected, "key {n}, pass {pass}");
            }
            table.flush().expect("flushes");
            compact_all(table);
        }
    }
}

/// Two keys written by one call are always read with one value, whatever runs beside; rows nobody touches never
/// flicker; a snapshot reads the same at every moment.
#[test]
fn reads_stable_during_tasks() {
    let dir = tempfile::tempdir().expect("a directory");
    let (world, table) = busy_world(dir.path());
    upsert_ints(&table, 0..400);
    let pair = [int(1000), int(2000)];
    upsert(&table, &[(pair[0].clone(), row(0)), (pair[1].clone(), row(0))]).expect("upserts");
    let snapshot = table.snapshot().expect("snapshots");
    let frozen = scan(&snapshot).expect("scans");
    let done = AtomicBool::new(false);
    let (table, done) = (&*table, &done);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let still: Vec<_> = (300..400).map(int).collect();
                let expected: Vec<_> = (300..400).map(|n| Some(row(n))).collect();
                let mut last = 0;
                while !done.load(Ordering::Acquire) {
                    assert_eq!(fetch(table, &still).expect("fetches"), expected);
                    let found = fetch(table, &pair).expect("fetches");
                    assert!(found[0].is_some() && found[0] == found[1], "{found:?}");
                    let n = found[0].as_ref().map_or(0, |row| row.n);
                    assert!(n >= last, "an acknowledged write never goes back");
                    last = n;
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                assert_eq!(scan(&snapshot).expect("scans"), frozen);
            }
        });
        for round in 1..rounds() {
            upsert(table, &[(pair[0].clone(), row(round)), (pair[1].clone(), row(round))]).expect("upserts");
            upsert_ints(table, 100..250);
            let task = table.snapshot().expect("snapshots");
            let counts = delete_matching(table, &task, &n_between(100, 250), round as u32).expect("deletes");
            assert!(counts.deleted >= 149, "{counts:?}");
            if round % 5 == 0 {
                compact_all(table);
                table.collect(&|_| true).expect("collects");
            }
        }
        done.store(true, Ordering::Release);
    });
    drop(snapshot);
    world.tables.close();
    assert!(matches!(upsert(table, &[(int(1), row(1))]), Err(Error::Stopped)));
}

/// A reader that took a view and then had to wait for its memtable: meanwhile a task deleted key 1 and somebody wrote
/// key 2 into that memtable. The old segments with the new memtable would show both, which never was.
#[test]
fn a_view_replaced_while_a_reader_waits_is_not_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let table = world.create(schema(KeyType::Int));
    upsert_ints(&table, 1..2);
    let snapshot = table.snapshot().expect("flushes");
    let before = table.view.load_full();
    delete_matching(&table, &snapshot, &n_between(1, 2), 1).expect("deletes");
    upsert_ints(&table, 2..3);
    let after = table.view.load_full();
    assert!(Arc::ptr_eq(&before.memtable, &after.memtable) && !Arc::ptr_eq(&before, &after));

    // The same moments again, with a reader in between.
    let current = ArcSwap::new(before.clone());
    let keys = [int(1), int(2)];
    let read = || look_up(&current, keys.iter().map(key_ref));
    let owners = Arc::strong_count(&before);
    let (view, known) = thread::scope(|scope| {
        let writing = before.memtable.write();
        let reader = scope.spawn(read);
        while Arc::strong_count(&before) == owners {
            thread::yield_now();
        }
        current.store(after.clone());
        drop(writing);
        reader.join().expect("ends")
    });
    assert!(matches!(known[..], [Known::Nothing, Known::Row(_)]), "key 2 was written");
    let deleted = find_in_segments(view.segments(), key_ref(&keys[0]), true).expect("finds");
    assert!(deleted.is_none(), "key 1 was deleted before key 2 was written");
    assert!(Arc::ptr_eq(&view, &after));
}

#[derive(Debug, Clone, Copy)]
struct Write {
    seq: u64,
    /// `None`: a delete.
    value: Option<i64>,
    started: u64,
    acked: u64,
}

#[derive(Debug)]
struct Read {
    key: i64,
    value: Option<i64>,
    started: u64,
    ended: u64,
}

/// Each read returns the newest write that was acknowledged before it began, or one that ran beside it and is newer.
#[test]
fn history_linearizable_per_key() {
    const KEYS: i64 = 5;
    let dir = tempfile::tempdir().expect("a directory");
    let (_world, table) = busy_world(dir.path());
    let clock = AtomicU64::new(1);
    let writes: Mutex<HashMap<i64, Vec<Write>>> = Mutex::default();
    let reads: Mutex<Vec<Read>> = Mutex::default();
    let (table, tick) = (&*table, || clock.fetch_add(1, Ordering::SeqCst));
    thread::scope(|scope| {
        for worker in 0..4i64 {
            let (writes, reads, tick) = (&writes, &reads, &tick);
            scope.spawn(move || {
                for step in 0..rounds() * 5 {
                    let n = (step * 7 + worker * 3) % KEYS;
                    let value = worker * 1_000_000 + step;
                    let started = tick();
                    let (seq, value) = if step % 4 == 3 {
                        (wait(table.delete(vec![int(n)])).expect("deletes"), None)
                    } else {
                        (upsert(table, &[(int(n), row(value))]).expect("upserts"), Some(value))
                    };
                    let write = Write { seq, value, started, acked: tick() };
                    writes.lock().entry(n).or_default().push(write);
                    let key = (step + worker) % KEYS;
                    let started = tick();
                    let value = fetch(table, &[int(key)]).expect("fetches")[0].as_ref().map(|row| row.n);
                    reads.lock().push(Read { key, value, started, ended: tick() });
                    if step % 50 == 49 {
                        table.flush().expect("flushes");
                        compact_all(table);
                    }
                }
            });
        }
    });
    let writes = writes.into_inner();
    for read in reads.into_inner() {
        let history = writes.get(&read.key).map_or(&[][..], Vec::as_slice);
        let newest_before = history.iter().filter(|w| w.acked < read.started).map(|w| w.seq).max().unwrap_or(0);
        let fits =
            |write: &Write| write.value == read.value && write.seq >= newest_before && write.started < read.ended;
        let never_written = read.value.is_none() && newest_before == 0;
        assert!(never_written || history.iter().any(fits), "{read:?} after {newest_before}");
    }
    let mut seqs: Vec<_> = writes.values().flatten().map(|w| w.seq).collect();
    seqs.sort_unstable();
    assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "one number per call");
    let expected: BTreeMap<Key, i64> = writes
        .iter()
        .filter_map(|(key, history)| Some((int(*key), history.iter().max_by_key(|w| w.seq)?.value?)))
        .collect();
    let found = scan(&table.snapshot().expect("snapshots")).expect("scans");
    assert_eq!(found.into_iter().map(|(key, (row, _))| (key, row.n)).collect::<BTreeMap<_, _>>(), expected);
}
