//! Plain rows for tests: values outside columns, random schemas and rows, and their way into stored batches by other
//! code than the one under test.

use std::sync::Arc;

use arrow_array::builder::{Float32Builder, Int64Builder, ListBuilder, MapBuilder, MapFieldNames, StringBuilder};
use arrow_array::{
    ArrayRef, BooleanArray, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray, UInt64Array,
};
use arrow_schema::{DataType, Field as ArrowField};
use knarr_base::id::Name;
use knarr_base::schema::{AUTO_ID, Field, FieldType, PrimaryKey, Schema};
use knarr_base::value::Key;
use proptest::prelude::*;
use serde_json::{Map, Value as Json};

use crate::columns;

/// One value, or its absence.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Int(i64),
    Float(f32),
    Bool(bool),
    Str(String),
    IntList(Vec<i64>),
    StrList(Vec<String>),
    Vector(Vec<f32>),
    Sparse(Vec<(String, f32)>),
    Absent,
}

/// Values of `columns::user_schema`, in order.
pub(crate) type Row = Vec<Cell>;

pub(crate) fn field(name: &str, kind: FieldType) -> Field {
    Field { name: Name::parse("field_name", name).unwrap(), kind, default: None, pipeline: None }
}

/// One field of every type; key `id` int64.
pub(crate) fn every_type() -> Arc<Schema> {
    let fields = vec![
        field("id", FieldType::Int64),
        field("score", FieldType::Float32),
        field("city", FieldType::String),
        field("ok", FieldType::Bool),
        field("ns", FieldType::Int64List),
        field("tags", FieldType::StringList),
        field("v", FieldType::Vector { dim: 4 }),
        field("s", FieldType::SparseVector),
        field("t", FieldType::Text),
        field("i", FieldType::Image),
    ];
    Arc::new(Schema::new(fields, "id").unwrap())
}

/// Types of the user columns.
pub(crate) fn kinds(schema: &Schema) -> Vec<FieldType> {
    let auto = (schema.primary_key() == PrimaryKey::Auto).then_some(FieldType::Int64);
    auto.into_iter().chain(schema.fields().iter().map(|f| f.kind)).collect()
}

/// The rows as a stored batch, `_seq` 1, no expiry.
pub(crate) fn stored(schema: &Schema, rows: &[Row]) -> RecordBatch {
    let kinds = kinds(schema);
    let mut columns: Vec<ArrayRef> =
        kinds.iter().enumerate().map(|(at, kind)| column(*kind, rows.iter().map(|row| &row[at]))).collect();
    columns.push(Arc::new(UInt64Array::from_value(1, rows.len())));
    columns.push(Arc::new(Int64Array::from_value(0, rows.len())));
    RecordBatch::try_new(columns::stored_schema(schema), columns).unwrap()
}

macro_rules! pick {
    ($cells:expr, $variant:ident) => {
        $cells.map(|cell| match cell {
            Cell::$variant(value) => value.clone(),
            other => panic!("expected {}, got {other:?}", stringify!($variant)),
        })
    };
}

fn column<'a>(kind: FieldType, cells: impl Iterator<Item = &'a Cell>) -> ArrayRef {
    let item = |data_type| Arc::new(ArrowField::new("item", data_type, false));
    match kind {
        FieldType::Int64 => Arc::new(Int64Array::from_iter_values(pick!(cells, Int))),
        FieldType::Float32 => Arc::new(Float32Array::from_iter_values(pick!(cells, Float))),
        FieldType::Bool => Arc::new(BooleanArray::from_iter(pick!(cells, Bool).map(Some))),
        FieldType::String => Arc::new(StringArray::from_iter_values(pick!(cells, Str))),
        FieldType::Text | FieldType::Image => Arc::new(StringArray::from_iter(cells.map(|cell| match cell {
            Cell::Str(text) => Some(text.clone()),
            _ => None,
        }))),
        FieldType::Int64List => {
            let mut out = ListBuilder::new(Int64Builder::new()).with_field(item(DataType::Int64));
            pick!(cells, IntList).for_each(|list| out.append_value(list.into_iter().map(Some)));
            Arc::new(out.finish())
        }
        FieldType::StringList => {
            let mut out = ListBuilder::new(StringBuilder::new()).with_field(item(DataType::Utf8));
            pick!(cells, StrList).for_each(|list| out.append_value(list.into_iter().map(Some)));
            Arc::new(out.finish())
        }
        FieldType::Vector { dim } => {
            let values = Float32Array::from_iter_values(pick!(cells, Vector).flatten());
            Arc::new(FixedSizeListArray::new(item(DataType::Float32), dim.cast_signed(), Arc::new(values), None))
        }
        FieldType::SparseVector => {
            let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
            let mut out = MapBuilder::new(Some(names), StringBuilder::new(), Float32Builder::new())
                .with_values_field(ArrowField::new("value", DataType::Float32, false));
            for cell in cells {
                if let Cell::Sparse(entries) = cell {
                    for (token, weight) in entries {
                        out.keys().append_value(token);
                        out.values().append_value(*weight);
                    }
                }
                out.append(matches!(cell, Cell::Sparse(_))).unwrap();
            }
            Arc::new(out.finish())
        }
    }
}

