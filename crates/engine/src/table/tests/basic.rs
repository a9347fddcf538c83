//! One thing at a time.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::time::Duration;

use knarr_base::Kind;
use knarr_base::id::TableId;
use knarr_base::schema::{FieldType, Schema};
use knarr_base::value::{KeyType, Value};
use serde_json::json;

use super::world::*;
use crate::disk::OsDisk;
use crate::error::Error;
use crate::rows::Rows;
use crate::table::FAILPOINTS;

#[test]
fn rows_survive_flush_and_reopen() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let table = world.create(schema(KeyType::Int));
    upsert_ints(&table, 0..250);
    let keys: Vec<_> = (0..300).map(int).collect();
    let expected: Vec<_> = (0..300).map(|n| (n < 250).then(|| row(n))).collect();
    assert_eq!(fetch(&table, &keys).expect("fetches"), expected);
    let snapshot = table.snapshot().expect("flushes");
    assert_eq!((snapshot.rows(), snapshot.seq()), (250, 3));
    assert_eq!(fetch(&table, &keys).expect("fetches"), expected);
    upsert(&table, &[(int(7), row(1007))]).expect("upserts");
    wait(table.delete(vec![int(8)])).expect("deletes");
    drop((snapshot, table));
    let id = world.id;
    drop(world);

    let world = World::open(dir.path(), OsDisk::shared(), id, 1 << 20).expect("opens");
    let table = world.tables.table(id).expect("opens");
    let found = fetch(&table, &[int(6), int(7), int(8)]).expect("fetches");
    assert_eq!(found, vec![Some(row(6)), Some(row(1007)), None]);
    let snapshot = table.snapshot().expect("flushes");
    assert_eq!(snapshot.rows(), 249);
    let rows = scan(&snapshot).expect("scans");
    assert_eq!(rows.len(), 249);
    assert_eq!(rows[&int(7)], (row(1007), 4));
}

#[test]
fn added_fields_read_their_default_everywhere() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let table = world.create(schema(KeyType::Int));
    let value = |key: i64, name: &str| {
        let fetched = table.fetch(vec![int(key)]).expect("fetches");
        let mut text = Vec::new();
        fetched.write_members(0, &mut text);
        let row: serde_json::Value =
            serde_json::from_str(&format!("{{{}}}", String::from_utf8_lossy(&text))).expect("json");
        row[name].clone()
    };
    upsert_ints(&table, 0..3);
    table.flush().expect("flushes");
    upsert_ints(&table, 10..13);
    let mut level = field("level", FieldType::Int64);
    level.default = Some(Value::Int(5));
    table.add_fields(vec![level, field("label", FieldType::String)]).expect("adds");
    upsert_ints(&table, 20..23);
    for _ in 0..2 {
        for key in [1, 11, 21] {
            assert_eq!((value(key, "level"), value(key, "label")), (json!(5), json!("default")), "key {key}");
        }
        table.flush().expect("flushes");
    }
    let clash = table.add_fields(vec![field("level", FieldType::Bool)]).expect_err("another type");
    assert_eq!(clash.kind(), Kind::Invalid);
    let version = table.stats().manifest_version;
    table.add_fields(vec![field("label", FieldType::String)]).expect("nothing to do");
    assert_eq!(table.stats().manifest_version, version);
    let snapshot = table.snapshot().expect("snapshots");
    assert_eq!(scan(&snapshot).expect("scans").len(), 9);
}

#[test]
fn one_process_per_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let second = World::open(dir.path(), OsDisk::shared(), world.id, 1 << 20).map(drop);
    assert!(matches!(second, Err(Error::Locked)), "{second:?}");
    drop(world);
    World::new(dir.path());
}

