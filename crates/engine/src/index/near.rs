//! The step of a search through the structure of one segment: few rows are looked at, all else is as in a scan.
//!
//! What the structure offers is ranked again by [`super::score`], so scores and ties are those of exact scans. Rows that
//! a newer write hides are not known to it: they are asked for among what it found, and left out of another try.

mod allowed;

use std::borrow::Cow;
use std::cell::{Cell, OnceCell};
use std::ops::Range;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::BooleanBuffer;
use knarr_base::index::Distance;
use knarr_base::limit;
use knarr_base::search::Effort;

use self::allowed::{Allowed, Each};
use super::postings::{Arranged, Passed};
use super::score::Query;
use super::top::{Place, float_of_rank, rank_of_float};
use super::vector::{self, Batches, Bits, Cells, Counts, Form, Pass, Plan, Way};
use crate::error::{Error, Result};
use crate::filter::Predicate;
use crate::table::moment::{Block, Moment};
use crate::table::structures::{Near, Posted};

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
    pub(super) fn all(steps: &[Step], queries: &[Vec<f32>]) -> Vec<Self> {
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

/// What is known of the scalar fields of a step's segment.
pub(super) struct Known {
    pub(super) posted: Arc<Posted>,
    /// `None` for a moment, while it is made.
    arranged: Option<Arc<Arranged>>,
}

impl Known {
    pub(super) fn of(moment: &Moment, step: &Step) -> Option<Self> {
        let posted = moment.postings(step.held)?;
        let arranged = step.near.arranged(&posted);
        Some(Self { posted, arranged })
    }
}

/// How a segment was searched, for whoever asks to have it explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Rows of the segment.
    pub rows: u64,
    /// Of these, rows that may be found; about as many, where the filter is only asked of the rows that are met.
    pub passed: u64,
    /// How.
    pub way: Way,
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
    pub(super) most: usize,
}

/// A step that knows which rows it may find.
pub(super) struct Ready<'a> {
    step: &'a Step,
    allowed: Allowed<'a>,
    /// How many rows it has, and may find; about.
    pub(super) counts: Counts,
    /// Postings were found to be damaged; the rows are right all the same.
    pub(super) damaged: bool,
}

/// What a step found: (query, rank, place), none twice and none hidden.
pub(super) struct Offered {
    pub(super) rows: Vec<(usize, u64, Place)>,
    pub(super) planned: Planned,
}

impl Ready<'_> {
    /// True if so many of a top came from here that this can hardly be a random part of all rows. `(of, here)`: how many
    /// the top has, and how many of them are from here.
    pub(super) fn crowded(&self, all: Counts, (of, here): (usize, usize)) -> bool {
        let expected = of as f64 * self.counts.allowed as f64 / all.allowed.max(1) as f64;
        here > 0 && here as f64 >= (2.0 * expected + 2.0).min(of as f64)
    }

    /// True if it would read markedly more if it were all that is searched for the best `k`.
    pub(super) fn looks_farther_alone(&self, all: Counts, k: usize) -> bool {
        self.step.near.cells.looks_farther(self.counts, all, k)
    }

    /// Rows of which it is only known about how many may be found, counted.
    fn count_each(&mut self) -> Result<()> {
        if let Allowed::Each(each) = &self.allowed {
            let every = each.every()?.clone();
            self.damaged |= each.damaged.get();
            self.allowed = Allowed::Bits(Cow::Owned(every));
            self.counts.allowed = self.allowed.count(self.step.near.structure.rows()).into();
        }
        Ok(())
    }
}

