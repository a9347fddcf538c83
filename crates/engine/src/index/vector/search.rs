//! Searching one segment: the ways, and what they share.

use std::collections::BinaryHeap;

use super::cells::{Cells, Measured, key_of, packed};
use super::code::Metric;
use super::file::Structure;
use super::kernel::{Kernel, prefetch};
use super::plan::{Effort, Plan, Way};
use super::{Allow, Batches, Distance, Query, flip};
use crate::error::Result;

/// Cells looked at before any is taken for too far: they bound what can still be near.
pub(super) const FIRST_CELLS: u32 = 3;
/// The slack grows with this power of the effort: slowly, as it is a distance and the rows within it grow much faster.
const SLACK_POWER: f32 = 0.25;
/// Vectors asked for ahead of the one that is scored.
pub(super) const AHEAD: usize = 8;

/// A row found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Number in its segment.
    pub row: u32,
    /// Inner product, squared distance or cosine, computed from the stored vector.
    pub score: f32,
}

/// What a search looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Looked {
    /// Cells whose codes were read.
    pub cells: u32,
    /// Rows in them that may be found.
    pub rows: u32,
    /// Rows whose vector was read.
    pub scored: u32,
}

/// The best `k` seen so far.
pub(super) struct Best {
    pub(super) k: usize,
    /// Keys from here on are not wanted.
    pub(super) bound: f32,
    pub(super) heap: BinaryHeap<u64>,
}

impl Best {
    pub(super) fn new(k: usize, bound: f32) -> Self {
        Self { k, bound, heap: BinaryHeap::with_capacity(k + 1) }
    }

    pub(super) fn offer(&mut self, key: f32, row: u32) {
        let item = packed(key, row);
        if self.heap.len() < self.k {
            self.heap.push(item);
        } else if let Some(mut worst) = self.heap.peek_mut()
            && item < *worst
        {
            *worst = item;
        }
    }

    /// The key that a row must be below to change anything; infinite as long as any row would.
    pub(super) fn limit(&self) -> f32 {
        match self.heap.peek() {
            Some(worst) if self.heap.len() >= self.k => key_of(*worst).min(self.bound),
            _ => self.bound,
        }
    }

    /// True if enough was found to stop, here or where the bound comes from.
    pub(super) fn full(&self) -> bool {
        self.heap.len() >= self.k || self.bound < f32::INFINITY
    }

    pub(super) fn hits(self, distance: Distance) -> Vec<Hit> {
        let sorted = self.heap.into_sorted_vec();
        sorted.into_iter().map(|item| Hit { row: item as u32, score: flip(distance, key_of(item)) }).collect()
    }
}

/// Exact keys of rows.
pub(super) struct Scorer<'a> {
    kernel: &'static Kernel,
    distance: Distance,
    query: &'a [f32],
    /// One over the query's length; 0 for cosine of nothing.
    inverse: f32,
}

impl<'a> Scorer<'a> {
    pub(super) fn new(distance: Distance, query: &'a [f32]) -> Self {
        let kernel = Kernel::best();
        let length = kernel.dot(query, query).sqrt();
        Self { kernel, distance, query, inverse: if length > 0.0 { 1.0 / length } else { 0.0 } }
    }

    pub(super) fn key(&self, vector: &[f32]) -> f32 {
        match self.distance {
            Distance::L2 => self.kernel.l2(self.query, vector),
            Distance::Ip => -self.kernel.dot(self.query, vector),
            Distance::Cosine => {
                let length = self.kernel.dot(vector, vector).sqrt();
                let inverse = if length > 0.0 { self.inverse / length } else { 0.0 };
                -self.kernel.dot(self.query, vector) * inverse
            }
        }
    }
}

