//! Metadata beside a segment: checksums of every byte of it, bounds, key ranges.

use std::io;
use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type, UInt64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Schema as ArrowSchema};
use knarr_base::value::Number;
use serde::{Deserialize, Serialize};

use crate::table::framed::Framed;
use crate::table::manifest::{KeyDisk, SegmentDisk};

pub(crate) const META: Framed = Framed { magic: *b"KNARRSEG", format: 1 };

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetaDisk {
    pub(crate) id: u64,
    pub(crate) rows: u32,
    /// Fields of the schema it was written under.
    pub(crate) fields: u32,
    /// CRC32C of the file before the first batch and after the last one.
    pub(crate) frame_crc: u32,
    pub(crate) batches: Vec<BatchDisk>,
    /// Per stored column; null for columns that are not numbers.
    pub(crate) columns: Vec<Option<BoundsDisk>>,
    /// Rows that expire at some time.
    pub(crate) expiring: u64,
    /// When the first of them does, unix milliseconds.
    pub(crate) first_expiry: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BatchDisk {
    pub(crate) rows: u32,
    /// Of the message in the file.
    pub(crate) offset: u64,
    /// Length prefix, message and padding.
    pub(crate) head_bytes: u32,
    pub(crate) body_bytes: u64,
    pub(crate) head_crc: u32,
    pub(crate) min_key: KeyDisk,
    pub(crate) max_key: KeyDisk,
    /// (bytes, CRC32C) of the buffers of each column, padding included; together they are the body.
    pub(crate) columns: Vec<(u64, u32)>,
}

/// Floats are stored by their bits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BoundsDisk {
    Int(i64, i64),
    Unsigned(u64, u64),
    FloatBits(u32, u32),
}

/// Why bytes could not be verified.
pub(crate) enum Unverified {
    Unreadable(io::Error),
    Damaged(String),
}

type Check = Result<(), String>;

fn check_crc(bytes: Option<&[u8]>, crc: u32, what: impl Fn() -> String) -> Check {
    match bytes {
        Some(bytes) if crc32c::crc32c(bytes) == crc => Ok(()),
        Some(_) => Err(format!("{}: checksum", what())),
        None => Err(format!("{}: beyond the file", what())),
    }
}

