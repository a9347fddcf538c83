//! The postings of one field, as they are mapped: which rows have a run of its values.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use knarr_base::limit;
use knarr_base::schema::FieldType;

use super::build::bitmap_bytes;
use super::file::FieldDisk;
use super::keys::{self, Key, Text};
use crate::error::{Error, Result};

const BLOCK: usize = limit::POSTINGS_BLOCK_BYTES;
/// Bytes of a row number, and of where a list begins.
const ROW_BYTES: usize = size_of::<u32>();
/// Bytes of the code of a row's value.
const CODE_BYTES: usize = size_of::<u16>();
/// So many rows of a bitmap are joined in the time that one row of a list takes.
const ROWS_PER_ENTRY: u32 = 200;

/// The section of a field. A block is checked when it is first read in a process.
pub(super) struct Field {
    what: String,
    disk: FieldDisk,
    kind: FieldType,
    rows: u32,
    map: Bytes,
    parts: Parts,
    verified: Vec<AtomicBool>,
    /// Values and beginnings of lists were found to ascend.
    ascends: AtomicBool,
}

/// Where the parts of a section begin, after the bitmaps of marks, which come first; each ends where the next begins.
struct Parts {
    dense: usize,
    values: usize,
    starts: usize,
    lists: usize,
    codes: usize,
    padding: usize,
    end: usize,
}

impl Parts {
    /// As the counts of the table say.
    fn of(disk: &FieldDisk, rows: u32, width: usize) -> Self {
        let bitmap = bitmap_bytes(rows);
        let dense = disk.marks.len() * bitmap;
        let values = dense + disk.dense.len() * bitmap;
        let starts = values + disk.values as usize * width;
        let lists = starts + (disk.values as usize + 1) * ROW_BYTES;
        let codes = lists + disk.listed as usize * ROW_BYTES;
        let padding = codes + if disk.codes > 0 { rows as usize * CODE_BYTES } else { 0 };
        Self { dense, values, starts, lists, codes, padding, end: padding.next_multiple_of(64) }
    }
}

impl Field {
    /// The section at the beginning of `rest`.
    pub(super) fn open(what: String, disk: FieldDisk, rows: u32, rest: &Bytes) -> Result<Self> {
        let kind = FieldType::parse(&disk.kind, None).ok();
        let Some((kind, width)) = kind.and_then(|kind| Some((kind, keys::width(kind)?))) else {
            return Err(Error::corrupt(what, "its type has no postings"));
        };
        if !adds_up(&disk, kind, rows) {
            return Err(Error::corrupt(what, "its counts"));
        }
        let parts = Parts::of(&disk, rows, width);
        if parts.end > rest.len() || disk.crcs.len() != parts.end.div_ceil(BLOCK) {
            return Err(Error::corrupt(what, "length of its section"));
        }
        let verified = disk.crcs.iter().map(|_| AtomicBool::new(false)).collect();
        let map = rest.slice(..parts.end);
        Ok(Self { what, disk, kind, rows, map, parts, verified, ascends: AtomicBool::new(false) })
    }

    pub(super) fn name(&self) -> &str {
        &self.disk.name
    }

    pub(super) fn kind(&self) -> FieldType {
        self.kind
    }

    pub(super) fn column(&self) -> usize {
        self.disk.column as usize
    }

    /// Rows of the segment.
    pub(super) fn rows(&self) -> u32 {
        self.rows
    }

    pub(super) fn bytes(&self) -> usize {
        self.map.len()
    }

    /// Checks the whole section.
    pub(super) fn verify(&self) -> Result<()> {
        self.part(0..self.parts.end)?;
        self.values().map(|_| ())
    }

    /// Some bytes of the section, verified.
    fn part(&self, range: Range<usize>) -> Result<&[u8]> {
        for block in range.start / BLOCK..range.end.div_ceil(BLOCK) {
            if !self.verified[block].load(Ordering::Relaxed) {
                self.verify_block(block)?;
                self.verified[block].store(true, Ordering::Relaxed);
            }
        }
        Ok(&self.map[range])
    }

