//! The cells that an index cuts space into. They belong to the index: every segment sorts its rows into the same cells,
//! so a query ranks them once, and compaction can join coded rows without clustering again.

mod file;

use std::cell::{Ref, RefCell};

use super::Distance;
use super::code::{Coder, Metric, Quantised};
use super::kernel::{Kernel, LANES, Width, least};
use super::rotate::Rotation;

/// Bytes that start at a multiple of 64, which is what block kernels like.
pub(crate) struct Aligned {
    bytes: Vec<u8>,
    skip: usize,
    len: usize,
}

impl Aligned {
    pub(crate) fn zeroed(len: usize) -> Self {
        let bytes = vec![0u8; len + 64];
        let skip = bytes.as_ptr().align_offset(64).min(64);
        Self { bytes, skip, len }
    }

    pub(crate) fn get(&self) -> &[u8] {
        &self.bytes[self.skip..self.skip + self.len]
    }

    pub(crate) fn get_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.skip..self.skip + self.len]
    }
}

/// Centres as blocks, for one metric: a whole set is ranked with one pass over a byte per dimension.
pub(crate) struct Centres {
    metric: Metric,
    count: usize,
    mean: Vec<f32>,
    blocks: Aligned,
}

impl Centres {
    /// `centroids` are rotated, `dim` floats each, at least one.
    pub(crate) fn new(metric: Metric, dim: usize, centroids: &[f32]) -> Self {
        let count = centroids.len() / dim;
        let mut mean = vec![0f32; dim];
        for centroid in centroids.chunks_exact(dim) {
            mean.iter_mut().zip(centroid).for_each(|(m, c)| *m += c / count as f32);
        }
        let mut coder = Coder::new(Width::Byte, metric, dim);
        let block_bytes = coder.block_bytes();
        let mut blocks = Aligned::zeroed(count.div_ceil(LANES) * block_bytes);
        for (block, centroids) in blocks.get_mut().chunks_exact_mut(block_bytes).zip(centroids.chunks(LANES * dim)) {
            coder.clear(block);
            centroids.chunks_exact(dim).enumerate().for_each(|(lane, c)| coder.put(block, lane, c, &mean));
        }
        Self { metric, count, mean, blocks }
    }

    pub(crate) fn blocks(&self) -> usize {
        self.count.div_ceil(LANES)
    }

    /// Keys of all centres, whole blocks; those past the last centre are infinite.
    pub(crate) fn keys(&self, kernel: &Kernel, query: &[f32], coded: &Quantised, keys: &mut [[f32; LANES]]) {
        let base = match self.metric {
            Metric::L2 => kernel.l2(query, &self.mean),
            Metric::Ip => -kernel.dot(query, &self.mean),
        };
        kernel.scan(Width::Byte, self.blocks.get(), &coded.probe(Width::Byte, self.metric, base), keys);
    }
}

/// Finds the nearest centre of many vectors, one after another.
pub(crate) struct Assigner<'a> {
    kernel: &'static Kernel,
    centres: &'a Centres,
    coded: Quantised,
    keys: Vec<[f32; LANES]>,
}

impl<'a> Assigner<'a> {
    /// `centres` are those of [`Metric::L2`].
    pub(crate) fn new(centres: &'a Centres) -> Self {
        let coded = Quantised::new(centres.mean.len());
        Self { kernel: Kernel::best(), centres, coded, keys: vec![[0.0; LANES]; centres.blocks()] }
    }

    /// The cell of a rotated vector: the centre with the least key, as far as bytes can tell.
    pub(crate) fn assign(&mut self, vector: &[f32]) -> u32 {
        self.coded.set(vector);
        self.centres.keys(self.kernel, vector, &self.coded, &mut self.keys);
        let (mut best, mut cell) = (f32::INFINITY, 0);
        for (block, keys) in self.keys.iter().enumerate() {
            if self.kernel.below(keys, best) != 0 {
                for (lane, key) in keys.iter().enumerate().filter(|(_, key)| **key < f32::INFINITY) {
                    if *key < best {
                        (best, cell) = (*key, block * LANES + lane);
                    }
                }
            }
        }
        cell as u32
    }
}

/// How far towards a query the rows of a cell are taken to reach when cells are put in order, in radii of the cell.
/// Measured: 0 to 0.4 are alike on both sets of docs/decisions/0003, more spoils the order.
const ORDER_REACH: f32 = 0.25;

/// Neighbours of a sampled row whose cells training looks for.
pub(super) const NEIGHBOURS: usize = 10;

