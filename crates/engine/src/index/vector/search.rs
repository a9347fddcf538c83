//! Searching one segment: cells in the query's order, codes first, exact scores last.

use std::collections::BinaryHeap;

use knarr_base::limit;

use super::cells::{Cells, Measured, packed};
use super::code::{Metric, NIBBLE_ERROR};
use super::file::{CellView, Structure};
use super::kernel::{Kernel, LANES, Probe, SCAN_BLOCKS, Width, prefetch};
use super::plan::{Effort, Plan, Way};
use super::{Allow, Batches, Bits, Distance, Query, flip};
use crate::error::Result;

/// Cells looked at before any is taken for too far: they bound what can still be near.
pub(super) const FIRST_CELLS: u32 = 3;
/// Times the margin under a filter against the query: among very many rows that are nearly equal, the best by code are
/// those with the luckiest errors.
const CAUTION: f32 = 2.0;
/// The slack grows with this power of the effort: slowly, as it is a distance and the rows within it grow much faster.
const SLACK_POWER: f32 = 0.25;
/// Rows that a filter by chance would have let through before their absence is held against it.
pub(super) const EXPECTED_MIN: f32 = 32.0;
/// Standard deviations of the coding error that a candidate may be behind and still be scored.
const MARGIN: f32 = 3.0;
/// Vectors asked for ahead of the one that is scored.
pub(super) const AHEAD: usize = 8;
/// A segment's rows are told one by one until one of so many was; then all are at once.
const WALKED_PART: u32 = 8;
/// If one of so many rows may be found or more, all codes are read at once and only rows that are near are asked whether
/// they may be.
const DENSE_PART: u64 = 8;
/// Then the rows of one of so many blocks are asked all the same, to know about how many were read.
const COUNTED_BLOCKS: usize = 4;

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

pub(super) fn key_of(packed: u64) -> f32 {
    let ordered = (packed >> 32) as u32;
    f32::from_bits(if ordered >> 31 == 1 { ordered & 0x7fff_ffff } else { !ordered })
}

/// The best `k` seen so far.
pub(super) struct Best {
    pub(super) k: usize,
    /// Keys from here on are not wanted.
    bound: f32,
    heap: BinaryHeap<u64>,
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

    fn walk(
        &self,
        cells: &Cells,
        query: &Query,
        vectors: &Batches<'_>,
        allow: Allow<'_>,
        plan: Plan,
        best: Best,
    ) -> Result<(Vec<Hit>, Looked)> {
        let bits;
        let allow = if let Allow::Few(listed) = allow {
            bits = Bits::listed(self.rows(), listed);
            Allow::Only(&bits)
        } else {
            allow
        };
        let mut walk = Walk::new(self, cells, query, allow, best);
        walk.dense = plan.here.allowed * DENSE_PART >= plan.here.rows;
        walk.run(plan)?;
        Ok(walk.score(vectors))
    }
}

/// A search under way.
struct Walk<'a> {
    structure: &'a Structure,
    cells: &'a Cells,
    query: &'a Query,
    allow: Allow<'a>,
    kernel: &'static Kernel,
    metric: Metric,
    /// By coded keys.
    best: Best,
    k: usize,
    candidates: Vec<(f32, u32)>,
    /// The widest margin of the cells seen.
    margin: f32,
    looked: Looked,
    /// Rows of the cells read, whether they may be found or not.
    walked: u32,
    /// Times the margin.
    caution: f32,
    /// See [`DENSE_PART`].
    dense: bool,
}

/// When enough of a segment was read.
struct Enough {
    rows: f32,
    allowed: f32,
    /// Rows to walk, as if all could be found: all the nearest may be among those that can.
    walk: f32,
    /// Rows to read that may be found.
    read: f32,
    /// The filter leaves few rows near the query, so what was measured near sampled rows says nothing.
    against: bool,
}

impl Enough {
    fn new(measured: &Measured, plan: &Plan) -> Self {
        let [walk, read] = measured.wanted(plan);
        Self { rows: plan.here.rows as f32, allowed: plan.here.allowed as f32, walk, read, against: false }
    }

