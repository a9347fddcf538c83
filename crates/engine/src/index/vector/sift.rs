//! Searching few rows: those in the cells nearest to the query are scored, the nearest first.

use knarr_base::limit;

use super::cells::packed;
use super::code::Metric;
use super::file::{Owners, Structure};
use super::kernel::{prefetch, sum_below};
use super::search::{AHEAD, Best, EXPECTED_MIN, FIRST_CELLS, Hit, Looked, Scorer, key_of};
use super::{Batches, Cells, Plan, Query};
use crate::error::Result;

/// Rows read before it is first asked whether they were enough.
const FIRST_ASKED: usize = EXPECTED_MIN as usize;

impl Structure {
    /// The best of the listed rows, none of them twice. No code is read: what the cells are for is the order alone. `None`
    /// if so many of the rows are near the query that reading codes is quicker.
    pub(super) fn sift(
        &self,
        cells: &Cells,
        query: &Query,
        vectors: &Batches<'_>,
        rows: &[u32],
        plan: Plan,
        mut best: Best,
    ) -> Result<Option<(Vec<Hit>, Looked)>> {
        let owners = self.owners()?;
        let mut order: Vec<u64> =
            rows.iter().map(|row| packed(query.order[usize::from(owners.cells[*row as usize])], *row)).collect();
        let (metric, distance) = (Metric::from(cells.distance()), cells.distance());
        let scorer = Scorer::new(distance, &query.vector);
        let slack = plan.effort.slack(&cells.measured);
        let mut enough = Enough::new(owners, cells, query, &plan);
        let (mut looked, mut sorted, mut last) = (Looked::default(), 0, None);
        for at in 0..order.len() {
            if at == sorted {
                sorted =
                    sort_more(&mut order, at, limit::SEARCH_SORTED_ROWS.max(enough.at.max(best.k).saturating_sub(at)));
                order[at..sorted].iter().take(AHEAD).for_each(|pair| prefetch(vectors.get(*pair as u32)));
            }
            let (key, row) = (key_of(order[at]), order[at] as u32);
            let cell = Some(owners.cells[row as usize]);
            // All rows of a cell have its order: an end lies between two of them, as in a walk.
            if std::mem::replace(&mut last, cell) != cell {
                // A comparison with NaN is false: rows of cells of no known order are read.
                let beyond = || looked.cells >= FIRST_CELLS && key >= query.reach(metric, best.limit(), slack);
                if best.full() && (beyond() || enough.reached(at, key)) {
                    break;
                }
                if enough.crowded {
                    return Ok(None);
                }
                looked.cells += 1;
            }
            order[..sorted].get(at + AHEAD).into_iter().for_each(|pair| prefetch(vectors.get(*pair as u32)));
            best.offer(scorer.key(vectors.get(row)), row);
            looked.scored += 1;
        }
        // Their rows were, but no cell itself.
        (looked.cells, looked.rows) = (0, looked.scored);
        Ok(Some((best.hits(distance), looked)))
    }
}

/// When enough of the listed rows was read: as in a walk through the cells, but what was walked is asked seldom.
struct Enough<'a> {
    owners: &'a Owners,
    query: &'a Query,
    /// Rows of the segment, and of the list.
    rows: f32,
    allowed: f32,
    /// Rows to walk, as if all could be found, and to read.
    walk: f32,
    read: f32,
    /// Rows read before it is asked again. Never, if the filter leaves few rows near the query: what was measured near
    /// sampled rows then says nothing.
    at: usize,
    /// What reading codes instead costs, in vectors, and whether that is less.
    codes: f32,
    crowded: bool,
}

impl<'a> Enough<'a> {
    fn new(owners: &'a Owners, cells: &Cells, query: &'a Query, plan: &Plan) -> Self {
        let (rows, allowed) = (plan.here.rows as f32, plan.here.allowed as f32);
        let [walk, read] = cells.measured.wanted(plan);
        let codes = cells.codes_in_vectors(plan.here, walk);
        Self { owners, query, rows, allowed, walk, read, at: FIRST_ASKED, codes, crowded: false }
    }

    /// True if the rows before number `at`, the first of a cell of this order, were enough.
    fn reached(&mut self, at: usize, key: f32) -> bool {
        if at < self.at {
            return false;
        }
        let walked = sum_below(&self.query.order, key, &self.owners.rows) as f32;
        let (read, expected) = (at as f32, walked / self.rows * self.allowed);
        if expected >= EXPECTED_MIN && read * 2.0 < expected {
            self.at = usize::MAX;
            return false;
        }
        // As many again for each part of the walk, if they lie as close together there.
        self.crowded = read * (self.walk / walked.max(1.0) - 1.0) > 2.0 * self.codes;
        let rarer = (expected / read).max(1.0);
        let wanted = self.read * rarer * rarer;
        // Where both will be reached, if the rows lie on as closely.
        let next = wanted.max(read * self.walk / walked.max(1.0)).ceil() as usize;
        self.at = next.clamp(at + at / 4, at * 4);
        walked >= self.walk && read >= wanted
    }
}

/// Puts the next `count` of what is in no order after the first `done` in order. How many are then.
fn sort_more(order: &mut [u64], done: usize, count: usize) -> usize {
    let rest = &mut order[done..];
    let count = count.min(rest.len());
    if count < rest.len() {
        rest.select_nth_unstable(count);
    }
    rest[..count].sort_unstable();
    done + count
}