/// What training measured of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measured {
    /// Rows of the sample.
    pub(super) rows: f32,
    /// Beyond the key of the farthest neighbour wanted: where cells without any neighbour begin, in slopes of the
    /// query ([`Query::slope`]).
    pub(super) slack: f32,
    /// Share of the rows to read, when all rows of the sample may be found, a tenth and a hundredth of them.
    pub(super) shares: [f32; 3],
}

impl Measured {
    /// Share of the rows to read for the nearest `k` when so many may be found: the nearest of few lie farther out. On
    /// straight lines through what was measured, by logarithms, and on along the last; more rows than were sampled read
    /// no smaller share, as it need not shrink.
    pub(super) fn share(&self, rows: f32, k: usize) -> f32 {
        // The nearest hundred of a thousand rows lie as far out as the nearest ten of a hundred.
        let rows = rows * NEIGHBOURS as f32 / k.max(1) as f32;
        let tenths = (self.rows / rows.max(1.0)).log10().max(0.0);
        let from = if tenths < 1.0 { 0 } else { 1 };
        let (near, far) = (self.shares[from].ln(), self.shares[from + 1].ln());
        (near + (far - near).max(0.0) * (tenths - from as f32)).exp().min(1.0)
    }
}

/// See the module.
pub struct Cells {
    pub(super) generation: u64,
    pub(super) distance: Distance,
    pub(super) dim: usize,
    /// Rotated, `dim` floats each.
    pub(super) centroids: Vec<f32>,
    /// Root mean square distance of a cell's rows from its centre, at training.
    pub(super) radii: Vec<f32>,
    pub(super) measured: Measured,
    pub(super) rotation: Rotation,
    ranked: Centres,
}

impl Cells {
    pub(super) fn assemble(
        generation: u64,
        distance: Distance,
        dim: usize,
        centroids: Vec<f32>,
        radii: Vec<f32>,
        measured: Measured,
    ) -> Self {
        let ranked = Centres::new(distance.into(), dim, &centroids);
        let rotation = Rotation::new(dim, generation);
        Self { generation, distance, dim, centroids, radii, measured, rotation, ranked }
    }

    /// What was trained at one time; structures name it.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The distance they were trained for.
    pub fn distance(&self) -> Distance {
        self.distance
    }

    /// Dimensions of the vectors.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Number of cells.
    pub fn count(&self) -> usize {
        self.radii.len()
    }

    pub(crate) fn centroid(&self, cell: usize) -> &[f32] {
        &self.centroids[cell * self.dim..(cell + 1) * self.dim]
    }

    /// Brings a stored vector or a query to the space of the centroids: scaled to length 1 for cosine, rotated.
    pub(crate) fn turn(&self, vector: &[f32], out: &mut Vec<f32>) {
        turn(self.distance, &self.rotation, vector, out);
    }

    /// Ranks the cells for a query; used for every segment.
    ///
    /// # Panics
    /// If the vector has another dimension.
    pub fn ask(&self, vector: &[f32]) -> Query {
        let mut turned = Vec::with_capacity(self.dim);
        self.turn(vector, &mut turned);
        Query { vector: vector.to_vec(), ..self.ask_turned(turned) }
    }

    /// The same for a vector in the space of the centroids.
    pub(super) fn ask_turned(&self, turned: Vec<f32>) -> Query {
        let kernel = Kernel::best();
        let mut coded = Quantised::new(self.dim);
        coded.set(&turned);
        let mut keys = vec![[0f32; LANES]; self.ranked.blocks()];
        self.ranked.keys(kernel, &turned, &coded, &mut keys);
        let length = kernel.dot(&turned, &turned).sqrt();
        let mut order = keys.into_flattened();
        order.truncate(self.count());
        let slope = match Metric::from(self.distance) {
            Metric::L2 => {
                let nearest = least(&order).max(0.0).sqrt();
                for (key, radius) in order.iter_mut().zip(&self.radii) {
                    *key += radius * radius - 2.0 * ORDER_REACH * radius * key.max(0.0).sqrt();
                }
                2.0 * nearest
            }
            Metric::Ip => {
                let reach = ORDER_REACH * length;
                order.iter_mut().zip(&self.radii).for_each(|(key, radius)| *key -= reach * radius);
                length
            }
        };
        let radius = self.radii.iter().sum::<f32>() / self.radii.len() as f32;
        let (generation, slope, ranks) = (self.generation, slope * radius, RefCell::new(Ranks::new(&order)));
        Query { generation, vector: Vec::new(), turned, length, coded, order, ranks, slope, radius }
    }
}

/// Cells that are put in order for every query; few searches look at more.
const NEAREST: usize = 64;

