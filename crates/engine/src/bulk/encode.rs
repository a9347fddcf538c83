//! A file being encoded, whatever its format.

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{ArrayRef, BooleanArray, FixedSizeListArray, Float32Array, RecordBatch};
use arrow_buffer::BooleanBuffer;
use arrow_schema::DataType;
use arrow_select::filter::FilterBuilder;
use bytes::Bytes;
use knarr_base::schema::Schema;
use std::sync::Arc;

use super::json::JsonFile;
use super::parquet::ParquetFile;
use super::sink::Sink;
use super::{FileReport, Format};
use crate::columns;
use crate::error::Error;
use crate::rows::RowDigest;

/// Takes rows, gives bytes; counts and digests the rows on the way.
pub(super) struct Encoder {
    file: File,
    /// Columns of a stored batch that users see.
    user_columns: Vec<usize>,
    digest: RowDigest,
    sum: u128,
    rows: u64,
}

enum File {
    Parquet(Box<ParquetFile>),
    Json(JsonFile),
}

/// The end of a file.
pub(super) struct Encoded {
    /// Bytes that had not been taken yet.
    pub(super) parts: Vec<Bytes>,
    pub(super) report: FileReport,
}

impl Encoder {
    pub(super) fn new(schema: &Schema, format: Format) -> Result<Self, Error> {
        let file = match format {
            Format::Parquet => File::Parquet(Box::new(ParquetFile::new(schema)?)),
            Format::Json => File::Json(JsonFile::new(schema)),
        };
        let user_columns = columns::user_columns(schema).collect();
        Ok(Self { file, user_columns, digest: RowDigest::new(schema), sum: 0, rows: 0 })
    }

    /// Writes the selected rows of a stored batch.
    pub(super) fn write(&mut self, batch: &RecordBatch, selected: &BooleanBuffer) -> Result<(), Error> {
        for row in selected.set_indices() {
            self.sum = self.sum.wrapping_add(self.digest.of(batch, row));
            self.rows += 1;
        }
        match &mut self.file {
            File::Json(file) => {
                file.write(batch, selected.set_indices());
                Ok(())
            }
            File::Parquet(file) => {
                let columns: Vec<_> = self.user_columns.iter().map(|at| batch.column(*at).clone()).collect();
                let columns = if selected.count_set_bits() == batch.num_rows() {
                    columns
                } else {
                    gather(&columns, selected).map_err(|e| failed(Box::new(e)))?
                };
                file.write(columns)
            }
        }
    }

    /// Full parts to send on.
    pub(super) fn take_ready(&mut self) -> Vec<Bytes> {
        self.sink().take_ready()
    }

    /// Completes the file.
    pub(super) fn finish(self) -> Result<Encoded, Error> {
        let sink = match self.file {
            File::Json(file) => file.sink,
            File::Parquet(file) => file.finish()?,
        };
        let (parts, bytes, sha256) = sink.finish();
        Ok(Encoded { parts, report: FileReport { rows: self.rows, bytes, sha256, digest: self.sum } })
    }

    fn sink(&mut self) -> &mut Sink {
        match &mut self.file {
            File::Json(file) => &mut file.sink,
            File::Parquet(file) => file.sink(),
        }
    }
}

/// The selected rows of each column. Vectors are copied row by row, which the general kernel does element by element.
fn gather(columns: &[ArrayRef], selected: &BooleanBuffer) -> Result<Vec<ArrayRef>, arrow_schema::ArrowError> {
    let filter = FilterBuilder::new(&BooleanArray::new(selected.clone(), None)).optimize().build();
    let gather = |column: &ArrayRef| match column.data_type() {
        DataType::FixedSizeList(item, dim) => {
            let values = column.as_fixed_size_list().values().as_primitive::<Float32Type>().values();
            let width = dim.unsigned_abs() as usize;
            let mut taken = Vec::with_capacity(filter.count() * width);
            selected.set_indices().for_each(|row| taken.extend_from_slice(&values[row * width..(row + 1) * width]));
            let values = Arc::new(Float32Array::from(taken));
            Ok(Arc::new(FixedSizeListArray::new(item.clone(), *dim, values, None)) as ArrayRef)
        }
        _ => filter.filter(column),
    };
    columns.iter().map(gather).collect()
}

pub(super) fn failed(source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::Encode { what: "an exported file", source }
}
