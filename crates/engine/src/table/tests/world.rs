//! A table in a temporary directory, rows as plain values, and a naive model to compare with.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use knarr_base::clock::{ManualClock, SharedClock};
use knarr_base::filter::{Bounds, Filter};
use knarr_base::id::{Name, TableId, TaskId};
use knarr_base::schema::{AUTO_ID, Field, FieldType, PrimaryKey, Schema};
use knarr_base::value::{Key, KeyType, Number};
use serde_json::{Map, Value, json};

use crate::columns;
use crate::compute::{Cancel, Meter, Pool};
use crate::disk::{Disk, OsDisk};
use crate::error::Result;
use crate::rows::{RowPrinter, Rows};
use crate::scan::Source;
use crate::table::view::seq_of;
use crate::table::{Deleted, Options, Publication, Snapshot, Table, Tables};

/// The visible fields of a row that tests look at; the other columns are derived from `n`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) n: i64,
    pub(super) city: String,
}

pub(super) fn row(n: i64) -> Row {
    Row { n, city: format!("city{}", n.rem_euclid(7)) }
}

pub(super) fn field(name: &str, kind: FieldType) -> Field {
    Field { name: Name::parse("field_name", name).expect("valid"), kind, default: None, pipeline: None }
}

/// Every field type; key `id`.
pub(super) fn schema(key: KeyType) -> Schema {
    let id = match key {
        KeyType::Int => FieldType::Int64,
        KeyType::Str => FieldType::String,
    };
    Schema::new(payload_fields(Some(id)), "id").expect("valid")
}

pub(super) fn auto_schema() -> Schema {
    Schema::new(payload_fields(None), AUTO_ID).expect("valid")
}

fn payload_fields(id: Option<FieldType>) -> Vec<Field> {
    let mut fields: Vec<_> = id.into_iter().map(|kind| field("id", kind)).collect();
    fields.extend([
        field("n", FieldType::Int64),
        field("city", FieldType::String),
        field("tags", FieldType::StringList),
        field("nums", FieldType::Int64List),
        field("score", FieldType::Float32),
        field("flag", FieldType::Bool),
        field("vector", FieldType::Vector { dim: 4 }),
        field("sparse", FieldType::SparseVector),
        field("note", FieldType::Text),
    ]);
    fields
}

pub(super) fn int(n: i64) -> Key {
    Key::Int(n)
}

/// Key number `n` of a type; strings do not sort like numbers.
pub(super) fn key(kind: KeyType, n: i64) -> Key {
    match kind {
        KeyType::Int => Key::Int(n),
        KeyType::Str => Key::Str(format!("k{n}").into()),
    }
}

fn key_json(key: &Key) -> Value {
    match key {
        Key::Int(n) => json!(n),
        Key::Str(s) => json!(s),
    }
}

/// The other members of a row, all of them.
fn members(row: &Row) -> Map<String, Value> {
    let n = row.n;
    let floats: Vec<f32> = (0..4).map(|i| (n + i) as f32 / 3.0).collect();
    let members = json!({
        "n": n,
        "city": row.city,
        "tags": (0..n.rem_euclid(4)).map(|i| format!("t{i}")).collect::<Vec<_>>(),
        "nums": (0..n.rem_euclid(3)).map(|i| n + i).collect::<Vec<_>>(),
        "score": n as f32 * 0.5,
        "flag": n % 2 == 0,
        "vector": floats,
        "sparse": (n % 2 == 0).then(|| json!({ format!("w{n}"): 0.5 })),
        "note": (n % 3 != 0).then(|| "x".repeat(n.rem_euclid(50) as usize)),
    });
    match members {
        Value::Object(members) => members,
        _ => unreachable!("made above"),
    }
}

/// Whole rows of a call. Fields that the schema gained are left out. No keys for a generated key.
pub(super) fn rows(schema: &Arc<Schema>, content: &[(Key, Row)]) -> Rows {
    let object = |(key, row): &(Key, Row)| {
        let mut all = members(row);
        if schema.primary_key() != PrimaryKey::Auto {
            all.insert("id".to_owned(), key_json(key));
        }
        Value::Object(all)
    };
    let text = Value::Array(content.iter().map(object).collect()).to_string();
    Rows::decode_upsert(schema, &text).expect("valid rows")
}

/// A call that sets only `city`.
pub(super) fn new_cities(schema: &Arc<Schema>, content: &[(Key, String)]) -> Rows {
    let object = |(key, city): &(Key, String)| json!({ schema.key_name(): key_json(key), "city": city });
    let text = Value::Array(content.iter().map(object).collect()).to_string();
    Rows::decode_update(schema, &text).expect("valid rows")
}

/// What a printed row says, checked as a whole: every derived member must fit `n`.
fn parse_row(members_text: &[u8]) -> Row {
    let text = format!("{{{}}}", std::str::from_utf8(members_text).expect("utf-8"));
    let found: Map<String, Value> = serde_json::from_str(&text).expect("json");
    let n = found["n"].as_i64().expect("an integer");
    let city = found["city"].as_str().expect("a string").to_owned();
    let row = Row { n, city };
    for (name, expected) in members(&row) {
        // Numbers are compared as the float32 that they are.
        let narrow = |value: &Value| value.to_string().parse::<f32>().map_err(|_| value.clone());
        let list = |value: &Value| value.as_array().map(|all| all.iter().map(narrow).collect::<Vec<_>>());
        match list(&expected) {
            Some(expected) => assert_eq!(list(&found[&name]), Some(expected), "member {name} of row {n}"),
            None => assert_eq!(narrow(&found[&name]), narrow(&expected), "member {name} of row {n}"),
        }
    }
    row
}

