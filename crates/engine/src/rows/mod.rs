//! Rows as callers send and read them, typed JSON text, and as the table keeps them, columns.
//!
//! `decode` turns a call's text into one batch, `print` turns rows of a batch into text (answers, samples, exports),
//! `digest` gives a row the number that an export's content digest sums up. Callers outside the engine move [`Rows`]
//! and [`Fetched`] about; what is inside is the engine's business.

mod column;
mod decode;
mod digest;
mod float;
mod made;
mod print;
mod vector;

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::BooleanBuffer;
use knarr_base::schema::Schema;
use knarr_base::value::Key;

use crate::error::Error;

pub use decode::Call;
pub(crate) use digest::{RowDigest, float_bytes};
pub(crate) use print::{RowPrinter, span};

/// The decoded rows of one upsert or update call, every rule of the schema checked, one row per key.
#[derive(Debug, Clone)]
pub struct Rows {
    schema: Arc<Schema>,
    batch: RecordBatch,
    given: Option<Vec<BooleanBuffer>>,
    bytes: usize,
    /// The schema has a made vector, and these rows wait for theirs.
    unmade: bool,
}

/// What becomes of members that are no field of the collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// The call is refused.
    Refused,
    /// They are left out.
    Ignored,
}

impl Rows {
    /// The rows of a call: a JSON array of objects, as text.
    ///
    /// # Errors
    /// `Rows`, `Row`, `RowKey`, `RowTooLong`; nothing is kept then.
    pub fn decode(schema: &Arc<Schema>, json: &str, call: Call, unknown: Unknown) -> Result<Rows, Error> {
        decode::decode(schema, json, call, unknown)
    }

    /// Whole rows, [`Call::Upsert`], with no unknown members.
    ///
    /// # Errors
    /// As [`Rows::decode`].
    pub fn decode_upsert(schema: &Arc<Schema>, json: &str) -> Result<Rows, Error> {
        Self::decode(schema, json, Call::Upsert, Unknown::Refused)
    }

    /// Changes to rows, [`Call::Update`], with no unknown members.
    ///
    /// # Errors
    /// As [`Rows::decode`].
    pub fn decode_update(schema: &Arc<Schema>, json: &str) -> Result<Rows, Error> {
        Self::decode(schema, json, Call::Update, Unknown::Refused)
    }

    /// Number of rows, 1 to `limit::ROWS_PER_CALL`.
    pub fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// Never true: an empty call is refused.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the values, as `limit::ROW_BYTES` counts them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The schema the rows were checked against.
    pub(crate) fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Columns of `columns::call_schema` for an upsert, of `columns::row_schema` for an update.
    pub(crate) fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    /// For an update one bitmap per column: the rows that gave it. What the others hold there means nothing.
    pub(crate) fn given(&self) -> Option<&[BooleanBuffer]> {
        self.given.as_deref()
    }
}

/// Bytes of a stored row's values, as `limit::ROW_BYTES` counts them: fixed widths, bytes of strings and tokens; no
/// offsets, no hidden columns, no made vector. The committer asks for rows that an update put together.
pub(crate) fn row_bytes(schema: &Schema, batch: &RecordBatch, row: usize) -> usize {
    crate::columns::user_columns(schema).map(|column| column::value_bytes(batch.column(column), row)).sum()
}

/// Chosen columns of a schema, and the names under which they are shown.
#[derive(Debug)]
pub struct Projection(RowPrinter);

impl Projection {
    /// Each field with the name it is shown under. `unit`: dense vectors are printed at length 1, as an index with the
    /// cosine distance answers them; otherwise bit-exact.
    ///
    /// # Errors
    /// The first name that the schema does not have.
    pub fn new<'n>(schema: &Schema, fields: &[(&'n str, &'n str)], unit: bool) -> Result<Self, &'n str> {
        match RowPrinter::chosen(schema, fields.iter().copied(), unit) {
            Some(printer) => Ok(Self(printer)),
            None => {
                let unknown = |name: &&str| crate::columns::named_column(schema, name).is_none();
                Err(fields.iter().map(|(field, _)| *field).find(unknown).unwrap_or_default())
            }
        }
    }

    pub(crate) fn write_members(&self, batch: &RecordBatch, row: usize, out: &mut Vec<u8>) {
        self.0.write_members(batch, row, out);
    }
}

/// The answer of a read by keys: one entry per requested key, in their order, repeats repeated.
#[derive(Debug)]
pub struct Fetched {
    schema: Arc<Schema>,
    printer: RowPrinter,
    keys: Vec<Key>,
    hits: Vec<Option<(RecordBatch, u32)>>,
}

impl Fetched {
    /// `hits[i]` is the batch (stored columns of `schema`) and row that hold `keys[i]`.
    pub(crate) fn new(schema: &Arc<Schema>, keys: Vec<Key>, hits: Vec<Option<(RecordBatch, u32)>>) -> Self {
        debug_assert_eq!(keys.len(), hits.len());
        Self { schema: schema.clone(), printer: RowPrinter::whole(schema), keys, hits }
    }

    /// The schema that projections must be made for.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// The dense vector of entry `i`; `None` for a key without a row, and where the schema has no such field.
    pub fn vector(&self, i: usize) -> Option<&[f32]> {
        let (field, dim) = self.schema.vector()?;
        let (batch, row) = self.hits[i].as_ref()?;
        let column = batch.column(crate::columns::field_column(&self.schema, field));
        Some(print::vector(column, dim as usize, *row as usize))
    }

    /// Appends the chosen fields of entry `i` as JSON members without braces. Nothing for a key without a row.
    pub fn write_chosen(&self, i: usize, projection: &Projection, out: &mut Vec<u8>) {
        if let Some((batch, row)) = &self.hits[i] {
            projection.write_members(batch, *row as usize, out);
        }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// True without any entry.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// True if the key of entry `i` has a row.
    pub fn found(&self, i: usize) -> bool {
        self.hits[i].is_some()
    }

    /// The key of entry `i`.
    pub fn key(&self, i: usize) -> &Key {
        &self.keys[i]
    }

    /// Appends the fields of entry `i` as JSON members without braces (`"id":1,"city":"x"`): every field in declared
    /// order, the key too, null for an absent text, image or sparse vector, no made vector. Nothing for a key without a
    /// row.
    pub fn write_members(&self, i: usize, out: &mut Vec<u8>) {
        if let Some((batch, row)) = &self.hits[i] {
            self.printer.write_members(batch, *row as usize, out);
        }
    }
}

/// The `dim` elements of a query vector, from the JSON text of a list of numbers or of base64: bit-exact, as rows are
/// read.
///
/// # Errors
/// A sentence for the user.
pub fn parse_query(json: &str, dim: usize) -> Result<Vec<f32>, String> {
    let mut vector = Vec::with_capacity(dim);
    if json.starts_with('[') {
        let used = vector::parse_array(json, dim, &mut vector)?;
        if used != json.len() {
            return Err("expected one array of numbers".to_owned());
        }
    } else {
        vector::parse_text(json, dim, &mut vector)?;
    }
    Ok(vector)
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
