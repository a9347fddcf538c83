//! The step of a search through the structure of one segment: few rows are looked at, all else is as in a scan.
//!
//! What the structure offers is ranked again by [`super::score`], so scores and ties are those of exact scans. Rows that
//! a newer write hides are not known to it: they are asked for among what it found, and left out of another try.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::BooleanBuffer;
use knarr_base::index::Distance;
use knarr_base::limit;
use knarr_base::search::Effort;

use super::score::Query;
use super::top::{Place, float_of_rank, rank_of_float};
use super::vector::{self, Allow, Batches, Bits, Cells, Path, Plan};
use crate::error::{Error, Result};
use crate::filter::Predicate;
use crate::table::moment::{Block, Moment};
use crate::table::structures::Near;

/// A segment that is searched through its structure.
pub(super) struct Step {
    pub(super) near: Arc<Near>,
    /// The segment's place in the moment.
    pub(super) held: usize,
    pub(super) distance: Distance,
    pub(super) effort: Effort,
    /// Its blocks, by number.
    pub(super) blocks: Range<u32>,
}

impl Step {
    fn vector_effort(&self) -> vector::Effort {
        vector::Effort::new(self.effort.candidates as f32, 1.0)
    }
}

/// The queries of a search as cells take them: once for all segments with these cells.
pub(super) struct Asked {
    cells: Arc<Cells>,
    queries: Vec<vector::Query>,
}

impl Asked {
    /// For every training that the steps have; there are two at most while a table is trained again.
    pub(super) fn all<'a>(steps: impl Iterator<Item = &'a Step>, queries: &[Vec<f32>]) -> Vec<Self> {
        let mut all = Vec::<Self>::new();
        for Step { near, .. } in steps {
            if !all.iter().any(|asked| asked.cells.generation() == near.cells.generation()) {
                let queries = queries.iter().map(|query| near.cells.ask(query)).collect();
                all.push(Self { cells: near.cells.clone(), queries });
            }
        }
        all
    }
}

/// How a segment was searched, for whoever asks to have it explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Rows of the segment.
    pub rows: u64,
    /// Of these, rows that may be found.
    pub passed: u64,
    /// True if the structure was asked, false if all that passed were scored.
    pub through_cells: bool,
    /// Why.
    pub why: &'static str,
    /// Cells that were read, for the first query.
    pub cells: u32,
    /// Vectors that were read, for the first query.
    pub scored: u32,
}

/// All that a step needs of its search.
pub(super) struct Search<'a> {
    pub(super) moment: &'a Moment,
    pub(super) blocks: &'a [Block],
    pub(super) predicate: &'a Predicate,
    pub(super) queries: &'a [Query],
    pub(super) asked: &'a [Asked],
    /// By query: the rank of the worst row of those found elsewhere, if they are enough.
    pub(super) worst: Vec<Option<u64>>,
    pub(super) most: usize,
}

/// What a step found: (query, rank, place), none twice and none hidden.
pub(super) struct Offered {
    pub(super) rows: Vec<(usize, u64, Place)>,
    pub(super) planned: Planned,
    /// Postings were found to be damaged; the rows are right all the same.
    pub(super) damaged: bool,
}