/// `low <= n < high`.
pub(super) fn n_between(low: i64, high: i64) -> Filter {
    let bounds = Bounds { gte: Some(Number::Int(low)), lt: Some(Number::Int(high)), ..Bounds::default() };
    Filter::Range { field: "n".to_owned(), bounds, outside: false }
}

/// Rows of a segment from which it gets structures.
pub(super) const STRUCTURE_ROWS: u32 = 5;

pub(super) const START_MS: i64 = 1_700_000_000_000;

/// Tables in a directory.
pub(super) struct World {
    pub(super) tables: Arc<Tables>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) id: TableId,
}

pub(super) fn options(dir: &Path, disk: Arc<dyn Disk>, clock: Arc<ManualClock>, memtable_bytes: usize) -> Options {
    let clock: SharedClock = clock;
    Options { dir: dir.to_owned(), clock, disk, pool: Pool::new(1), memtable_bytes, structure_rows: STRUCTURE_ROWS }
}

impl World {
    pub(super) fn open(dir: &Path, disk: Arc<dyn Disk>, id: TableId, memtable_bytes: usize) -> Result<Self> {
        let clock = ManualClock::new(START_MS);
        let tables = Tables::open(options(dir, disk, clock.clone(), memtable_bytes))?;
        Ok(Self { tables, clock, id })
    }

    pub(super) fn new(dir: &Path) -> Self {
        Self::open(dir, OsDisk::shared(), TableId::random(), 1 << 20).expect("opens")
    }

    pub(super) fn create(&self, schema: Schema) -> Arc<Table> {
        self.tables.create(self.id, schema).expect("creates")
    }
}

/// Runs a future of a table to its end on this thread.
pub(super) fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(future)
}

pub(super) fn upsert(table: &Table, content: &[(Key, Row)]) -> Result<u64> {
    wait(table.upsert(rows(&table.schema(), content), 0))
}

pub(super) fn upsert_ints(table: &Table, range: std::ops::Range<i64>) {
    let all: Vec<_> = range.map(|n| (int(n), row(n))).collect();
    all.chunks(100).for_each(|chunk| {
        upsert(table, chunk).expect("upserts");
    });
}

pub(super) fn fetch(table: &Table, keys: &[Key]) -> Result<Vec<Option<Row>>> {
    let fetched = table.fetch(keys.to_vec())?;
    assert_eq!(fetched.len(), keys.len());
    let read = |i| {
        assert_eq!(fetched.key(i), &keys[i], "one entry per key, in order");
        let mut text = Vec::new();
        fetched.write_members(i, &mut text);
        fetched.found(i).then(|| {
            let whole: Map<String, Value> =
                serde_json::from_str(&format!("{{{}}}", String::from_utf8_lossy(&text))).expect("json");
            assert_eq!(whole[table.schema().key_name()], key_json(&keys[i]), "never another key's row");
            parse_row(&text)
        })
    };
    Ok((0..keys.len()).map(read).collect())
}

/// All live rows of a snapshot. Panics if one key comes twice.
pub(super) fn scan(snapshot: &Snapshot) -> Result<BTreeMap<Key, (Row, u64)>> {
    let schema = snapshot.schema();
    let printer = RowPrinter::whole(&schema);
    let mut out = BTreeMap::new();
    for part in snapshot.parts() {
        let mut last = None;
        for index in 0..part.batches.len() {
            let live = snapshot.read(part.segment, index)?;
            let keys = super::super::keys::KeyColumn::new(live.batch.column(columns::key_column(&schema)));
            for at in 0..live.batch.num_rows() {
                let key = keys.get(at).to_key();
                assert!(last.as_ref().is_none_or(|last| *last < key), "segments are sorted");
                last = Some(key.clone());
                if live.live.as_ref().is_none_or(|live| live.value(at)) {
                    let mut text = Vec::new();
                    printer.write_members(&live.batch, at, &mut text);
                    let content = (parse_row(&text), seq_of(&live.batch, at));
                    assert!(out.insert(key, content).is_none(), "one live row per key");
                }
            }
        }
    }
    Ok(out)
}

/// A task of its own for each number.
pub(super) fn publication(unit: u32) -> Publication {
    Publication { task: TaskId::from_u128(7000 + u128::from(unit)), unit, fence: 1 }
}

/// Seconds in which a task delete of these tests can be undone.
pub(super) const UNDO_SECONDS: i64 = 60;

pub(super) fn delete_matching(table: &Table, snapshot: &Snapshot, filter: &Filter, unit: u32) -> Result<Deleted> {
    let until_ms = table.clock.now_ms() + UNDO_SECONDS * 1000;
    table.delete_matching(snapshot, filter, publication(unit), Some(until_ms), &Meter::new(), &Cancel::new())
}

/// Set for runs that may take minutes.
pub(super) fn long() -> bool {
    std::env::var_os("KNARR_TEST_LONG").is_some()
}
