//! Constants of `must` and `must_not`, in the form that answers "is it one of them" fastest.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};

use knarr_base::value::Number;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Widest span of integers kept as a bitmap: 128 KiB, which stays in a core's cache.
const BITMAP_SPAN: u64 = 1 << 20;
/// Most strings that are compared one by one.
const FEW: usize = 8;

/// Integers.
#[derive(Debug)]
pub(super) struct IntSet {
    sorted: Vec<i64>,
    form: IntForm,
}

#[derive(Debug)]
pub(super) enum IntForm {
    /// Bit `n` of `words` stands for `least + n`.
    Bitmap {
        least: i64,
        words: Vec<u64>,
    },
    Hash(HashSet<i64, Seeded>),
}

impl IntSet {
    /// `values` must not be empty.
    pub(super) fn new(values: &[i64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let (least, greatest) = (sorted[0], sorted[sorted.len() - 1]);
        let span = greatest.abs_diff(least);
        let form = if span < BITMAP_SPAN {
            let mut words = vec![0; (span / 64 + 1) as usize];
            for value in &sorted {
                let bit = value.abs_diff(least);
                words[(bit / 64) as usize] |= 1u64 << (bit % 64);
            }
            IntForm::Bitmap { least, words }
        } else {
            let mut set = HashSet::with_capacity_and_hasher(sorted.len(), Seeded::random());
            set.extend(&sorted);
            IntForm::Hash(set)
        };
        Self { sorted, form }
    }

    pub(super) fn form(&self) -> &IntForm {
        &self.form
    }

    pub(super) fn contains(&self, value: i64) -> bool {
        match &self.form {
            IntForm::Bitmap { least, words } => bitmap_contains(*least, words, value),
            IntForm::Hash(set) => set.contains(&value),
        }
    }

    /// True if one of them lies within.
    pub(super) fn touches(&self, least: Number, greatest: Number) -> bool {
        let first = self.sorted.partition_point(|value| least.cmp_int(*value).is_lt());
        self.sorted.get(first).is_some_and(|value| greatest.cmp_int(*value).is_le())
    }

    /// True if every integer within is one of them.
    pub(super) fn covers(&self, least: Number, greatest: Number) -> bool {
        match (least, greatest) {
            (Number::Int(least), Number::Int(greatest)) => {
                let first = self.sorted.partition_point(|value| *value < least);
                let after = self.sorted.partition_point(|value| *value <= greatest);
                after.checked_sub(first).is_some_and(|n| n as u64 > greatest.abs_diff(least))
            }
            _ => false,
        }
    }
}

#[inline]
pub(super) fn bitmap_contains(least: i64, words: &[u64], value: i64) -> bool {
    let bit = value.wrapping_sub(least).cast_unsigned();
    words.get((bit / 64) as usize).is_some_and(|word| word >> (bit % 64) & 1 == 1)
}

/// Strings.
#[derive(Debug)]
pub(super) enum StrSet {
    Few(Vec<Box<[u8]>>),
    Hash(HashSet<Box<[u8]>, Seeded>),
}

impl StrSet {
    pub(super) fn new(values: &[String]) -> Self {
        let mut distinct: Vec<_> = values.iter().map(|s| s.as_bytes()).collect();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() <= FEW {
            return StrSet::Few(distinct.into_iter().map(Box::from).collect());
        }
        let mut set = HashSet::with_capacity_and_hasher(distinct.len(), Seeded::random());
        set.extend(distinct.into_iter().map(Box::from));
        StrSet::Hash(set)
    }

    #[inline]
    pub(super) fn contains(&self, value: &[u8]) -> bool {
        match self {
            StrSet::Few(values) => values.iter().any(|v| **v == *value),
            StrSet::Hash(set) => set.contains(value),
        }
    }
}

/// XXH3 with a seed that nobody outside knows: fast, and stored values cannot be chosen to collide.
#[derive(Debug, Clone)]
pub(super) struct Seeded(u64);

impl Seeded {
    fn random() -> Self {
        Self(RandomState::new().hash_one(0))
    }
}

impl BuildHasher for Seeded {
    type Hasher = SeededHasher;

    fn build_hasher(&self) -> SeededHasher {
        SeededHasher(self.0)
    }
}

/// Every write hashes its bytes with the state so far as the seed.
#[derive(Debug)]
pub(super) struct SeededHasher(u64);

impl Hasher for SeededHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn write_usize(&mut self, length: usize) {
        // The length prefix of a slice; XXH3 takes the length into account itself.
        let _ = length;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
