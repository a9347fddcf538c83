//! Search structures of a table: made in the background, found again, thrown away; answers stay what scans answer.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use knarr_base::filter::{Filter, Values};
use knarr_base::id::TableId;
use knarr_base::index::Distance;
use knarr_base::limit;
use knarr_base::search::{Effort, Order, Score, Search};
use knarr_base::value::{Key, KeyType};

use super::search::{find, keys_of, search, vector};
use super::world::*;
use crate::disk::OsDisk;
use crate::disk::fault::{Fault, FaultDisk};
use crate::index::{Found, Planned, Way};
use crate::table::{Progress, Table, Wanted};

const ROWS: i64 = 3000;

fn nearest(n: i64, filter: Filter, limit: usize) -> Search {
    let queries = vec![vector(n).map(|x| x as f32).to_vec()];
    let effort = Effort { candidates: limit::INDEX_SEF_DEFAULT as usize, exact_up_to: None, exact_up_to_ratio: None };
    Search { effort: Some(effort), ..search(Order::Dense { queries, distance: Distance::L2 }, filter, limit, 0) }
}

/// The same question, every row looked at.
fn exactly(search: &Search) -> Search {
    Search { effort: None, ..search.clone() }
}

/// Asks, and asks again with every row looked at: equally near rows, of which there may be several.
fn check(table: &Table, search: &Search) -> Found {
    let (found, exact) = (find(table, search), find(table, &exactly(search)));
    let scores = |found: &Found| -> Vec<f32> {
        let score = |at| if let Score::Float(score) = found.score(0, at) { score } else { f32::NAN };
        (0..found.len(0)).map(score).collect()
    };
    let (found_scores, exact_scores) = (scores(&found), scores(&exact));
    let equal = found_scores.iter().zip(&exact_scores).all(|(a, b)| (a - b).abs() <= 1e-3);
    assert!(equal && found_scores.len() == exact_scores.len(), "{search:?} {found_scores:?} {exact_scores:?}");
    assert_eq!(found.passed(), exact.passed());
    found
}

/// Structures for distances, no postings.
fn wanted(distances: &[Distance]) -> Wanted {
    Wanted { distances: distances.to_vec(), ..Wanted::default() }
}

/// A table of one segment with a structure.
fn built(dir: &Path) -> (World, Arc<Table>) {
    let world = World::new(dir);
    let table = world.create(schema(KeyType::Int));
    upsert_ints(&table, 0..ROWS);
    table.flush().expect("flushes");
    table.want_structures(&wanted(&[Distance::L2]));
    table.structures_in_background();
    (world, table)
}

fn reopen(dir: &Path, world: World) -> (World, Arc<Table>) {
    let id = world.id;
    world.tables.close();
    drop(world);
    let world = World::open(dir, OsDisk::shared(), id, 1 << 20).expect("opens");
    let table = world.tables.table(id).expect("opens");
    (world, table)
}

fn segments(table: &Table, search: &Search) -> Vec<Planned> {
    find(table, search).explain().segments.clone()
}

/// Files below the table's `near`, by their last two names.
fn files(dir: &Path, id: TableId) -> BTreeSet<String> {
    let near = near_dir(dir, id);
    let list = |dir: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(dir).map_or_else(|_| Vec::new(), |all| all.map(|one| one.expect("reads").path()).collect())
    };
    let name = |path: &PathBuf| path.strip_prefix(&near).expect("below").display().to_string();
    list(&near).iter().flat_map(|dir| list(dir)).map(|path| name(&path)).collect()
}

fn near_dir(dir: &Path, id: TableId) -> PathBuf {
    dir.join("tables").join(id.to_string()).join("shard=0000/near")
}

fn structure_file(dir: &Path, id: TableId) -> PathBuf {
    let name = files(dir, id).into_iter().find(|name| name.ends_with(".near")).expect("there is one");
    near_dir(dir, id).join(name)
}

