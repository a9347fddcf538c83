//! Rows as callers send and read them, typed JSON text, and as the table keeps them, columns.
//!
//! `decode` turns a call's text into one batch, `print` turns rows of a batch into text (answers, samples, exports),
//! `digest` gives a row the number that an export's content digest sums up. Callers outside the engine move [`Rows`]
//! and [`Fetched`] about; what is inside is the engine's business.

mod column;
mod decode;
mod digest;
mod float;
mod print;
mod vector;

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::BooleanBuffer;
use knarr_base::schema::Schema;
use knarr_base::value::Key;

use crate::error::Error;

pub(crate) use digest::{RowDigest, float_bytes};
pub(crate) use print::{RowPrinter, span};

/// The decoded rows of one upsert or update call, every rule of the schema checked, one row per key.
#[derive(Debug, Clone)]
pub struct Rows {
    schema: Arc<Schema>,
    batch: RecordBatch,
    given: Option<Vec<BooleanBuffer>>,
    bytes: usize,
}

impl Rows {
    /// Whole rows: a JSON array of objects, as text. Fields left out or null take their default. Of two rows with
    /// one key the last stays.
    ///
    /// # Errors
    /// `Rows`, `Row`, `RowKey`, `RowTooLong`; nothing is kept then.
    pub fn decode_upsert(schema: &Arc<Schema>, json: &str) -> Result<Rows, Error> {
        decode::decode(schema, json, decode::Call::Upsert)
    }

    /// Changes to rows: each object carries the key and the fields to set; a null field counts as not given. Of two
    /// changes to one key the later wins field by field.
    ///
    /// # Errors
    /// As [`Rows::decode_upsert`].
    pub fn decode_update(schema: &Arc<Schema>, json: &str) -> Result<Rows, Error> {
        decode::decode(schema, json, decode::Call::Update)
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

    /// Columns of `columns::call_schema` for an upsert, of `columns::user_schema` for an update.
    pub(crate) fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    /// For an update one bitmap per column: the rows that gave it. What the others hold there means nothing.
    pub(crate) fn given(&self) -> Option<&[BooleanBuffer]> {
        self.given.as_deref()
    }
}

/// Bytes of a stored row's values, as `limit::ROW_BYTES` counts them: fixed widths, bytes of strings and tokens; no
/// offsets, no hidden columns. The committer asks for rows that an update put together.
pub(crate) fn row_bytes(schema: &Schema, batch: &RecordBatch, row: usize) -> usize {
    let columns = crate::columns::user_schema(schema).fields().len();
    batch.columns()[..columns].iter().map(|column| column::value_bytes(column, row)).sum()
}

/// The answer of a read by keys: one entry per requested key, in their order, repeats repeated.
#[derive(Debug)]
pub struct Fetched {
    printer: RowPrinter,
    keys: Vec<Key>,
    hits: Vec<Option<(RecordBatch, u32)>>,
}

impl Fetched {
    /// `hits[i]` is the batch (stored columns of `schema`) and row that hold `keys[i]`.
    pub(crate) fn new(schema: &Schema, keys: Vec<Key>, hits: Vec<Option<(RecordBatch, u32)>>) -> Self {
        debug_assert_eq!(keys.len(), hits.len());
        Self { printer: RowPrinter::whole(schema), keys, hits }
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
    /// order, the key too, null for an absent text, image or sparse vector. Nothing for a key without a row.
    pub fn write_members(&self, i: usize, out: &mut Vec<u8>) {
        if let Some((batch, row)) = &self.hits[i] {
            self.printer.write_members(batch, *row as usize, out);
        }
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
