//! The Arrow layout of a table: which column of a batch is which field.
//!
//! A stored batch holds, in this order: `__AUTO_ID__` when the key is generated, every field of the schema in its
//! declared order, `_seq` (row version) and `_expiry`. FORMAT.md section "Segment" repeats it to the byte. A vector
//! that a model makes is a field among them; users do not see it.

use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, Int64Builder, ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch, new_null_array};
use arrow_schema::{DataType, Field as ArrowField, Fields, Schema as ArrowSchema, SchemaRef};
use knarr_base::schema::{AUTO_ID, Field, FieldType, PrimaryKey, Schema};
use knarr_base::value::Value;

/// Row version column: UInt64, the table's write counter when the row was written.
pub(crate) const SEQ: &str = "_seq";
/// Expiry column: Int64, unix milliseconds, 0 = never.
pub(crate) const EXPIRY: &str = "_expiry";

/// Arrow type of a field.
pub(crate) fn data_type(kind: FieldType) -> DataType {
    let item = |inner| Arc::new(ArrowField::new("item", inner, false));
    match kind {
        FieldType::Int64 => DataType::Int64,
        FieldType::Float32 => DataType::Float32,
        FieldType::String | FieldType::Text | FieldType::Image => DataType::Utf8,
        FieldType::Bool => DataType::Boolean,
        FieldType::Int64List => DataType::List(item(DataType::Int64)),
        FieldType::StringList => DataType::List(item(DataType::Utf8)),
        FieldType::Vector { dim } => DataType::FixedSizeList(item(DataType::Float32), dim.cast_signed()),
        FieldType::SparseVector => DataType::Map(
            Arc::new(ArrowField::new(
                "entries",
                DataType::Struct(Fields::from(vec![
                    ArrowField::new("key", DataType::Utf8, false),
                    ArrowField::new("value", DataType::Float32, false),
                ])),
                false,
            )),
            false,
        ),
    }
}

fn arrow_field(field: &Field) -> ArrowField {
    ArrowField::new(field.name.as_str(), data_type(field.kind), field.kind.nullable())
}

/// A row without its hidden columns: `__AUTO_ID__` when generated, then the fields.
pub(crate) fn row_schema(schema: &Schema) -> SchemaRef {
    let auto = (schema.primary_key() == PrimaryKey::Auto).then(|| ArrowField::new(AUTO_ID, DataType::Int64, false));
    Arc::new(ArrowSchema::new(auto.into_iter().chain(schema.fields().iter().map(arrow_field)).collect::<Vec<_>>()))
}

/// What users see of a row: all but a made vector. Exports have this shape.
pub(crate) fn user_schema(schema: &Schema) -> SchemaRef {
    let rows = row_schema(schema);
    let fields: Vec<_> = user_columns(schema).map(|column| rows.fields()[column].clone()).collect();
    Arc::new(ArrowSchema::new(fields))
}

/// Positions of the columns of [`user_schema`] in stored batches.
pub(crate) fn user_columns(schema: &Schema) -> impl Iterator<Item = usize> {
    let auto = (schema.primary_key() == PrimaryKey::Auto).then_some(0);
    auto.into_iter().chain(schema.shown().map(|(at, _)| field_column(schema, at)))
}

/// What a caller of upsert sends: the fields, without a generated key.
pub(crate) fn call_schema(schema: &Schema) -> SchemaRef {
    Arc::new(ArrowSchema::new(schema.fields().iter().map(arrow_field).collect::<Vec<_>>()))
}

/// What is stored: the row's columns, `_seq`, `_expiry`.
pub(crate) fn stored_schema(schema: &Schema) -> SchemaRef {
    let mut fields: Vec<_> = row_schema(schema).fields().iter().cloned().collect();
    fields.push(Arc::new(ArrowField::new(SEQ, DataType::UInt64, false)));
    fields.push(Arc::new(ArrowField::new(EXPIRY, DataType::Int64, false)));
    Arc::new(ArrowSchema::new(fields))
}

/// Position of the key in row and stored batches.
pub(crate) fn key_column(schema: &Schema) -> usize {
    match schema.primary_key() {
        PrimaryKey::Field(at) => at,
        PrimaryKey::Auto => 0,
    }
}

/// Position of schema field `at` in row and stored batches.
pub(crate) fn field_column(schema: &Schema, at: usize) -> usize {
    at + usize::from(schema.primary_key() == PrimaryKey::Auto)
}

/// Position of the column that a filter or projection calls `name`, which may be `__AUTO_ID__`.
pub(crate) fn named_column(schema: &Schema, name: &str) -> Option<usize> {
    if schema.primary_key() == PrimaryKey::Auto && name == AUTO_ID {
        return Some(0);
    }
    schema.field(name).map(|(at, _)| field_column(schema, at))
}

/// `rows` times the field's default: what rows written before the field existed read.
pub(crate) fn default_column(field: &Field, rows: usize) -> ArrayRef {
    match field.default_value() {
        None => new_null_array(&data_type(field.kind), rows),
        Some(Value::Int(n)) => Arc::new(arrow_array::Int64Array::from_value(n, rows)),
        Some(Value::Float(x)) => Arc::new(arrow_array::Float32Array::from_value(x, rows)),
        Some(Value::Bool(b)) => {
            let mut out = BooleanBuilder::with_capacity(rows);
            out.append_n(rows, b);
            Arc::new(out.finish())
        }
        Some(Value::Str(s)) => {
            let mut out = StringBuilder::with_capacity(rows, s.len() * rows);
            (0..rows).for_each(|_| out.append_value(&s));
            Arc::new(out.finish())
        }
        Some(Value::IntList(list)) => {
            let item = Arc::new(ArrowField::new("item", DataType::Int64, false));
            let mut out = ListBuilder::new(Int64Builder::new()).with_field(item);
            (0..rows).for_each(|_| {
                out.values().append_slice(&list);
                out.append(true);
            });
            Arc::new(out.finish())
        }
        Some(Value::StrList(list)) => {
            let item = Arc::new(ArrowField::new("item", DataType::Utf8, false));
            let mut out = ListBuilder::new(StringBuilder::new()).with_field(item);
            (0..rows).for_each(|_| {
                list.iter().for_each(|s| out.values().append_value(s));
                out.append(true);
            });
            Arc::new(out.finish())
        }
    }
}

/// A batch written under an older schema, as the present schema sees it: fields added since read their default.
pub(crate) fn widen(batch: &RecordBatch, schema: &Schema, stored: &SchemaRef) -> RecordBatch {
    if batch.num_columns() == stored.fields().len() {
        return batch.clone();
    }
    let had = batch.num_columns() - 2;
    let auto = usize::from(schema.primary_key() == PrimaryKey::Auto);
    let mut columns = batch.columns()[..had].to_vec();
    columns.extend(schema.fields()[had - auto..].iter().map(|f| default_column(f, batch.num_rows())));
    columns.extend_from_slice(&batch.columns()[had..]);
    RecordBatch::try_new(stored.clone(), columns).expect("fields are only added at the end, so types and lengths agree")
}
