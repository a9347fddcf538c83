//! How near two vectors are: the one place that says what a distance means (docs/wire/vikingdb.md section 9, Q14).
//!
//! A rank is a float that grows with nearness, and never NaN; a score is what the caller sees. Inner product and
//! cosine are both. Of the Euclidean distance the rank is negative, the score is not; its root is taken for every row,
//! because two squares can differ where their roots do not, and rows of one score are in the order of their keys. Sums
//! are of float32; where they overflow, which only hostile vectors do, they are taken again as doubles and clamped.

use knarr_base::index::Distance;
use knarr_base::search::Sparse;
use std::collections::HashMap;

use super::vector::kernel::Kernel;

/// A query, prepared for many rows.
pub(super) struct Query {
    kernel: &'static Kernel,
    /// Of length 1 for the cosine.
    vector: Vec<f32>,
    distance: Distance,
    sparse: Option<SparseQuery>,
}

#[derive(Debug)]
struct SparseQuery {
    weights: HashMap<String, f32>,
    dense_weight: f32,
}

impl Query {
    pub(super) fn dense(vector: &[f32], distance: Distance) -> Self {
        let vector = if distance == Distance::Cosine { unit(vector) } else { vector.to_vec() };
        Self { kernel: Kernel::best(), vector, distance, sparse: None }
    }

    /// Without tokens it is a dense query.
    pub(super) fn hybrid(vector: &[f32], sparse: &Sparse, distance: Distance, dense_weight: f32) -> Self {
        let weights: HashMap<_, _> = sparse.weights().iter().cloned().collect();
        let sparse = (!weights.is_empty()).then_some(SparseQuery { weights, dense_weight });
        Self { sparse, ..Self::dense(vector, distance) }
    }

    /// Rank of a row's dense vector, which has the query's length.
    #[inline]
    pub(super) fn rank(&self, row: &[f32]) -> f32 {
        let rank = match self.distance {
            Distance::Ip => self.kernel.dot(&self.vector, row),
            Distance::L2 => -self.kernel.l2(&self.vector, row).sqrt(),
            Distance::Cosine => {
                let (dot, norm) = (self.kernel.dot(&self.vector, row), self.kernel.dot(row, row));
                if norm > f32::MIN_POSITIVE { dot / norm.sqrt() } else { f32::NAN }
            }
        };
        // The sum with zero makes -0 the same as 0, so that ties are ties.
        if rank.is_finite() { rank + 0.0 } else { self.careful_rank(row) }
    }

    /// The same in doubles. A vector without a direction is at a right angle to everything.
    #[cold]
    fn careful_rank(&self, row: &[f32]) -> f32 {
        let pairs = || self.vector.iter().zip(row).map(|(a, b)| (f64::from(*a), f64::from(*b)));
        let dot = || pairs().map(|(a, b)| a * b).sum::<f64>();
        let rank = match self.distance {
            Distance::Ip => dot(),
            Distance::L2 => -pairs().map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt(),
            Distance::Cosine => {
                let norm = norm(row);
                if norm > 0.0 { dot() / norm } else { 0.0 }
            }
        };
        clamped(rank) + 0.0
    }

    /// True if rows have to be ranked with their sparse vectors.
    pub(super) fn is_hybrid(&self) -> bool {
        self.sparse.is_some()
    }

    /// Rank of a row with a dense vector and these tokens. For `L2` the dense share is `1 / (1 + distance)`, since a
    /// distance and a product cannot be added.
    pub(super) fn hybrid_rank<'t>(&self, row: &[f32], tokens: impl Iterator<Item = (&'t str, f32)>) -> f32 {
        let dense = self.rank(row);
        let Some(SparseQuery { weights, dense_weight }) = &self.sparse else { return dense };
        let dense = f64::from(match self.distance {
            Distance::Ip | Distance::Cosine => dense,
            Distance::L2 => 1.0 / (1.0 - dense),
        });
        let products = tokens
            .map(|(token, weight)| weights.get(token).map_or(0.0, |wanted| f64::from(*wanted) * f64::from(weight)));
        let weight = f64::from(*dense_weight);
        clamped(weight * dense + (1.0 - weight) * products.sum::<f64>()) + 0.0
    }

    /// What the caller sees of a rank.
    pub(super) fn score(&self, rank: f32) -> f32 {
        match self.distance {
            Distance::L2 if !self.is_hybrid() => 0.0 - rank,
            Distance::L2 | Distance::Ip | Distance::Cosine => rank,
        }
    }
}

fn clamped(x: f64) -> f32 {
    x.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
}

