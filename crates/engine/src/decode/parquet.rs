//! Parquet columns as JSON rows. Nulls are left out, which is how a row says "the default".

use std::fs::File;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, SchemaRef};
use knarr_base::limit;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::{Batch, Builder, Error};

/// Batches of a parquet file; ends after the first error.
pub struct ParquetBatches {
    reader: ParquetRecordBatchReader,
    schema: SchemaRef,
    rows: u64,
    /// Rows of the file that have been decoded but not returned, and how far they have been.
    pending: Option<(RecordBatch, usize)>,
    position: u64,
    ended: bool,
}

/// Opens the file and checks the type of every column. One row group's pages are in memory at a time.
pub fn parquet_batches(file: File) -> Result<ParquetBatches, Error> {
    // The schema that the writer may have embedded asks for dictionaries and views; the file's own says what is there.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)?;
    let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
    let schema = builder.schema().clone();
    for field in schema.fields() {
        if !readable(field.data_type()) {
            return Err(Error::Column { name: field.name().clone(), kind: field.data_type().to_string() });
        }
    }
    let reader = builder.with_batch_size(limit::ROWS_PER_CALL).build()?;
    Ok(ParquetBatches { reader, schema, rows, pending: None, position: 0, ended: false })
}

impl ParquetBatches {
    /// Rows of the file.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    fn next_batch(&mut self) -> Result<Option<Batch>, Error> {
        let mut out = Builder::new();
        while !out.full() {
            let (columns, row) = match self.pending.take() {
                Some((columns, row)) if row < columns.num_rows() => (columns, row),
                _ => match self.reader.next().transpose()? {
                    Some(columns) => (columns, 0),
                    None => break,
                },
            };
            if columns.num_rows() > 0 {
                self.write_row(&columns, row, out.next_row())?;
                self.position += 1;
            }
            self.pending = Some((columns, row + 1));
        }
        Ok(out.finish(self.position))
    }

    fn write_row(&self, columns: &RecordBatch, row: usize, out: &mut String) -> Result<(), Error> {
        out.push('{');
        let mut first = true;
        for (field, column) in self.schema.fields().iter().zip(columns.columns()) {
            if column.is_null(row) {
                continue;
            }
            if !std::mem::take(&mut first) {
                out.push(',');
            }
            write_string(field.name(), out);
            out.push(':');
            write_value(column, row, out)
                .map_err(|NotFinite| Error::NotFinite { row: self.position + 1, name: field.name().clone() })?;
        }
        out.push('}');
        Ok(())
    }
}

impl Iterator for ParquetBatches {
    type Item = Result<Batch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.next_batch().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

/// A number that JSON has no word for.
struct NotFinite;

fn number(kind: &DataType) -> bool {
    kind.is_integer() || matches!(kind, DataType::Float32 | DataType::Float64)
}

/// True for the types that [`write_value`] knows.
fn readable(kind: &DataType) -> bool {
    match kind {
        DataType::Boolean | DataType::Utf8 => true,
        DataType::List(item) | DataType::FixedSizeList(item, _) => {
            number(item.data_type()) || item.data_type() == &DataType::Utf8
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) => pair[0].data_type() == &DataType::Utf8 && number(pair[1].data_type()),
            _ => false,
        },
        other => number(other),
    }
}

/// Writes one value that is not null.
fn write_value(column: &dyn Array, row: usize, out: &mut String) -> Result<(), NotFinite> {
    match column.data_type() {
        DataType::Boolean => out.push_str(if column.as_boolean().value(row) { "true" } else { "false" }),
        DataType::Utf8 => write_string(column.as_string::<i32>().value(row), out),
        DataType::List(_) => write_list(&column.as_list::<i32>().value(row), out)?,
        DataType::FixedSizeList(..) => write_list(&column.as_fixed_size_list().value(row), out)?,
        DataType::Map(..) => {
            let entries = column.as_map().value(row);
            let (keys, weights) = (entries.column(0).as_string::<i32>(), entries.column(1));
            out.push('{');
            for at in 0..entries.len() {
                separate(at, out);
                write_string(keys.value(at), out);
                out.push(':');
                write_item(weights, at, out)?;
            }
            out.push('}');
        }
        _ => write_number(column, row, out)?,
    }
    Ok(())
}

fn write_list(items: &dyn Array, out: &mut String) -> Result<(), NotFinite> {
    out.push('[');
    for at in 0..items.len() {
        separate(at, out);
        write_item(items, at, out)?;
    }
    out.push(']');
    Ok(())
}

fn separate(at: usize, out: &mut String) {
    if at > 0 {
        out.push(',');
    }
}

/// An element keeps its place: null stays null, for the server to refuse.
fn write_item(items: &dyn Array, at: usize, out: &mut String) -> Result<(), NotFinite> {
    if items.is_null(at) {
        out.push_str("null");
        return Ok(());
    }
    match items.data_type() {
        DataType::Utf8 => write_string(items.as_string::<i32>().value(at), out),
        _ => write_number(items, at, out)?,
    }
    Ok(())
}

fn write_number(column: &dyn Array, row: usize, out: &mut String) -> Result<(), NotFinite> {
    fn integer<T: ArrowPrimitiveType<Native: itoa::Integer>>(column: &dyn Array, row: usize, out: &mut String) {
        out.push_str(itoa::Buffer::new().format(column.as_primitive::<T>().value(row)));
    }
    fn float<T: ArrowPrimitiveType<Native: zmij::Float + Into<f64>>>(
        column: &dyn Array,
        row: usize,
        out: &mut String,
    ) -> Result<(), NotFinite> {
        let value = column.as_primitive::<T>().value(row);
        if !value.into().is_finite() {
            return Err(NotFinite);
        }
        out.push_str(zmij::Buffer::new().format_finite(value));
        Ok(())
    }
    match column.data_type() {
        DataType::Int8 => integer::<Int8Type>(column, row, out),
        DataType::Int16 => integer::<Int16Type>(column, row, out),
        DataType::Int32 => integer::<Int32Type>(column, row, out),
        DataType::Int64 => integer::<Int64Type>(column, row, out),
        DataType::UInt8 => integer::<UInt8Type>(column, row, out),
        DataType::UInt16 => integer::<UInt16Type>(column, row, out),
        DataType::UInt32 => integer::<UInt32Type>(column, row, out),
        DataType::UInt64 => integer::<UInt64Type>(column, row, out),
        DataType::Float32 => float::<Float32Type>(column, row, out)?,
        DataType::Float64 => float::<Float64Type>(column, row, out)?,
        other => unreachable!("{other} was refused when the file was opened"),
    }
    Ok(())
}

fn write_string(text: &str, out: &mut String) {
    out.push_str(&serde_json::to_string(text).expect("a string always has a JSON form"));
}