/// A row as a JSON object of serde_json, a value left out as null.
pub(crate) fn json(schema: &Schema, row: &Row) -> Json {
    let names = names(schema).into_iter().map(str::to_owned);
    Json::Object(names.zip(row.iter().map(cell_json)).collect())
}

/// Floats as the double of the same value, so that narrowing it gives back every bit.
fn cell_json(cell: &Cell) -> Json {
    let wide = |x: &f32| Json::from(f64::from(*x));
    match cell {
        Cell::Int(n) => (*n).into(),
        Cell::Float(x) => wide(x),
        Cell::Bool(b) => (*b).into(),
        Cell::Str(s) => s.as_str().into(),
        Cell::IntList(list) => list.clone().into(),
        Cell::StrList(list) => list.clone().into(),
        Cell::Vector(list) => list.iter().map(wide).collect(),
        Cell::Sparse(entries) => Json::Object(entries.iter().map(|(t, w)| (t.clone(), wide(w))).collect::<Map<_, _>>()),
        Cell::Absent => Json::Null,
    }
}

/// The row that a JSON object stands for.
pub(crate) fn row(schema: &Schema, json: &Json) -> Row {
    names(schema).iter().zip(kinds(schema)).map(|(name, kind)| cell(kind, &json[*name])).collect()
}

/// Names of the user columns.
pub(crate) fn names(schema: &Schema) -> Vec<&str> {
    let auto = (schema.primary_key() == PrimaryKey::Auto).then_some(AUTO_ID);
    auto.into_iter().chain(schema.fields().iter().map(|f| f.name.as_str())).collect()
}

/// The cell that a JSON value of this type stands for; floats are narrowed.
pub(crate) fn cell(kind: FieldType, json: &Json) -> Cell {
    let float = |json: &Json| json.as_f64().unwrap() as f32;
    let string = |json: &Json| json.as_str().unwrap().to_owned();
    match kind {
        _ if json.is_null() => Cell::Absent,
        FieldType::Int64 => Cell::Int(json.as_i64().unwrap()),
        FieldType::Float32 => Cell::Float(float(json)),
        FieldType::Bool => Cell::Bool(json.as_bool().unwrap()),
        FieldType::String | FieldType::Text | FieldType::Image => Cell::Str(string(json)),
        FieldType::Int64List => Cell::IntList(json.as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect()),
        FieldType::StringList => Cell::StrList(json.as_array().unwrap().iter().map(string).collect()),
        FieldType::Vector { .. } => Cell::Vector(json.as_array().unwrap().iter().map(float).collect()),
        FieldType::SparseVector => {
            Cell::Sparse(json.as_object().unwrap().iter().map(|(t, w)| (t.clone(), float(w))).collect())
        }
    }
}

/// Equal, and equal in every bit of every float.
pub(crate) fn same(a: &Row, b: &Row) -> bool {
    let bits = |xs: &[f32]| xs.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    a.len() == b.len()
        && a.iter().zip(b).all(|pair| match pair {
            (Cell::Float(a), Cell::Float(b)) => a.to_bits() == b.to_bits(),
            (Cell::Vector(a), Cell::Vector(b)) => bits(a) == bits(b),
            (Cell::Sparse(a), Cell::Sparse(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && a.1.to_bits() == b.1.to_bits())
            }
            (a, b) => a == b,
        })
}

