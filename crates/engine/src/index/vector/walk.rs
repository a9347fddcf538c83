//! The walk through cells in the query's order: codes first, exact scores last; or exact scores alone, where so few rows of a
//! cell may be found that their vectors are less to read than the codes of all.

use std::collections::VecDeque;

use knarr_base::limit;

use super::cells::{Cells, key_of, packed};
use super::code::{Metric, NIBBLE_ERROR};
use super::enough::Enough;
use super::file::{CellView, Structure};
use super::kernel::{Kernel, LANES, Probe, SCAN_BLOCKS, STRETCH, Width, prefetch};
use super::plan::Plan;
use super::search::{AHEAD, Best, FIRST_CELLS, Hit, Looked, Scorer, exact};
use super::{Allow, Batches, Bits, Pass, Query, flip};
use crate::error::Result;

/// Times the margin under a filter against the query: among very many rows that are nearly equal, the best by code are
/// those with the luckiest errors.
const CAUTION: f32 = 2.0;
/// Standard deviations of the coding error that a candidate may be behind and still be scored.
const MARGIN: f32 = 3.0;
/// A segment's rows are told one by one until one of so many was; then all are at once. In the order of the cells they
/// are told so quickly that it never pays.
const WALKED_PART: u32 = 8;
/// If one of so many rows may be found or more, all codes are read at once and only rows that are near are asked whether
/// they may be.
const DENSE_PART: u64 = 8;
/// Then the rows of one of so many blocks are asked all the same, to know about how many were read.
const COUNTED_BLOCKS: usize = 4;
/// If fewer than one of so many rows of a cell may be found, and these are known, their vectors are read instead of all
/// codes: a vector has eight times the bytes of a code, and lies elsewhere.
const SCORED_PART: usize = 12;
/// Vectors that are read in their order in the time of one that lies anywhere.
const ALIKE_PART: u64 = 4;
/// Cells whose told rows are asked for ahead of the one that is read, and cells of which it is asked ahead where these are.
const CELLS_AHEAD: usize = 5;
const TABLE_AHEAD: usize = 10;

impl Structure {
    pub(super) fn walk(
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
        let mut walk = Walk::new(self, cells, query, vectors, allow, best);
        walk.dense = plan.here.allowed * DENSE_PART >= plan.here.rows;
        walk.run(plan)?;
        walk.thin();
        if walk.is_blurred(plan.here.allowed) {
            let (allow, bound, looked) = (walk.allow, walk.exact.bound, walk.looked);
            let mut hits = exact(cells.distance(), &query.vector, vectors, allow, plan.k)?;
            hits.retain(|hit| flip(cells.distance(), hit.score) <= bound);
            return Ok((hits, Looked { scored: plan.here.allowed as u32, ..looked }));
        }
        Ok(walk.score())
    }
}

/// A search under way.
struct Walk<'a> {
    structure: &'a Structure,
    cells: &'a Cells,
    query: &'a Query,
    vectors: &'a Batches<'a>,
    allow: Allow<'a>,
    kernel: &'static Kernel,
    scorer: Scorer<'a>,
    metric: Metric,
    /// By coded keys, and by exact ones of rows whose codes were not read.
    best: Best,
    /// By exact keys.
    exact: Best,
    k: usize,
    /// Rows with coded keys.
    candidates: Vec<(f32, u32)>,
    /// Places of rows whose numbers were asked for, then rows whose vectors were.
    found: VecDeque<usize>,
    waiting: VecDeque<u32>,
    /// The rows of a cell that may be found, 64 in each.
    told: Vec<u64>,
    /// The widest margin of the cells seen.
    margin: f32,
    looked: Looked,
    /// Rows of the cells read, whether they may be found or not.
    walked: u32,
    /// Times the margin.
    caution: f32,
    /// See [`DENSE_PART`].
    dense: bool,
    /// There were more candidates than may be.
    too_many: bool,
}

impl<'a> Walk<'a> {
    fn new(
        structure: &'a Structure,
        cells: &'a Cells,
        query: &'a Query,
        vectors: &'a Batches<'a>,
        allow: Allow<'a>,
        best: Best,
    ) -> Self {
        Self {
            structure,
            cells,
            query,
            vectors,
            allow,
            kernel: Kernel::best(),
            scorer: Scorer::new(cells.distance(), &query.vector),
            metric: cells.distance().into(),
            k: best.k,
            exact: Best::new(best.k, best.bound),
            best,
            candidates: Vec::with_capacity(256),
            found: VecDeque::with_capacity(AHEAD + 1),
            waiting: VecDeque::with_capacity(AHEAD + 1),
            told: Vec::new(),
            margin: 0.0,
            looked: Looked::default(),
            walked: 0,
            caution: 1.0,
            dense: false,
            too_many: false,
        }
    }