fn structure_of(dir: &Path, world: &World, segment: u64) -> PathBuf {
    structure_file(dir, world.id).with_file_name(format!("{segment:020}.near"))
}

fn flip(path: &Path, at: u64) {
    let mut bytes = std::fs::read(path).expect("reads");
    bytes[at as usize] ^= 1;
    // Not in place: a mapped file must never change.
    std::fs::remove_file(path).expect("removes");
    std::fs::write(path, bytes).expect("writes");
}

#[test]
fn searches_go_through_the_structure_and_answer_as_scans_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_world, table) = built(dir.path());
    let progress = table.structure_progress(Distance::L2);
    assert_eq!((progress.ready, progress.rows, progress.built), (true, 3000, 3000));
    assert!(progress.bytes > 3000 * 2);
    let city = |values: &[&str]| {
        let values = Values::Str(values.iter().map(|value| (*value).to_owned()).collect());
        Filter::In { field: "city".into(), values, negated: false }
    };
    for filter in [Filter::All, n_between(500, 2500), city(&["city1", "city3"]), n_between(7, 9), n_between(-5, -1)] {
        for n in [-100, 0, 333, 1499, 2999, 5000] {
            let found = check(&table, &nearest(n, filter.clone(), 10));
            assert_eq!(found.explain().blocks, 0, "nothing is scanned");
        }
    }
    let [planned] = segments(&table, &nearest(100, Filter::All, 10)).try_into().expect("one segment");
    assert!(planned.way == Way::Cells && planned.scored < 3000, "{planned:?}");
    let [planned] = segments(&table, &nearest(100, n_between(7, 9), 10)).try_into().expect("one segment");
    assert_eq!((planned.way, planned.passed), (Way::Survivors, 2), "{planned:?}");
    let few = Effort { candidates: 800, exact_up_to: Some(2000), exact_up_to_ratio: None };
    let asked = Search { effort: Some(few), ..nearest(100, n_between(500, 2500), 10) };
    let [planned] = segments(&table, &asked).try_into().expect("one segment");
    assert!(planned.way == Way::Survivors, "the caller's bound: {planned:?}");
    let by_ip = Order::Dense { queries: vec![vec![1.0; 4]], distance: Distance::Ip };
    assert!(segments(&table, &search(by_ip, Filter::All, 3, 0)).is_empty(), "another distance is scanned");
}

/// More rows near the query are replaced, deleted and expired than a search wants: none of them is found.
#[test]
fn what_newer_writes_hide_is_not_found_through_a_structure() {
    let dir = tempfile::tempdir().expect("a directory");
    let (world, table) = built(dir.path());
    let moved: Vec<_> = (1000..1100).map(|key| (int(key), row(key + 100_000))).collect();
    upsert(&table, &moved).expect("upserts");
    wait(table.delete((1100..1150).map(int).collect())).expect("deletes");
    let short: Vec<_> = (1150..1200).map(|key| (int(key), row(key))).collect();
    wait(table.upsert(rows(&table.schema(), &short), 5)).expect("upserts");
    let below = || {
        let found = check(&table, &nearest(1060, Filter::All, 4));
        assert_eq!(found.explain().segments.len(), 1);
        assert_eq!(keys_of(&found, 0), [999, 998, 997, 996].map(int));
    };
    below();
    let question = nearest(1190, Filter::All, 3);
    assert_eq!(keys_of(&find(&table, &question), 0), [int(1190), int(1189), int(1191)]);
    world.clock.advance(std::time::Duration::from_secs(6));
    assert_eq!(keys_of(&find(&table, &question), 0), [int(1200), int(1201), int(1202)]);
    // The same once it is all in segments, with masks.
    table.flush().expect("flushes");
    below();
    assert_eq!(keys_of(&find(&table, &question), 0), [int(1200), int(1201), int(1202)]);
    let snapshot = table.snapshot().expect("snapshots");
    delete_matching(&table, &snapshot, &n_between(990, 1000), 1).expect("deletes");
    let found = find(&table, &nearest(1060, Filter::All, 2));
    assert_eq!(keys_of(&found, 0), [int(989), int(988)]);
}

