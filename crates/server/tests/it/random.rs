//! Random choices that one number repeats.

use std::hash::{BuildHasher, RandomState};

/// splitmix64.
pub(crate) struct Random(u64);

impl Random {
    /// From `KNARR_SEED`, or a new seed that is printed: what a failed test shows repeats its choices.
    pub(crate) fn seeded(test: &str) -> Self {
        let given = std::env::var("KNARR_SEED").ok().map(|s| s.parse().expect("KNARR_SEED is a number"));
        let seed = given.unwrap_or_else(|| RandomState::new().hash_one(test));
        println!("{test}: KNARR_SEED={seed}");
        Self(seed)
    }

    /// Another stream of the same seed.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// One of some.
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}