#[test]
fn tables_are_born_and_die() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let table = world.create(schema(KeyType::Str));
    upsert(&table, &[(key(KeyType::Str, 1), row(1))]).expect("upserts");
    let again = world.tables.create(world.id, schema(KeyType::Int)).map(drop);
    assert!(matches!(again, Err(Error::TableExists(_))), "{again:?}");
    let (other, orphan) = (TableId::random(), TableId::random());
    world.tables.create(other, schema(KeyType::Int)).expect("creates");
    drop(world.tables.create(orphan, schema(KeyType::Int)).expect("creates"));
    assert_eq!(world.tables.sweep(&[world.id, other].into(), &HashSet::new()).expect("sweeps").len(), 1);
    assert!(matches!(world.tables.table(orphan), Err(Error::TableMissing(_))));
    // Rows are removed only where it was said that they may be.
    let refused = world.tables.sweep(&HashSet::new(), &[other].into()).expect_err("rows without a name");
    assert!(matches!(refused, Error::TableUnknown(id) if id == world.id), "{refused:?}");
    assert!(world.tables.table(world.id).is_ok() && world.tables.table(other).is_ok());
    let swept = world.tables.sweep(&[other].into(), &[world.id].into()).expect("sweeps");
    assert_eq!(swept, [world.id]);
    world.tables.drop_table(world.id).expect("drops again");
    assert!(matches!(world.tables.table(world.id), Err(Error::TableMissing(_))));
    assert!(matches!(upsert(&table, &[(key(KeyType::Str, 1), row(1))]), Err(Error::Stopped)));
    assert!(world.tables.table(other).is_ok());
}

#[test]
fn expired_rows_are_hidden_then_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let table = world.create(schema(KeyType::Int));
    upsert_ints(&table, 0..10);
    table.flush().expect("flushes");
    let short_lived: Vec<_> = (0..5).map(|n| (int(n), row(n + 50))).collect();
    wait(table.upsert(rows(&table.schema(), &short_lived), 10)).expect("upserts");
    let snapshot = table.snapshot().expect("snapshots");
    world.clock.advance(Duration::from_secs(11));
    // The expired newest version hides the older one for good.
    assert_eq!(fetch(&table, &[int(2), int(7)]).expect("fetches"), vec![None, Some(row(7))]);
    assert_eq!(scan(&snapshot).expect("scans").len(), 10, "a snapshot is of its own time");
    assert_eq!(table.compact_while_due().expect("compacts"), 2, "both segments are worn out");
    assert_eq!(table.snapshot().expect("snapshots").rows(), 5);
    assert_eq!(scan(&snapshot).expect("scans").len(), 10);
}

#[test]
fn a_scrub_finds_what_the_cache_hides() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let table = world.create(schema(KeyType::Int));
    upsert_ints(&table, 0..100);
    table.flush().expect("flushes");
    assert_eq!(fetch(&table, &[int(50)]).expect("fetches"), vec![Some(row(50))]);
    assert_eq!(table.scrub(), Vec::<u64>::new());
    let file = table.layout.segment(1);
    let mut bytes = std::fs::read(&file).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).expect("writes");
    assert_eq!(table.scrub(), vec![1]);
    assert_eq!(fetch(&table, &[int(50)]).map_err(|e| e.kind()), Err(Kind::Corrupt));
}

/// The list that the kill loop walks is the list of places in the sources.
#[test]
fn failpoints_are_listed() {
    fn names_below(dir: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(dir).expect("lists") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                names_below(&path, found);
            } else {
                let text = std::fs::read_to_string(&path).expect("reads");
                let calls = text.split("fail_point!(\"").skip(1);
                found.extend(calls.filter_map(|call| call.split('"').next()).map(str::to_owned));
            }
        }
    }
    let mut found = BTreeSet::new();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    names_below(&sources.join("log"), &mut found);
    names_below(&sources.join("table"), &mut found);
    let log = std::fs::read_to_string(sources.join("log.rs")).expect("reads");
    found.extend(log.split("fail_point!(\"").skip(1).filter_map(|call| call.split('"').next()).map(str::to_owned));
    found.retain(|name| name.contains("::"));
    assert_eq!(found, FAILPOINTS.iter().map(|name| (*name).to_owned()).collect());
}

/// Empty strings weigh nothing as row bytes, but a call of millions of them is more than a log record holds.
#[test]
fn calls_larger_than_a_record_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let lists = (0..12).map(|n| field(&format!("list{n}"), FieldType::StringList));
    let schema = Schema::new([field("id", FieldType::Int64)].into_iter().chain(lists).collect(), "id").expect("valid");
    let table = world.create(schema);
    let list = format!("[{}]", vec!["\"\""; 4096].join(","));
    let members: String = (0..12).map(|n| format!(",\"list{n}\":{list}")).collect();
    let rows: Vec<_> = (0..100).map(|id| format!("{{\"id\":{id}{members}}}")).collect();
    let rows = Rows::decode_upsert(&table.schema(), &format!("[{}]", rows.join(","))).expect("valid rows");
    let refused = wait(table.upsert(rows, 0)).expect_err("too large");
    assert_eq!(refused.kind(), Kind::TooLarge, "{refused:?}");
    assert_eq!(table.stats().seq, 0);
}
