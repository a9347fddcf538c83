//! Searches against a naive model, called after every step of the model's random walk, and what only they promise.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use knarr_base::filter::{Filter, Values};
use knarr_base::index::Distance;
use knarr_base::schema::FieldType;
use knarr_base::search::{Aggregate, Effort, Order, Post, PostOp, Score, Search, Sparse};
use knarr_base::value::{Key, KeyType, Number, Value};
use knarr_base::{Kind, limit};

use super::world::*;
use crate::compute::Cancel;
use crate::index::{Found, Group, Way};
use crate::rows::Projection;
use crate::table::Table;

const EFFORT: Effort = Effort { candidates: 10, exact_up_to: None, exact_up_to_ratio: None };

pub(super) fn search(order: Order, filter: Filter, limit: usize, offset: usize) -> Search {
    Search { order, filter, limit, offset, post: Post::default(), count: true, effort: Some(EFFORT) }
}

pub(super) fn find(table: &Table, search: &Search) -> Found {
    table.search(search, &Cancel::new()).expect("finds")
}

pub(super) fn keys_of(found: &Found, list: usize) -> Vec<Key> {
    (0..found.len(list)).map(|at| found.key(list, at).clone()).collect()
}

/// A filter as a function.
type Passes = Box<dyn Fn(&Row) -> bool>;

/// Filters, each with the same as a function.
fn filters(salt: i64) -> Vec<(Filter, Passes)> {
    let low = salt.rem_euclid(50);
    let cities: Vec<_> = [salt.rem_euclid(7), (salt + 2).rem_euclid(7)].map(|n| format!("city{n}")).to_vec();
    let within = |field: &str, values, negated| Filter::In { field: field.to_owned(), values, negated };
    let listed = cities.clone();
    let (also, tag) = (cities.clone(), format!("t{}", salt.rem_euclid(3)));
    let tagged = salt.rem_euclid(3);
    vec![
        (Filter::All, Box::new(|_| true)),
        (n_between(low, low + 30), Box::new(move |row| (low..low + 30).contains(&row.n))),
        (within("city", Values::Str(cities.clone()), false), Box::new(move |row| listed.contains(&row.city))),
        (
            Filter::And(vec![within("city", Values::Str(cities), true), within("tags", Values::Str(vec![tag]), false)]),
            Box::new(move |row| !also.contains(&row.city) && row.n.rem_euclid(4) > tagged),
        ),
        (within("flag", Values::Empty, false), Box::new(|_| false)),
    ]
}

pub(super) fn vector(n: i64) -> [f64; 4] {
    [0, 1, 2, 3].map(|i| f64::from((n + i) as f32 / 3.0))
}

fn expected_score(distance: Distance, query: [f64; 4], n: i64) -> f64 {
    let pairs = || query.into_iter().zip(vector(n));
    let dot: f64 = pairs().map(|(a, b)| a * b).sum();
    let length = |v: [f64; 4]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
    match distance {
        Distance::Ip => dot,
        Distance::L2 => pairs().map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt(),
        Distance::Cosine if length(query) * length(vector(n)) == 0.0 => 0.0,
        Distance::Cosine => dot / length(query) / length(vector(n)),
    }
}

fn float(score: Score) -> f64 {
    match score {
        Score::Float(x) => f64::from(x),
        Score::Int(n) => n as f64,
    }
}

/// The answer has the right rows in the right order, given what each row's score must be; `sign` 1: greatest first.
fn check_ranked(found: &Found, list: usize, rows: &BTreeMap<Key, f64>, search: &Search, sign: f64) {
    let keys = keys_of(found, list);
    let distinct: BTreeSet<_> = keys.iter().collect();
    assert_eq!(distinct.len(), keys.len(), "no row twice");
    assert_eq!(keys.len(), rows.len().saturating_sub(search.offset).min(search.limit), "{search:?}");
    assert_eq!(found.passed(), Some(rows.len() as u64), "{search:?}");
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-4 * (1.0 + a.abs());
    let mut last: Option<(f64, &Key)> = None;
    for (at, key) in keys.iter().enumerate() {
        let score = float(found.score(list, at));
        let expected = rows.get(key).unwrap_or_else(|| panic!("{key} must not be found by {search:?}"));
        assert!(close(score, *expected), "{key}: {score} is not {expected} in {search:?}");
        if let Some((before, key_before)) = last {
            assert!(sign * before > sign * score || (before == score && key_before < key), "order of {search:?}");
        }
        last = Some((score, key));
    }
    // Nothing better was left out, but for the offset; where codes chose what to score, it may have been.
    if let Some((worst, _)) =
        last.filter(|_| found.explain().segments.iter().all(|planned| planned.way == Way::Survivors))
    {
        let better = rows
            .iter()
            .filter(|(key, score)| !distinct.contains(key) && sign * **score > sign * worst && !close(**score, worst));
        assert!(better.count() <= search.offset, "{search:?}");
    }
}

