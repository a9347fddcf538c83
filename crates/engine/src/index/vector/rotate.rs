//! A random rotation that costs a few additions per dimension, so that the coordinates of any vector look alike.
//!
//! Coding every coordinate with the same few levels wastes nothing only if they scatter alike; real embeddings have a
//! few large coordinates. Rounds of random signs and Walsh-Hadamard transforms mix them, and keep all products.

/// Rounds of signs and transforms. Two mix a dimension that is a power of two; others are covered by two overlapping
/// windows a round and need one more.
const ROUNDS: usize = 3;

/// A rotation of vectors of one dimension, the same for the same seed on every machine.
pub(crate) struct Rotation {
    dim: usize,
    window: usize,
    /// One sign (1 or -1) per round and dimension.
    signs: Vec<f32>,
}

impl Rotation {
    pub(crate) fn new(dim: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let signs = (0..ROUNDS * dim).map(|_| if random.next() >> 63 == 0 { 1.0 } else { -1.0 }).collect();
        let window = if dim.is_power_of_two() { dim } else { dim.next_power_of_two() / 2 };
        Self { dim, window, signs }
    }

    /// Rotates in place.
    pub(crate) fn apply(&self, vector: &mut [f32]) {
        assert_eq!(vector.len(), self.dim);
        for signs in self.signs.chunks_exact(self.dim.max(1)) {
            vector.iter_mut().zip(signs).for_each(|(x, sign)| *x *= sign);
            hadamard(&mut vector[..self.window]);
            if self.window < self.dim {
                hadamard(&mut vector[self.dim - self.window..]);
            }
        }
    }
}

/// The orthonormal Walsh-Hadamard transform of a power of two of numbers.
fn hadamard(x: &mut [f32]) {
    let mut half = 1;
    while half < x.len() {
        for pair in x.chunks_exact_mut(half * 2) {
            let (left, right) = pair.split_at_mut(half);
            for (a, b) in left.iter_mut().zip(right) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    let norm = 1.0 / (x.len() as f32).sqrt();
    x.iter_mut().for_each(|x| *x *= norm);
}

/// splitmix64: small, fast, and the same everywhere. Not for secrets.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..bound`; a bias of one in 2^32 does not matter here.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}
