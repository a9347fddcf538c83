//! The best rows so far, a bounded number of them.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Range;

use knarr_base::value::Key;

use crate::table::keys::{KeyRef, key_ref};

/// Where a candidate's row is: a block of the search, by number, and a row in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) block: u32,
    pub(super) row: u32,
}

/// A row that may be among the best.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Greater is better; see [`rank_of_float`] and [`rank_of_int`].
    pub(super) rank: u64,
    /// The lesser wins between equal ranks.
    pub(super) key: Key,
    pub(super) place: Place,
}

/// The worst first: that is the one to be replaced.
impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        other.rank.cmp(&self.rank).then_with(|| self.key.cmp(&other.key))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A number that orders like the float, which is not NaN.
#[inline]
pub(super) fn rank_of_float(x: f32) -> u64 {
    let bits = x.to_bits();
    u64::from(if bits >> 31 == 1 { !bits } else { bits | 1 << 31 })
}

/// The float of a rank.
pub(super) fn float_of_rank(rank: u64) -> f32 {
    let bits = rank as u32;
    f32::from_bits(if bits >> 31 == 1 { bits & !(1 << 31) } else { !bits })
}

/// A number that orders like the integer.
#[inline]
pub(super) fn rank_of_int(n: i64) -> u64 {
    n.cast_unsigned() ^ 1 << 63
}

/// The integer of a rank.
pub(super) fn int_of_rank(rank: u64) -> i64 {
    (rank ^ 1 << 63).cast_signed()
}

/// See the module.
#[derive(Debug)]
pub(super) struct Top {
    most: usize,
    heap: BinaryHeap<Candidate>,
    /// Rank of the worst, 0 while there is room.
    floor: u64,
}

impl Top {
    /// `most` of them, at least 1.
    pub(super) fn new(most: usize) -> Self {
        Self { most, heap: BinaryHeap::new(), floor: 0 }
    }

    /// False if a row of this rank cannot be among the best. Looked at for every row.
    #[inline]
    pub(super) fn may_take(&self, rank: u64) -> bool {
        rank >= self.floor
    }

    /// The rank of the worst, once there are as many as wanted.
    pub(super) fn worst(&self) -> Option<u64> {
        self.heap.peek().filter(|_| self.heap.len() == self.most).map(|worst| worst.rank)
    }

    /// True if the row belongs among the best as they are now.
    pub(super) fn wants(&self, rank: u64, key: KeyRef<'_>) -> bool {
        match self.heap.peek() {
            Some(worst) if self.heap.len() == self.most => {
                rank > worst.rank || (rank == worst.rank && key < key_ref(&worst.key))
            }
            _ => true,
        }
    }

    /// Takes a candidate that is wanted.
    pub(super) fn push(&mut self, candidate: Candidate) {
        if self.heap.len() < self.most {
            self.heap.push(candidate);
        } else if let Some(mut worst) = self.heap.peek_mut() {
            *worst = candidate;
        }
        if self.heap.len() == self.most {
            self.floor = self.heap.peek().map_or(0, |worst| worst.rank);
        }
    }

    /// How many there are, and how many of them lie in these blocks.
    pub(super) fn count_in(&self, blocks: &Range<u32>) -> (usize, usize) {
        (self.heap.len(), self.heap.iter().filter(|candidate| blocks.contains(&candidate.place.block)).count())
    }

    /// Takes out those in these blocks.
    pub(super) fn forget(&mut self, blocks: &Range<u32>) {
        self.heap.retain(|candidate| !blocks.contains(&candidate.place.block));
        self.floor = 0;
    }

    /// The best of both.
    pub(super) fn merge(mut self, other: Self) -> Self {
        for candidate in other.heap {
            if self.wants(candidate.rank, key_ref(&candidate.key)) {
                self.push(candidate);
            }
        }
        self
    }

    /// Best first.
    pub(super) fn into_sorted(self) -> Vec<Candidate> {
        self.heap.into_sorted_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_best_of_many_are_those_of_a_sort(
            rows in prop::collection::vec((0u64..20, 0i64..1000), 0..200), most in 1usize..30, cut in 0usize..200,
        ) {
            let mut rows = rows;
            rows.sort_by_key(|(_, key)| *key);
            rows.dedup_by_key(|(_, key)| *key);
            let candidates: Vec<_> = rows
                .iter()
                .map(|(rank, key)| Candidate { rank: *rank, key: Key::Int(*key), place: Place { block: 0, row: 0 } })
                .collect();
            let take = |part: &[Candidate]| {
                let mut top = Top::new(most);
                for candidate in part {
                    if top.may_take(candidate.rank) && top.wants(candidate.rank, key_ref(&candidate.key)) {
                        top.push(candidate.clone());
                    }
                }
                top
            };
            let cut = cut.min(candidates.len());
            let found = take(&candidates[..cut]).merge(take(&candidates[cut..])).into_sorted();
            let mut expected = candidates;
            expected.sort_by(|a, b| b.rank.cmp(&a.rank).then_with(|| a.key.cmp(&b.key)));
            expected.truncate(most);
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn ranks_order_like_their_numbers(a in any::<i64>(), b in any::<i64>(), x in any::<f32>(), y in any::<f32>()) {
            prop_assert_eq!(a.cmp(&b), rank_of_int(a).cmp(&rank_of_int(b)));
            prop_assert_eq!(int_of_rank(rank_of_int(a)), a);
            prop_assume!(!x.is_nan() && !y.is_nan());
            prop_assert_eq!(x.total_cmp(&y), rank_of_float(x).cmp(&rank_of_float(y)));
            prop_assert_eq!(float_of_rank(rank_of_float(x)).to_bits(), x.to_bits());
        }
    }
}
