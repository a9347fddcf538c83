//! A search from its question to its rows.

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
use super::near::{self, Asked};
use super::post;
use super::score::Query;
use super::spread::{Work, spread};
use super::top::{Candidate, Place, Top, float_of_rank, int_of_rank, rank_of_float, rank_of_int};
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
        let (steps, asked) = steps(&moment, &blocks, search);
        let scans = steps.iter().filter(|step| matches!(step, Step::Scan(_))).count();
        let (ranked, cancel) = (Ranked::new(&search.order, &schema), cancel.clone());
        let ranking = Arc::new(Ranking { moment, blocks, steps, asked, predicate, ranked, most, cancel });
        let parts = spread(&self.pool, Arc::clone(&ranking), ranking.steps.len(), scans, BLOCKS_PER_THREAD)?;
        let all = parts.into_iter().fold(ranking.start(), Part::merge);
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

/// One piece of the work.
enum Step {
    /// A block, by number.
    Scan(u32),
    Near(near::Step),
}

/// Blocks of segments that have a structure for the search are one step together, others are scanned.
fn steps(moment: &Moment, blocks: &[Block], search: &Search) -> (Vec<Step>, Vec<Asked>) {
    let dense = match (&search.order, search.effort) {
        (Order::Dense { queries, distance }, Some(effort)) => Some((queries, *distance, effort)),
        _ => None,
    };
    let held_of = |block: &Block| if let Block::Segment { held, .. } = block { Some(*held) } else { None };
    let (mut steps, mut number) = (Vec::new(), 0u32);
    for run in blocks.chunk_by(|a, b| held_of(a) == held_of(b)) {
        let run_blocks = number..number + u32::try_from(run.len()).expect("a table has far fewer than 2^32 batches");
        number = run_blocks.end;
        let near = held_of(&run[0]).zip(dense).and_then(|(held, (_, distance, effort))| {
            let near = moment.near(held, distance)?;
            Some(near::Step { near, held, distance, effort, blocks: run_blocks.clone() })
        });
        match near {
            Some(step) => steps.push(Step::Near(step)),
            None => steps.extend(run_blocks.map(Step::Scan)),
        }
    }
    let nears = steps.iter().filter_map(|step| if let Step::Near(step) = step { Some(step) } else { None });
    let asked = dense.map_or_else(Vec::new, |(queries, ..)| Asked::all(nears, queries));
    (steps, asked)
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
    steps: Vec<Step>,
    asked: Vec<Asked>,
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
        let tops = (0..self.ranked.lists()).map(|_| Top::new(self.most)).collect();
        Part { tops, explain: Explain::default(), damaged: false }
    }

    fn step(&self, part: &mut Part, step: usize) -> Result<()> {
        self.cancel.check()?;
        match &self.steps[step] {
            Step::Scan(number) => self.scan(part, *number),
            Step::Near(step) => self.search(part, step),
        }
    }
}

impl Ranking {
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

    /// A segment through its structure; a damaged one is scanned.
    fn search(&self, part: &mut Part, step: &near::Step) -> Result<()> {
        let Ranking { moment, blocks, predicate, asked, most, .. } = self;
        let (queries, worst) = (self.ranked.queries(), part.tops.iter().map(Top::worst).collect());
        let search = near::Search { moment, blocks, predicate, queries, asked, worst, most: *most };
        match search.run(step) {
            Ok(offered) => {
                part.explain.segments.push(offered.planned);
                part.damaged |= offered.damaged;
                offered.rows.into_iter().try_for_each(|(query, rank, place)| self.take(part, query, rank, place))
            }
            Err(error @ Error::Corrupt { .. }) => {
                tracing::error!(%error, "a segment is scanned until its search structure was built anew");
                moment.discard_near(step.held, step.distance, &step.near);
                part.damaged = true;
                step.blocks.clone().try_for_each(|number| self.scan(part, number))
            }
            Err(error) => Err(error),
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
