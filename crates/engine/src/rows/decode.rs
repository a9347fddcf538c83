//! One pass over a call's JSON text into columns: no tree of values in between, and vectors read where they stand.
//!
//! Inside a value a failure is kept in [`Decoder::failure`] and the JSON reader is stopped with an empty error; what the
//! reader itself finds (types, escapes) is turned into our words, with the row and field that were being read.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder};
use knarr_base::limit;
use knarr_base::schema::{AUTO_ID, FieldType, MADE_VECTOR, PrimaryKey, Schema};
use knarr_base::value::Value;
use serde::de::{self, DeserializeSeed, IgnoredAny};
use serde_json::error::Category;

use self::visit::ValueSeed;
use self::walk::Walk;
use super::column::Builder;
use super::vector::{parse_array, parse_number, parse_text};
use super::{Rows, Unknown};
use crate::columns;
use crate::error::Error;

mod visit;
mod walk;

/// What the rows of a call are, and so what a row that leaves a field out, or gives it as null, means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Whole rows: the field takes its default. Of two rows with one key the last stays.
    Upsert,
    /// Changes to rows, which carry the key and the fields to set: the field stays as it is stored. Of two changes to
    /// one key the later wins field by field.
    Update,
}

pub(super) fn decode(schema: &Arc<Schema>, json: &str, call: Call, unknown: Unknown) -> Result<Rows, Error> {
    let mut decoder = Decoder::new(schema, call, unknown);
    let mut walk = Walk::new(json);
    decoder.read_rows(&mut walk)?;
    walk.end()?;
    decoder.finish()
}

/// A column being filled.
struct Slot<'s> {
    name: &'s str,
    kind: FieldType,
    default: Option<Value>,
    column: Builder,
    /// Number of the last row, counted from 1, in which the member stood.
    seen: usize,
    /// Rows that gave a value.
    given: BooleanBufferBuilder,
}

struct Decoder<'s> {
    schema: &'s Arc<Schema>,
    call: Call,
    unknown: Unknown,
    slots: Vec<Slot<'s>>,
    by_name: HashMap<&'s str, usize>,
    /// The key's slot; none for an upsert with generated keys.
    key: Option<usize>,
    /// Rows finished, which is also the number of the present one.
    row: usize,
    row_bytes: usize,
    bytes: usize,
    /// The slot being read.
    at: Option<usize>,
    failure: Option<Error>,
}

impl<'s> Decoder<'s> {
    fn new(schema: &'s Arc<Schema>, call: Call, unknown: Unknown) -> Self {
        let slot = |name, kind, default| Slot {
            name,
            kind,
            default,
            column: Builder::new(kind),
            seen: 0,
            given: BooleanBufferBuilder::new(limit::ROWS_PER_CALL),
        };
        let generated = schema.primary_key() == PrimaryKey::Auto && call == Call::Update;
        let auto = generated.then(|| slot(AUTO_ID, FieldType::Int64, None));
        let fields = schema.fields().iter().map(|f| slot(f.name.as_str(), f.kind, f.default_value()));
        let slots: Vec<_> = auto.into_iter().chain(fields).collect();
        let given = |slot: &Slot<'_>| slot.name != MADE_VECTOR;
        let by_name = slots.iter().enumerate().filter(|(_, slot)| given(slot)).map(|(at, slot)| (slot.name, at));
        let by_name = by_name.collect();
        let key = match (schema.primary_key(), call) {
            (PrimaryKey::Auto, Call::Upsert) => None,
            (PrimaryKey::Auto, Call::Update) => Some(0),
            (PrimaryKey::Field(at), _) => Some(at),
        };
        Self { schema, call, unknown, slots, by_name, key, row: 0, row_bytes: 0, bytes: 0, at: None, failure: None }
    }

    fn read_rows(&mut self, walk: &mut Walk<'_>) -> Result<(), Error> {
        if !walk.enter(b'[') {
            return Err(Error::Rows("expected an array of rows".to_owned()));
        }
        while walk.next(b']')? {
            if self.row == limit::ROWS_PER_CALL {
                return Err(Error::Rows(format!("a call carries at most {} rows", limit::ROWS_PER_CALL)));
            }
            self.read_row(walk)?;
        }
        Ok(())
    }