fn index(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

impl BatchDisk {
    /// The message and its body in the file.
    pub(crate) fn range(&self) -> Range<usize> {
        let start = index(self.offset);
        start..start.saturating_add(self.head_bytes as usize).saturating_add(index(self.body_bytes))
    }

    fn head_range(&self) -> Range<usize> {
        let start = index(self.offset);
        start..start.saturating_add(self.head_bytes as usize)
    }

    fn column_range(&self, column: usize) -> Range<usize> {
        let before: u64 = self.columns[..column].iter().map(|(bytes, _)| *bytes).sum();
        let start = self.head_range().end.saturating_add(index(before));
        start..start.saturating_add(index(self.columns[column].0))
    }

    pub(crate) fn verify_head(&self, file: &[u8], batch: usize) -> Check {
        check_crc(file.get(self.head_range()), self.head_crc, || format!("batch {batch} message"))
    }

    pub(crate) fn verify_column(&self, file: &[u8], batch: usize, column: usize) -> Check {
        check_crc(file.get(self.column_range(column)), self.columns[column].1, || {
            format!("batch {batch} column {column}")
        })
    }
}

impl MetaDisk {
    /// Rules between the parts, and with the manifest.
    pub(crate) fn check(&self, entry: &SegmentDisk) -> Check {
        let rows: u64 = self.batches.iter().map(|batch| u64::from(batch.rows)).sum();
        let mut end = None;
        for batch in &self.batches {
            let body: u64 = batch.columns.iter().map(|(bytes, _)| *bytes).sum();
            if body != batch.body_bytes || batch.columns.len() != self.columns.len() {
                return Err("columns do not make up the body".to_owned());
            }
            if end.is_some_and(|end| end != batch.range().start) || batch.range().end as u64 > entry.bytes {
                return Err("batches do not make up the file".to_owned());
            }
            end = Some(batch.range().end);
        }
        if self.id != entry.id || self.rows != entry.rows || rows != u64::from(self.rows) || rows == 0 {
            return Err("is of another segment".to_owned());
        }
        Ok(())
    }

    /// First row of every batch.
    pub(crate) fn starts(&self) -> Vec<u32> {
        let mut next = 0;
        let start = |batch: &BatchDisk| {
            let first = next;
            next += batch.rows;
            first
        };
        self.batches.iter().map(start).collect()
    }

    fn seqs(&self) -> (u64, u64) {
        match self.columns.iter().rev().nth(1) {
            Some(Some(BoundsDisk::Unsigned(min, max))) => (*min, *max),
            _ => (0, u64::MAX),
        }
    }

    /// Least `_seq`.
    pub(crate) fn min_seq(&self) -> u64 {
        self.seqs().0
    }

    /// Greatest `_seq`.
    pub(crate) fn max_seq(&self) -> u64 {
        self.seqs().1
    }

    fn body(&self) -> Range<usize> {
        let start = self.batches.first().map_or(0, |batch| batch.range().start);
        start..self.batches.last().map_or(0, |batch| batch.range().end)
    }

    /// Verifies what is not a batch.
    pub(crate) fn verify_frame(&self, file: &[u8]) -> Check {
        let body = self.body();
        let crc = crc32c::crc32c_append(
            crc32c::crc32c(file.get(..body.start).unwrap_or_default()),
            file.get(body.end..).unwrap_or_default(),
        );
        if crc == self.frame_crc { Ok(()) } else { Err("header or footer: checksum".to_owned()) }
    }

    /// Verifies every byte. `crc_of` reads ranges of the file and continues a checksum over them.
    pub(crate) fn verify_all(
        &self,
        file_bytes: u64,
        crc_of: impl Fn(u32, Range<usize>) -> io::Result<u32>,
    ) -> Result<(), Unverified> {
        let body = self.body();
        let expect = |found: io::Result<u32>, crc: u32, what: &dyn Fn() -> String| match found {
            Ok(found) if found == crc => Ok(()),
            Ok(_) => Err(Unverified::Damaged(format!("{}: checksum", what()))),
            Err(error) => Err(Unverified::Unreadable(error)),
        };
        let frame = crc_of(0, 0..body.start).and_then(|crc| crc_of(crc, body.end..index(file_bytes)));
        expect(frame, self.frame_crc, &|| "header or footer".to_owned())?;
        for (at, batch) in self.batches.iter().enumerate() {
            expect(crc_of(0, batch.head_range()), batch.head_crc, &|| format!("batch {at} message"))?;
            for (column, (_, crc)) in batch.columns.iter().enumerate() {
                let what = || format!("batch {at} column {column}");
                expect(crc_of(0, batch.column_range(column)), *crc, &what)?;
            }
        }
        Ok(())
    }

    /// Fills in what follows from the bytes of a finished Arrow file.
    pub(crate) fn describe(&mut self, file: &[u8], schema: &ArrowSchema) -> Check {
        let trailer = file.len().checked_sub(10).ok_or("too short")?;
        let length = arrow_ipc::reader::read_footer_length(file[trailer..].try_into().map_err(|_| "too short")?)
            .map_err(|e| e.to_string())?;
        let footer = file.get(trailer.saturating_sub(length)..trailer).ok_or("no footer")?;
        let footer = arrow_ipc::root_as_footer(footer).map_err(|e| e.to_string())?;
        let blocks = footer.recordBatches().ok_or("no batches")?;
        for (batch, block) in self.batches.iter_mut().zip(blocks) {
            batch.offset = block.offset().cast_unsigned();
            batch.head_bytes = block.metaDataLength().cast_unsigned();
            batch.body_bytes = block.bodyLength().cast_unsigned();
            let head = file.get(batch.head_range()).ok_or("block beyond the file")?;
            batch.head_crc = crc32c::crc32c(head);
            let message = arrow_ipc::root_as_message(head.get(8..).ok_or("no message")?).map_err(|e| e.to_string())?;
            let message = message.header_as_record_batch().ok_or("not a record batch")?;
            let offsets: Vec<i64> = message.buffers().ok_or("no buffers")?.iter().map(|b| b.offset()).collect();
            batch.columns =
                column_lengths(schema, &offsets, batch.body_bytes).into_iter().map(|bytes| (bytes, 0)).collect();
            for column in 0..batch.columns.len() {
                let bytes = file.get(batch.column_range(column)).ok_or("column beyond the file")?;
                batch.columns[column].1 = crc32c::crc32c(bytes);
            }
        }
        let body = self.body();
        self.frame_crc = crc32c::crc32c_append(crc32c::crc32c(&file[..body.start]), &file[body.end..]);
        Ok(())
    }
}

/// Bytes from the first buffer of each column to that of the next.
fn column_lengths(schema: &ArrowSchema, offsets: &[i64], body: u64) -> Vec<u64> {
    let mut first = Vec::with_capacity(schema.fields().len() + 1);
    let mut at = 0;
    for field in schema.fields() {
        first.push(offsets.get(at).map_or(body, |offset| offset.cast_unsigned()));
        at += buffers_of(field.data_type());
    }
    first.push(body);
    first.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect()
}

fn buffers_of(kind: &DataType) -> usize {
    match kind {
        DataType::Utf8 => 3,
        DataType::List(item) | DataType::Map(item, _) => 2 + buffers_of(item.data_type()),
        DataType::FixedSizeList(item, _) => 1 + buffers_of(item.data_type()),
        DataType::Struct(fields) => 1 + fields.iter().map(|field| buffers_of(field.data_type())).sum::<usize>(),
        // Every other type of `columns::data_type` is a validity bitmap and values.
        _ => 2,
    }
}

impl BoundsDisk {
    /// As the filter compares. Greater than i64 is clamped: bounds may be wider than the truth.
    pub(crate) fn numbers(&self) -> (Number, Number) {
        let clamp = |n: u64| Number::Int(i64::try_from(n).unwrap_or(i64::MAX));
        match *self {
            BoundsDisk::Int(min, max) => (Number::Int(min), Number::Int(max)),
            BoundsDisk::Unsigned(min, max) => (clamp(min), clamp(max)),
            BoundsDisk::FloatBits(min, max) => {
                (Number::Float(f32::from_bits(min).into()), Number::Float(f32::from_bits(max).into()))
            }
        }
    }

    fn of(column: &ArrayRef) -> Option<Self> {
        if column.is_empty() {
            return None;
        }
        if let Some(ints) = column.as_primitive_opt::<Int64Type>() {
            let fold = ints.values().iter().fold((i64::MAX, i64::MIN), |(a, b), n| (a.min(*n), b.max(*n)));
            return Some(BoundsDisk::Int(fold.0, fold.1));
        }
        if let Some(ints) = column.as_primitive_opt::<UInt64Type>() {
            let fold = ints.values().iter().fold((u64::MAX, u64::MIN), |(a, b), n| (a.min(*n), b.max(*n)));
            return Some(BoundsDisk::Unsigned(fold.0, fold.1));
        }
        let floats = column.as_primitive_opt::<Float32Type>()?;
        let fold = floats.values().iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), x| (a.min(*x), b.max(*x)));
        Some(BoundsDisk::FloatBits(fold.0.to_bits(), fold.1.to_bits()))
    }

    fn join(&self, other: &Self) -> Self {
        match (self, other) {
            (BoundsDisk::Int(a, b), BoundsDisk::Int(c, d)) => BoundsDisk::Int(*a.min(c), *b.max(d)),
            (BoundsDisk::Unsigned(a, b), BoundsDisk::Unsigned(c, d)) => BoundsDisk::Unsigned(*a.min(c), *b.max(d)),
            (BoundsDisk::FloatBits(a, b), BoundsDisk::FloatBits(c, d)) => BoundsDisk::FloatBits(
                f32::from_bits(*a).min(f32::from_bits(*c)).to_bits(),
                f32::from_bits(*b).max(f32::from_bits(*d)).to_bits(),
            ),
            // A column has one type.
            (known, _) => known.clone(),
        }
    }
}

/// Widens `bounds` by the columns of a batch.
pub(crate) fn widen_bounds(bounds: &mut Vec<Option<BoundsDisk>>, batch: &RecordBatch) {
    let of_batch = batch.columns().iter().map(BoundsDisk::of);
    if bounds.is_empty() {
        bounds.extend(of_batch);
        return;
    }
    for (bound, new) in bounds.iter_mut().zip(of_batch) {
        *bound = match (bound.take(), new) {
            (Some(a), Some(b)) => Some(a.join(&b)),
            (a, b) => a.or(b),
        };
    }
}
