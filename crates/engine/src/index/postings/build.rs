//! Building the postings of one segment, a field at a time: every value with its row, sorted.

use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use knarr_base::limit;
use knarr_base::schema::{AUTO_ID, FieldType, Schema};

use super::file::{FieldDisk, Header, Writer};
use super::keys::{self, Key, Salt, Text};
use super::scalars::Scalars;
use crate::columns;
use crate::compute::Cancel;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::rows::span;

/// Columns of a stored batch that are no user's.
const HIDDEN: usize = 2;

/// Writes the postings of a segment to `path`, which must not exist. The file is synced; its directory is not.
///
/// `fields` may be `__AUTO_ID__`. Left out are names that are unknown or whose type has no postings, fields that the
/// segment does not have (their rows all hold the default), and fields with more than `limit::POSTINGS_ENTRIES` entries.
///
/// # Errors
/// `Cancelled`, `Corrupt` if a batch is damaged, `Io`, `DiskFull`. The file is then garbage.
pub fn build(
    schema: &Schema,
    fields: &[&str],
    segment: u64,
    scalars: &Scalars<'_>,
    disk: &dyn Disk,
    path: &Path,
    cancel: &Cancel,
) -> Result<()> {
    let stored = columns::stored_schema(schema).fields().len();
    let width = if scalars.batches() == 0 { stored } else { scalars.batch(0)?.num_columns() };
    let header = Header {
        segment,
        rows: scalars.rows(),
        columns: u32::try_from(width - HIDDEN).expect("limit::FIELDS"),
        salt: Salt::random(),
    };
    let mut writer = Writer::create(disk, path, &header)?;
    let mut done = Vec::new();
    for name in fields {
        let Some(column) = columns::named_column(schema, name).filter(|column| *column < width - HIDDEN) else {
            continue;
        };
        if done.contains(&column) {
            continue;
        }
        done.push(column);
        let kind = schema.field(name).map_or(FieldType::Int64, |(_, field)| field.kind);
        let source = Source { scalars, column, cancel, list: keys::is_list(kind) };
        let entries = source.entries()?;
        if keys::width(kind).is_some() && entries <= limit::POSTINGS_ENTRIES {
            source.write(&mut writer, name, kind, &header)?;
        }
    }
    writer.finish()
}

/// Names of all fields that can have postings, the key among them.
pub fn indexable(schema: &Schema) -> Vec<&str> {
    let named = schema.fields().iter().filter(|field| keys::width(field.kind).is_some());
    let auto = columns::named_column(schema, AUTO_ID).map(|_| AUTO_ID);
    auto.into_iter().chain(named.map(|field| field.name.as_str())).collect()
}

/// A column of a segment.
struct Source<'a, 's> {
    scalars: &'a Scalars<'s>,
    column: usize,
    cancel: &'a Cancel,
    list: bool,
}

/// Values with their rows.
type Pairs<K> = Vec<(K, u32)>;

impl Source<'_, '_> {
    /// Calls `see` with the first row and the column of every batch.
    fn each(&self, mut see: impl FnMut(u32, &dyn Array)) -> Result<()> {
        for at in 0..self.scalars.batches() {
            self.cancel.check()?;
            let batch = self.scalars.batch(at)?;
            let batch: &RecordBatch = &batch;
            if batch.num_rows() != self.scalars.range(at).len() {
                return Err(Error::corrupt("a batch that is indexed", "number of rows"));
            }
            see(self.scalars.range(at).start, batch.column(self.column));
        }
        Ok(())
    }

    fn entries(&self) -> Result<u64> {
        if !self.list {
            return Ok(self.scalars.rows().into());
        }
        let mut entries = 0;
        self.each(|_, column| {
            let offsets = column.as_list::<i32>().value_offsets();
            entries += u64::from(offsets[offsets.len() - 1].abs_diff(offsets[0]));
        })?;
        Ok(entries)
    }