#[test]
fn compaction_brings_the_structure_along() {
    let dir = tempfile::tempdir().expect("a directory");
    let (world, table) = built(dir.path());
    // First with inputs that both have theirs, then with one that is damaged.
    for round in 1..3 {
        let rows: Vec<_> = (0..500).map(|n| (int(n * round * 5), row(n * round * 5))).collect();
        for some in rows.chunks(100) {
            upsert(&table, some).expect("upserts");
        }
        table.flush().expect("flushes");
        table.structures_in_background();
        let held = table.view.load().segments().to_vec();
        assert_eq!(held.len(), 2);
        if round == 2 {
            held.iter().for_each(|held| drop(std::fs::remove_file(structure_of(dir.path(), &world, held.id()))));
            let near = held[1].segment.nears().get(Distance::L2).expect("was built");
            held[1].segment.nears().remove(Distance::L2, &near);
        }
        assert!(table.compact(&held.iter().map(|held| held.id()).collect::<Vec<_>>()).expect("compacts"));
        for n in (0..ROWS).step_by(97) {
            let found = check(&table, &nearest(n, Filter::All, 5));
            assert_eq!((found.explain().blocks, found.explain().segments.len()), (0, 1), "from its first moment on");
        }
        let joined = table.view.load().segments()[0].clone();
        let path = structure_of(dir.path(), &world, joined.id());
        let bytes = std::fs::read(&path).expect("reads");
        let near = joined.segment.nears().get(Distance::L2).expect("came along");
        joined.segment.nears().remove(Distance::L2, &near);
        table.structures_in_background();
        assert_eq!(std::fs::read(&path).expect("reads"), bytes, "as if it had been built from its rows");
    }
    let structures = files(dir.path(), world.id).into_iter().filter(|name| name.ends_with(".near"));
    assert_eq!(structures.count(), 1, "those of the old segments are gone");
}

#[test]
fn structures_are_found_again_and_removed_when_nobody_wants_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let (world, table) = built(dir.path());
    let before = files(dir.path(), world.id);
    assert_eq!(before.len(), 3, "cells, a structure, ready: {before:?}");
    drop(table);
    let (world, table) = reopen(dir.path(), world);
    table.structures_in_background();
    assert_eq!(files(dir.path(), world.id), before, "nothing is removed before it is known what is wanted");
    assert_eq!(table.structure_progress(Distance::L2).built, 0);
    table.want_structures(&wanted(&[Distance::L2]));
    assert_eq!(table.structure_progress(Distance::L2).built, 3000, "mapped at once");
    assert_eq!(segments(&table, &nearest(100, Filter::All, 10)).len(), 1);
    table.want_structures(&wanted(&[Distance::Ip]));
    table.structures_in_background();
    assert_eq!(files(dir.path(), world.id).len(), 6);
    table.keep_structures(&wanted(&[Distance::Ip]));
    table.structures_in_background();
    assert_eq!(files(dir.path(), world.id).len(), 3);
    table.keep_structures(&wanted(&[]));
    table.structures_in_background();
    assert!(files(dir.path(), world.id).is_empty());
    assert!(segments(&table, &nearest(100, Filter::All, 10)).is_empty());
    let empty = Progress { ready: false, rows: 3000, built: 0, bytes: 0 };
    assert_eq!(table.structure_progress(Distance::L2), empty);
}