    /// Asked after every cell. A filter is judged by what was read alone, not by the effort, so that less effort never
    /// takes a filter for one against the query that more effort does not.
    fn reached(&mut self, walked: u32, read: u32) -> bool {
        let (walked, read) = (walked as f32, read as f32);
        let expected = walked / self.rows * self.allowed;
        self.against |= expected >= EXPECTED_MIN && read * 2.0 < expected;
        let rarer = (expected / read.max(1.0)).max(1.0);
        !self.against && walked >= self.walk && read >= self.read * rarer * rarer
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

impl Measured {
    /// Rows of the segment to walk, as if all could be found, and to read.
    pub(super) fn wanted(&self, plan: &Plan) -> [f32; 2] {
        let Plan { here, all, k, effort, .. } = plan;
        let share = |rows: u64| (self.share(rows as f32, *k) * effort.times()).min(1.0);
        [here.rows as f32 * share(all.rows), here.allowed as f32 * share(all.allowed)]
    }
}

impl Effort {
    /// What was measured to be the slack of the default effort, for this one.
    pub(super) fn slack(self, measured: &Measured) -> f32 {
        measured.slack * self.times().powf(SLACK_POWER)
    }
}

impl<'a> Walk<'a> {
    fn new(structure: &'a Structure, cells: &'a Cells, query: &'a Query, allow: Allow<'a>, best: Best) -> Self {
        Self {
            structure,
            cells,
            query,
            allow,
            kernel: Kernel::best(),
            metric: cells.distance().into(),
            k: best.k,
            best,
            candidates: Vec::with_capacity(256),
            margin: 0.0,
            looked: Looked::default(),
            walked: 0,
            caution: 1.0,
            dense: false,
        }
    }

    /// Reads cells in the query's order, until no other cell is likely to hold a row better than the `k`-th found, or
    /// until enough rows were read. More effort only moves both ends, so what it reads begins with what less reads.
    fn run(&mut self, plan: Plan) -> Result<()> {
        let (query, measured) = (self.query, &self.cells.measured);
        let slack = plan.effort.slack(measured);
        let mut enough = Enough::new(measured, &plan);
        for at in 0.. {
            let Some(next) = query.ranked(at) else { break };
            let reached = enough.reached(self.walked, self.looked.rows);
            if enough.against {
                self.caution = CAUTION;
            }
            // A comparison with NaN is false: cells of no known order are read.
            let beyond = at >= FIRST_CELLS as usize && key_of(next) >= self.limit(slack);
            if self.best.full() && (beyond || reached) {
                break;
            }
            if let Allow::Each(pass) = self.allow
                && self.walked > self.structure.rows() / WALKED_PART
            {
                self.allow = Allow::Only(pass.every()?);
            }
            if let Some(after) = query.ranked_soon(at + 1) {
                self.structure.ahead(after as u32 as usize, matches!(self.allow, Allow::All));
            }
            self.cell(next as u32 as usize)?;
        }
        Ok(())
    }

    /// The order of the first cell that no longer matters: `slack` slopes beyond the `k`-th key.
    fn limit(&self, slack: f32) -> f32 {
        self.query.reach(self.metric, self.best.limit(), slack)
    }

    /// Reads one cell.
    fn cell(&mut self, cell: usize) -> Result<()> {
        let structure = self.structure;
        let view = structure.cell(cell)?;
        self.looked.cells += 1;
        self.walked += view.rows as u32;
        match self.allow {
            _ if view.rows == 0 => {}
            Allow::All => {
                self.looked.rows += view.rows as u32;
                self.read_all(cell, &view, |_, _, among| among);
            }
            Allow::Only(bits) => self.read_some(cell, &view, |rows, among| bits.lanes(rows, among)),
            Allow::Each(pass) => self.read_some(cell, &view, |rows, among| pass.lanes(rows, among)),
            Allow::Few(_) => unreachable!("a walk has them as bits"),
        }
        Ok(())
    }

    /// The query as the codes of a cell take it, and how far their keys may be wrong.
    fn probe(&mut self, cell: usize) -> (Probe<'a>, f32) {
        let (query, cells) = (self.query, self.cells);
        let (centre, radius) = (cells.centroid(cell), cells.radii[cell]);
        let (base, across) = match self.metric {
            Metric::L2 => {
                let away = self.kernel.l2(&query.turned, centre);
                (away, 2.0 * away.sqrt())
            }
            Metric::Ip => (-self.kernel.dot(&query.turned, centre), query.length),
        };
        let margin = self.caution * MARGIN * NIBBLE_ERROR * radius * across / (cells.dim() as f32).sqrt();
        self.margin = self.margin.max(margin);
        (query.coded.probe(Width::Nibble, self.metric, base), margin)
    }

    fn read_some(&mut self, cell: usize, view: &CellView<'_>, which: impl Fn(&[u32; LANES], u16) -> u16) {
        if !self.dense {
            return self.read_allowed(cell, view, which);
        }
        let (mut asked, mut allowed) = (0, 0);
        let blocks = view.rows.div_ceil(LANES);
        // Rows of a cell ascend, and with them often what a filter asks for: not always the same ones are counted.
        for at in (cell % COUNTED_BLOCKS.min(blocks)..blocks).step_by(COUNTED_BLOCKS) {
            let rows = view.lanes(at);
            asked += rows.count_ones();
            allowed += which(&view.numbers(at), rows).count_ones();
        }
        if u64::from(allowed) * DENSE_PART < u64::from(asked) {
            return self.read_allowed(cell, view, which);
        }
        self.looked.rows += (view.rows as u64 * u64::from(allowed) / u64::from(asked)) as u32;
        self.read_all(cell, view, |view, at, near| which(&view.numbers(at), near));
    }

    /// Reads all codes of a cell with rows; `which` says of a block which of the rows that are near may be found.
    fn read_all(&mut self, cell: usize, view: &CellView<'_>, which: impl Fn(&CellView<'_>, usize, u16) -> u16) {
        let (probe, margin) = self.probe(cell);
        let block_bytes = Width::Nibble.block_bytes(probe.query.len());
        let mut keys = [[0f32; LANES]; SCAN_BLOCKS];
        for (chunk, blocks) in view.blocks.chunks(block_bytes * SCAN_BLOCKS).enumerate() {
            let keys = &mut keys[..blocks.len() / block_bytes];
            self.kernel.scan(Width::Nibble, blocks, &probe, keys);
            for (at, keys) in keys.iter().enumerate() {
                let near = self.kernel.below(keys, self.best.limit() + margin);
                if near != 0 {
                    let at = chunk * SCAN_BLOCKS + at;
                    self.take(which(view, at, near), keys, &view.numbers(at), margin);
                }
            }
        }
    }

    /// Which rows may be found is asked first: blocks without any are not read, and the others are counted.
    fn read_allowed(&mut self, cell: usize, view: &CellView<'_>, which: impl Fn(&[u32; LANES], u16) -> u16) {
        let (mut keys, mut probe) = ([[0f32; LANES]], None);
        for at in 0..view.rows.div_ceil(LANES) {
            let numbers = view.numbers(at);
            let allowed = which(&numbers, view.lanes(at));
            if allowed != 0 {
                self.looked.rows += allowed.count_ones();
                let (probe, margin) = *probe.get_or_insert_with(|| self.probe(cell));
                let block_bytes = Width::Nibble.block_bytes(probe.query.len());
                self.kernel.scan(Width::Nibble, &view.blocks[at * block_bytes..][..block_bytes], &probe, &mut keys);
                let near = self.kernel.below(&keys[0], self.best.limit() + margin) & allowed;
                self.take(near, &keys[0], &numbers, margin);
            }
        }
    }

    fn take(&mut self, mut lanes: u16, keys: &[f32; LANES], numbers: &[u32; LANES], margin: f32) {
        while lanes != 0 {
            let lane = lanes.trailing_zeros() as usize;
            lanes &= lanes - 1;
            // The limit may have moved since the lanes were chosen.
            if keys[lane] < self.best.limit() + margin {
                self.best.offer(keys[lane], numbers[lane]);
                self.candidates.push((keys[lane], numbers[lane]));
            }
        }
        if self.candidates.len() >= 2 * (limit::SEARCH_CANDIDATES + 4 * self.k) {
            self.thin();
        }
    }

    /// Drops candidates that cannot matter any more, and past the bound the farthest.
    fn thin(&mut self) {
        let (limit, most) = (self.best.limit() + self.margin, limit::SEARCH_CANDIDATES + 4 * self.k);
        self.candidates.retain(|(key, _)| *key <= limit);
        if self.candidates.len() > most {
            self.candidates.select_nth_unstable_by_key(most, |(key, row)| packed(*key, *row));
            self.candidates.truncate(most);
        }
    }

    /// Scores the candidates, nearest by code first, until no other can be among the best.
    fn score(mut self, vectors: &Batches<'_>) -> (Vec<Hit>, Looked) {
        self.thin();
        let distance = self.cells.distance();
        let (scorer, mut best) = (Scorer::new(distance, &self.query.vector), Best::new(self.k, self.best.bound));
        self.candidates.sort_unstable_by_key(|(key, row)| packed(*key, *row));
        let rows = &self.candidates;
        rows.iter().take(AHEAD).for_each(|(_, row)| prefetch(vectors.get(*row)));
        for (at, (key, row)) in rows.iter().enumerate() {
            if *key >= best.limit() + self.margin {
                break;
            }
            rows.get(at + AHEAD).into_iter().for_each(|(_, row)| prefetch(vectors.get(*row)));
            best.offer(scorer.key(vectors.get(*row)), *row);
            self.looked.scored += 1;
        }
        debug_assert!(best.heap.iter().all(|item| self.allow.contains(*item as u32)));
        (best.hits(distance), self.looked)
    }
}
