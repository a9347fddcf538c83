//! A search from its question to its rows.

use std::cmp::Reverse;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_buffer::BooleanBuffer;
use knarr_base::schema::{FieldType, Schema};
use knarr_base::search::{Order, Score, Search};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::exact::{self, Columns};
use super::found::{Explain, Found, Hit};
use super::near::{self, Asked, Known, Ready};
use super::post;
use super::score::Query;
use super::spread::{Work, spread};
use super::top::{Candidate, Place, Top, float_of_rank, int_of_rank, rank_of_float, rank_of_int};
use super::vector::Counts;
use crate::columns;
use crate::compute::Cancel;
use crate::error::{Error, Result};
use crate::filter::Predicate;
use crate::table::Table;
use crate::table::keys::KeyRef;
use crate::table::moment::{Block, Moment};

/// Blocks that are worth another thread: four batches of vectors take some milliseconds, waking a thread far less.
const BLOCKS_PER_THREAD: usize = 4;

impl Table {
    /// The best rows for each query, as of now. Blocking; call it on a compute thread.
    ///
    /// # Errors
    /// `Search`, `Filter` for what does not fit the schema; `Cancelled`; `Corrupt` when a damaged segment may hold an
    /// answer.
    pub fn search(&self, search: &Search, cancel: &Cancel) -> Result<Found> {
        let moment = Arc::new(self.moment());
        let schema = moment.schema().clone();
        search.check(&schema).map_err(Error::Search)?;
        let post = post::compile(&search.post, &schema)?;
        let predicate = Predicate::compile(&search.filter, &schema)?;
        let blocks = moment.blocks(|bounds| predicate.may_match(bounds))?;
        // Operations choose among a fixed number of rows; without them only rows that are shown matter.
        let most = if post.is_empty() { search.offset + search.limit } else { search.post.input };
        let (nears, scans) = steps(&moment, &blocks, search);
        let (ranked, cancel) = (Ranked::new(&search.order, &schema), cancel.clone());
        let mut ranking = Ranking { moment, blocks, scans, predicate, ranked, most, cancel };
        let mut near = ranking.nothing();
        let damaged = ranking.near(&nears, search, &mut near)?;
        ranking.scans.extend(damaged);
        let (scans, ranking) = (ranking.scans.len(), Arc::new(ranking));
        let parts = spread(&self.pool, Arc::clone(&ranking), scans, scans, BLOCKS_PER_THREAD)?;
        let all = parts.into_iter().fold(near, Part::merge);
        if all.damaged {
            self.request_structures();
        }
        let lists = all.tops.into_iter().enumerate().map(|(query, top)| {
            let hits = ranking.hits(query, top.into_sorted())?;
            let mut kept = post::apply(&post, hits, &ranking.cancel)?;
            kept.drain(..search.offset.min(kept.len()));
            kept.truncate(search.limit);
            Ok(kept)
        });
        let lists = lists.collect::<Result<_>>()?;
        let counted = |moment| self.count_at(moment, &search.filter, &ranking.cancel);
        let passed = search.count.then(|| counted(ranking.moment.clone())).transpose()?;
        Ok(Found::new(&schema, lists, passed, all.explain))
    }
}

/// Segments that have a structure for the search, the largest first, as what is found there saves work in the others; and
/// the numbers of all other blocks.
fn steps(moment: &Moment, blocks: &[Block], search: &Search) -> (Vec<near::Step>, Vec<u32>) {
    let dense = match (&search.order, search.effort) {
        (Order::Dense { distance, .. }, Some(effort)) => Some((*distance, effort)),
        _ => None,
    };
    let held_of = |block: &Block| if let Block::Segment { held, .. } = block { Some(*held) } else { None };
    let (mut nears, mut scans, mut number) = (Vec::new(), Vec::new(), 0u32);
    for run in blocks.chunk_by(|a, b| held_of(a) == held_of(b)) {
        let run_blocks = number..number + u32::try_from(run.len()).expect("a table has far fewer than 2^32 batches");
        number = run_blocks.end;
        let near = held_of(&run[0]).zip(dense).and_then(|(held, (distance, effort))| {
            let near = moment.near(held, distance)?;
            Some(near::Step { near, held, distance, effort, blocks: run_blocks.clone() })
        });
        match near {
            Some(step) => nears.push(step),
            None => scans.extend(run_blocks),
        }
    }
    nears.sort_by_key(|step| Reverse(step.near.structure.rows()));
    (nears, scans)
}