fn norm(vector: &[f32]) -> f64 {
    vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt()
}

/// The vector of length 1 in the same direction; the zero vector stays as it is.
pub fn unit(vector: &[f32]) -> Vec<f32> {
    let norm = norm(vector);
    let scale = |x: &f32| if norm > 0.0 { (f64::from(*x) / norm) as f32 } else { 0.0 };
    vector.iter().map(scale).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exact(distance: Distance, a: &[f32], b: &[f32]) -> f64 {
        let pairs = || a.iter().zip(b).map(|(a, b)| (f64::from(*a), f64::from(*b)));
        let dot: f64 = pairs().map(|(a, b)| a * b).sum();
        match distance {
            Distance::Ip => dot,
            Distance::L2 => pairs().map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt(),
            Distance::Cosine if norm(a) * norm(b) == 0.0 => 0.0,
            Distance::Cosine => dot / norm(a) / norm(b),
        }
    }

    fn vectors() -> impl Strategy<Value = (Vec<f32>, Vec<f32>)> {
        (1usize..70).prop_flat_map(|dim| {
            let vector = || prop::collection::vec(prop_oneof![8 => -9.0f32..9.0, 1 => Just(0.0)], dim);
            (vector(), vector())
        })
    }

    proptest! {
        #[test]
        fn scores_are_those_of_the_definition((a, b) in vectors()) {
            for distance in Distance::ALL {
                let query = Query::dense(&a, *distance);
                let score = f64::from(query.score(query.rank(&b)));
                let expected = exact(*distance, &a, &b);
                let scale = match distance {
                    Distance::Ip => norm(&a) * norm(&b),
                    Distance::L2 => norm(&a) + norm(&b),
                    Distance::Cosine => 1.0,
                };
                prop_assert!((score - expected).abs() <= 1e-5 * scale + 1e-6, "{distance:?} {score} {expected}");
            }
        }

        /// Any finite vectors, however large: the rank is a number.
        #[test]
        fn ranks_are_finite(bits in prop::collection::vec(any::<(u32, u32)>(), 4..20)) {
            let finite = |bits: u32| Some(f32::from_bits(bits)).filter(|x| x.is_finite()).unwrap_or(f32::MAX);
            let (a, b): (Vec<_>, Vec<_>) = bits.iter().map(|(a, b)| (finite(*a), finite(*b))).unzip();
            for distance in Distance::ALL {
                let query = Query::dense(&a, *distance);
                let rank = query.rank(&b);
                prop_assert!(rank.is_finite() && query.score(rank).is_finite(), "{distance:?} {rank}");
            }
        }
    }

    #[test]
    fn directions_of_hostile_vectors_are_kept() {
        let cosine = |a: &[f32], b: &[f32]| Query::dense(a, Distance::Cosine).rank(b);
        assert!((cosine(&[f32::MAX; 4], &[f32::MAX; 4]) - 1.0).abs() < 1e-6);
        assert!((cosine(&[1e-30; 4], &[1e-30; 4]) - 1.0).abs() < 1e-6);
        assert_eq!(cosine(&[0.0; 4], &[1.0; 4]), 0.0);
        assert_eq!(cosine(&[1.0; 4], &[0.0; 4]), 0.0);
        assert_eq!(unit(&[0.0; 4]), [0.0; 4]);
        let zero = Query::dense(&[-1.0, 1.0], Distance::Ip).rank(&[0.0, -0.0]);
        assert_eq!(zero.to_bits(), 0, "one zero, so that ties are ties");
    }

    #[test]
    fn hybrid_scores_are_weighted_sums() {
        let sparse = Sparse::new(vec![("a".into(), 2.0), ("b".into(), 1.0)]).expect("valid");
        let row = [("b", 3.0f32), ("c", 9.0)];
        let ip = Query::hybrid(&[1.0, 0.0], &sparse, Distance::Ip, 0.25);
        assert_eq!(ip.score(ip.hybrid_rank(&[4.0, 0.0], row.into_iter())), 0.25 * 4.0 + 0.75 * 3.0);
        let l2 = Query::hybrid(&[1.0, 0.0], &sparse, Distance::L2, 0.5);
        assert_eq!(l2.score(l2.hybrid_rank(&[4.0, 0.0], row.into_iter())), 0.5 * 0.25 + 0.5 * 3.0);
        let dense = Query::hybrid(&[1.0, 0.0], &Sparse::default(), Distance::L2, 0.5);
        assert!(!dense.is_hybrid());
        assert_eq!(dense.score(dense.hybrid_rank(&[4.0, 0.0], row.into_iter())), 3.0);
    }
}