/// An ordered pair of key and number in 64 bits: less is nearer, equal keys go by number.
#[inline]
pub(super) fn packed(key: f32, number: u32) -> u64 {
    let bits = key.to_bits();
    // Floats order like integers once negative ones are turned over; this is what `f32::total_cmp` does.
    let ordered = bits ^ (((bits.cast_signed() >> 31).cast_unsigned()) | 0x8000_0000);
    u64::from(ordered) << 32 | u64::from(number)
}

/// The key of such a pair.
pub(super) fn key_of(packed: u64) -> f32 {
    let ordered = (packed >> 32) as u32;
    f32::from_bits(if ordered >> 31 == 1 { ordered & 0x7fff_ffff } else { !ordered })
}

/// The cells of a query by their order, which is made as far as somebody looks.
pub(super) struct Ranks {
    /// [`packed`] pairs of order and number; the first of them are in order.
    pairs: Vec<u64>,
    ranked: usize,
    /// By cell, as far as somebody asked.
    ranks: Vec<u32>,
    known: usize,
}

impl Ranks {
    fn new(order: &[f32]) -> Self {
        let pairs = order.iter().zip(0..).map(|(key, cell)| packed(*key, cell)).collect();
        Self { pairs, ranked: 0, ranks: Vec::new(), known: 0 }
    }

    /// Cells that are in order.
    pub(super) fn ranked(&self) -> usize {
        self.ranked
    }

    /// Puts so many cells in order, or twice as many as are, so that whoever comes to look at all sorts little twice.
    fn rank(&mut self, count: usize) {
        if count > self.ranked {
            let more = count.max(2 * self.ranked).max(NEAREST) - self.ranked;
            self.ranked = sort_more(&mut self.pairs, self.ranked, more);
        }
    }

    fn know(&mut self) {
        self.ranks.resize(self.pairs.len(), u32::MAX);
        for (pair, rank) in self.pairs[..self.ranked].iter().zip(0u32..).skip(self.known) {
            self.ranks[*pair as u32 as usize] = rank;
        }
        self.known = self.ranked;
    }

    /// The cell of a rank below [`Ranks::ranked`], and its order.
    pub(super) fn cell(&self, rank: usize) -> usize {
        self.pairs[rank] as u32 as usize
    }

    pub(super) fn key(&self, rank: usize) -> f32 {
        key_of(self.pairs[rank])
    }

    /// The other way round, see [`Query::ranks`]. Greater than any for cells that are in no order yet.
    pub(super) fn rank_of(&self, cell: u16) -> usize {
        self.ranks[usize::from(cell)] as usize
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

impl Query {
    /// At least the first `count` cells in their order.
    pub(super) fn rank(&self, count: usize) -> Ref<'_, Ranks> {
        self.ranks.borrow_mut().rank(count);
        self.ranks.borrow()
    }

    /// The same, and of these the ranks by cell.
    pub(super) fn ranks(&self, count: usize) -> Ref<'_, Ranks> {
        let mut ranks = self.ranks.borrow_mut();
        ranks.rank(count);
        ranks.know();
        drop(ranks);
        self.ranks.borrow()
    }

    /// The cell that is looked at as the `at`-th, as a [`packed`] pair of its order and its number.
    pub(super) fn ranked(&self, at: usize) -> Option<u64> {
        self.rank(at + 1).pairs.get(at).copied()
    }

    /// The same, if it costs nothing to say.
    pub(super) fn ranked_soon(&self, at: usize) -> Option<u64> {
        let ranks = self.ranks.borrow();
        ranks.pairs[..ranks.ranked].get(at).copied()
    }
}

pub(super) fn turn(distance: Distance, rotation: &Rotation, vector: &[f32], out: &mut Vec<f32>) {
    out.clear();
    out.extend_from_slice(vector);
    if distance == Distance::Cosine {
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        if length > 0.0 {
            out.iter_mut().for_each(|x| *x /= length);
        }
    }
    rotation.apply(out);
}

/// A query, and the order in which it looks at cells.
pub struct Query {
    /// Of the cells that it was ranked with.
    pub(super) generation: u64,
    pub(super) vector: Vec<f32>,
    pub(super) turned: Vec<f32>,
    /// Of the turned query.
    pub(super) length: f32,
    pub(super) coded: Quantised,
    /// Per cell: the least key that its rows may well have.
    pub(super) order: Vec<f32>,
    ranks: RefCell<Ranks>,
    /// What one more radius of reach is worth in keys.
    pub(super) slope: f32,
    /// Of the cells, on average.
    pub(super) radius: f32,
}