/// Everything that searches promise of these live rows. `salt` varies the questions.
pub(super) fn check(table: &Table, live: &BTreeMap<Key, Row>, salt: i64) {
    let query = vector(salt.rem_euclid(90) - 20);
    let asked: Vec<f32> = query.iter().map(|x| *x as f32).collect();
    let (limit, offset) = (1 + salt.rem_euclid(12) as usize, salt.rem_euclid(3) as usize);
    for (filter, passes) in filters(salt) {
        let passing: BTreeMap<_, _> = live.iter().filter(|(_, row)| passes(row)).collect();
        let scored = |score: &dyn Fn(&Row) -> f64| {
            passing.iter().map(|(key, row)| ((*key).clone(), score(row))).collect::<BTreeMap<_, _>>()
        };
        for distance in [Distance::Ip, Distance::L2, Distance::Cosine] {
            let queries = vec![asked.clone(), vec![0.5; 4]];
            let search = search(Order::Dense { queries, distance }, filter.clone(), limit, offset);
            let sign = if distance == Distance::L2 { -1.0 } else { 1.0 };
            // Through structures where there are any, then by every row.
            for search in [search.clone(), Search { effort: None, ..search }] {
                let found = find(table, &search);
                assert_eq!(found.lists(), 2);
                check_ranked(&found, 0, &scored(&|row| expected_score(distance, query, row.n)), &search, sign);
                check_ranked(&found, 1, &scored(&|row| expected_score(distance, [0.5; 4], row.n)), &search, sign);
            }
        }
        check_hybrid(table, &filter, &scored(&|row| hybrid_score(query, row.n, salt)), (&asked, salt), limit);
        for (field, descending) in [("n", true), ("n", false), ("score", true), ("score", false)] {
            let order = Order::Scalar { field: field.to_owned(), descending };
            let search = search(order, filter.clone(), limit, offset);
            let value = |row: &Row| if field == "n" { row.n as f64 } else { row.n as f64 * 0.5 };
            let sign = if descending { 1.0 } else { -1.0 };
            check_ranked(&find(table, &search), 0, &scored(&value), &search, sign);
        }
        let search = search(Order::Random { seed: salt.cast_unsigned() }, filter.clone(), limit, offset);
        let found = keys_of(&find(table, &search), 0);
        assert!(found.iter().all(|key| passing.contains_key(key)));
        assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), passing.len().saturating_sub(offset).min(limit));
        check_counts(table, &filter, &passing);
        check_fetch(table, &filter, &passing, live);
    }
}

fn hybrid_score(query: [f64; 4], n: i64, salt: i64) -> f64 {
    let sparse = if n % 2 == 0 && n == salt.rem_euclid(100) { 0.5 * 40.0 } else { 0.0 };
    0.5 * expected_score(Distance::Ip, query, n) + 0.5 * sparse
}

fn check_hybrid(
    table: &Table,
    filter: &Filter,
    scored: &BTreeMap<Key, f64>,
    (query, salt): (&[f32], i64),
    limit: usize,
) {
    let sparse = Sparse::new(vec![(format!("w{}", salt.rem_euclid(100)), 40.0)]).expect("valid");
    let queries = vec![(query.to_vec(), sparse)];
    let order = Order::Hybrid { queries, distance: Distance::Ip, dense_weight: 0.5 };
    let search = search(order, filter.clone(), limit, 0);
    check_ranked(&find(table, &search), 0, scored, &search, 1.0);
}