impl<'a> Search<'a> {
    /// Finds out which rows may be found; `known` is of the segment.
    ///
    /// # Errors
    /// `Corrupt` if the segment is damaged where it is needed.
    pub(super) fn ready<'s>(&'s self, step: &'s Step, known: Option<&'s Known>) -> Result<Ready<'s>> {
        let rows = step.near.structure.rows();
        let (allowed, damaged) = self.allowed(step, known)?;
        let counts = Counts { rows: rows.into(), allowed: allowed.count(rows).into() };
        let mut ready = Ready { step, allowed, counts, damaged };
        if step.effort.exact_up_to.is_some() || step.effort.exact_up_to_ratio.is_some() {
            // The caller draws a line, so about is not enough.
            ready.count_each()?;
        }
        Ok(ready)
    }

    /// The best rows. `all`: of all steps together. `worst`, by query: the rank of the worst row of those found
    /// elsewhere, if they are enough.
    ///
    /// # Errors
    /// `Corrupt` if the structure, or the segment, is damaged where it is needed.
    pub(super) fn find(&self, ready: &mut Ready<'_>, all: Counts, worst: &[Option<u64>]) -> Result<Offered> {
        let Near { cells, .. } = &*ready.step.near;
        let mut plan = self.plan(ready.step, ready.counts, all, ready.allowed.as_allow().form());
        if plan.way == Way::Survivors {
            ready.count_each()?;
            plan.here = ready.counts;
        }
        let Ready { step, allowed, counts, damaged } = ready;
        let mut planned =
            Planned { rows: counts.rows, passed: counts.allowed, way: plan.way, why: plan.why, cells: 0, scored: 0 };
        let mut offered = Vec::new();
        if counts.allowed > 0 {
            let vectors = self.moment.vectors(step.held)?;
            let asked = self.asked.iter().find(|asked| asked.cells.generation() == cells.generation());
            let asked = asked.expect("all trainings of the steps were asked");
            let mut rows = Rows { search: self, step, vectors, allowed, plan };
            for (number, query) in asked.queries.iter().enumerate() {
                let bound = worst[number].map(|rank| bound(step.distance, float_of_rank(rank)));
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
        *damaged |= allowed.damaged();
        Ok(Offered { rows: offered, planned })
    }

    fn plan(&self, step: &Step, here: Counts, all: Counts, form: Form) -> Plan {
        let effort = step.effort;
        let plan = step.near.cells.plan(here, all, form, self.most, step.vector_effort());
        let few = effort.exact_up_to.is_some_and(|most| here.allowed <= most);
        let share = here.allowed as f64 / here.rows.max(1) as f64;
        if few || effort.exact_up_to_ratio.is_some_and(|most| share <= most) {
            return Plan { way: Way::Survivors, why: "as few rows pass as the caller wants scored one by one", ..plan };
        }
        plan
    }

    /// The rows that live and pass the filter; and whether postings were found to be damaged.
    fn allowed<'s>(&'s self, step: &'s Step, known: Option<&'s Known>) -> Result<(Allowed<'s>, bool)> {
        if self.predicate.is_all() {
            return Ok((self.live(step)?.map_or(Allowed::All, Allowed::Bits), false));
        }
        let damaged = match known.map_or(Ok(None), |known| self.posted(step, known)) {
            Ok(None) => false,
            Ok(Some(allowed)) => return Ok((allowed, false)),
            Err(error @ Error::Corrupt { .. }) => {
                tracing::error!(%error, "columns are looked at until postings were built anew");
                true
            }
            Err(error) => return Err(error),
        };
        let bits = self.scanned(step, |batch, live| self.predicate.evaluate(batch, live))?;
        Ok((Allowed::Bits(Cow::Owned(bits)), damaged))
    }

    /// The rows that live and pass, by postings; `None` if they say nothing of this filter.
    fn posted<'s>(&'s self, step: &'s Step, known: &'s Known) -> Result<Option<Allowed<'s>>> {
        let schema = self.moment.schema();
        let structure = &step.near.structure;
        let Some(answer) = known.posted.postings.ask(self.predicate, schema)? else { return Ok(None) };
        let arranged = known.arranged.as_deref();
        let few = if structure.may_be_listed() { Cells::few(structure.rows()) } else { 0 };
        let passed = if answer.is_exact() {
            answer.passed(few, arranged)?
        } else {
            Passed::Bits(answer.settle(schema, || self.moment.columns(step.held))?)
        };
        let live = self.live(step)?;
        Ok(Some(match passed {
            Passed::Few(mut rows) => {
                live.iter().for_each(|live| rows.retain(|row| live.contains(*row)));
                if rows.len() <= few as usize {
                    Allowed::Few(rows)
                } else {
                    Allowed::Bits(Cow::Owned(Bits::listed(structure.rows(), &rows)))
                }
            }
            Passed::Bits(mut bits) => {
                live.iter().for_each(|live| bits.intersect(live));
                let listed = bits.count() <= few;
                if listed { Allowed::Few(bits.iter().collect()) } else { Allowed::Bits(Cow::Owned(bits)) }
            }
            Passed::Each(test, count) => Allowed::Each(Box::new(Each {
                search: self,
                step,
                in_order: arranged.is_some() && test.is_arranged(),
                test,
                count,
                answer,
                live,
                without: Vec::new(),
                every: OnceCell::new(),
                damaged: Cell::new(false),
            })),
        }))
    }

    /// The rows that live; `None`: all.
    fn live(&self, step: &Step) -> Result<Option<Cow<'a, Bits>>> {
        if self.moment.expires(step.held)? {
            let all = |batch: &RecordBatch| BooleanBuffer::new_set(batch.num_rows());
            let live = self.scanned(step, |batch, live| live.cloned().unwrap_or_else(|| all(batch)))?;
            return Ok(Some(Cow::Owned(live)));
        }
        Ok(self.moment.unmasked(step.held)?.map(Cow::Borrowed))
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
struct Rows<'a, 'b> {
    search: &'a Search<'a>,
    step: &'a Step,
    vectors: Batches<'a>,
    allowed: &'a mut Allowed<'b>,
    plan: Plan,
}

impl Rows<'_, '_> {
    /// The best rows for a query that no newer write hides.
    fn find(&mut self, query: &vector::Query, bound: Option<f32>) -> Result<(Vec<u32>, vector::Looked)> {
        let Near { cells, structure, .. } = &*self.step.near;
        let mut tried = 0;
        loop {
            let allow = self.allowed.as_allow();
            let (hits, looked) = structure.search(cells, query, &self.vectors, allow, self.plan, bound)?;
            let rows: Vec<u32> = hits.into_iter().map(|hit| hit.row).collect();
            let mut hidden = self.hidden(&rows)?;
            hidden.sort_unstable();
            if hidden.is_empty() {
                return Ok((rows, looked));
            }
            if tried < limit::SEARCH_TRIES {
                self.allowed.leave_out(&hidden, structure.rows());
            } else {
                let hidden = self.search.moment.hidden_rows(self.step.held)?;
                self.allowed.leave_out_all(hidden, structure.rows())?;
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