/// The best `k` of the rows that may be found, by scoring every one of them; nearest first, equal scores by row.
///
/// # Errors
/// `Corrupt` if the rows that may be found cannot be told.
pub fn exact(distance: Distance, query: &[f32], vectors: &Batches<'_>, allow: Allow<'_>, k: usize) -> Result<Vec<Hit>> {
    let (scorer, mut best) = (Scorer::new(distance, query), Best::new(k, f32::INFINITY));
    match allow {
        Allow::All => (0..vectors.rows()).for_each(|row| best.offer(scorer.key(vectors.get(row)), row)),
        Allow::Only(bits) => each(bits.iter(), vectors, |row, vector| best.offer(scorer.key(vector), row)),
        Allow::Few(rows) => each(rows.iter().copied(), vectors, |row, vector| best.offer(scorer.key(vector), row)),
        Allow::Each(pass) => {
            let bits = pass.every()?;
            each(bits.iter(), vectors, |row, vector| best.offer(scorer.key(vector), row));
        }
    }
    Ok(best.hits(distance))
}

/// Calls `see` with rows and their vectors, which are asked for ahead.
fn each<'v>(rows: impl Iterator<Item = u32> + Clone, vectors: &Batches<'v>, mut see: impl FnMut(u32, &'v [f32])) {
    let mut ahead = rows.clone();
    ahead.by_ref().take(AHEAD).for_each(|row| prefetch(vectors.get(row)));
    for row in rows {
        ahead.next().into_iter().for_each(|row| prefetch(vectors.get(row)));
        see(row, vectors.get(row));
    }
}

impl Structure {
    /// The best of the rows that may be found, nearest first, equal scores by row; and what was looked at.
    /// `vectors` and `allow` are of the structure's segment, `query` was ranked with `cells`. `bound` is the score of the
    /// worst row that the caller has already, if it has enough: what is no nearer may be left out.
    ///
    /// # Errors
    /// `Corrupt` if a cell that is needed is damaged, or the structure or the query has other cells.
    ///
    /// # Panics
    /// If `vectors` or `allow` have another number of rows.
    pub fn search(
        &self,
        cells: &Cells,
        query: &Query,
        vectors: &Batches<'_>,
        allow: Allow<'_>,
        plan: Plan,
        bound: Option<f32>,
    ) -> Result<(Vec<Hit>, Looked)> {
        let Plan { here, k, way, .. } = plan;
        self.check_cells(cells, query.generation)?;
        assert_eq!((vectors.rows(), vectors.dim()), (self.rows(), cells.dim()));
        if let Allow::Only(bits) = allow {
            assert_eq!(bits.rows(), self.rows());
        }
        if k == 0 {
            return Ok((Vec::new(), Looked::default()));
        }
        let distance = cells.distance();
        let bound = bound.map_or(f32::INFINITY, |score| flip(distance, score));
        match way {
            Way::Survivors => {
                let hits = exact(distance, &query.vector, vectors, allow, k)?;
                Ok((hits, Looked { scored: here.allowed as u32, ..Looked::default() }))
            }
            Way::Nearest => {
                let Allow::Few(rows) = allow else { panic!("the rows of this way are listed") };
                match self.sift(cells, query, vectors, rows, plan, Best::new(k, bound))? {
                    Some(found) => Ok(found),
                    None => self.walk(cells, query, vectors, allow, plan, Best::new(k, bound)),
                }
            }
            Way::Cells => self.walk(cells, query, vectors, allow, plan, Best::new(k, bound)),
        }
    }
}

impl Query {
    /// The order of the first cell that no longer matters when the `k`-th key is `limit`.
    pub(super) fn reach(&self, metric: Metric, limit: f32, slack: f32) -> f32 {
        if limit == f32::INFINITY {
            return limit;
        }
        // Squared distances grow the faster the farther away they are; all near rows may be forbidden.
        let steep = if metric == Metric::L2 { 2.0 * self.radius * limit.max(0.0).sqrt() } else { 0.0 };
        limit + slack * self.slope.max(steep)
    }
}

impl Effort {
    /// What was measured to be the slack of the default effort, for this one.
    pub(super) fn slack(self, measured: &Measured) -> f32 {
        measured.slack * self.times().powf(SLACK_POWER)
    }
}