fn check_counts(table: &Table, filter: &Filter, passing: &BTreeMap<&Key, &Row>) {
    let count = |field: Option<&str>, more_than| {
        let group_by = field.map(str::to_owned);
        table.aggregate(&Aggregate { filter: filter.clone(), group_by, more_than }, &Cancel::new()).expect("counts")
    };
    assert_eq!(count(None, None).total, passing.len() as u64);
    let mut cities: BTreeMap<String, u64> = BTreeMap::new();
    let mut numbers: BTreeMap<i64, u64> = BTreeMap::new();
    for row in passing.values() {
        *cities.entry(row.city.clone()).or_default() += 1;
        *numbers.entry(row.n).or_default() += 1;
    }
    let several = cities.into_iter().filter(|(_, rows)| *rows > 1);
    let expected: Vec<_> = several.map(|(city, rows)| Group { value: Value::Str(city), rows }).collect();
    assert_eq!(count(Some("city"), Some(Number::Int(1))).groups, expected);
    let expected: Vec<_> = numbers.into_iter().map(|(n, rows)| Group { value: Value::Int(n), rows }).collect();
    assert_eq!(count(Some("n"), None).groups, expected);
    let flags: u64 = count(Some("flag"), None).groups.iter().map(|group| group.rows).sum();
    assert_eq!(flags, passing.len() as u64);
}

fn check_fetch(table: &Table, filter: &Filter, passing: &BTreeMap<&Key, &Row>, live: &BTreeMap<Key, Row>) {
    let keys: Vec<_> = live.keys().take(100).cloned().collect();
    let fetched = table.fetch_matching(keys.clone(), filter).expect("fetches");
    for (at, key) in keys.iter().enumerate() {
        assert_eq!(fetched.found(at), passing.contains_key(key), "{key}");
        let expected = passing.get(key).map(|row| vector(row.n).map(|x| x as f32).to_vec());
        assert_eq!(fetched.vector(at).map(<[f32]>::to_vec), expected, "bit-exact");
    }
}

fn everything() -> Search {
    search(Order::Random { seed: 1 }, Filter::All, limit::SEARCH_LIMIT, 0)
}

#[test]
fn an_acknowledged_row_is_found_by_the_next_search() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let table = world.create(schema(KeyType::Int));
    for n in 0..30 {
        upsert(&table, &[(int(n), row(n))]).expect("upserts");
        let nearest = Order::Dense { queries: vec![vector(n).map(|x| x as f32).to_vec()], distance: Distance::L2 };
        let found = find(&table, &search(nearest, Filter::All, 1, 0));
        assert_eq!((keys_of(&found, 0), found.score(0, 0)), (vec![int(n)], Score::Float(0.0)));
        if n % 10 == 9 {
            table.flush().expect("flushes");
        }
    }
    wait(table.delete(vec![int(3), int(29)])).expect("deletes");
    let snapshot = table.snapshot().expect("snapshots");
    delete_matching(&table, &snapshot, &n_between(10, 20), 1).expect("deletes");
    wait(table.upsert(rows(&table.schema(), &[(int(50), row(50))]), 5)).expect("upserts");
    let found = || keys_of(&find(&table, &everything()), 0).into_iter().collect::<BTreeSet<_>>();
    let expected: BTreeSet<_> = (0..30).filter(|n| *n != 3 && *n != 29 && !(10..20).contains(n)).map(int).collect();
    let with = |more: i64| expected.iter().cloned().chain([int(more)]).collect::<BTreeSet<_>>();
    assert_eq!(found(), with(50));
    world.clock.advance(Duration::from_secs(6));
    assert_eq!(found(), expected);
    wait(table.truncate()).expect("truncates");
    assert!(found().is_empty());
}

/// Rows that were stored before a field was added are shown as a fetch shows them, from segments and from memory.
#[test]
fn found_rows_have_the_fields_that_were_added_since() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let table = world.create(schema(KeyType::Int));
    upsert_ints(&table, 0..40);
    table.flush().expect("flushes");
    upsert_ints(&table, 40..60);
    table.add_fields(vec![field("extra", FieldType::String)]).expect("adds a field");
    upsert_ints(&table, 60..70);
    let found = find(&table, &everything());
    let names: Vec<_> = table.schema().fields().iter().map(|field| field.name.to_string()).collect();
    let shown: Vec<_> = names.iter().map(|name| (name.as_str(), name.as_str())).collect();
    let projection = Projection::new(&table.schema(), &shown, false).expect("known fields");
    assert_eq!(found.len(0), 70);
    for at in 0..70 {
        let (mut searched, mut fetched) = (Vec::new(), Vec::new());
        found.write_members(0, at, &projection, &mut searched);
        table.fetch(vec![found.key(0, at).clone()]).expect("fetches").write_chosen(0, &projection, &mut fetched);
        assert_eq!(String::from_utf8_lossy(&searched), String::from_utf8_lossy(&fetched));
    }
}

