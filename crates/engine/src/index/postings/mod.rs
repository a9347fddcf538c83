//! Which rows of a segment pass a filter, without looking at its columns.
//!
//! [`build`] writes one immutable file per segment: for each indexed field its distinct values in order and, value by
//! value, the numbers of the rows that have it, as a list or as a bitmap, whichever is shorter. Fields with ranges also
//! keep bitmaps of all rows below every so many rows, so that any range is two bitmaps and two short lists; fields of
//! which a row has one value keep a code of it for each, so that single rows can be asked. The file is mapped and
//! read in place. `docs/decisions/0005-postings.md` says why; FORMAT.md has the bytes.
//!
//! What postings say is exactly what `filter` says of the same rows: both work from one compiled predicate. What they do
//! not know (a field without postings, a circle) is left as a residual for the rows that they could not exclude, or the
//! whole answer is that they know nothing. They know nothing of masks, expiries and newer rows: callers take those away.
//!
//! The files are derived data. Damage is found when a part is first used and is an error of that call; the caller looks
//! at every row instead ([`scan`]) and builds them anew.

mod arranged;
mod build;
mod field;
mod file;
mod keys;
mod plan;
mod probe;
mod rows;
mod scalars;

#[cfg(test)]
mod tests;

use std::borrow::Borrow;

use arrow_buffer::BooleanBuffer;
use knarr_base::filter::Filter;
use knarr_base::schema::Schema;

pub use build::{build, indexable};
pub use file::Postings;
pub use scalars::Scalars;

pub(crate) use self::arranged::Arranged;
use self::plan::Plan;
pub(crate) use self::probe::Test;
use super::vector::Bits;
use crate::error::{Error, Result};
use crate::filter::Predicate;

/// So many times more rows are listed where that is all than where each has to be asked another condition.
const FEW_PER_MET: u64 = 12;
/// Rows of one condition are listed if the others may leave a part of them that is still few.
const LISTED_PER_FEW: u64 = 16;

/// What postings know of a predicate.
pub(crate) struct Answer<'a, 'p> {
    plan: Plan<'a, 'p>,
    /// Of the segment.
    rows: u32,
}

/// The rows of an answer, in the form that takes least to make.
pub(crate) enum Passed<'a> {
    /// All of them, in no order; some times as many as asked for at most.
    Few(Vec<u32>),
    /// A bit for each row.
    Bits(Bits),
    /// Rows are told one by one; how many pass, about.
    Each(Test<'a>, u32),
}

impl Postings {
    /// What postings tell of a predicate. `None`: they exclude no row. `schema` is the one that the predicate was
    /// compiled for.
    ///
    /// # Errors
    /// `Corrupt` if a part that is needed is damaged.
    pub(crate) fn ask<'a, 'p>(&'a self, predicate: &'p Predicate, schema: &Schema) -> Result<Option<Answer<'a, 'p>>> {
        let plan = plan::plan(self, predicate, schema)?;
        Ok(plan.map(|plan| Answer { plan, rows: self.rows() }))
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
        match self.ask(&predicate, schema)? {
            Some(answer) => answer.settle(schema, || Ok(scalars)),
            None => look(&predicate, schema, scalars),
        }
    }
}

impl<'a> Answer<'a, '_> {
    /// Every row that passes and, unless it is [exact](Answer::is_exact), some that may not.
    ///
    /// # Errors
    /// `Corrupt` if a part that is needed is damaged.
    pub(crate) fn bits(&self) -> Result<Bits> {
        rows::evaluate(&self.plan.step, self.rows)
    }

    /// True if postings tell all that there is to know.
    pub(crate) fn is_exact(&self) -> bool {
        self.plan.left.is_none()
    }

    /// The rows of an exact answer. Up to `few` are listed. A test can tell by place what is `arranged`.
    ///
    /// # Errors
    /// `Corrupt` if a part that is needed is damaged.
    pub(crate) fn passed(&self, few: u32, arranged: Option<&'a Arranged>) -> Result<Passed<'a>> {
        let (step, few) = (&self.plan.step, u64::from(few));
        let most = rows::at_most(step, self.rows);
        if most > few
            && let Some(test) = Test::new(step, arranged)?
        {
            let estimate = self.estimate(&test)?.min(most);
            // Asking the rows of one condition for another one takes longer than to meet rows in the order of the cells,
            // unless most of these would be met.
            let few = if arranged.is_some() && test.is_arranged() { few / FEW_PER_MET } else { few };
            if estimate > few {
                return Ok(Passed::Each(test, u32::try_from(estimate).unwrap_or(self.rows)));
            }
        }
        if most > few * LISTED_PER_FEW {
            return self.bits().map(Passed::Bits);
        }
        Ok(match rows::list(step)? {
            Some(rows) => Passed::Few(rows),
            None => Passed::Bits(self.bits()?),
        })
    }

    /// About how many rows pass the test that the answer is.
    fn estimate(&self, test: &Test<'_>) -> Result<u64> {
        let step = &self.plan.step;
        if step.is_counted() {
            return Ok(rows::at_most(step, self.rows));
        }
        Ok(rows::estimate(step)?.unwrap_or_else(|| test.estimate(self.rows)))
    }

    /// Looks at the rows that postings did not exclude, if anything is left to be known of them.
    ///
    /// # Errors
    /// `Corrupt`; what `scalars` says of a batch that it cannot give.
    pub(crate) fn settle<'s, S: Borrow<Scalars<'s>>>(
        &self,
        schema: &Schema,
        scalars: impl FnOnce() -> Result<S>,
    ) -> Result<Bits> {
        let (bits, left) = (self.bits()?, &self.plan.left);
        if self.is_exact() {
            return Ok(bits);
        }
        scalars()?.borrow().select(schema, Some(&bits), |batch, among| {
            among.map_or_else(|| BooleanBuffer::new_unset(batch.num_rows()), |among| left.evaluate(batch, among))
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