/// What rows are ranked by, bound to columns.
enum Ranked {
    Vectors { columns: Columns, queries: Vec<Query> },
    Ints { column: usize, descending: bool },
    Floats { column: usize, descending: bool },
    Random { seed: u64 },
}

impl Ranked {
    /// Of an order that `Search::check` has passed.
    fn new(order: &Order, schema: &Schema) -> Self {
        let vectors = |queries, sparse: Option<usize>| {
            let (at, dim) = schema.vector().expect("Search::check looked for it");
            let sparse = sparse.map(|at| columns::field_column(schema, at));
            let columns = Columns { vector: columns::field_column(schema, at), dim: dim as usize, sparse };
            Ranked::Vectors { columns, queries }
        };
        match order {
            Order::Dense { queries, distance } => {
                vectors(queries.iter().map(|query| Query::dense(query, *distance)).collect(), None)
            }
            Order::Hybrid { queries, distance, dense_weight } => {
                let query = |(dense, sparse): &(Vec<f32>, _)| Query::hybrid(dense, sparse, *distance, *dense_weight);
                vectors(queries.iter().map(query).collect(), schema.sparse_vector())
            }
            Order::Scalar { field, descending } => {
                let (at, field) = schema.field(field).expect("Search::check looked it up");
                let (column, descending) = (columns::field_column(schema, at), *descending);
                match field.kind {
                    FieldType::Int64 => Ranked::Ints { column, descending },
                    _ => Ranked::Floats { column, descending },
                }
            }
            Order::Random { seed } => Ranked::Random { seed: *seed },
        }
    }

    fn queries(&self) -> &[Query] {
        match self {
            Ranked::Vectors { queries, .. } => queries,
            Ranked::Ints { .. } | Ranked::Floats { .. } | Ranked::Random { .. } => &[],
        }
    }

    /// Lists of the answer.
    fn lists(&self) -> usize {
        match self {
            Ranked::Vectors { queries, .. } => queries.len(),
            Ranked::Ints { .. } | Ranked::Floats { .. } | Ranked::Random { .. } => 1,
        }
    }

    fn score(&self, query: usize, rank: u64) -> Score {
        match self {
            Ranked::Vectors { queries, .. } => Score::Float(queries[query].score(float_of_rank(rank))),
            Ranked::Ints { descending, .. } => Score::Int(int_of_rank(turned(rank, *descending))),
            Ranked::Floats { descending, .. } => {
                Score::Float(float_of_rank(turned(rank, *descending) & u64::from(u32::MAX)))
            }
            Ranked::Random { .. } => Score::Int(0),
        }
    }
}

/// The scan that all threads share.
struct Ranking {
    moment: Arc<Moment>,
    blocks: Vec<Block>,
    /// Blocks that are scanned, by number.
    scans: Vec<u32>,
    predicate: Predicate,
    ranked: Ranked,
    most: usize,
    cancel: Cancel,
}

/// What one thread has found.
struct Part {
    tops: Vec<Top>,
    explain: Explain,
    /// A structure was found to be damaged.
    damaged: bool,
}

impl Part {
    fn merge(self, other: Self) -> Self {
        let (mut explain, more) = (self.explain, other.explain);
        explain.blocks += more.blocks;
        explain.rows += more.rows;
        explain.passed += more.passed;
        explain.segments.extend(more.segments);
        let tops = self.tops.into_iter().zip(other.tops).map(|(a, b)| a.merge(b)).collect();
        Part { tops, explain, damaged: self.damaged || other.damaged }
    }
}