    /// Checksum of a block, and that what it holds of lists and codes is in range.
    fn verify_block(&self, block: usize) -> Result<()> {
        let range = block * BLOCK..((block + 1) * BLOCK).min(self.map.len());
        if crc32c::crc32c(&self.map[range.clone()]) != self.disk.crcs[block] {
            return Err(Error::corrupt(&self.what, format!("checksum of block {block}")));
        }
        let inside = |from: usize, to: usize| &self.map[range.start.max(from).min(to)..range.end.min(to).max(from)];
        let lists = inside(self.parts.lists, self.parts.codes).as_chunks::<ROW_BYTES>().0;
        let codes = inside(self.parts.codes, self.parts.padding).as_chunks::<CODE_BYTES>().0;
        let most = self.disk.values.div_ceil(self.disk.codes.max(1));
        if lists.iter().all(|row| u32::from_le_bytes(*row) < self.rows)
            && codes.iter().all(|code| u32::from(u16::from_le_bytes(*code)) < most)
        {
            Ok(())
        } else {
            Err(Error::corrupt(&self.what, format!("row numbers of block {block}")))
        }
    }

    /// The values, verified.
    pub(super) fn values(&self) -> Result<Values<'_>> {
        let bytes = self.part(self.parts.values..self.parts.lists)?;
        let (values, starts) = bytes.split_at(self.parts.starts - self.parts.values);
        let starts = starts.as_chunks::<ROW_BYTES>().0;
        if !self.ascends.load(Ordering::Relaxed) {
            let values_ascend = match self.kind {
                FieldType::Int64 | FieldType::Int64List => i64::ascend(values),
                FieldType::String | FieldType::StringList => Text::ascend(values),
                _ => u32::ascend(values),
            };
            let start = |at: usize| u32::from_le_bytes(starts[at]);
            let lists_ascend = starts.is_sorted_by_key(|start| u32::from_le_bytes(*start));
            if !(values_ascend && lists_ascend && start(0) == 0 && start(starts.len() - 1) == self.disk.listed) {
                return Err(Error::corrupt(&self.what, "order of its values"));
            }
            self.ascends.store(true, Ordering::Relaxed);
        }
        Ok(Values { field: self, values, starts })
    }

    /// The codes of the rows' values, if they are kept: 16 bits for each, as whole words.
    pub(super) fn codes(&self) -> Result<Option<&[[u8; 4]]>> {
        if self.disk.codes == 0 {
            return Ok(None);
        }
        let end = self.parts.padding.next_multiple_of(4);
        Ok(Some(self.part(self.parts.codes..end)?.as_chunks().0))
    }

    /// Values that share a code.
    pub(super) fn values_per_code(&self) -> u32 {
        self.disk.codes
    }

    /// A bitmap of rows, as the bytes of 32-bit words: of the marks or, from `start` on, of the dense values.
    fn bitmap(&self, start: usize, number: usize) -> Result<&[u8]> {
        let at = start + number * bitmap_bytes(self.rows);
        self.part(at..at + self.rows.div_ceil(u32::BITS) as usize * size_of::<u32>())
    }
}

/// True if the counts of a field's table entry can be those of so many rows.
fn adds_up(disk: &FieldDisk, kind: FieldType, rows: u32) -> bool {
    let ordered = disk.marks.is_sorted_by(|a, b| a < b) && disk.dense.is_sorted_by(|a, b| a[0] < b[0]);
    let marks = disk.marks.iter().all(|mark| 0 < *mark && *mark < disk.values);
    let dense = disk.dense.iter().all(|[ordinal, count]| *ordinal < disk.values && *count <= rows);
    let entries = u64::from(disk.listed) + disk.dense.iter().map(|[_, count]| u64::from(*count)).sum::<u64>();
    let codes = disk.codes == 0 || disk.values.div_ceil(disk.codes) <= limit::POSTINGS_CODES;
    let kinds = if keys::is_list(kind) {
        disk.marks.is_empty() && disk.codes == 0
    } else {
        entries == u64::from(rows) && (disk.marks.is_empty() || keys::has_ranges(kind))
    };
    ordered && marks && dense && codes && kinds && u64::from(disk.values) <= entries
}

/// What the rows of some values are made of.
#[derive(Clone, Copy)]
pub(super) enum Piece<'a> {
    /// Row numbers, u32 each, all within the segment.
    List(&'a [u8]),
    /// Rows of the first bitmap (`None`: all rows) that are not in the second (`None`: no rows).
    Bitmaps(Option<&'a [u8]>, Option<&'a [u8]>),
}

/// The values of a field by their places in ascending order, and their rows.
#[derive(Clone, Copy)]
pub(super) struct Values<'a> {
    field: &'a Field,
    values: &'a [u8],
    starts: &'a [[u8; ROW_BYTES]],
}

impl<'a> Values<'a> {
    /// Number of distinct values.
    pub(super) fn count(&self) -> u32 {
        self.field.disk.values
    }

    /// Number of values below `key`, which is of the field's type.
    pub(super) fn below<K: Key>(&self, key: K) -> u32 {
        key.below(self.values)
    }

