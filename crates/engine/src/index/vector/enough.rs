//! When enough of a segment was read.

use super::Plan;
use super::cells::Measured;

/// Rows that a filter by chance would have let through before their absence is held against it.
const EXPECTED_MIN: f32 = 32.0;
/// Times the cells that are expected to be read, put in order at once.
const SPARE: f32 = 1.25;

/// See the module.
pub(super) struct Enough {
    rows: f32,
    allowed: f32,
    /// Rows to walk, as if all could be found: all the nearest may be among those that can.
    walk: f32,
    /// Rows to read that may be found.
    read: f32,
    /// The filter leaves few rows near the query, so what was measured near sampled rows says nothing.
    pub(super) against: bool,
}

impl Enough {
    pub(super) fn new(measured: &Measured, plan: &Plan) -> Self {
        let Plan { here, all, k, effort, .. } = plan;
        let share = |rows: u64| (measured.share(rows as f32, *k) * effort.times()).min(1.0);
        let (rows, allowed) = (here.rows as f32, here.allowed as f32);
        Self { rows, allowed, walk: rows * share(all.rows), read: allowed * share(all.allowed), against: false }
    }

    /// How many of `count` cells will be read, if rows lie as they did in training; some more, and at least one.
    pub(super) fn cells(&self, count: usize) -> usize {
        let share = (self.walk / self.rows.max(1.0)).max(self.read / self.allowed.max(1.0));
        ((share * SPARE * count as f32) as usize).clamp(1, count)
    }

    /// Asked after every cell: `walked` rows were in those read, `read` of them may be found. A filter is judged by what
    /// was read alone, not by the effort, so that less effort never takes a filter for one against the query that more
    /// effort does not.
    pub(super) fn reached(&mut self, walked: u32, read: u32) -> bool {
        let (walked, read) = (walked as f32, read as f32);
        let expected = walked / self.rows * self.allowed;
        self.against |= expected >= EXPECTED_MIN && read * 2.0 < expected;
        let rarer = (expected / read.max(1.0)).max(1.0);
        !self.against && walked >= self.walk && read >= self.read * rarer * rarer
    }

    /// True if scoring on as until now takes markedly more than `codes`, in vectors, before enough is walked: so many rows
    /// that may be found lie near the query.
    pub(super) fn crowded(&self, walked: u32, read: u32, codes: f32) -> bool {
        let (walked, read) = (walked as f32, read as f32);
        read >= EXPECTED_MIN && read * (self.walk / walked.max(1.0) - 1.0) > 2.0 * codes
    }

    /// Rows to walk, as if all could be found.
    pub(super) fn walk(&self) -> f32 {
        self.walk
    }
}
