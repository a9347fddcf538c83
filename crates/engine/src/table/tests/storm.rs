//! Writers and searchers at once: every answer must be one that the writes which were acknowledged before the search, and
//! those that had begun before its end, allow. Memtables are small, so flushes, compactions and structures go on all along.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use knarr_base::filter::Filter;
use knarr_base::id::TableId;
use knarr_base::index::Distance;
use knarr_base::limit;
use knarr_base::search::{Effort, Order, Score, Search};
use knarr_base::value::{Key, KeyType};

use super::search::{find, search, vector};
use super::world::*;
use crate::disk::OsDisk;
use crate::index::vector::Random;
use crate::table::{Table, Wanted};

const KEYS: u64 = 2000;
const WRITERS: u64 = 2;
const SEARCHERS: u64 = 2;
/// Keys of one call.
const CALL: u64 = 10;
/// Numbers that the versions of a key take, one after another.
const STRIDE: u64 = 64;
/// Rows of a search; a filtered one passes fewer.
const LIMIT: usize = 20;

/// Per key: the newest version that somebody began to write, and the newest that was acknowledged.
struct Versions {
    begun: Vec<AtomicU64>,
    acknowledged: Vec<AtomicU64>,
}

/// `n` of a version of a key; `None` where the version is a delete. Version 0 is before the first.
fn number(key: u64, version: u64) -> Option<i64> {
    (version > 0 && version % 5 != 4).then(|| (key * STRIDE + version % STRIDE).cast_signed())
}

fn write(table: &Table, versions: &Versions, writer: u64, random: &mut Random) {
    let mine = |random: &mut Random| random.below((KEYS / WRITERS) as usize) as u64 * WRITERS + writer;
    let keys: BTreeSet<u64> = (0..CALL).map(|_| mine(random)).collect();
    let next = |key: &u64| (*key, versions.acknowledged[*key as usize].load(Ordering::Acquire) + 1);
    let next: Vec<(u64, u64)> = keys.iter().map(next).collect();
    next.iter().for_each(|(key, version)| versions.begun[*key as usize].store(*version, Ordering::Release));
    let of = |(key, version): &(u64, u64)| (int(key.cast_signed()), number(*key, *version));
    let (put, gone): (Vec<_>, Vec<_>) = next.iter().map(of).partition(|(_, n)| n.is_some());
    let put: Vec<_> = put.into_iter().filter_map(|(key, n)| Some((key, row(n?)))).collect();
    if !put.is_empty() {
        upsert(table, &put).expect("upserts");
    }
    if !gone.is_empty() {
        wait(table.delete(gone.into_iter().map(|(key, _)| key).collect())).expect("deletes");
    }
    next.iter().for_each(|(key, version)| versions.acknowledged[*key as usize].store(*version, Ordering::Release));
}

/// The rows of a few keys, which are all scored, or the nearest of many or of all.
fn question(random: &mut Random) -> (i64, Option<(i64, i64)>, Search) {
    let at = random.below((KEYS * STRIDE) as usize) as i64;
    let keys = [None, None, Some(10), Some(10), Some(100), Some(600)][random.below(6)];
    let range = keys.map(|keys: i64| (at, at + keys * STRIDE.cast_signed()));
    let filter = range.map_or(Filter::All, |(low, high)| n_between(low, high));
    let queries = vec![vector(at).map(|x| x as f32).to_vec()];
    let effort = Effort { candidates: limit::INDEX_SEF_DEFAULT as usize, exact_up_to: None, exact_up_to_ratio: None };
    let order = Order::Dense { queries, distance: Distance::L2 };
    (at, range, Search { effort: Some(effort), count: false, ..search(order, filter, LIMIT, 0) })
}

fn judge(table: &Table, versions: &Versions, random: &mut Random) {
    let (at, range, search) = question(random);
    let before: Vec<u64> = versions.acknowledged.iter().map(|version| version.load(Ordering::Acquire)).collect();
    let found = find(table, &search);
    // What a row may be by now.
    let window = |key: u64| before[key as usize]..=versions.begun[key as usize].load(Ordering::Acquire);
    let mut seen = BTreeSet::new();
    for place in 0..found.len(0) {
        let (Key::Int(key), Score::Float(score)) = (found.key(0, place), found.score(0, place)) else {
            panic!("types")
        };
        let key = key.cast_unsigned();
        assert!(seen.insert(key), "row {key} twice");
        let fits = |n: i64| {
            let passes = range.is_none_or(|(low, high)| (low..high).contains(&n));
            passes && ((n - at).unsigned_abs() as f32 * 2.0 / 3.0 - score).abs() < 0.1
        };
        let mut possible = window(key).filter_map(|version| number(key, version));
        assert!(possible.any(fits), "row {key} at {score} of {at}, versions {:?}", window(key));
    }
    // Of more rows than are asked for some are missing.
    let Some((low, high)) = range.filter(|(low, high)| high - low <= LIMIT as i64 / 2 * STRIDE.cast_signed()) else {
        return;
    };
    for key in low.cast_unsigned() / STRIDE..=(high.cast_unsigned() / STRIDE).min(KEYS - 1) {
        let versions = window(key);
        let settled = versions.start() == versions.end();
        let passes = number(key, *versions.start()).is_some_and(|n| (low..high).contains(&n));
        assert!(!settled || !passes || seen.contains(&key), "row {key} is missing, versions {versions:?} of {at}");
    }
}

#[test]
fn storm() {
    let operations: u64 = if long() { 10_000_000 } else { 200_000 };
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::open(dir.path(), OsDisk::shared(), TableId::random(), 1 << 17).expect("opens");
    world.tables.start_maintenance(Vec::new(), Arc::new(|_| false));
    let table = world.create(schema(KeyType::Int));
    let wanted = Wanted { distances: vec![Distance::L2], fields: ["n".to_owned()].into() };
    table.want_structures(&wanted);
    let zeroes = || (0..KEYS).map(|_| AtomicU64::new(0)).collect();
    let versions = Versions { begun: zeroes(), acknowledged: zeroes() };
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let (table, versions, done) = (&*table, &versions, &done);
        let more = move |n: u64| done.fetch_add(n, Ordering::Relaxed) < operations;
        for writer in 0..WRITERS {
            scope.spawn(move || {
                let mut random = Random::new(1 + writer);
                while more(CALL) {
                    write(table, versions, writer, &mut random);
                }
            });
        }
        for searcher in 0..SEARCHERS {
            scope.spawn(move || {
                let mut random = Random::new(100 + searcher);
                while more(1) {
                    judge(table, versions, &mut random);
                }
            });
        }
    });
    let progress = table.structure_progress(Distance::L2);
    assert!(progress.built > 0, "structures were searched: {progress:?}");
    println!("{operations} operations, {progress:?}, {} segments", table.stats().segments);
}