    fn write(&self, writer: &mut Writer, name: &str, kind: FieldType, header: &Header) -> Result<()> {
        let field = match kind {
            FieldType::Int64 | FieldType::Int64List => self.encode(writer, kind, header, int_pairs)?,
            FieldType::Float32 => self.encode(writer, kind, header, float_pairs)?,
            FieldType::Bool => self.encode(writer, kind, header, bool_pairs)?,
            FieldType::String | FieldType::StringList => {
                let salt = header.salt;
                self.encode(writer, kind, header, |row, column, out| text_pairs(salt, row, column, out))?
            }
            FieldType::Vector { .. } | FieldType::SparseVector | FieldType::Text | FieldType::Image => {
                unreachable!("keys::width has none for {kind:?}")
            }
        };
        writer.end_field(FieldDisk {
            name: name.to_owned(),
            kind: kind.name().to_owned(),
            column: u32::try_from(self.column).expect("limit::FIELDS"),
            ..field
        })
    }

    fn encode<K: Key>(
        &self,
        writer: &mut Writer,
        kind: FieldType,
        header: &Header,
        read: impl Fn(u32, &dyn Array, &mut Pairs<K>),
    ) -> Result<FieldDisk> {
        let mut pairs = Vec::with_capacity(usize::try_from(self.entries()?).expect("limit::POSTINGS_ENTRIES"));
        self.each(|first, column| read(first, column, &mut pairs))?;
        pairs.sort_unstable();
        // A list may hold a value twice.
        pairs.dedup();
        self.cancel.check()?;
        Encoder { pairs: &pairs, rows: header.rows, kind }.write(writer)
    }
}

fn int_pairs(first: u32, column: &dyn Array, out: &mut Pairs<i64>) {
    if let Some(list) = column.as_list_opt::<i32>() {
        let values: &[i64] = list.values().as_primitive::<Int64Type>().values();
        let rows = (0..list.len()).zip(first..);
        rows.for_each(|(at, row)| out.extend(values[span(list.value_offsets(), at)].iter().map(|value| (*value, row))));
    } else {
        out.extend(column.as_primitive::<Int64Type>().values().iter().copied().zip(first..));
    }
}

fn float_pairs(first: u32, column: &dyn Array, out: &mut Pairs<u32>) {
    out.extend(column.as_primitive::<Float32Type>().values().iter().map(|x| keys::of_float(*x)).zip(first..));
}

fn bool_pairs(first: u32, column: &dyn Array, out: &mut Pairs<u32>) {
    out.extend(column.as_boolean().values().iter().map(u32::from).zip(first..));
}

fn text_pairs(salt: Salt, first: u32, column: &dyn Array, out: &mut Pairs<Text>) {
    if let Some(list) = column.as_list_opt::<i32>() {
        let texts = list.values().as_string::<i32>();
        let (offsets, bytes) = (texts.value_offsets(), texts.value_data());
        for (at, row) in (0..list.len()).zip(first..) {
            out.extend(span(list.value_offsets(), at).map(|text| (salt.key(&bytes[span(offsets, text)]), row)));
        }
    } else {
        let texts = column.as_string::<i32>();
        let (offsets, bytes) = (texts.value_offsets(), texts.value_data());
        out.extend((0..texts.len()).map(|at| salt.key(&bytes[span(offsets, at)])).zip(first..));
    }
}

/// The parts of a field's section, from its sorted entries.
struct Encoder<'a, K> {
    pairs: &'a [(K, u32)],
    rows: u32,
    kind: FieldType,
}

