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
        let moment = self.moment();
        let schema = moment.schema().clone();
        search.check(&schema).map_err(Error::Search)?;
        let post = post::compile(&search.post, &schema)?;
        let predicate = Predicate::compile(&search.filter, &schema)?;
        let blocks = moment.blocks(|bounds| predicate.may_match(bounds))?;
        // Operations choose among a fixed number of rows; without them only rows that are shown matter.
        let most = if post.is_empty() { search.offset + search.limit } else { search.post.input };
        let ranked = Ranked::new(&search.order, &schema);
        let ranking = Arc::new(Ranking { moment, blocks, predicate, ranked, most, cancel: cancel.clone() });
        let steps = ranking.blocks.len();
        let parts = spread(&self.pool, Arc::clone(&ranking), steps, BLOCKS_PER_THREAD)?;
        let mut all = ranking.start();
        for part in parts {
            all = all.merge(part);
        }
        let explain = Explain { blocks: steps, rows: all.rows, passed: all.passed };
        let lists = all.tops.into_iter().enumerate().map(|(query, top)| {
            let hits = ranking.hits(query, top.into_sorted())?;
            let mut kept = post::apply(&post, hits, cancel)?;
            kept.drain(..search.offset.min(kept.len()));
            kept.truncate(search.limit);
            Ok(kept)
        });
        Ok(Found::new(&schema, lists.collect::<Result<_>>()?, explain))
    }
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
    moment: Moment,
    blocks: Vec<Block>,
    predicate: Predicate,
    ranked: Ranked,
    most: usize,
    cancel: Cancel,
}

/// What one thread has found.
struct Part {
    tops: Vec<Top>,
    rows: u64,
    passed: u64,
}

impl Part {
    fn merge(self, other: Self) -> Self {
        Part {
            tops: self.tops.into_iter().zip(other.tops).map(|(a, b)| a.merge(b)).collect(),
            rows: self.rows + other.rows,
            passed: self.passed + other.passed,
        }
    }
}

impl Work for Arc<Ranking> {
    type Part = Part;

    fn start(&self) -> Part {
        Part { tops: (0..self.ranked.lists()).map(|_| Top::new(self.most)).collect(), rows: 0, passed: 0 }
    }

    fn step(&self, part: &mut Part, step: usize) -> Result<()> {
        self.cancel.check()?;
        let block = self.blocks[step];
        let batch = self.moment.scalars(block)?;
        let live = self.moment.live(block)?;
        let allowed = if self.predicate.is_all() { live } else { Some(self.predicate.evaluate(&batch, live.as_ref())) };
        let passed = allowed.as_ref().map_or(batch.num_rows(), BooleanBuffer::count_set_bits);
        part.rows += batch.num_rows() as u64;
        part.passed += passed as u64;
        if passed > 0 {
            let number = u32::try_from(step).expect("a table has far fewer than 2^32 batches");
            let mut offers = Offers { ranking: self, block, number, batch: &batch, tops: &mut part.tops };
            offers.rank(allowed.as_ref())?;
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
            let batch = self.moment.whole(self.blocks[place.block as usize])?.into_owned();
            Ok(Hit { key, score: self.ranked.score(query, rank), batch, row: place.row as usize })
        };
        candidates.into_iter().map(hit).collect()
    }
}
