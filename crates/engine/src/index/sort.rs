//! Scores of rows that are at hand: index/sort.

use knarr_base::index::Distance;

use super::score::Query;
use crate::rows::Fetched;

/// The score of each entry's dense vector with `query`, which has the field's dimension; `None` for a key without a
/// row.
pub fn scores(query: &[f32], distance: Distance, fetched: &Fetched) -> Vec<Option<f32>> {
    let query = Query::dense(query, distance);
    let score = |at| fetched.vector(at).map(|row| query.score(query.rank(row)));
    (0..fetched.len()).map(score).collect()
}
