//! Rows from the user's own files, as the JSON arrays that an upsert call takes.
//!
//! Called by the command line in the user's process, on files the user trusts: a hostile parquet footer can abort the
//! process that reads it, so the server never calls this. Nothing here knows a schema; the server checks every row.

mod jsonl;
mod parquet;

pub use jsonl::{JsonlBatches, jsonl_batches};
pub use parquet::{ParquetBatches, parquet_batches};

use knarr_base::limit;

/// Bytes of a batch's text: half of what a request body may hold, since one row can be large.
const BATCH_BYTES: usize = limit::BODY_BYTES / 2;

/// Up to 100 rows.
#[derive(Debug, PartialEq)]
pub struct Batch {
    /// A JSON array of row objects.
    pub json: String,
    /// Rows in it, at least 1.
    pub rows: usize,
    /// Where the file has been read to: bytes of JSON lines, rows of parquet. Never goes down.
    pub position: u64,
}

/// Why a file cannot be read as rows.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file itself.
    #[error("cannot be read")]
    Io(#[from] std::io::Error),
    /// A line that is not a JSON object.
    #[error("line {line}: {why}")]
    Line {
        /// From 1.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// Not a parquet file, or a damaged one.
    #[error("is not readable as parquet")]
    Parquet(#[from] ::parquet::errors::ParquetError),
    /// A column or row group that cannot be decoded.
    #[error("cannot be decoded")]
    Arrow(#[from] arrow_schema::ArrowError),
    /// A column of a type that no field has.
    #[error("column {name}: {kind} has no field type")]
    Column {
        /// Its name.
        name: String,
        /// Its Arrow type.
        kind: String,
    },
    /// NaN or infinity, which JSON cannot say.
    #[error("row {row}, column {name}: not a finite number")]
    NotFinite {
        /// From 1.
        row: u64,
        /// The column.
        name: String,
    },
}

/// Joins rows into one array until it is full.
struct Builder {
    json: String,
    rows: usize,
}

impl Builder {
    fn new() -> Self {
        Self { json: String::from("["), rows: 0 }
    }

    fn full(&self) -> bool {
        self.rows == limit::ROWS_PER_CALL || self.json.len() >= BATCH_BYTES
    }

    /// Where the next row is to be written.
    fn next_row(&mut self) -> &mut String {
        if self.rows > 0 {
            self.json.push(',');
        }
        self.rows += 1;
        &mut self.json
    }

    fn finish(mut self, position: u64) -> Option<Batch> {
        self.json.push(']');
        (self.rows > 0).then_some(Batch { json: self.json, rows: self.rows, position })
    }
}

#[cfg(test)]
mod tests;
