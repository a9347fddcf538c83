//! Which rows of a segment pass a filter, without looking at its columns.
//!
//! [`build`] writes one immutable file per segment: for each indexed field its distinct values in order and, value by
//! value, the numbers of the rows that have it, as a list or as a bitmap, whichever is shorter. Fields with ranges also
//! keep bitmaps of all rows below every so many rows, so that any range is two bitmaps and two short lists; fields with few
//! values keep the value of each row, so that rows found by another field are tested one by one. The file is mapped and
//! read in place. `docs/decisions/0005-postings.md` says why; FORMAT.md has the bytes.
//!
//! What postings say is exactly what `filter` says of the same rows: both work from one compiled predicate. What they do
//! not know (a field without postings, a circle) is left as a residual for the rows that they could not exclude, or the
//! whole answer is that they know nothing. They know nothing of masks, expiries and newer rows: callers take those away.
//!
//! The files are derived data. Damage is found when a part is first used and is an error of that call; the caller looks
//! at every row instead ([`scan`]) and builds them anew.

mod build;
mod field;
mod file;
mod keys;
mod plan;
mod rows;
mod scalars;

#[cfg(test)]
mod tests;

use arrow_buffer::BooleanBuffer;
use knarr_base::filter::Filter;
use knarr_base::schema::Schema;

pub use build::{build, indexable};
pub use file::Postings;
pub use scalars::Scalars;

use super::vector::Bits;
use crate::error::{Error, Result};
use crate::filter::{Predicate, Residual};

/// What postings know of a predicate.
#[derive(Debug)]
pub(crate) struct Answer<'p> {
    /// Every row that passes and, unless nothing is left, some that may not.
    pub(crate) rows: Bits,
    /// What the rows still have to pass.
    pub(crate) left: Residual<'p>,
}

impl Postings {
    /// The rows of the segment that pass, as far as postings tell. `None`: they exclude no row. `schema` is the one that
    /// the predicate was compiled for.
    ///
    /// # Errors
    /// `Corrupt` if a part that is needed is damaged.
    pub(crate) fn rows_of<'p>(&self, predicate: &'p Predicate, schema: &Schema) -> Result<Option<Answer<'p>>> {
        let Some(plan) = plan::plan(self, predicate, schema)? else { return Ok(None) };
        Ok(Some(Answer { rows: rows::evaluate(&plan.step, self.rows())?, left: plan.left }))
    }

    /// The rows of the segment that pass, live or not: by postings, and by looking at rows for what they do not tell.
    ///
    /// # Errors
    /// `Filter` if it does not fit the schema; `Corrupt` if a part that is needed is damaged, a batch is, or the postings
    /// are not those of so many rows.
    pub fn matching(&self, filter: &Filter, schema: &Schema, scalars: &Scalars<'_>) -> Result<Bits> {
        if self.rows() != scalars.rows() {
            return Err(Error::corrupt("the postings of a segment", "number of rows"));
        }
        let predicate = Predicate::compile(filter, schema)?;
        match self.rows_of(&predicate, schema)? {
            Some(answer) => answer.settle(schema, scalars),
            None => look(&predicate, schema, scalars),
        }
    }
}

impl Answer<'_> {
    /// Looks at the rows that postings did not exclude, if anything is left to be known of them.
    ///
    /// # Errors
    /// What `scalars` says of a batch that it cannot give.
    pub(crate) fn settle(self, schema: &Schema, scalars: &Scalars<'_>) -> Result<Bits> {
        if self.left.is_none() {
            return Ok(self.rows);
        }
        scalars.select(schema, Some(&self.rows), |batch, among| {
            among.map_or_else(|| BooleanBuffer::new_unset(batch.num_rows()), |among| self.left.evaluate(batch, among))
        })
    }
}

/// The rows of a segment that pass, by looking at each: what a segment without postings is asked by.
///
/// # Errors
/// `Filter` if it does not fit the schema; what `scalars` says of a batch that it cannot give.
pub fn scan(filter: &Filter, schema: &Schema, scalars: &Scalars<'_>) -> Result<Bits> {
    look(&Predicate::compile(filter, schema)?, schema, scalars)
}

fn look(predicate: &Predicate, schema: &Schema, scalars: &Scalars<'_>) -> Result<Bits> {
    scalars.select(schema, None, |batch, live| predicate.evaluate(batch, live))
}
