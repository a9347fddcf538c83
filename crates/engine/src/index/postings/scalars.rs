//! The scalar columns of a segment where they lie: one batch after another.

use std::borrow::Cow;
use std::ops::Range;

use arrow_array::RecordBatch;
use arrow_buffer::{BooleanBuffer, Buffer};
use knarr_base::schema::Schema;

use crate::columns;
use crate::error::Result;
use crate::index::vector::Bits;

/// Stored batches by number, decoded when they are asked for. Copies nothing.
pub struct Scalars<'a> {
    /// First row of every batch, then the number of rows.
    starts: Vec<u32>,
    batch: Box<dyn Fn(usize) -> Result<Cow<'a, RecordBatch>> + 'a>,
}

impl<'a> Scalars<'a> {
    /// `starts` are the first rows of the batches, ascending from 0; `rows` of all together. `batch` gives each with
    /// the columns that the segment was written with, or with those of the newest schema.
    pub fn new(starts: &[u32], rows: u32, batch: impl Fn(usize) -> Result<Cow<'a, RecordBatch>> + 'a) -> Self {
        let starts = starts.iter().copied().chain([rows]).collect();
        Self { starts, batch: Box::new(batch) }
    }

    /// Batches that are there, together fewer than 2^32 rows.
    pub fn of(batches: &'a [RecordBatch]) -> Self {
        let mut starts = vec![0u32];
        for batch in batches {
            let rows = u32::try_from(batch.num_rows()).expect("limit::BATCH_ROWS is small");
            starts.push(starts[starts.len() - 1].checked_add(rows).expect("row numbers have 32 bits"));
        }
        Self { starts, batch: Box::new(|at| Ok(Cow::Borrowed(&batches[at]))) }
    }

    /// Number of rows.
    pub fn rows(&self) -> u32 {
        self.starts[self.starts.len() - 1]
    }

    pub(super) fn batches(&self) -> usize {
        self.starts.len() - 1
    }

    /// The rows of a batch.
    pub(super) fn range(&self, at: usize) -> Range<u32> {
        self.starts[at]..self.starts[at + 1]
    }

    pub(super) fn batch(&self, at: usize) -> Result<Cow<'a, RecordBatch>> {
        (self.batch)(at)
    }

    /// The rows that `test` finds in each batch, which it sees with the columns of `schema`. `among`: only these are
    /// wanted, and batches without any are not looked at.
    pub(super) fn select(
        &self,
        schema: &Schema,
        among: Option<&Bits>,
        test: impl Fn(&RecordBatch, Option<&BooleanBuffer>) -> BooleanBuffer,
    ) -> Result<Bits> {
        let (mut found, stored) = (Bits::none(self.rows()), columns::stored_schema(schema));
        for at in 0..self.batches() {
            let range = self.range(at);
            if range.is_empty() {
                continue;
            }
            let wanted = among.map(|among| slice(among, range.clone()));
            if wanted.as_ref().is_some_and(|wanted| wanted.count_set_bits() == 0) {
                continue;
            }
            let batch = columns::widen(&*self.batch(at)?, schema, &stored);
            found.insert_run(range.start, &test(&batch, wanted.as_ref()));
        }
        Ok(found)
    }
}

/// The bits of a run of rows.
fn slice(bits: &Bits, range: Range<u32>) -> BooleanBuffer {
    let words = &bits.words()[range.start as usize / 32..(range.end as usize).div_ceil(32)];
    BooleanBuffer::new(Buffer::from_vec(words.to_vec()), range.start as usize % 32, range.len())
}
