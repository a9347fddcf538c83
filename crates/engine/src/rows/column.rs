//! Growing columns: one per field of a call, one value or null per row.

use std::sync::Arc;

use arrow_array::builder::{ArrayBuilder, BooleanBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::{
    Array, ArrayRef, FixedSizeListArray, Float32Array, Int64Array, ListArray, MapArray, StringArray, StructArray,
};
use arrow_buffer::{NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use arrow_schema::DataType;
use knarr_base::schema::FieldType;
use knarr_base::value::Value;

use crate::columns;

/// Values of one field, in row order.
pub(super) enum Builder {
    Int(Vec<i64>),
    Float(Vec<f32>),
    Bool(BooleanBuilder),
    Str(StringBuilder),
    IntList(List<Vec<i64>>),
    StrList(List<StringBuilder>),
    Vector { dim: u32, values: Vec<f32> },
    Sparse { lists: List<StringBuilder>, weights: Vec<f32>, present: NullBufferBuilder },
}

/// Elements of all rows, and where each row's end.
pub(super) struct List<E> {
    offsets: Vec<i32>,
    pub(super) elements: E,
}

impl<E> List<E> {
    fn new(elements: E) -> Self {
        Self { offsets: vec![0], elements }
    }

    fn end_row(&mut self, elements: usize) {
        // A call's body is bounded far below 2^31 elements.
        self.offsets.push(i32::try_from(elements).expect("a call holds fewer than 2^31 elements"));
    }

    fn offsets(self) -> (OffsetBuffer<i32>, E) {
        (OffsetBuffer::new(ScalarBuffer::from(self.offsets)), self.elements)
    }
}

impl List<Vec<i64>> {
    pub(super) fn end(&mut self) {
        self.end_row(self.elements.len());
    }
}

impl List<StringBuilder> {
    pub(super) fn end(&mut self) {
        self.end_row(self.elements.len());
    }
}

impl Builder {
    pub(super) fn new(kind: FieldType) -> Self {
        let strings = || StringBuilder::with_capacity(0, 0);
        match kind {
            FieldType::Int64 => Builder::Int(Vec::new()),
            FieldType::Float32 => Builder::Float(Vec::new()),
            FieldType::Bool => Builder::Bool(BooleanBuilder::with_capacity(0)),
            FieldType::String | FieldType::Text | FieldType::Image => Builder::Str(strings()),
            FieldType::Int64List => Builder::IntList(List::new(Vec::new())),
            FieldType::StringList => Builder::StrList(List::new(strings())),
            FieldType::Vector { dim } => Builder::Vector { dim, values: Vec::new() },
            FieldType::SparseVector => {
                Builder::Sparse { lists: List::new(strings()), weights: Vec::new(), present: NullBufferBuilder::new(0) }
            }
        }
    }

    /// One row with a default of the field's type; its bytes as `limit::ROW_BYTES` counts them.
    pub(super) fn push_value(&mut self, value: &Value) -> usize {
        match (self, value) {
            (Builder::Int(out), Value::Int(n)) => out.push(*n),
            (Builder::Float(out), Value::Float(x)) => out.push(*x),
            (Builder::Bool(out), Value::Bool(b)) => out.append_value(*b),
            (Builder::Str(out), Value::Str(s)) => out.append_value(s),
            (Builder::IntList(out), Value::IntList(list)) => {
                out.elements.extend_from_slice(list);
                out.end();
            }
            (Builder::StrList(out), Value::StrList(list)) => {
                list.iter().for_each(|s| out.elements.append_value(s));
                out.end();
            }
            _ => unreachable!("Schema::new checks that a default has its field's type"),
        }
        match value {
            Value::Int(_) => 8,
            Value::Float(_) => 4,
            Value::Bool(_) => 1,
            Value::Str(s) => s.len(),
            Value::IntList(list) => 8 * list.len(),
            Value::StrList(list) => list.iter().map(String::len).sum(),
        }
    }

    /// One row without a value: null where the column has nulls, else a filler nobody reads.
    pub(super) fn push_nothing(&mut self) {
        match self {
            Builder::Int(out) => out.push(0),
            Builder::Float(out) => out.push(0.0),
            Builder::Bool(out) => out.append_value(false),
            Builder::Str(out) => out.append_null(),
            Builder::IntList(out) => out.end(),
            Builder::StrList(out) => out.end(),
            Builder::Vector { dim, values } => values.resize(values.len() + *dim as usize, 0.0),
            Builder::Sparse { lists, present, .. } => {
                lists.end();
                present.append_null();
            }
        }
    }

    /// The finished column, of `columns::data_type(kind)`.
    pub(super) fn finish(self, kind: FieldType) -> ArrayRef {
        let data_type = columns::data_type(kind);
        match (self, &data_type) {
            (Builder::Int(values), _) => Arc::new(Int64Array::from(values)),
            (Builder::Float(values), _) => Arc::new(Float32Array::from(values)),
            (Builder::Bool(mut values), _) => Arc::new(values.finish()),
            (Builder::Str(mut values), _) => strip_nulls(values.finish(), kind),
            (Builder::IntList(list), DataType::List(item)) => {
                let (offsets, values) = list.offsets();
                Arc::new(ListArray::new(item.clone(), offsets, Arc::new(Int64Array::from(values)), None))
            }
            (Builder::StrList(list), DataType::List(item)) => {
                let (offsets, mut values) = list.offsets();
                Arc::new(ListArray::new(item.clone(), offsets, Arc::new(values.finish()), None))
            }
            (Builder::Vector { values, .. }, DataType::FixedSizeList(item, dim)) => {
                Arc::new(FixedSizeListArray::new(item.clone(), *dim, Arc::new(Float32Array::from(values)), None))
            }
            (Builder::Sparse { lists, weights, mut present }, DataType::Map(entry, sorted)) => {
                let (offsets, mut tokens) = lists.offsets();
                let DataType::Struct(fields) = entry.data_type() else { unreachable!("map entries are structs") };
                let columns: Vec<ArrayRef> = vec![Arc::new(tokens.finish()), Arc::new(Float32Array::from(weights))];
                let entries = StructArray::new(fields.clone(), columns, None);
                Arc::new(MapArray::new(entry.clone(), offsets, entries, present.finish(), *sorted))
            }
            _ => unreachable!("Builder::new chose the builder by the same type"),
        }
    }
}

/// A required string column has no null bitmap: its fillers become empty strings.
fn strip_nulls(values: StringArray, kind: FieldType) -> ArrayRef {
    if kind.nullable() || values.null_count() == 0 {
        return Arc::new(values);
    }
    let (offsets, bytes, _) = values.into_parts();
    Arc::new(StringArray::new(offsets, bytes, None))
}

/// Bytes of one value as `limit::ROW_BYTES` counts them.
pub(super) fn value_bytes(column: &ArrayRef, row: usize) -> usize {
    if column.is_null(row) {
        return 0;
    }
    match column.data_type() {
        DataType::Boolean => 1,
        DataType::Int64 => 8,
        DataType::Float32 => 4,
        DataType::Utf8 => column.as_string::<i32>().value(row).len(),
        DataType::FixedSizeList(_, dim) => 4 * dim.unsigned_abs() as usize,
        DataType::List(item) => {
            let list = column.as_list::<i32>();
            let (start, end) = (list.value_offsets()[row] as usize, list.value_offsets()[row + 1] as usize);
            match item.data_type() {
                DataType::Int64 => 8 * (end - start),
                _ => string_bytes(list.values().as_string::<i32>(), start, end),
            }
        }
        DataType::Map(_, _) => {
            let map = column.as_map();
            let (start, end) = (map.value_offsets()[row] as usize, map.value_offsets()[row + 1] as usize);
            string_bytes(map.keys().as_string::<i32>(), start, end) + 4 * (end - start)
        }
        other => unreachable!("no stored column is a {other}"),
    }
}

fn string_bytes(strings: &StringArray, start: usize, end: usize) -> usize {
    (strings.value_offsets()[end] - strings.value_offsets()[start]).unsigned_abs() as usize
}
