//! The number that stands for a row's content. An export sums it over its rows, so the sum depends neither on their
//! order nor on how they are split into files. The bytes it is made of are fixed by FORMAT.md, section "Content digest".

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use arrow_buffer::Buffer;
use knarr_base::schema::{FieldType, PrimaryKey, Schema};
use xxhash_rust::xxh3::xxh3_128;

use super::print::span;
use crate::columns;

/// Digests rows of one schema; holds the scratch space of the row at hand.
#[derive(Debug)]
pub(crate) struct RowDigest {
    /// Columns that users see.
    columns: Vec<(usize, FieldType)>,
    bytes: Vec<u8>,
}

impl RowDigest {
    pub(crate) fn new(schema: &Schema) -> Self {
        let auto = (schema.primary_key() == PrimaryKey::Auto).then_some(FieldType::Int64);
        let kinds = auto.into_iter().chain(schema.shown().map(|(_, field)| field.kind));
        Self { columns: columns::user_columns(schema).zip(kinds).collect(), bytes: Vec::new() }
    }

    /// XXH3-128, seed 0, of the row's canonical bytes. `batch` holds the row's columns of the schema first.
    pub(crate) fn of(&mut self, batch: &RecordBatch, row: usize) -> u128 {
        self.bytes.clear();
        for (column, kind) in &self.columns {
            push_value(batch.column(*column), *kind, row, &mut self.bytes);
        }
        xxh3_128(&self.bytes)
    }
}

fn push_value(column: &dyn Array, kind: FieldType, row: usize, out: &mut Vec<u8>) {
    if kind.nullable() {
        out.push(u8::from(column.is_valid(row)));
        if column.is_null(row) {
            return;
        }
    }
    match kind {
        FieldType::Int64 => out.extend_from_slice(&column.as_primitive::<Int64Type>().value(row).to_le_bytes()),
        FieldType::Float32 => out.extend_from_slice(&column.as_primitive::<Float32Type>().value(row).to_le_bytes()),
        FieldType::Bool => out.push(u8::from(column.as_boolean().value(row))),
        FieldType::String | FieldType::Text | FieldType::Image => {
            push_bytes(column.as_string::<i32>().value(row).as_bytes(), out);
        }
        FieldType::Int64List => {
            let list = column.as_list::<i32>();
            let values = list.values().as_primitive::<Int64Type>().values();
            let values = &values[span(list.value_offsets(), row)];
            push_count(values.len(), out);
            values.iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
        }
        FieldType::StringList => {
            let list = column.as_list::<i32>();
            let values = list.values().as_string::<i32>();
            let span = span(list.value_offsets(), row);
            push_count(span.len(), out);
            span.for_each(|at| push_bytes(values.value(at).as_bytes(), out));
        }
        FieldType::Vector { dim } => {
            let bytes = 4 * dim as usize;
            push_count(dim as usize, out);
            out.extend_from_slice(&float_bytes(column)[row * bytes..(row + 1) * bytes]);
        }
        FieldType::SparseVector => {
            let map = column.as_map();
            let (tokens, weights) = (map.keys().as_string::<i32>(), map.values().as_primitive::<Float32Type>());
            let span = span(map.value_offsets(), row);
            push_count(span.len(), out);
            for at in span {
                push_bytes(tokens.value(at).as_bytes(), out);
                out.extend_from_slice(&weights.value(at).to_le_bytes());
            }
        }
    }
}

/// The elements of a vector column as they lie in memory, which is little-endian.
pub(crate) fn float_bytes(column: &dyn Array) -> &Buffer {
    const { assert!(cfg!(target_endian = "little")) };
    column.as_fixed_size_list().values().as_primitive::<Float32Type>().values().inner()
}

fn push_count(count: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&u32::try_from(count).expect("rows are bounded by limit::ROW_BYTES").to_le_bytes());
}

fn push_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    push_count(bytes.len(), out);
    out.extend_from_slice(bytes);
}