impl Search<'_> {
    /// # Errors
    /// `Corrupt` if the structure, or the segment, is damaged where it is needed.
    pub(super) fn run(&self, step: &Step) -> Result<Offered> {
        let Near { cells, structure } = &*step.near;
        let (allowed, damaged) = self.allowed(step)?;
        let passed = allowed.as_ref().map_or(structure.rows(), Bits::count);
        let plan = self.plan(step, passed);
        let mut planned = Planned {
            rows: structure.rows().into(),
            passed: passed.into(),
            through_cells: plan.path == Path::Cells,
            why: plan.why,
            cells: 0,
            scored: 0,
        };
        let mut offered = Vec::new();
        if passed > 0 {
            let vectors = self.moment.vectors(step.held)?;
            let asked = self.asked.iter().find(|asked| asked.cells.generation() == cells.generation());
            let asked = asked.expect("all trainings of the steps were asked");
            let mut rows = Rows { search: self, step, vectors, allowed, plan };
            for (number, query) in asked.queries.iter().enumerate() {
                let bound = self.worst[number].map(|rank| bound(step.distance, float_of_rank(rank)));
                let (found, looked) = rows.find(query, bound)?;
                if number == 0 {
                    (planned.cells, planned.scored) = (looked.cells, looked.scored);
                }
                for row in found {
                    let rank = rank_of_float(self.queries[number].rank(rows.vectors.get(row)));
                    offered.push((number, rank, self.place(step, row)?));
                }
            }
        }
        Ok(Offered { rows: offered, planned, damaged })
    }

    fn plan(&self, step: &Step, passed: u32) -> Plan {
        let (Near { cells, structure }, effort) = (&*step.near, step.effort);
        let plan = cells.plan(structure.rows(), passed, self.most, step.vector_effort());
        let few = effort.exact_up_to.is_some_and(|most| u64::from(passed) <= most);
        let share = f64::from(passed) / f64::from(structure.rows().max(1));
        if few || effort.exact_up_to_ratio.is_some_and(|most| share <= most) {
            return Plan {
                path: Path::Survivors,
                why: "as few rows pass as the caller wants scored one by one",
                ..plan
            };
        }
        plan
    }

    /// The rows that live and pass the filter, `None`: all; and whether postings were found to be damaged.
    fn allowed(&self, step: &Step) -> Result<(Option<Bits>, bool)> {
        if self.predicate.is_all() {
            return Ok((self.live(step)?, false));
        }
        let damaged = match self.posted(step) {
            Ok(None) => false,
            Ok(Some(mut passed)) => {
                if let Some(live) = self.live(step)? {
                    passed.intersect(&live);
                }
                return Ok((Some(passed), false));
            }
            Err(Error::Corrupt { .. }) => true,
            Err(error) => return Err(error),
        };
        Ok((Some(self.scanned(step, |batch, live| self.predicate.evaluate(batch, live))?), damaged))
    }

    /// The rows that pass, by postings; `None` if there are none, or they say nothing of this filter.
    fn posted(&self, step: &Step) -> Result<Option<Bits>> {
        let Some(posted) = self.moment.postings(step.held) else { return Ok(None) };
        let schema = self.moment.schema();
        let found = posted.postings.rows_of(self.predicate, schema).and_then(|answer| {
            answer.map(|answer| answer.settle(schema, &self.moment.columns(step.held)?)).transpose()
        });
        found.inspect_err(|error| {
            tracing::error!(%error, "columns are looked at until postings were built anew");
            self.moment.discard_postings(step.held, &posted);
        })
    }

    /// The rows that live; `None`: all.
    fn live(&self, step: &Step) -> Result<Option<Bits>> {
        if self.moment.expires(step.held)? {
            let all = |batch: &RecordBatch| BooleanBuffer::new_set(batch.num_rows());
            return self.scanned(step, |batch, live| live.cloned().unwrap_or_else(|| all(batch))).map(Some);
        }
        Ok(self.moment.unmasked(step.held)?.cloned())
    }

    /// The rows that `test` finds among those of each block that live.
    fn scanned(
        &self,
        step: &Step,
        test: impl Fn(&RecordBatch, Option<&BooleanBuffer>) -> BooleanBuffer,
    ) -> Result<Bits> {
        let (mut bits, mut first) = (Bits::none(step.near.structure.rows()), 0);
        for block in &self.blocks[step.blocks.start as usize..step.blocks.end as usize] {
            let (batch, live) = (self.moment.scalars(*block)?, self.moment.live(*block)?);
            bits.insert_run(first, &test(&batch, live.as_ref()));
            first += u32::try_from(batch.num_rows()).expect("a batch has at most 2^16 rows");
        }
        Ok(bits)
    }

    fn place(&self, step: &Step, row: u32) -> Result<Place> {
        let (batch, row) = self.moment.place(step.held, row)?;
        let block = step.blocks.start + u32::try_from(batch).expect("a segment has far fewer than 2^32 batches");
        Ok(Place { block, row: u32::try_from(row).expect("a batch has at most 2^16 rows") })
    }
}

/// The rows of a segment while the queries are asked.
struct Rows<'a> {
    search: &'a Search<'a>,
    step: &'a Step,
    vectors: Batches<'a>,
    /// `None`: all.
    allowed: Option<Bits>,
    plan: Plan,
}

impl Rows<'_> {
    /// The best rows for a query that no newer write hides.
    fn find(&mut self, query: &vector::Query, bound: Option<f32>) -> Result<(Vec<u32>, vector::Looked)> {
        let Near { cells, structure } = &*self.step.near;
        let mut tried = 0;
        loop {
            let allow = self.allowed.as_ref().map_or(Allow::All, Allow::Only);
            let (hits, looked) = structure.search(cells, query, &self.vectors, allow, self.plan, bound)?;
            let rows: Vec<u32> = hits.into_iter().map(|hit| hit.row).collect();
            let hidden = self.hidden(&rows)?;
            if hidden.is_empty() {
                return Ok((rows, looked));
            }
            let allowed = self.allowed.get_or_insert_with(|| Bits::all(structure.rows()));
            if tried < limit::SEARCH_TRIES {
                hidden.iter().for_each(|row| allowed.clear(*row));
            } else {
                allowed.remove(self.search.moment.hidden_rows(self.step.held)?);
            }
            tried += 1;
        }
    }

    fn hidden(&self, rows: &[u32]) -> Result<Vec<u32>> {
        let moment = self.search.moment;
        if !moment.hides_any() {
            return Ok(Vec::new());
        }
        let mut hidden = Vec::new();
        for row in rows {
            let place = self.search.place(self.step, *row)?;
            let block = self.search.blocks[place.block as usize];
            if moment.hides(block, moment.keys(moment.stored(block)?).get(place.row as usize)) {
                hidden.push(*row);
            }
        }
        Ok(hidden)
    }
}

/// The score in a structure of a rank, a little worse: both are rounded.
fn bound(distance: Distance, rank: f32) -> f32 {
    const ROUNDING: f32 = 1e-5;
    match distance {
        Distance::L2 => rank * rank * (1.0 + ROUNDING),
        Distance::Ip | Distance::Cosine => rank - rank.abs() * ROUNDING,
    }
}