/// D6 for derived files: whatever byte is wrong, answers are exact and the file is built anew.
#[test]
fn a_damaged_structure_is_answered_around_and_built_anew() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut world, mut table) = built(dir.path());
    let search = nearest(1500, Filter::All, 10);
    let expected = keys_of(&find(&table, &search), 0);
    let path = structure_file(dir.path(), world.id);
    let whole = std::fs::read(&path).expect("reads");
    let cells = path.with_file_name("cells");
    let len = whole.len() as u64;
    let places = [(&path, 3), (&path, 40), (&path, len / 3), (&path, len - 30), (&cells, 5), (&cells, 100)];
    for (file, at) in places {
        drop(table);
        flip(file, at);
        (world, table) = reopen(dir.path(), world);
        table.want_structures(&wanted(&[Distance::L2]));
        for n in (0..ROWS).step_by(50) {
            check(&table, &nearest(n, Filter::All, 3));
        }
        table.structures_in_background();
        assert_eq!(table.structure_progress(Distance::L2).built, 3000, "{} {at}", file.display());
        let found = find(&table, &search);
        assert_eq!((keys_of(&found, 0), found.explain().segments.len()), (expected.clone(), 1));
        if file == &path {
            assert!(std::fs::read(&path).expect("reads") == whole, "built anew, to the byte");
        }
        let generations = std::fs::read_dir(near_dir(dir.path(), world.id)).expect("lists").count();
        assert_eq!(generations, 1);
        // Training anew begins a generation; the next damage goes where it was.
        if !path.exists() {
            break;
        }
    }
}

#[test]
fn a_table_that_has_outgrown_its_cells_is_trained_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let table = world.create(schema(KeyType::Int));
    table.want_structures(&wanted(&[Distance::L2]));
    assert!(table.structure_progress(Distance::L2).ready, "an empty table lacks nothing");
    upsert_ints(&table, 0..300);
    table.flush().expect("flushes");
    table.structures_in_background();
    let generations = || {
        let all = files(dir.path(), world.id).into_iter().map(|name| name.split('/').next().map(str::to_owned));
        all.collect::<BTreeSet<_>>()
    };
    let first = generations();
    upsert_ints(&table, 300..600);
    table.flush().expect("flushes");
    table.structures_in_background();
    assert_eq!(generations(), first, "twice as many rows are no reason");
    upsert_ints(&table, 600..1300);
    table.flush().expect("flushes");
    table.structures_in_background();
    assert_eq!(generations().len(), 1);
    assert_ne!(generations(), first);
    assert_eq!(table.structure_progress(Distance::L2).built, 1300);
    check(&table, &nearest(900, Filter::All, 10));
}