/// The key of a row.
pub(crate) fn key(schema: &Schema, row: &Row) -> Key {
    match &row[columns::key_column(schema)] {
        Cell::Int(n) => Key::Int(*n),
        Cell::Str(s) => Key::Str(s.as_str().into()),
        other => panic!("no key is a {other:?}"),
    }
}

/// Any finite float, with a liking for the difficult ones.
pub(crate) fn float() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => any::<f32>().prop_filter("finite", |x| x.is_finite()),
        2 => (-8i32..9).prop_map(|n| n as f32 / 4.0),
        1 => prop::sample::select(vec![0.0, -0.0, 0.1, 1e-45, f32::MIN_POSITIVE, f32::MAX, f32::MIN, 16_777_216.0]),
    ]
}

/// Small integers, so that filters match some, and the difficult ones.
pub(crate) fn int() -> impl Strategy<Value = i64> {
    prop_oneof![
        5 => -4i64..5,
        1 => any::<i64>(),
        1 => prop::sample::select(vec![i64::MIN, i64::MAX, (1 << 53) + 1, -(1 << 53) - 1, 1 << 40]),
    ]
}

/// Texts with everything that printing and parsing can get wrong.
pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[a-c]{0,2}",
        1 => any::<String>(),
        1 => prop::sample::select(vec!["\0", "\"", "\\", "\n\r\t\u{1f}", "北京", "\u{2028}", "😀", "</script>"])
            .prop_map(str::to_owned),
    ]
}

fn any_cell(kind: FieldType) -> BoxedStrategy<Cell> {
    let absent = |some: BoxedStrategy<Cell>| prop_oneof![3 => some, 1 => Just(Cell::Absent)].boxed();
    match kind {
        FieldType::Int64 => int().prop_map(Cell::Int).boxed(),
        FieldType::Float32 => float().prop_map(Cell::Float).boxed(),
        FieldType::Bool => any::<bool>().prop_map(Cell::Bool).boxed(),
        FieldType::String => text().prop_map(Cell::Str).boxed(),
        FieldType::Text | FieldType::Image => absent(text().prop_map(Cell::Str).boxed()),
        FieldType::Int64List => prop::collection::vec(int(), 0..4).prop_map(Cell::IntList).boxed(),
        FieldType::StringList => prop::collection::vec(text(), 0..4).prop_map(Cell::StrList).boxed(),
        FieldType::Vector { dim } => prop::collection::vec(float(), dim as usize).prop_map(Cell::Vector).boxed(),
        FieldType::SparseVector => absent(
            prop::collection::btree_map(text(), float(), 0..4)
                .prop_map(|map| Cell::Sparse(map.into_iter().collect()))
                .boxed(),
        ),
    }
}

/// A schema with a key of any kind and up to seven more fields; at most one vector and one sparse vector.
pub(crate) fn any_schema() -> impl Strategy<Value = Arc<Schema>> {
    use FieldType as T;
    let plain = vec![T::Int64, T::Float32, T::String, T::Bool, T::Int64List, T::StringList, T::Text, T::Image];
    let some = prop::collection::vec(prop::sample::select(plain), 1..6);
    (some, any::<bool>(), any::<bool>(), 0..3u8).prop_map(|(mut kinds, vector, sparse, key)| {
        kinds.extend(vector.then_some(T::Vector { dim: 8 }));
        kinds.extend(sparse.then_some(T::SparseVector));
        let mut fields: Vec<_> = kinds.iter().enumerate().map(|(n, kind)| field(&format!("f{n}"), *kind)).collect();
        let key = match key {
            0 => AUTO_ID,
            n => {
                let kind = if n == 1 { T::Int64 } else { T::String };
                fields.insert(fields.len() / 2, field("key", kind));
                "key"
            }
        };
        Arc::new(Schema::new(fields, key).unwrap())
    })
}

/// Up to `most` rows of the schema, ascending by key, no key twice.
pub(crate) fn any_rows(schema: &Arc<Schema>, most: usize) -> impl Strategy<Value = Vec<Row>> + use<> {
    let cells: Vec<_> = kinds(schema).into_iter().map(any_cell).collect();
    let schema = Arc::clone(schema);
    prop::collection::vec(cells, 0..=most).prop_map(move |mut rows| {
        rows.sort_by_key(|row| key(&schema, row));
        rows.dedup_by_key(|row| key(&schema, row));
        rows
    })
}
