//! Whether answers are right: recall against exact neighbours, scores against the vectors, rows against the filter.

use std::io;
use std::iter::Sum;

use knarr_engine::index::vector::Bits;
use sha2::{Digest, Sha256};

use super::Near;
use super::drive::{Answers, found};
use super::filters::{Columns, Filter};
use crate::bench::Bench;
use crate::search::K;
use crate::search::sets::{Floats, Set};
use crate::search::truth::Truth;

/// A score may be off by this share of the lengths of the vectors: floats are added in another order.
const TOLERANCE: f64 = 1e-4;

/// The table's vectors; row numbers are keys.
pub(crate) struct Judge {
    base: Floats,
}

/// Found and wanted rows, over all answers that were judged.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Recall {
    found: usize,
    wanted: usize,
}

impl Recall {
    fn of(wanted: &[u32], found: &[i64]) -> Self {
        let hits = wanted.iter().filter(|row| found.contains(&i64::from(**row)));
        Self { found: hits.count(), wanted: wanted.len() }
    }

    pub(crate) fn add(&mut self, other: Recall) {
        self.found += other.found;
        self.wanted += other.wanted;
    }

    pub(crate) fn share(self) -> f64 {
        self.found as f64 / self.wanted.max(1) as f64
    }

    /// As tables show it.
    pub(crate) fn show(self) -> String {
        format!("{:.4}", self.share())
    }
}

impl Sum for Recall {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self { found: sum.found + one.found, wanted: sum.wanted + one.wanted })
    }
}

impl Judge {
    pub(crate) fn new(bench: &Bench) -> io::Result<Self> {
        let files = Set::CIp.files(bench)?.expect("the generated set is always there");
        Ok(Self { base: Floats::map(&files.base, files.dim)? })
    }

    /// With other vectors than those of the table.
    pub(crate) fn of(base: Floats) -> Self {
        Self { base }
    }

    pub(crate) fn vectors(&self) -> &Floats {
        &self.base
    }

    /// Neighbours of the first `count` queries of a batch, computed once and kept in the working directory.
    pub(crate) fn truth(&self, bench: &Bench, near: Near, batch: i64, queries: &[Vec<f32>]) -> io::Result<Truth> {
        let (set, asked) = (near.set(), slices(queries));
        if batch == 0 {
            return Truth::cached(&bench.dir, set, &self.base, &asked);
        }
        let name = format!("{set}_{}_{}_batch{batch}.truth", bench.rows, asked.len());
        Truth::kept(&bench.dir.join(name), asked.len(), || Truth::of_all(set, &self.base, &asked))
    }

    /// The same among the rows of a filter for each query.
    pub(crate) fn filtered_truth(
        &self,
        bench: &Bench,
        near: Near,
        queries: &[Vec<f32>],
        filters: &[Filter],
        columns: &Columns,
    ) -> io::Result<Truth> {
        let (set, asked) = (near.set(), slices(queries));
        let mut digest = Sha256::new();
        asked.iter().flat_map(|query| *query).for_each(|x| digest.update(x.to_le_bytes()));
        filters.iter().for_each(|filter| digest.update(filter.json().to_string()));
        let digest: String = digest.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let name = format!("{set}_{}_filtered_{digest}.truth", bench.rows);
        Truth::kept(&bench.dir.join(name), asked.len(), || {
            Truth::among(set, &self.base, &asked, |at| filters[at].bits(columns))
        })
    }

    /// Recall of the kept answers.
    ///
    /// # Panics
    /// If a score is not that of the row's vector, or a row comes twice.
    pub(crate) fn recall(&self, near: Near, queries: &[Vec<f32>], truth: &Truth, answers: &Answers) -> Recall {
        self.recall_every(near, queries, truth, 1, answers)
    }

    /// The same where one out of `every` queries is in `truth`.
    pub(crate) fn recall_every(
        &self,
        near: Near,
        queries: &[Vec<f32>],
        truth: &Truth,
        every: usize,
        answers: &Answers,
    ) -> Recall {
        let mut recall = Recall::default();
        for (at, body) in &answers.kept {
            let found = self.checked(near, &queries[*at], body, |_| true);
            recall.add(Recall::of(&truth.rows()[*at / every], &found));
        }
        recall
    }

    /// Recall while rows change, by those that do not: as many of them as an answer holds must be the nearest of them.
    /// `truth` is among them alone, of one out of `every` queries.
    pub(crate) fn recall_of_steady(
        &self,
        near: Near,
        queries: &[Vec<f32>],
        (truth, steady): (&Truth, &Bits),
        every: usize,
        answers: &Answers,
    ) -> Recall {
        let mut recall = Recall::default();
        for (at, body) in &answers.kept {
            let is_steady = |id: i64| u32::try_from(id).is_ok_and(|row| steady.contains(row));
            let mut found = self.checked(near, &queries[*at], body, is_steady);
            found.retain(|id| is_steady(*id));
            let wanted = &truth.rows()[*at / every];
            recall.add(Recall::of(&wanted[..found.len().min(wanted.len())], &found));
        }
        recall
    }

