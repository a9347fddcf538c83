//! One pass over a call's JSON text into columns: no tree of values in between.
//!
//! A failure is kept in [`Decoder::failure`] and the JSON reader is stopped with an empty error; what the reader itself
//! finds (grammar, types) is turned into our words at the end, with the row and field that were being read.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder};
use knarr_base::limit;
use knarr_base::schema::{AUTO_ID, FieldType, PrimaryKey, Schema};
use knarr_base::value::Value;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::Rows;
use super::column::Builder;
use super::vector::{parse_float, parse_vector};
use crate::columns;
use crate::error::Error;

/// What a row that leaves a field out means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// The field takes its default.
    Upsert,
    /// The field stays as it is stored.
    Update,
}

pub(super) fn decode(schema: &Arc<Schema>, json: &str, call: Call) -> Result<Rows, Error> {
    let mut decoder = Decoder::new(schema, call);
    let mut reader = serde_json::Deserializer::from_str(json);
    let read = RowsSeed(&mut decoder).deserialize(&mut reader).and_then(|()| reader.end());
    if let Err(error) = read {
        return Err(decoder.explain(&error));
    }
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
    fn new(schema: &'s Arc<Schema>, call: Call) -> Self {
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
        let by_name = slots.iter().enumerate().map(|(at, slot)| (slot.name, at)).collect();
        let key = match (schema.primary_key(), call) {
            (PrimaryKey::Auto, Call::Upsert) => None,
            (PrimaryKey::Auto, Call::Update) => Some(0),
            (PrimaryKey::Field(at), _) => Some(at),
        };
        Self { schema, call, slots, by_name, key, row: 0, row_bytes: 0, bytes: 0, at: None, failure: None }
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
    fn explain(mut self, error: &serde_json::Error) -> Error {
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
            Some(slot) if slot.name == name => Some(next),
            _ => self.by_name.get(name).copied(),
        }
    }

    fn begin_member(&mut self, name: &str, next: usize) -> Result<usize, Error> {
        let row = self.row;
        let Some(at) = self.find(name, next) else {
            let why = if name == AUTO_ID && self.schema.primary_key() == PrimaryKey::Auto {
                "is generated and cannot be given"
            } else {
                "the collection has no such field"
            };
            return Err(Error::Row { row, field: shorten(name), why: why.to_owned() });
        };
        if self.slots[at].seen == row + 1 {
            return Err(Error::Row { row, field: name.to_owned(), why: "is given twice".to_owned() });
        }
        self.slots[at].seen = row + 1;
        Ok(at)
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
            Call::Update => columns::user_schema(self.schema),
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
        Ok(Rows { schema: Arc::clone(self.schema), batch, given, bytes: self.bytes })
    }
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

/// The whole call: an array of rows.
struct RowsSeed<'a, 's>(&'a mut Decoder<'s>);

impl<'de> DeserializeSeed<'de> for RowsSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for RowsSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        while self.0.row < limit::ROWS_PER_CALL {
            if rows.next_element_seed(RowSeed(&mut *self.0))?.is_none() {
                return Ok(());
            }
        }
        match rows.next_element::<IgnoredAny>()? {
            None => Ok(()),
            Some(_) => {
                let most = format!("a call carries at most {} rows", limit::ROWS_PER_CALL);
                Err(self.0.fail(Error::Rows(most)))
            }
        }
    }
}

/// One row: an object.
struct RowSeed<'a, 's>(&'a mut Decoder<'s>);

impl<'de> DeserializeSeed<'de> for RowSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RowSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let RowSeed(decoder) = self;
        let mut next = 0;
        while let Some(at) = members.next_key_seed(NameSeed { decoder: &mut *decoder, next })? {
            decoder.at = Some(at);
            next = at + 1;
            members.next_value_seed(ValueSeed { decoder: &mut *decoder, at })?;
            decoder.at = None;
        }
        decoder.end_row().map_err(|failure| decoder.fail(failure))
    }
}

/// A member's name, as the slot it means.
struct NameSeed<'a, 's> {
    decoder: &'a mut Decoder<'s>,
    next: usize,
}

impl<'de> DeserializeSeed<'de> for NameSeed<'_, '_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<usize, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for NameSeed<'_, '_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<usize, E> {
        self.decoder.begin_member(name, self.next).map_err(|failure| self.decoder.fail(failure))
    }
}

/// A member's value, into its slot.
struct ValueSeed<'a, 's> {
    decoder: &'a mut Decoder<'s>,
    at: usize,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        match self.decoder.slots[self.at].kind {
            // Digits go straight to float32; by way of a double they would be rounded twice.
            FieldType::Float32 | FieldType::Vector { .. } => {
                let text = <&RawValue as de::Deserialize>::deserialize(json)?.get();
                self.raw(text)
            }
            _ => json.deserialize_any(self),
        }
    }
}

impl ValueSeed<'_, '_> {
    fn raw<E: de::Error>(self, text: &str) -> Result<(), E> {
        if text == "null" {
            return Ok(());
        }
        let parsed = match &mut self.decoder.slots[self.at].column {
            Builder::Float(values) => parse_float(text).map(|x| {
                values.push(x);
                4
            }),
            Builder::Vector { dim, values } => parse_vector(text, *dim as usize, values).map(|()| 4 * *dim as usize),
            _ => unreachable!("only float32 and vector columns are read as raw text"),
        };
        match parsed {
            Ok(bytes) => {
                self.decoder.gave(self.at, bytes);
                Ok(())
            }
            Err(why) => Err(self.decoder.fail_at(self.at, why)),
        }
    }