impl Work for Arc<Ranking> {
    type Part = Part;

    fn start(&self) -> Part {
        self.nothing()
    }

    fn step(&self, part: &mut Part, step: usize) -> Result<()> {
        self.cancel.check()?;
        self.scan(part, self.scans[step])
    }
}

impl Ranking {
    fn nothing(&self) -> Part {
        let tops = (0..self.ranked.lists()).map(|_| Top::new(self.most)).collect();
        Part { tops, explain: Explain::default(), damaged: false }
    }

    fn scan(&self, part: &mut Part, number: u32) -> Result<()> {
        let block = self.blocks[number as usize];
        let batch = self.moment.scalars(block)?;
        let live = self.moment.live(block)?;
        let allowed = if self.predicate.is_all() { live } else { Some(self.predicate.evaluate(&batch, live.as_ref())) };
        let passed = allowed.as_ref().map_or(batch.num_rows(), BooleanBuffer::count_set_bits);
        part.explain.blocks += 1;
        part.explain.rows += batch.num_rows() as u64;
        part.explain.passed += passed as u64;
        if passed > 0 {
            let mut offers = Offers { ranking: self, block, number, batch: &batch, tops: &mut part.tops };
            offers.rank(allowed.as_ref())?;
        }
        Ok(())
    }

    /// The segments that have a structure. Which rows each may find is asked first, as it depends on their number in all
    /// of them how far each has to look. What is left to scan: the blocks of those that are damaged.
    fn near(&self, steps: &[near::Step], search: &Search, part: &mut Part) -> Result<Vec<u32>> {
        let Order::Dense { queries, .. } = &search.order else { return Ok(Vec::new()) };
        let Ranking { moment, blocks, predicate, most, .. } = self;
        let asked = Asked::all(steps, queries);
        let search =
            near::Search { moment, blocks, predicate, queries: self.ranked.queries(), asked: &asked, most: *most };
        let known: Vec<_> = steps.iter().map(|step| Known::of(moment, step)).collect();
        let (mut ready, mut damaged) = (Vec::with_capacity(steps.len()), Vec::new());
        for (step, known) in steps.iter().zip(&known) {
            self.cancel.check()?;
            if let Some(one) = self.or_scanned(search.ready(step, known.as_ref()), step, &mut damaged)? {
                ready.push((step, known, one));
            }
        }
        let all = ready.iter().fold(Counts::default(), |all, (_, _, one)| all + one.counts);
        let mut take = |part: &mut Part, step: &near::Step, one: &mut Ready<'_>, all: Counts| {
            self.cancel.check()?;
            let worst: Vec<_> = part.tops.iter().map(Top::worst).collect();
            if let Some(offered) = self.or_scanned(search.find(one, all, &worst), step, &mut damaged)? {
                part.explain.segments.push(offered.planned);
                offered.rows.into_iter().try_for_each(|(query, rank, place)| self.take(part, query, rank, place))?;
            }
            Ok(())
        };
        for (step, _, one) in &mut ready {
            take(part, step, one, all)?;
        }
        for (step, _, one) in &mut ready {
            // Segments are taken for random parts of the table. What lies near a query may all lie in one of them, which
            // then has to look as far as it would alone.
            let crowded = |top: &Top| one.crowded(all, top.count_in(&step.blocks));
            if one.looks_farther_alone(all, *most) && part.tops.iter().any(crowded) {
                part.tops.iter_mut().for_each(|top| top.forget(&step.blocks));
                take(part, step, one, one.counts)?;
            }
        }
        for (step, known, one) in &ready {
            if let Some(known) = known.as_ref().filter(|_| one.damaged) {
                moment.discard_postings(step.held, &known.posted);
                part.damaged = true;
            }
        }
        part.damaged |= !damaged.is_empty();
        Ok(damaged)
    }

    /// A segment whose structure is damaged is scanned: its blocks go to `scans`.
    fn or_scanned<T>(&self, result: Result<T>, step: &near::Step, scans: &mut Vec<u32>) -> Result<Option<T>> {
        match result {
            Err(error @ Error::Corrupt { .. }) => {
                tracing::error!(%error, "a segment is scanned until its search structure was built anew");
                self.moment.discard_near(step.held, step.distance, &step.near);
                scans.extend(step.blocks.clone());
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    fn take(&self, part: &mut Part, query: usize, rank: u64, place: Place) -> Result<()> {
        let batch = self.moment.stored(self.blocks[place.block as usize])?;
        let (key, top) = (self.moment.keys(batch).get(place.row as usize), &mut part.tops[query]);
        if top.wants(rank, key) {
            top.push(Candidate { rank, key: key.to_key(), place });
        }
        Ok(())
    }
}

/// Rows of one block on their way into the tops.
struct Offers<'a> {
    ranking: &'a Ranking,
    block: Block,
    number: u32,
    batch: &'a RecordBatch,
    tops: &'a mut [Top],
}

impl Offers<'_> {
    fn rank(&mut self, allowed: Option<&BooleanBuffer>) -> Result<()> {
        match &self.ranking.ranked {
            Ranked::Vectors { columns, queries } => {
                // Only now are vector bytes looked at, and verified if they never were.
                let whole = self.ranking.moment.whole(self.block)?;
                exact::scan(&whole, *columns, queries, allowed, |query, rank, row| {
                    self.offer(query, rank_of_float(rank), row);
                });
            }
            Ranked::Ints { column, descending } => {
                let values = self.batch.column(*column).as_primitive::<Int64Type>().values();
                self.each(allowed, |row| turned(rank_of_int(values[row]), *descending));
            }
            Ranked::Floats { column, descending } => {
                let values = self.batch.column(*column).as_primitive::<Float32Type>().values();
                self.each(allowed, |row| turned(rank_of_float(values[row] + 0.0), *descending));
            }
            Ranked::Random { seed } => {
                let keys = self.ranking.moment.keys(self.batch);
                self.each(allowed, |row| match keys.get(row) {
                    KeyRef::Int(key) => xxh3_64_with_seed(&key.to_le_bytes(), *seed),
                    KeyRef::Str(key) => xxh3_64_with_seed(key.as_bytes(), *seed),
                });
            }
        }
        Ok(())
    }

    fn each(&mut self, allowed: Option<&BooleanBuffer>, rank: impl Fn(usize) -> u64) {
        match allowed {
            Some(allowed) => allowed.set_indices().for_each(|row| self.offer(0, rank(row), row)),
            None => (0..self.batch.num_rows()).for_each(|row| self.offer(0, rank(row), row)),
        }
    }

    #[inline]
    fn offer(&mut self, query: usize, rank: u64, row: usize) {
        if self.tops[query].may_take(rank) {
            self.consider(query, rank, row);
        }
    }

    /// Few rows come this far. Whether a newer write hides the row is asked last.
    fn consider(&mut self, query: usize, rank: u64, row: usize) {
        let moment = &self.ranking.moment;
        let key = moment.keys(self.batch).get(row);
        if self.tops[query].wants(rank, key) && !moment.hides(self.block, key) {
            let place = Place { block: self.number, row: u32::try_from(row).expect("a batch has at most 2^16 rows") };
            self.tops[query].push(Candidate { rank, key: key.to_key(), place });
        }
    }
}

/// The rank of the other direction, and back.
fn turned(rank: u64, descending: bool) -> u64 {
    if descending { rank } else { !rank }
}

impl Ranking {
    /// Ranked candidates with their columns.
    fn hits(&self, query: usize, candidates: Vec<Candidate>) -> Result<Vec<Hit>> {
        let hit = |Candidate { rank, key, place }| {
            let (batch, row) = self.moment.row(self.blocks[place.block as usize], place.row as usize)?;
            Ok(Hit { key, score: self.ranked.score(query, rank), batch, row })
        };
        candidates.into_iter().map(hit).collect()
    }
}