    /// The place of a value.
    pub(super) fn find<K: Key>(&self, key: K) -> Option<u32> {
        key.find(self.values)
    }

    /// The place of an integer in a field of such.
    pub(super) fn find_int(&self, value: i64) -> Option<u32> {
        keys::find_int(value, self.values)
    }

    /// Rows with one of the values; in lists, how often.
    pub(super) fn rows(&self, run: Range<u32>) -> u64 {
        let dense = self.dense(&run).map(|number| u64::from(self.field.disk.dense[number][1]));
        self.listed(&run) + dense.sum::<u64>()
    }

    /// What [`Values::pieces`] costs, in entries of lists.
    pub(super) fn cost(&self, run: Range<u32>) -> u64 {
        let pass = u64::from(self.field.rows / ROWS_PER_ENTRY) + 1;
        let apart = |run: Range<u32>| self.listed(&run) + self.dense(&run).len() as u64 * pass;
        match self.between(&run) {
            None => apart(run),
            Some((_, inside)) => 2 * pass + apart(run.start..inside.start) + apart(inside.end..run.end),
        }
    }

    /// True if [`Values::pieces`] has no bitmap.
    pub(super) fn only_lists(&self, run: &Range<u32>) -> bool {
        self.between(run).is_none() && self.dense(run).is_empty()
    }

    /// Calls `see` with pieces that together are the rows with one of the values.
    pub(super) fn pieces(&self, run: Range<u32>, mut see: impl FnMut(Piece<'a>)) -> Result<()> {
        let Some((marks, inside)) = self.between(&run) else { return self.apart(run, &mut see) };
        let mark = |mark: usize| {
            // Before the first and after the last mark nothing is kept: no row, and every row.
            let kept = mark.checked_sub(1).filter(|number| *number < self.field.disk.marks.len());
            kept.map(|number| self.field.bitmap(0, number)).transpose()
        };
        see(Piece::Bitmaps(mark(marks.end)?, mark(marks.start)?));
        self.apart(run.start..inside.start, &mut see)?;
        self.apart(inside.end..run.end, &mut see)
    }

    /// The pieces of a run without marks: its values' bitmaps, and their lists, which lie one after another.
    fn apart(&self, run: Range<u32>, see: &mut impl FnMut(Piece<'a>)) -> Result<()> {
        for number in self.dense(&run) {
            see(Piece::Bitmaps(Some(self.field.bitmap(self.field.parts.dense, number)?), None));
        }
        let (from, to) = (self.start(run.start), self.start(run.end));
        if from < to {
            let lists = self.field.parts.lists;
            see(Piece::List(self.field.part(lists + from * ROW_BYTES..lists + to * ROW_BYTES)?));
        }
        Ok(())
    }

    /// The widest stretch of the run between two marks, if it is quicker to join their bitmaps: the marks (0 is the
    /// one below every value, the last one above), and the values between them.
    fn between(&self, run: &Range<u32>) -> Option<(Range<usize>, Range<u32>)> {
        // Most runs are one value with few rows.
        let two_passes = 2 * u64::from(self.field.rows / ROWS_PER_ENTRY);
        if keys::is_list(self.field.kind) || self.rows(run.clone()) <= two_passes {
            return None;
        }
        let kept = &self.field.disk.marks;
        let at = |mark: usize| if mark == 0 { 0 } else { kept.get(mark - 1).copied().unwrap_or(self.count()) };
        let first = if run.start == 0 { 0 } else { 1 + kept.partition_point(|mark| *mark < run.start) };
        let last = kept.partition_point(|mark| *mark <= run.end) + usize::from(run.end == self.count());
        let inside = at(first)..at(last);
        (first < last && self.rows(inside.clone()) > two_passes).then_some((first..last, inside))
    }

    /// Rows in the lists of a run.
    fn listed(&self, run: &Range<u32>) -> u64 {
        (self.start(run.end) - self.start(run.start)) as u64
    }

    /// Numbers of the dense values in a run.
    fn dense(&self, run: &Range<u32>) -> Range<usize> {
        let dense = &self.field.disk.dense;
        if dense.is_empty() {
            return 0..0;
        }
        let below = |value: u32| dense.partition_point(|[ordinal, _]| *ordinal < value);
        below(run.start)..below(run.end)
    }

    /// Where the list of a value begins, or, past the last one, where all end.
    fn start(&self, value: u32) -> usize {
        u32::from_le_bytes(self.starts[value as usize]) as usize
    }
}