    fn is_key(&self) -> bool {
        self.decoder.key == Some(self.at)
    }

    fn wrong_type<E: de::Error>(self, found: &str) -> E {
        let why = format!("expected {}, got {found}", self.decoder.slots[self.at].kind.name());
        self.decoder.fail_at(self.at, why)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.decoder.slots[self.at].kind.name())
    }

    /// Null means not given.
    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        match &mut self.decoder.slots[self.at].column {
            Builder::Bool(out) => out.append_value(value),
            _ => return Err(self.wrong_type("a boolean")),
        }
        self.decoder.gave(self.at, 1);
        Ok(())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        match &mut self.decoder.slots[self.at].column {
            Builder::Int(out) => out.push(value),
            _ => return Err(self.wrong_type("a number")),
        }
        self.decoder.gave(self.at, 8);
        Ok(())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => Err(self.wrong_type("an integer beyond 64 bits")),
        }
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        Err(self.wrong_type("a number with a fraction, an exponent or too many digits"))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        let is_key = self.is_key();
        match &mut self.decoder.slots[self.at].column {
            Builder::Str(_) if is_key && value.len() > limit::KEY_BYTES => {
                let why = format!("a key holds at most {} bytes", limit::KEY_BYTES);
                return Err(self.decoder.fail_at(self.at, why));
            }
            Builder::Str(out) => out.append_value(value),
            // The vendor's documents show integer keys in quotes.
            Builder::Int(out) if is_key && !value.starts_with('+') => match value.parse() {
                Ok(key) => {
                    out.push(key);
                    self.decoder.gave(self.at, 8);
                    return Ok(());
                }
                Err(_) => return Err(self.wrong_type("a string")),
            },
            _ => return Err(self.wrong_type("a string")),
        }
        self.decoder.gave(self.at, value.len());
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let (mut bytes, mut count) = (0, 0);
        match &mut self.decoder.slots[self.at].column {
            Builder::IntList(list) => {
                while let Some(value) = elements.next_element()? {
                    list.elements.push(value);
                    bytes += 8;
                    count += 1;
                    if count > limit::LIST_ELEMENTS {
                        return Err(self.too_many());
                    }
                }
                list.end();
            }
            Builder::StrList(list) => {
                while let Some(text) = elements.next_element_seed(Text)? {
                    bytes += text.len();
                    list.elements.append_value(text);
                    count += 1;
                    if count > limit::LIST_ELEMENTS {
                        return Err(self.too_many());
                    }
                }
                list.end();
            }
            Builder::Sparse { .. } => {
                let mut weights = Vec::new();
                while elements.next_element_seed(Entry(&mut weights))?.is_some() {}
                return self.sparse(weights);
            }
            _ => return Err(self.wrong_type("an array")),
        }
        self.decoder.gave(self.at, bytes);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<(), A::Error> {
        if !matches!(self.decoder.slots[self.at].column, Builder::Sparse { .. }) {
            return Err(self.wrong_type("an object"));
        }
        let mut weights = Vec::new();
        read_weights(members, &mut weights)?;
        self.sparse(weights)
    }
}

impl<'de> ValueSeed<'_, '_> {
    fn too_many<E: de::Error>(self) -> E {
        self.decoder.fail_at(self.at, format!("a list holds at most {} elements", limit::LIST_ELEMENTS))
    }

    /// A sparse vector, its tokens sorted by bytes.
    fn sparse<E: de::Error>(self, mut entries: Weights<'de>) -> Result<(), E> {
        entries.sort_unstable_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let why = format!("the token {:?} appears twice", shorten(&pair[0].0));
            return Err(self.decoder.fail_at(self.at, why));
        }
        let mut bytes = 0;
        let Builder::Sparse { lists, weights, present } = &mut self.decoder.slots[self.at].column else {
            unreachable!("callers looked at the column")
        };
        for (token, weight) in &entries {
            match parse_float(weight) {
                Ok(weight) => weights.push(weight),
                Err(why) => {
                    let why = format!("weight of {:?}: {why}", shorten(token));
                    return Err(self.decoder.fail_at(self.at, why));
                }
            }
            lists.elements.append_value(token);
            bytes += token.len() + 4;
        }
        lists.end();
        present.append_non_null();
        self.decoder.gave(self.at, bytes);
        Ok(())
    }
}

/// Tokens with the text of their weights.
type Weights<'de> = Vec<(Cow<'de, str>, &'de str)>;

fn read_weights<'de, A: MapAccess<'de>>(mut members: A, out: &mut Weights<'de>) -> Result<(), A::Error> {
    while let Some(token) = members.next_key_seed(Text)? {
        out.push((token, members.next_value::<&RawValue>()?.get()));
    }
    Ok(())
}

/// An element of a sparse vector written as a list: an object of one token.
struct Entry<'a, 'de>(&'a mut Weights<'de>);

impl<'de> DeserializeSeed<'de> for Entry<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Entry<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of one token and its weight")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<(), A::Error> {
        let before = self.0.len();
        read_weights(members, self.0)?;
        if self.0.len() == before + 1 { Ok(()) } else { Err(de::Error::invalid_length(self.0.len() - before, &self)) }
    }
}

/// A string, borrowed from the call's text where it holds no escapes.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}
