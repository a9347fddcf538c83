//! Copying chosen rows of many batches into new ones.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, SchemaRef};
use arrow_select::interleave::interleave;
use knarr_base::limit;

use crate::error::{Error, Result};

/// A row of one of several batches: (batch, row).
pub(crate) type Place = (usize, usize);

/// The rows at `places`, in that order. All batches have the columns of `schema`.
pub(crate) fn gather(schema: &SchemaRef, batches: &[RecordBatch], places: &[Place]) -> Result<RecordBatch> {
    let columns = (0..schema.fields().len()).map(|column| {
        let sources: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(column).as_ref()).collect();
        gather_column(&sources, places)
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    RecordBatch::try_new(schema.clone(), columns).map_err(|e| Error::corrupt("gathered rows", e))
}

/// One column of [`gather`].
pub(crate) fn gather_column(sources: &[&dyn Array], places: &[Place]) -> Result<ArrayRef> {
    interleave(sources, places).map_err(|e| Error::corrupt("gathered rows", e))
}

/// How many bytes rows of a batch take in a segment, without looking at fixed-size values.
pub(crate) struct RowSizes {
    fixed: usize,
    /// Offsets of each variable column and the bytes behind one step of it.
    variable: Vec<(ArrayRef, usize)>,
}

impl RowSizes {
    pub(crate) fn new(batch: &RecordBatch) -> Self {
        let mut sizes = Self { fixed: 0, variable: Vec::new() };
        for column in batch.columns() {
            match column.data_type() {
                DataType::Utf8 => sizes.variable.push((column.clone(), 1)),
                DataType::List(item) if item.data_type() == &DataType::Int64 => {
                    sizes.variable.push((column.clone(), 8))
                }
                // Strings inside lists and maps are charged exactly in `row`.
                DataType::List(_) | DataType::Map(_, _) => sizes.variable.push((column.clone(), 0)),
                DataType::FixedSizeList(_, n) => sizes.fixed += 4 * usize::try_from(*n).unwrap_or(0),
                _ => sizes.fixed += 8,
            }
        }
        sizes.fixed += 4 * sizes.variable.len();
        sizes
    }

    pub(crate) fn row(&self, row: usize) -> usize {
        self.fixed + self.variable.iter().map(|(column, step)| variable_bytes(column, *step, row)).sum::<usize>()
    }
}

fn span(offsets: &[i32], from: usize, to: usize) -> usize {
    usize::try_from(offsets[to] - offsets[from]).unwrap_or(0)
}

fn variable_bytes(column: &ArrayRef, step: usize, row: usize) -> usize {
    match column.data_type() {
        DataType::Utf8 => span(column.as_string::<i32>().value_offsets(), row, row + 1),
        DataType::List(_) if step > 0 => step * span(column.as_list::<i32>().value_offsets(), row, row + 1),
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            nested_strings(list.value_offsets(), list.values(), row, 4)
        }
        _ => {
            let map = column.as_map();
            nested_strings(map.value_offsets(), map.keys(), row, 8)
        }
    }
}

fn nested_strings(offsets: &[i32], strings: &ArrayRef, row: usize, each: usize) -> usize {
    let from = usize::try_from(offsets[row]).unwrap_or(0);
    let to = usize::try_from(offsets[row + 1]).unwrap_or(0);
    span(strings.as_string::<i32>().value_offsets(), from, to) + each * (to - from)
}

/// Cuts rows, given by their sizes, into batches of at most `BATCH_ROWS` rows and about `BATCH_BYTES`. All but the
/// last hold a multiple of 64 rows, so that bitmaps of batches join at byte borders.
pub(crate) struct BatchCutter {
    rows: usize,
    bytes: usize,
}

impl BatchCutter {
    pub(crate) fn new() -> Self {
        Self { rows: 0, bytes: 0 }
    }

    /// Counts a row in. True if the batch ends with it.
    pub(crate) fn add(&mut self, bytes: usize) -> bool {
        self.rows += 1;
        self.bytes += bytes;
        // 64 more rows of the largest size must still fit.
        let full = self.bytes + 64 * limit::ROW_BYTES > limit::BATCH_BYTES && self.rows.is_multiple_of(64);
        let ends = full || self.rows == limit::BATCH_ROWS;
        if ends {
            *self = Self::new();
        }
        ends
    }
}
