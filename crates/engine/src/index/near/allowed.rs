//! The rows of a segment that a step may find, in the form in which they came.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell};

use roaring::RoaringBitmap;

use super::{Search, Step};
use crate::error::{Error, Result};
use crate::index::postings::{Answer, Test};
use crate::index::vector::{Allow, Bits, LANES, Pass};

/// The rows of a segment that may be found.
pub(super) enum Allowed<'a> {
    All,
    Bits(Cow<'a, Bits>),
    Few(Vec<u32>),
    Each(Box<Each<'a>>),
}

impl Allowed<'_> {
    pub(super) fn count(&self, rows: u32) -> u32 {
        match self {
            Allowed::All => rows,
            Allowed::Bits(bits) => bits.count(),
            Allowed::Few(listed) => u32::try_from(listed.len()).expect("no more than the rows of a segment"),
            Allowed::Each(each) => each.count,
        }
    }

    /// True if postings were found to be damaged since.
    pub(super) fn damaged(&self) -> bool {
        matches!(self, Allowed::Each(each) if each.damaged.get())
    }

    pub(super) fn as_allow(&self) -> Allow<'_> {
        match self {
            Allowed::All => Allow::All,
            Allowed::Bits(bits) => Allow::Only(bits),
            Allowed::Few(listed) => Allow::Few(listed),
            Allowed::Each(each) => Allow::Each(&**each),
        }
    }

    /// Without some rows that were found, ascending.
    pub(super) fn leave_out(&mut self, hidden: &[u32], rows: u32) {
        match self {
            Allowed::Few(listed) => listed.retain(|row| hidden.binary_search(row).is_err()),
            Allowed::Each(each) => each.leave_out(hidden),
            Allowed::All | Allowed::Bits(_) => hidden.iter().for_each(|row| self.bits(rows).clear(*row)),
        }
    }

    /// Without all that newer writes hide.
    pub(super) fn leave_out_all(&mut self, hidden: &RoaringBitmap, rows: u32) -> Result<()> {
        match self {
            Allowed::Few(listed) => listed.retain(|row| !hidden.contains(*row)),
            Allowed::Each(each) => {
                each.every()?;
                each.every.get_mut().iter_mut().for_each(|every| every.remove(hidden));
                each.without = hidden.iter().collect();
            }
            Allowed::All | Allowed::Bits(_) => self.bits(rows).remove(hidden),
        }
        Ok(())
    }

    /// As bits to be changed; a list and a test are left as they are by those who call this.
    fn bits(&mut self, rows: u32) -> &mut Bits {
        if !matches!(self, Allowed::Bits(_)) {
            *self = Allowed::Bits(Cow::Owned(Bits::all(rows)));
        }
        let Allowed::Bits(bits) = self else { unreachable!("it was just made so") };
        bits.to_mut()
    }
}

/// Rows that are asked one by one whether they pass.
pub(super) struct Each<'a> {
    pub(super) search: &'a Search<'a>,
    pub(super) step: &'a Step,
    /// The test can tell rows by their places in the order of the cells.
    pub(super) in_order: bool,
    pub(super) test: Test<'a>,
    /// How many pass, about.
    pub(super) count: u32,
    /// Tells all at once.
    pub(super) answer: Answer<'a, 'a>,
    /// `None`: all live.
    pub(super) live: Option<Cow<'a, Bits>>,
    /// Rows that newer writes hide, ascending.
    pub(super) without: Vec<u32>,
    pub(super) every: OnceCell<Bits>,
    /// Postings were found to be damaged, and rows looked at instead.
    pub(super) damaged: Cell<bool>,
}

impl Each<'_> {
    fn leave_out(&mut self, hidden: &[u32]) {
        self.without.extend(hidden);
        self.without.sort_unstable();
        if let Some(every) = self.every.get_mut() {
            hidden.iter().for_each(|row| every.clear(*row));
        }
    }
}

impl Pass for Each<'_> {
    fn lanes(&self, rows: &[u32; LANES], among: u16) -> u16 {
        let mut passed = among;
        if let Some(live) = &self.live {
            passed = live.lanes(rows, passed);
        }
        passed = self.test.lanes(rows, passed);
        if !self.without.is_empty() {
            let gone = |lane: &usize| self.without.binary_search(&rows[*lane]).is_ok();
            (0..LANES).filter(gone).for_each(|lane| passed &= !(1 << lane));
        }
        passed
    }

    fn in_order(&self) -> bool {
        self.in_order
    }

    fn stretch(&self, place: usize, row: &dyn Fn(u32) -> u32, among: u64) -> u64 {
        let mut passed = self.test.stretch(place, row, among);
        if self.live.is_some() || !self.without.is_empty() {
            let mut left = passed;
            while left != 0 {
                let lane = left.trailing_zeros();
                left &= left - 1;
                let row = row(lane);
                let live = self.live.as_ref().is_none_or(|live| live.contains(row));
                if !live || self.without.binary_search(&row).is_ok() {
                    passed &= !(1 << lane);
                }
            }
        }
        passed
    }

    fn ahead(&self, place: usize) {
        self.test.ahead(place);
    }

    fn every(&self) -> Result<&Bits> {
        if let Some(every) = self.every.get() {
            return Ok(every);
        }
        let mut every = match self.answer.bits() {
            Err(error @ Error::Corrupt { .. }) => {
                tracing::error!(%error, "columns are looked at until postings were built anew");
                self.damaged.set(true);
                self.search.scanned(self.step, |batch, live| self.search.predicate.evaluate(batch, live))?
            }
            bits => bits?,
        };
        self.live.iter().for_each(|live| every.intersect(live));
        self.without.iter().for_each(|row| every.clear(*row));
        Ok(self.every.get_or_init(|| every))
    }
}