/// Filters are answered by postings as by columns, whatever was deleted, replaced or has expired since; damaged ones are
/// answered around and built anew; a set of more fields replaces the one before.
#[test]
fn filters_go_through_postings() {
    let dir = tempfile::tempdir().expect("a directory");
    let (world, table) = built(dir.path());
    let id = world.id;
    let fields = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let with = |names: &[&str]| Wanted { fields: fields(names), ..wanted(&[Distance::L2]) };
    let sets = || std::fs::read_dir(near_dir(dir.path(), id).with_file_name("post")).map_or(0, |all| all.count());
    assert!(!table.filters_ready(&fields(&["n"])));
    table.want_structures(&with(&["n"]));
    table.structures_in_background();
    assert!(table.filters_ready(&fields(&["n"])) && !table.filters_ready(&fields(&["city"])));
    table.want_structures(&with(&["city", "tags"]));
    table.structures_in_background();
    assert!(table.filters_ready(&fields(&["n", "city", "tags"])));
    assert_eq!(sets(), 1, "one set of fields");
    // A line that the caller draws is held against exact numbers.
    let city3 = Filter::In { field: "city".into(), values: Values::Str(vec!["city3".into()]), negated: false };
    let some = nearest(100, Filter::And(vec![n_between(0, 2500), city3]), 10);
    let passed = find(&table, &exactly(&Search { count: true, ..some.clone() })).passed().expect("counted");
    let effort = Effort { exact_up_to: Some(passed), ..some.effort.expect("it has one") };
    let [planned] = segments(&table, &Search { effort: Some(effort), ..some }).try_into().expect("one segment");
    assert!(passed > 100 && (planned.way, planned.passed) == (Way::Survivors, passed), "{planned:?}");
    upsert(&table, &(0..50).map(|key| (int(key), row(key + 7000))).collect::<Vec<_>>()).expect("upserts");
    wait(table.delete((50..70).map(int).collect())).expect("deletes");
    let short: Vec<_> = (70..90).map(|key| (int(key), row(key))).collect();
    wait(table.upsert(rows(&table.schema(), &short), 5)).expect("upserts");
    let city = Filter::In { field: "city".into(), values: Values::Str(vec!["city3".into()]), negated: false };
    let flag = Filter::In { field: "flag".into(), values: Values::Bool(vec![true]), negated: false };
    let filters = || {
        let and = Filter::And(vec![n_between(20, 2000), city.clone(), flag.clone()]);
        [n_between(30, 120), city.clone(), and, Filter::Or(vec![n_between(0, 9), flag.clone()])]
    };
    let ask = || {
        for (filter, n) in filters().into_iter().zip([60, 80, 100, 75]) {
            for limit in [1, 15, 400] {
                check(&table, &nearest(n, filter.clone(), limit));
            }
        }
    };
    ask();
    world.clock.advance(std::time::Duration::from_secs(6));
    ask();
    table.flush().expect("flushes");
    table.structures_in_background();
    ask();
    let ids: Vec<u64> = table.view.load().segments().iter().map(|held| held.id()).collect();
    assert!(table.compact(&ids).expect("compacts"));
    let [held] = &*table.view.load().segments().to_vec() else { panic!("one segment") };
    assert!(held.segment.nears().postings().is_some(), "brought along");
    ask();
    world.tables.close();
    drop((world, table));
    let post = near_dir(dir.path(), id).with_file_name("post");
    let set = std::fs::read_dir(&post).expect("lists").next().expect("one").expect("reads").path();
    let path = set.join(format!("{:020}.post", held.id()));
    let whole = std::fs::read(&path).expect("reads");
    for at in [9, whole.len() / 4, whole.len() / 2, whole.len() - 20] {
        flip(&path, at as u64);
        let world = World::open(dir.path(), OsDisk::shared(), id, 1 << 20).expect("opens");
        let table = world.tables.table(id).expect("opens");
        table.want_structures(&with(&["n", "city", "tags"]));
        for filter in filters() {
            check(&table, &nearest(100, filter, 15));
        }
        for low in (0..3000).step_by(100) {
            check(&table, &nearest(100, n_between(low, low + 150), 15));
        }
        let near = table.view.load().segments()[0].segment.nears().get(Distance::L2);
        assert!(near.is_some(), "byte {at}: the structure is none the worse");
        // What no question came to is found when codes are arranged, or by nobody; the file is made anew where one did.
        table.structures_in_background();
        let posted = table.view.load().segments()[0].segment.nears().postings();
        assert!(near.unwrap().arranged(&posted.expect("made anew")).is_some(), "byte {at}: of these postings");
        check(&table, &nearest(100, n_between(30, 120), 15));
        world.tables.close();
        std::fs::write(&path, &whole).expect("writes");
    }
}

/// What is in memory is scanned by every search, so it does not stay there for ever.
#[test]
fn rows_that_nobody_adds_to_are_flushed() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_world, table) = built(dir.path());
    upsert_ints(&table, ROWS..ROWS + 100);
    let in_memory = || table.view.load().memtable.read().keys();
    table.flush_when_idle();
    assert_eq!(in_memory(), 100, "just written");
    upsert_ints(&table, ROWS..ROWS + 1);
    table.flush_when_idle();
    assert_eq!(in_memory(), 100, "still written to");
    table.flush_when_idle();
    assert_eq!(in_memory(), 0);
    upsert_ints(&table, ROWS..ROWS + 2);
    (0..3).for_each(|_| table.flush_when_idle());
    assert_eq!(in_memory(), 2, "too few for a structure");
    check(&table, &nearest(ROWS + 50, Filter::All, 5));
}