    fn read_row(&mut self, walk: &mut Walk<'_>) -> Result<(), Error> {
        if !walk.enter(b'{') {
            return Err(Error::Rows(format!("row {}: expected an object", self.row)));
        }
        let mut next = 0;
        while walk.next(b'}')? {
            let name = walk.name()?;
            let Some(at) = self.begin_member(&name, next)? else {
                // Nobody reads it, but the body has to be JSON all the same.
                serde_json::from_str::<IgnoredAny>(walk.value()).map_err(|_| walk.malformed())?;
                continue;
            };
            self.at = Some(at);
            self.read_value(at, walk)?;
            self.at = None;
            next = at + 1;
        }
        self.end_row()
    }

    /// Digits go straight to float32; by way of a double they would be rounded twice.
    fn read_value(&mut self, at: usize, walk: &mut Walk<'_>) -> Result<(), Error> {
        let read = match &mut self.slots[at].column {
            Builder::Vector { dim, values } => read_vector(walk, *dim as usize, values),
            Builder::Float(values) => match walk.value() {
                "null" => Ok(None),
                number => parse_number(number).map(|x| {
                    values.push(x);
                    Some(size_of::<f32>())
                }),
            },
            _ => {
                let mut reader = serde_json::Deserializer::from_str(walk.value());
                let read = ValueSeed { decoder: self, at }.deserialize(&mut reader).and_then(|()| reader.end());
                return read.map_err(|error| self.explain(&error));
            }
        };
        match read {
            Ok(None) => {}
            Ok(Some(bytes)) => self.gave(at, bytes),
            Err(why) => return Err(self.refusal(at, why)),
        }
        Ok(())
    }

    /// Keeps the first failure and stops the reader.
    fn fail<E: de::Error>(&mut self, failure: Error) -> E {
        self.failure.get_or_insert(failure);
        E::custom("")
    }

    fn fail_at<E: de::Error>(&mut self, at: usize, why: impl Into<String>) -> E {
        let failure = self.refusal(at, why.into());
        self.fail(failure)
    }

    fn refusal(&self, at: usize, why: String) -> Error {
        let (row, field) = (self.row, self.slots[at].name.to_owned());
        if self.key == Some(at) { Error::RowKey { row, field, why } } else { Error::Row { row, field, why } }
    }

    /// The failure kept, or what the reader found.
    fn explain(&mut self, error: &serde_json::Error) -> Error {
        match (self.failure.take(), error.classify(), self.at) {
            (Some(failure), _, _) => failure,
            (None, Category::Data, Some(at)) => self.refusal(at, error.to_string()),
            (None, Category::Data, None) => Error::Rows(format!("row {}: {error}", self.row)),
            (None, Category::Syntax | Category::Eof | Category::Io, _) => Error::Rows(error.to_string()),
        }
    }

    /// The slot of a member name. `next` is the one after the last found: rows mostly repeat the declared order.
    fn find(&self, name: &str, next: usize) -> Option<usize> {
        match self.slots.get(next) {
            Some(slot) if slot.name == name && name != MADE_VECTOR => Some(next),
            _ => self.by_name.get(name).copied(),
        }
    }

    /// The slot of a member; none for one that is left out.
    fn begin_member(&mut self, name: &str, next: usize) -> Result<Option<usize>, Error> {
        let row = self.row;
        let Some(at) = self.find(name, next) else {
            let why = match name {
                AUTO_ID if self.schema.primary_key() == PrimaryKey::Auto => "is generated and cannot be given",
                MADE_VECTOR if self.schema.made_vector().is_some() => "is made by a model and cannot be given",
                _ if self.unknown == Unknown::Ignored => return Ok(None),
                _ => "the collection has no such field",
            };
            return Err(Error::Row { row, field: shorten(name), why: why.to_owned() });
        };
        if self.slots[at].seen == row + 1 {
            return Err(Error::Row { row, field: name.to_owned(), why: "is given twice".to_owned() });
        }
        self.slots[at].seen = row + 1;
        Ok(Some(at))
    }

    /// Notes that slot `at` has its value of this row.
    fn gave(&mut self, at: usize, bytes: usize) {
        self.slots[at].given.append(true);
        self.row_bytes += bytes;
    }