    /// Keys of an answer; scores of those rows are checked whose vector is known.
    fn checked(&self, near: Near, query: &[f32], body: &[u8], known: impl Fn(i64) -> bool) -> Vec<i64> {
        let found = found(body);
        assert!(found.len() <= K, "at most {K} rows were asked for");
        for (place, row) in found.iter().enumerate() {
            if known(row.id) {
                self.check_score(near, query, row.id, row.score);
            }
            assert!(found[..place].iter().all(|other| other.id != row.id), "row {} comes twice", row.id);
        }
        found.into_iter().map(|row| row.id).collect()
    }

    /// # Panics
    /// If an answer holds a row that its filter forbids.
    pub(crate) fn check_filters(filters: &[Filter], columns: &Columns, answers: &Answers) {
        for (at, body) in &answers.kept {
            for row in found(body) {
                assert!(
                    filters[*at].matches(columns, row.id as usize),
                    "row {} does not pass {}",
                    row.id,
                    filters[*at].json()
                );
            }
        }
    }

    fn check_score(&self, near: Near, query: &[f32], id: i64, score: f32) {
        let row = &self.base.floats()[id as usize * self.base.dim..][..self.base.dim];
        let pairs = || row.iter().zip(query).map(|(a, b)| (f64::from(*a), f64::from(*b)));
        let (want, bound) = match near {
            Near::Ip => (pairs().map(|(a, b)| a * b).sum(), pairs().map(|(a, b)| a * a + b * b).sum::<f64>()),
            // The vendor's score is the distance itself, not its square.
            Near::L2 => {
                let square = pairs().map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
                (square.sqrt(), 1.0 + square)
            }
        };
        assert!((f64::from(score) - want).abs() <= TOLERANCE * bound, "row {id} scores {want}, not {score}");
    }
}

pub(crate) fn slices(queries: &[Vec<f32>]) -> Vec<&[f32]> {
    queries.iter().map(Vec::as_slice).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Rows 0 to 4 score 1 to 5 by inner product with the query.
    fn judge() -> (Judge, Vec<Vec<f32>>) {
        let floats = (1..=5).flat_map(|x| [x as f32, 0.0]).collect();
        (Judge::of(Floats::of(2, floats)), vec![vec![1.0, 0.0]])
    }

    fn answers(rows: &[(i64, f64)]) -> Answers {
        let items: Vec<_> = rows.iter().map(|(id, score)| json!({"id": id, "score": score, "fields": {}})).collect();
        let body = json!({"code": 0, "data": [items]}).to_string().into_bytes();
        Answers { seconds: 1.0, latencies: Vec::new(), kept: vec![(0, body)] }
    }

    #[test]
    fn recall_is_the_share_of_the_nearest_that_was_found() {
        let (judge, queries) = judge();
        let truth = Truth::of(vec![vec![4, 3, 2]]);
        let recall = |rows: &[(i64, f64)]| judge.recall(Near::Ip, &queries, &truth, &answers(rows)).share();
        assert_eq!(recall(&[(4, 5.0), (3, 4.0), (2, 3.0)]), 1.0);
        assert_eq!(recall(&[(4, 5.0), (2, 3.0), (1, 2.0)]), 2.0 / 3.0);
        assert_eq!(recall(&[]), 0.0);
    }

    #[test]
    fn beside_upserts_only_steady_rows_are_judged() {
        let (judge, queries) = judge();
        // Row 3 is being replaced, row 99 is new; what they score is not known.
        let (steady, truth) = (Bits::of(5, |row| row != 3), Truth::of(vec![vec![4, 2, 1, 0]]));
        let recall = |rows: &[(i64, f64)]| {
            judge.recall_of_steady(Near::Ip, &queries, (&truth, &steady), 1, &answers(rows)).share()
        };
        assert_eq!(recall(&[(99, 7.0), (4, 5.0), (2, 3.0)]), 1.0);
        assert_eq!(recall(&[(3, 6.0), (4, 5.0), (2, 3.0)]), 1.0);
        assert_eq!(recall(&[(99, 7.0), (4, 5.0), (1, 2.0)]), 0.5);
    }

    #[test]
    #[should_panic(expected = "row 4 scores 5, not 4.5")]
    fn a_score_that_is_not_the_rows_is_found() {
        let (judge, queries) = judge();
        judge.recall(Near::Ip, &queries, &Truth::of(vec![vec![4]]), &answers(&[(4, 4.5)]));
    }

    #[test]
    #[should_panic(expected = "comes twice")]
    fn a_row_that_comes_twice_is_found() {
        let (judge, queries) = judge();
        judge.recall(Near::Ip, &queries, &Truth::of(vec![vec![4]]), &answers(&[(4, 5.0), (4, 5.0)]));
    }
}