/// Two writers replace the same rows again and again, one call at a time, while others search: every search sees each
/// row once, and each call whole.
#[test]
fn searches_see_each_row_once_while_it_is_rewritten() {
    const KEYS: i64 = 40;
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let table = world.create(schema(KeyType::Int));
    let write = |n: i64| {
        let content: Vec<_> = (0..KEYS).map(|key| (int(key), row(n))).collect();
        upsert(&table, &content).expect("upserts");
    };
    write(0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..150 {
                write(n);
                match n % 20 {
                    5 => table.flush().expect("flushes"),
                    15 => drop(table.compact_while_due().expect("compacts")),
                    _ => {}
                }
            }
            stop.store(true, Ordering::Release);
        });
        scope.spawn(|| {
            let by_n = search(Order::Scalar { field: "n".into(), descending: true }, Filter::All, 100, 0);
            let mut last = 0.0;
            while !stop.load(Ordering::Acquire) {
                let found = find(&table, &by_n);
                let scores: BTreeSet<_> = (0..found.len(0)).map(|at| float(found.score(0, at)) as i64).collect();
                assert_eq!((found.len(0), scores.len()), (KEYS as usize, 1), "one call, seen whole");
                assert!(float(found.score(0, 0)) >= last, "never an older state");
                last = float(found.score(0, 0));
                assert_eq!(found.passed(), Some(KEYS as u64));
            }
        });
    });
}

#[test]
fn operations_run_in_order_on_the_ranked_rows() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let table = world.create(schema(KeyType::Int));
    upsert_ints(&table, 0..70);
    let with = |ops: Vec<PostOp>, input, limit| {
        let order = Order::Scalar { field: "n".into(), descending: false };
        let search = Search { post: Post { ops, input }, ..search(order, Filter::All, limit, 0) };
        keys_of(&find(&table, &search), 0)
    };
    let city = || "city".to_owned();
    let matches = |pattern: &str| PostOp::Match { field: city(), pattern: pattern.to_owned() };
    let per_city = |threshold| PostOp::PerValue { field: city(), threshold };
    let ints = |all: &[i64]| all.iter().copied().map(int).collect::<Vec<_>>();
    assert_eq!(with(vec![matches("y[35]$")], 20, 10), ints(&[3, 5, 10, 12, 17, 19]));
    assert_eq!(with(vec![matches("y[35]$")], 20, 2), ints(&[3, 5]));
    let contain = PostOp::Contain { field: city(), pattern: "ty4".to_owned() };
    assert_eq!(with(vec![contain], 30, 10), ints(&[4, 11, 18, 25]));
    let like = PostOp::Like { field: city(), pattern: "%6".to_owned() };
    assert_eq!(with(vec![like], 14, 10), ints(&[6, 13]));
    assert_eq!(with(vec![per_city(1)], 70, 10), ints(&[0, 1, 2, 3, 4, 5, 6]));
    assert_eq!(with(vec![matches("[01]"), per_city(2)], 70, 10), ints(&[0, 1, 7, 8]));
    let refused = |pattern: &str| {
        let post = Post { ops: vec![matches(pattern)], input: 10 };
        let search = Search { post, ..everything() };
        table.search(&search, &Cancel::new()).expect_err("refused").kind()
    };
    for bomb in ["(a+)+(", r"\w{1000}{100}", r"(a)\1", "((((((a{50}){50}){50}){50}){50}){50})"] {
        assert_eq!(refused(bomb), Kind::Invalid, "{bomb}");
    }
}

#[test]
fn a_cancelled_search_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let table = world.create(schema(KeyType::Int));
    upsert_ints(&table, 0..10);
    let cancel = Cancel::new();
    cancel.cancel();
    assert!(matches!(table.search(&everything(), &cancel), Err(crate::Error::Cancelled)));
    let all = Aggregate { filter: Filter::All, group_by: None, more_than: None };
    assert!(matches!(table.aggregate(&all, &cancel), Err(crate::Error::Cancelled)));
}
