//! Searching few rows: those in the cells nearest to the query are scored, the nearest first.

use super::cells::Ranks;
use super::code::Metric;
use super::enough::Enough;
use super::file::{Owners, Structure};
use super::kernel::prefetch;
use super::search::{AHEAD, Best, FIRST_CELLS, Hit, Looked, Scorer};
use super::{Batches, Cells, Plan, Query};
use crate::error::Result;

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
        best: Best,
    ) -> Result<Option<(Vec<Hit>, Looked)>> {
        let enough = Enough::new(&cells.measured, &plan);
        let mut sift = Sift {
            owners: self.owners()?,
            cells,
            query,
            vectors,
            scorer: Scorer::new(cells.distance(), &query.vector),
            slack: plan.effort.slack(&cells.measured),
            codes: cells.codes_in_vectors(plan.here, enough.walk()),
            enough,
            best,
            scored: 0,
            walked: 0,
            passed: 0,
        };
        let (mut ranked, mut some) = (sift.enough.cells(cells.count()), Vec::new());
        while sift.passed < cells.count() {
            let ranks = query.ranks(ranked);
            let ahead = sift.passed..ranks.ranked();
            let place = |row: &u32| (ranks.rank_of(sift.owners.cells[*row as usize]), *row);
            some.clear();
            some.extend(rows.iter().map(place).filter(|(rank, _)| ahead.contains(rank)));
            some.sort_unstable();
            match sift.read(&some, &ranks) {
                End::Reached => break,
                End::Crowded => return Ok(None),
                End::None => ranked = 2 * ahead.end,
            }
        }
        let looked = Looked { cells: 0, rows: sift.scored, scored: sift.scored };
        Ok(Some((sift.best.hits(cells.distance()), looked)))
    }
}

/// Why no more rows are read.
#[derive(PartialEq, Eq)]
enum End {
    None,
    Reached,
    Crowded,
}

struct Sift<'a> {
    owners: &'a Owners,
    cells: &'a Cells,
    query: &'a Query,
    vectors: &'a Batches<'a>,
    scorer: Scorer<'a>,
    slack: f32,
    enough: Enough,
    /// What reading codes instead costs, in vectors.
    codes: f32,
    best: Best,
    scored: u32,
    /// Cells of the query's order that were passed, and the rows in them.
    passed: usize,
    walked: u32,
}

impl Sift<'_> {
    /// Scores the listed rows of some cells: `(rank, row)`, in order.
    fn read(&mut self, rows: &[(usize, u32)], ranks: &Ranks) -> End {
        rows.iter().take(AHEAD).for_each(|(_, row)| prefetch(self.vectors.get(*row)));
        for (at, (rank, row)) in rows.iter().enumerate() {
            if *rank >= self.passed {
                // All rows of a cell have its order: an end lies between two cells, as in a walk.
                self.pass(*rank, ranks);
                let end = self.end(Some(ranks.key(*rank)));
                if end != End::None {
                    return end;
                }
                self.pass(*rank + 1, ranks);
            }
            rows.get(at + AHEAD).into_iter().for_each(|(_, row)| prefetch(self.vectors.get(*row)));
            self.best.offer(self.scorer.key(self.vectors.get(*row)), *row);
            self.scored += 1;
        }
        self.pass(ranks.ranked(), ranks);
        self.end(None)
    }

    fn pass(&mut self, rank: usize, ranks: &Ranks) {
        let rows = |rank| self.owners.rows[ranks.cell(rank)];
        self.walked += (self.passed..rank).map(rows).sum::<u32>();
        self.passed = self.passed.max(rank);
    }

    /// Asked before a cell with listed rows, whose order is `next`.
    fn end(&mut self, next: Option<f32>) -> End {
        let reached = self.enough.reached(self.walked, self.scored);
        // A comparison with NaN is false: rows of cells of no known order are read.
        let beyond = |key| {
            let metric = Metric::from(self.cells.distance());
            self.passed >= FIRST_CELLS as usize && key >= self.query.reach(metric, self.best.limit(), self.slack)
        };
        if self.best.full() && (reached || next.is_some_and(beyond)) {
            End::Reached
        } else if !self.enough.against && self.enough.crowded(self.walked, self.scored, self.codes) {
            End::Crowded
        } else {
            End::None
        }
    }
}
