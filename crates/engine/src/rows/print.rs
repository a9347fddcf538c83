//! Rows as JSON text. Written by hand because it is the hot loop of a JSON export: every byte goes once, straight into
//! the caller's buffer.

use super::float;
use crate::columns;
use crate::index::unit;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use knarr_base::schema::{AUTO_ID, FieldType, MADE_VECTOR, PrimaryKey, Schema};

/// Prints rows of one schema. Floats take the shortest form that reads back as the same float32.
#[derive(Debug)]
pub(crate) struct RowPrinter {
    members: Vec<Member>,
}

/// A printed column: its place in the batch, its type, and its name with quotes and colon.
#[derive(Debug)]
struct Member {
    column: usize,
    kind: FieldType,
    name: Box<[u8]>,
    /// Print a dense vector at length 1.
    unit: bool,
}

impl RowPrinter {
    /// Every field that users see, a generated key first.
    pub(crate) fn whole(schema: &Schema) -> Self {
        Self::new(schema, true)
    }

    /// Every field but dense and sparse vectors: what a sample shows.
    pub(crate) fn without_vectors(schema: &Schema) -> Self {
        Self::new(schema, false)
    }

    fn new(schema: &Schema, vectors: bool) -> Self {
        let auto = (schema.primary_key() == PrimaryKey::Auto).then_some((AUTO_ID, FieldType::Int64));
        let fields = auto.into_iter().chain(schema.fields().iter().map(|f| (f.name.as_str(), f.kind)));
        let vector = |kind| matches!(kind, FieldType::Vector { .. } | FieldType::SparseVector);
        let shown = |name, kind| name != MADE_VECTOR && (vectors || !vector(kind));
        let member = |(column, (name, kind)): (usize, (&str, FieldType))| Member {
            column,
            kind,
            name: quoted(name),
            unit: false,
        };
        Self { members: fields.enumerate().filter(|(_, (name, kind))| shown(*name, *kind)).map(member).collect() }
    }

    /// The columns of these fields under the names beside them; `unit`: dense vectors at length 1. `None` if the schema
    /// has no such field.
    pub(crate) fn chosen<'n>(
        schema: &Schema,
        fields: impl Iterator<Item = (&'n str, &'n str)>,
        unit: bool,
    ) -> Option<Self> {
        let member = |(field, shown): (&str, &str)| {
            let column = columns::named_column(schema, field)?;
            let kind = schema.field(field).map_or(FieldType::Int64, |(_, found)| found.kind);
            Some(Member { column, kind, name: quoted(shown), unit })
        };
        Some(Self { members: fields.map(member).collect::<Option<_>>()? })
    }

    /// Appends `{...}` of one row. `batch` holds the user columns of the schema first.
    pub(crate) fn write_row(&self, batch: &RecordBatch, row: usize, out: &mut Vec<u8>) {
        out.push(b'{');
        self.write_members(batch, row, out);
        out.push(b'}');
    }

    /// Appends the members of one row without braces.
    pub(crate) fn write_members(&self, batch: &RecordBatch, row: usize, out: &mut Vec<u8>) {
        for (n, member) in self.members.iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            out.extend_from_slice(&member.name);
            match member.kind {
                FieldType::Vector { dim } if member.unit => {
                    write_floats(&unit(vector(batch.column(member.column), dim as usize, row)), out);
                }
                kind => write_value(batch.column(member.column), kind, row, out),
            }
        }
    }
}

/// Names hold letters, digits and underscores only, so they need no escaping.
fn quoted(name: &str) -> Box<[u8]> {
    format!("\"{name}\":").into_bytes().into()
}

/// Elements of row `row` of a dense vector column.
pub(crate) fn vector(column: &dyn Array, dim: usize, row: usize) -> &[f32] {
    let list = column.as_fixed_size_list();
    let first = (list.offset() + row) * dim;
    &list.values().as_primitive::<Float32Type>().values()[first..first + dim]
}

fn write_value(column: &dyn Array, kind: FieldType, row: usize, out: &mut Vec<u8>) {
    match kind {
        FieldType::Int64 => write_int(column.as_primitive::<Int64Type>().value(row), out),
        FieldType::Float32 => write_float(column.as_primitive::<Float32Type>().value(row), out),
        FieldType::Bool => {
            let text: &[u8] = if column.as_boolean().value(row) { b"true" } else { b"false" };
            out.extend_from_slice(text);
        }
        _ if column.is_null(row) => out.extend_from_slice(b"null"),
        FieldType::String | FieldType::Text | FieldType::Image => {
            write_string(column.as_string::<i32>().value(row), out);
        }
        FieldType::Int64List => {
            let list = column.as_list::<i32>();
            let values = list.values().as_primitive::<Int64Type>().values();
            write_list(&values[span(list.value_offsets(), row)], out, |n, out| write_int(*n, out));
        }
        FieldType::StringList => {
            let list = column.as_list::<i32>();
            let values = list.values().as_string::<i32>();
            write_list(span(list.value_offsets(), row), out, |at, out| write_string(values.value(at), out));
        }
        FieldType::Vector { dim } => {
            write_floats(vector(column, dim as usize, row), out);
        }
        FieldType::SparseVector => {
            let map = column.as_map();
            let (tokens, weights) = (map.keys().as_string::<i32>(), map.values().as_primitive::<Float32Type>());
            out.push(b'{');
            for (n, at) in span(map.value_offsets(), row).enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                write_string(tokens.value(at), out);
                out.push(b':');
                write_float(weights.value(at), out);
            }
            out.push(b'}');
        }
    }
}

/// Elements of row `row`, as positions in the list's values.
pub(crate) fn span(offsets: &[i32], row: usize) -> std::ops::Range<usize> {
    offsets[row].unsigned_abs() as usize..offsets[row + 1].unsigned_abs() as usize
}

fn write_list<T>(elements: impl IntoIterator<Item = T>, out: &mut Vec<u8>, write: impl Fn(T, &mut Vec<u8>)) {
    out.push(b'[');
    for (n, element) in elements.into_iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        write(element, out);
    }
    out.push(b']');
}

fn write_int(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn write_float(value: f32, out: &mut Vec<u8>) {
    let mut text = [0; float::TEXT_BYTES];
    let len = float::write(value, &mut text);
    out.extend_from_slice(&text[..len]);
}

/// A JSON array of floats: most of the bytes of an export. Room is made once, not for every element.
fn write_floats(values: &[f32], out: &mut Vec<u8>) {
    const ROOM: usize = float::TEXT_BYTES + 1;
    let start = out.len();
    out.resize(start + 2 + ROOM * values.len(), 0);
    let text = &mut out[start..];
    text[0] = b'[';
    let mut at = 1;
    for value in values {
        at += float::write(*value, &mut text[at..]);
        text[at] = b',';
        at += 1;
    }
    // The last comma becomes the bracket.
    at -= usize::from(!values.is_empty());
    text[at] = b']';
    out.truncate(start + at + 1);
}

/// A JSON string; UTF-8 stays as it is, only what JSON forbids is escaped.
fn write_string(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|b| *b < 0x20 || *b == b'"' || *b == b'\\') {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}