impl<K: Key> Encoder<'_, K> {
    fn write(&self, writer: &mut Writer) -> Result<FieldDisk> {
        let values = number(self.groups().count());
        let marks = self.marks(writer)?;
        let dense = self.dense(writer)?;
        self.values(writer)?;
        let listed = self.lists(writer, &dense)?;
        let codes = self.codes(writer, values)?;
        let (name, kind) = (String::new(), String::new());
        Ok(FieldDisk { name, kind, column: 0, values, listed, codes, marks, dense, crcs: Vec::new() })
    }

    /// The entries of each value.
    fn groups(&self) -> impl Iterator<Item = &[(K, u32)]> {
        self.pairs.chunk_by(|a, b| a.0 == b.0)
    }

    /// Bitmaps of the rows below some values, of a field with ranges.
    fn marks(&self, writer: &mut Writer) -> Result<Vec<u32>> {
        let mut marks = Vec::new();
        if !keys::has_ranges(self.kind) {
            return Ok(marks);
        }
        let step = self.rows.div_ceil(limit::POSTINGS_MARKS) as usize;
        let (mut bitmap, mut since, mut seen) = (Bitmap::new(self.rows), 0, 0);
        for (ordinal, group) in (1u32..).zip(self.groups()) {
            group.iter().for_each(|(_, row)| bitmap.insert(*row));
            since += group.len();
            seen += group.len();
            if since >= step && seen < self.pairs.len() {
                writer.put(&bitmap.bytes)?;
                marks.push(ordinal);
                since = 0;
            }
        }
        Ok(marks)
    }

    /// Bitmaps of the values for which they are shorter than lists.
    fn dense(&self, writer: &mut Writer) -> Result<Vec<[u32; 2]>> {
        let mut dense = Vec::new();
        for (ordinal, group) in (0u32..).zip(self.groups()).filter(|(_, group)| self.is_dense(group)) {
            let mut bitmap = Bitmap::new(self.rows);
            group.iter().for_each(|(_, row)| bitmap.insert(*row));
            writer.put(&bitmap.bytes)?;
            dense.push([ordinal, number(group.len())]);
        }
        Ok(dense)
    }

    fn is_dense(&self, group: &[(K, u32)]) -> bool {
        group.len() * size_of::<u32>() > bitmap_bytes(self.rows)
    }

    fn values(&self, writer: &mut Writer) -> Result<()> {
        let mut bytes = Vec::new();
        for group in self.groups() {
            group[0].0.put(&mut bytes);
            writer.put_when_long(&mut bytes)?;
        }
        writer.put(&bytes)
    }

    /// Where the list of each value begins and the last one ends, then the lists; their length together.
    fn lists(&self, writer: &mut Writer, dense: &[[u32; 2]]) -> Result<u32> {
        let (mut bytes, mut listed) = (0u32.to_le_bytes().to_vec(), 0u32);
        for group in self.groups() {
            listed += if self.is_dense(group) { 0 } else { number(group.len()) };
            bytes.extend(listed.to_le_bytes());
            writer.put_when_long(&mut bytes)?;
        }
        let mut dense = dense.iter().map(|[ordinal, _]| *ordinal).peekable();
        for (ordinal, group) in (0u32..).zip(self.groups()) {
            if dense.next_if_eq(&ordinal).is_none() {
                bytes.extend(group.iter().flat_map(|(_, row)| row.to_le_bytes()));
                writer.put_when_long(&mut bytes)?;
            }
        }
        writer.put(&bytes)?;
        Ok(listed)
    }

    /// The code of every row's value, if a row has one; neighbouring values share a code where there are too many, which
    /// is of use to ranges alone. The number of values that share one, 0 for no codes.
    fn codes(&self, writer: &mut Writer, values: u32) -> Result<u32> {
        let each = values.div_ceil(limit::POSTINGS_CODES);
        if keys::is_list(self.kind) || each > 1 && !keys::has_ranges(self.kind) {
            return Ok(0);
        }
        let mut codes = vec![0u8; self.rows as usize * size_of::<u16>()];
        let (places, _) = codes.as_chunks_mut::<2>();
        for (value, group) in (0u32..).zip(self.groups()) {
            let code = u16::try_from(value / each).expect("limit::POSTINGS_CODES").to_le_bytes();
            group.iter().for_each(|(_, row)| places[*row as usize] = code);
        }
        writer.put(&codes)?;
        Ok(each)
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).expect("limit::POSTINGS_ENTRIES")
}

/// Bytes of a bitmap of so many rows: whole cache lines.
pub(super) fn bitmap_bytes(rows: u32) -> usize {
    (rows as usize).div_ceil(512) * 64
}

struct Bitmap {
    bytes: Vec<u8>,
}

impl Bitmap {
    fn new(rows: u32) -> Self {
        Self { bytes: vec![0; bitmap_bytes(rows)] }
    }

    fn insert(&mut self, row: u32) {
        self.bytes[row as usize / 8] |= 1 << (row % 8);
    }
}