    /// Reads cells in the query's order, until no other cell is likely to hold a row better than the `k`-th found, or
    /// until enough rows were read. More effort only moves both ends, so what it reads begins with what less reads.
    fn run(&mut self, plan: Plan) -> Result<()> {
        let (query, measured) = (self.query, &self.cells.measured);
        let slack = plan.effort.slack(measured);
        let mut enough = Enough::new(measured, &plan);
        query.rank(enough.cells(self.cells.count()));
        for at in 0.. {
            let Some(next) = query.ranked(at) else { break };
            let reached = enough.reached(self.walked, self.looked.rows);
            if enough.against {
                self.caution = CAUTION;
            }
            // A comparison with NaN is false: cells of no known order are read.
            let beyond = at >= FIRST_CELLS as usize && key_of(next) >= self.limit(slack);
            if self.best.full() && (beyond || reached || (enough.against && self.too_many)) {
                break;
            }
            if let Allow::Each(pass) = self.allow
                && !pass.in_order()
                && self.walked > self.structure.rows() / WALKED_PART
            {
                self.allow = Allow::Only(pass.every()?);
            }
            self.ahead(at);
            self.cell(next as u32 as usize)?;
        }
        self.score_found(0);
        self.score_waiting(0);
        Ok(())
    }

    /// Asks for what is read first of a cell after number `at`.
    fn ahead(&self, at: usize) {
        match self.allow {
            Allow::Each(pass) if pass.in_order() => {
                let soon = |after| self.query.ranked_soon(at + after).map(|cell| cell as u32 as usize);
                soon(TABLE_AHEAD).into_iter().for_each(|cell| self.structure.table_ahead(cell));
                soon(CELLS_AHEAD).into_iter().for_each(|cell| pass.ahead(self.structure.place(cell)));
            }
            _ => {
                let cell = self.query.ranked_soon(at + 1);
                let codes = matches!(self.allow, Allow::All);
                cell.into_iter().for_each(|cell| self.structure.ahead(cell as u32 as usize, codes));
            }
        }
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
            Allow::Each(pass) if pass.in_order() => self.read_told(cell, &view, pass),
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

    /// Which rows may be found is known before anything else of the cell is read.
    fn read_told(&mut self, cell: usize, view: &CellView<'_>, pass: &dyn Pass) {
        let mut told = std::mem::take(&mut self.told);
        told.clear();
        told.extend((0..view.rows).step_by(STRETCH).map(|at| {
            let row = |lane: u32| view.row(at + lane as usize);
            pass.stretch(view.place + at, &row, view.stretch(at))
        }));
        let count: u32 = told.iter().map(|rows| rows.count_ones()).sum();
        self.looked.rows += count;
        if count as usize * SCORED_PART < view.rows {
            self.score_told(view, &told);
        } else {
            const BLOCKS: usize = STRETCH / LANES;
            self.read_all(cell, view, |_, at, near| near & (told[at / BLOCKS] >> (at % BLOCKS * LANES)) as u16);
        }
        self.told = told;
    }

    /// Scores the rows that may be found of a cell; each when its number and then its vector have had time to arrive.
    fn score_told(&mut self, view: &CellView<'_>, told: &[u64]) {
        for (at, rows) in told.iter().enumerate() {
            let mut left = *rows;
            while left != 0 {
                let place = view.place + at * STRETCH + left.trailing_zeros() as usize;
                left &= left - 1;
                self.structure.row_ahead(place);
                self.found.push_back(place);
                self.score_found(AHEAD);
            }
        }
    }

    /// Asks for the vectors of all but the last `kept` rows found.
    fn score_found(&mut self, kept: usize) {
        while self.found.len() > kept
            && let Some(place) = self.found.pop_front()
        {
            let row = self.structure.row_at(place);
            prefetch(self.vectors.get(row));
            self.waiting.push_back(row);
            self.score_waiting(AHEAD);
        }
    }

    /// Scores all but the last `kept` rows whose vectors were asked for.
    fn score_waiting(&mut self, kept: usize) {
        while self.waiting.len() > kept
            && let Some(row) = self.waiting.pop_front()
        {
            let key = self.scorer.key(self.vectors.get(row));
            self.best.offer(key, row);
            self.exact.offer(key, row);
            self.looked.scored += 1;
        }
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
            self.too_many = true;
            self.candidates.select_nth_unstable_by_key(most, |(key, row)| packed(*key, *row));
            self.candidates.truncate(most);
        }
    }

    /// True if so many of the rows that may be found look alike by their codes, under a filter against the query, that
    /// scoring all of them, in their order, takes no longer than scoring these.
    fn is_blurred(&self, allowed: u64) -> bool {
        let many = self.too_many || self.candidates.len() as u64 * ALIKE_PART > allowed;
        self.caution > 1.0 && many
    }

    /// Scores the candidates, nearest by code first, until no other can be among the best.
    fn score(mut self) -> (Vec<Hit>, Looked) {
        let (vectors, mut best) = (self.vectors, self.exact);
        self.candidates.sort_unstable_by_key(|(key, row)| packed(*key, *row));
        let rows = &self.candidates;
        rows.iter().take(AHEAD).for_each(|(_, row)| prefetch(vectors.get(*row)));
        for (at, (key, row)) in rows.iter().enumerate() {
            if *key >= best.limit() + self.margin {
                break;
            }
            rows.get(at + AHEAD).into_iter().for_each(|(_, row)| prefetch(vectors.get(*row)));
            best.offer(self.scorer.key(vectors.get(*row)), *row);
            self.looked.scored += 1;
        }
        debug_assert!(best.heap.iter().all(|item| self.allow.contains(*item as u32)));
        (best.hits(self.cells.distance()), self.looked)
    }
}