/// A structure that cannot be written costs nothing but time.
#[test]
fn without_room_for_structures_everything_else_goes_on() {
    let root = tempfile::tempdir().expect("a directory");
    let disk = FaultDisk::new(root.path());
    let world = World::open(root.path(), disk.clone(), TableId::random(), 1 << 20).expect("opens");
    let table = world.create(schema(KeyType::Int));
    upsert_ints(&table, 0..ROWS);
    table.flush().expect("flushes");
    for (operation, part) in [("create_dir", "near"), ("create", "cells"), ("write", ".near"), ("sync", ".near")] {
        disk.fail_every_matching(operation, part, Fault::Full);
        table.want_structures(&wanted(&[Distance::L2]));
        table.structures_in_background();
        let found = find(&table, &nearest(5, Filter::All, 1));
        assert_eq!((keys_of(&found, 0), found.explain().segments.len()), (vec![int(5)], 0), "{operation} {part}");
        assert!(!table.structure_progress(Distance::L2).ready);
        assert!(!files(root.path(), world.id).iter().any(|name| name.ends_with(".near")), "no half file stays");
        upsert_ints(&table, ROWS..ROWS + 10);
        assert!(disk.heal());
    }
    table.structures_in_background();
    assert_eq!(find(&table, &nearest(5, Filter::All, 1)).explain().segments.len(), 1);
    let keys: Vec<Key> = keys_of(&find(&table, &nearest(ROWS + 3, Filter::All, 1)), 0);
    assert_eq!(keys, [int(ROWS + 3)]);
}

/// Two segments of a kind, then a small one that has all that is near: it looks as far as it would alone. Rows that pass are
/// few enough to be listed; some of them are dead, and some hidden by newer rows.
#[test]
fn few_rows_that_pass_are_listed_and_found_in_every_segment() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_world, table) = built(dir.path());
    for part in 1..5 {
        upsert_ints(&table, ROWS * part * 4..ROWS * (part + 1) * 4);
        table.flush().expect("flushes");
    }
    let with = Wanted { fields: ["n".to_owned()].into(), ..wanted(&[Distance::L2]) };
    table.want_structures(&with);
    table.structures_in_background();
    wait(table.delete((12_010..12_030).map(int).collect())).expect("deletes");
    table.flush().expect("flushes");
    upsert(&table, &(12_040..12_050).map(|key| (int(key), row(key + 90_000))).collect::<Vec<_>>()).expect("upserts");
    let (mut ways, mut wanted, mut got) = (BTreeSet::new(), 0, 0);
    for from in [12_000, 23_900, 30_000, 59_950] {
        for filter in [n_between(from, from + 140), n_between(from, from + 60), n_between(from - 400, from + 900)] {
            for n in [from + 5, from + 45, from + 130, 0] {
                let asked = nearest(n, filter.clone(), 10);
                let found = find(&table, &asked);
                let (keys, exact) = (keys_of(&found, 0), keys_of(&find(&table, &exactly(&asked)), 0));
                // Scanning knows which rows live and pass; the best of all of them are a few rows more.
                let all = keys_of(&find(&table, &exactly(&Search { limit: 2000, ..asked.clone() })), 0);
                assert!(keys.iter().all(|key| all.contains(key)), "{filter:?} {n}: {keys:?}");
                wanted += exact.len();
                got += exact.iter().filter(|key| keys.contains(key)).count();
                ways.extend(found.explain().segments.iter().map(|planned| format!("{:?}", planned.way)));
            }
        }
    }
    assert!(ways.contains("Nearest"), "{ways:?}");
    assert!(got * 100 >= wanted * 95, "{got} of {wanted} are found");
}
