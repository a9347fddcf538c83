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
pub(crate) struct IntSet {
    sorted: Vec<i64>,
    form: IntForm,
}

#[derive(Debug)]
pub(super) enum IntForm {
    /// Bit `n` of `words` stands for `least + n`; the last word is empty and answers for everything beyond.
    Bitmap {
        least: i64,
        words: Vec<u64>,
    },
    Hash(HashSet<i64, Seeded>),
}

impl IntSet {
    /// The values, ascending, none twice.
    pub(crate) fn values(&self) -> &[i64] {
        &self.sorted
    }

    /// `values` must not be empty.
    pub(super) fn new(values: &[i64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let (least, greatest) = (sorted[0], sorted[sorted.len() - 1]);
        let span = greatest.abs_diff(least);
        let form = if span < BITMAP_SPAN {
            let mut words = vec![0; (span / 64 + 2) as usize];
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
    // No jump: whether a value lies in the span is as hard to predict as whether it is in the set.
    let word = (bit / 64).min(words.len() as u64 - 1) as usize;
    words[word] >> (bit % 64) & 1 == 1
}

/// Strings.
#[derive(Debug)]
pub(crate) enum StrSet {
    Few(Vec<Short>),
    Hash(HashSet<Box<[u8]>, Seeded>),
}

impl StrSet {
    /// The values in no order, none twice.
    pub(crate) fn values(&self) -> Box<dyn Iterator<Item = &[u8]> + '_> {
        match self {
            StrSet::Few(values) => Box::new(values.iter().map(|value| &*value.bytes)),
            StrSet::Hash(values) => Box::new(values.iter().map(|value| &**value)),
        }
    }

    pub(super) fn new(values: &[String]) -> Self {
        let mut distinct: Vec<_> = values.iter().map(|s| s.as_bytes()).collect();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() <= FEW {
            return StrSet::Few(distinct.into_iter().map(Short::new).collect());
        }
        let mut set = HashSet::with_capacity_and_hasher(distinct.len(), Seeded::random());
        set.extend(distinct.into_iter().map(Box::from));
        StrSet::Hash(set)
    }

    #[inline]
    pub(super) fn contains(&self, value: &[u8]) -> bool {
        match self {
            StrSet::Few(values) => {
                let head = head(value);
                values.iter().any(|v| v.head == head && v.bytes.len() == value.len() && v.equals(value))
            }
            StrSet::Hash(set) => set.contains(value),
        }
    }
}

/// A string with what is looked at first.
#[derive(Debug)]
pub(crate) struct Short {
    head: u64,
    bytes: Box<[u8]>,
}

impl Short {
    fn new(bytes: &[u8]) -> Self {
        Self { head: head(bytes), bytes: bytes.into() }
    }

    /// Of two strings with one length and one head.
    #[inline]
    fn equals(&self, value: &[u8]) -> bool {
        value.len() <= 8 || *self.bytes == *value
    }
}

/// A number that differs for different strings of one length up to eight bytes, and tells most longer ones apart.
#[inline]
fn head(bytes: &[u8]) -> u64 {
    let four = |bytes: &[u8; 4]| u64::from(u32::from_le_bytes(*bytes));
    match (bytes.first_chunk::<8>(), bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        (Some(eight), _, _) => u64::from_le_bytes(*eight),
        (None, Some(first), Some(last)) => four(first) | (four(last) << 32),
        _ => bytes.iter().fold(0, |head, byte| (head << 8) | u64::from(*byte)),
    }
}

/// XXH3 with a seed that nobody outside knows: fast, and stored values cannot be chosen to collide.
#[derive(Debug, Clone)]
pub(crate) struct Seeded(u64);

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
pub(crate) struct SeededHasher(u64);

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