    /// Fills what the row left out.
    fn end_row(&mut self) -> Result<(), Error> {
        self.at = None;
        for at in 0..self.slots.len() {
            if self.slots[at].given.len() > self.row {
                continue;
            }
            if self.key == Some(at) {
                let (row, field) = (self.row, self.slots[at].name.to_owned());
                return Err(Error::Row { row, field, why: "the primary key is missing".to_owned() });
            }
            let slot = &mut self.slots[at];
            slot.given.append(false);
            match (self.call, &slot.default, slot.kind) {
                (Call::Update, _, _) => slot.column.push_nothing(),
                (Call::Upsert, Some(value), _) => self.row_bytes += slot.column.push_value(value),
                // Its place, until the model has made it.
                (Call::Upsert, None, FieldType::Vector { .. }) if slot.name == MADE_VECTOR => {
                    slot.column.push_nothing()
                }
                (Call::Upsert, None, FieldType::Vector { dim }) => {
                    return Err(self.refusal(at, format!("the vector of {dim} elements is missing")));
                }
                (Call::Upsert, None, _) => slot.column.push_nothing(),
            }
        }
        if self.row_bytes > limit::ROW_BYTES {
            return Err(Error::RowTooLong { row: self.row });
        }
        self.bytes += self.row_bytes;
        self.row_bytes = 0;
        self.row += 1;
        Ok(())
    }

    fn finish(self) -> Result<Rows, Error> {
        if self.row == 0 {
            return Err(Error::Rows("a call carries at least one row".to_owned()));
        }
        let layout = match self.call {
            Call::Upsert => columns::call_schema(self.schema),
            Call::Update => columns::row_schema(self.schema),
        };
        let (mut values, mut given) = (Vec::new(), Vec::new());
        for mut slot in self.slots {
            values.push(slot.column.finish(slot.kind));
            given.push(slot.given.finish());
        }
        if let Some(key) = self.key
            && let Some(groups) = repeats(&values[key])
        {
            merge_repeats(&groups, self.call, &mut values, &mut given)?;
        }
        let batch = RecordBatch::try_new(layout, values).map_err(encode_error)?;
        let given = (self.call == Call::Update).then_some(given);
        let unmade = self.schema.made_vector().is_some();
        Ok(Rows { schema: Arc::clone(self.schema), batch, given, bytes: self.bytes, unmade })
    }
}

/// Reads the value that comes; its bytes, or none for null.
fn read_vector(walk: &mut Walk<'_>, dim: usize, out: &mut Vec<f32>) -> Result<Option<usize>, String> {
    if walk.rest().starts_with('[') {
        let used = parse_array(walk.rest(), dim, out)?;
        walk.skip(used);
    } else {
        match walk.value() {
            "null" => return Ok(None),
            text => parse_text(text, dim, out)?,
        }
    }
    Ok(Some(size_of::<f32>() * dim))
}

fn encode_error(source: arrow_schema::ArrowError) -> Error {
    Error::Encode { what: "the rows of a call", source: Box::new(source) }
}

/// A name from outside, short enough for a message.
fn shorten(name: &str) -> String {
    match name.char_indices().nth(limit::NAME_BYTES) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name.to_owned(),
    }
}

/// The rows of each key, keys in the order of their last row. `None` when no key repeats.
fn repeats(keys: &ArrayRef) -> Option<Vec<Vec<u32>>> {
    let rows = 0..keys.len();
    match keys.as_string_opt::<i32>() {
        Some(keys) => group(rows.map(|row| keys.value(row))),
        None => group(keys.as_primitive::<Int64Type>().values().iter().copied()),
    }
}

fn group<K: Hash + Eq>(keys: impl Iterator<Item = K>) -> Option<Vec<Vec<u32>>> {
    let mut groups: HashMap<K, Vec<u32>> = HashMap::new();
    let mut rows = 0;
    for (row, key) in (0..).zip(keys) {
        groups.entry(key).or_default().push(row);
        rows += 1;
    }
    if groups.len() == rows {
        return None;
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by_key(|rows| rows.last().copied());
    Some(groups)
}

/// One row per group: the last, and in an update the last that gave the column.
fn merge_repeats(
    groups: &[Vec<u32>],
    call: Call,
    values: &mut [ArrayRef],
    given: &mut [BooleanBuffer],
) -> Result<(), Error> {
    for (column, gave) in values.iter_mut().zip(given) {
        let stays = |rows: &Vec<u32>| {
            let last = rows.last().copied().expect("a group holds the rows that made it");
            match call {
                Call::Upsert => last,
                Call::Update => rows.iter().rev().copied().find(|row| gave.value(*row as usize)).unwrap_or(last),
            }
        };
        let rows: Vec<u32> = groups.iter().map(stays).collect();
        *gave = rows.iter().map(|row| gave.value(*row as usize)).collect();
        *column = arrow_select::take::take(column, &UInt32Array::from(rows), None).map_err(encode_error)?;
    }
    Ok(())
}
