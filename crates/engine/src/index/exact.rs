//! The exact scan: every allowed row of a block against every query.

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, MapArray, RecordBatch};
use arrow_buffer::BooleanBuffer;

use super::score::Query;
use crate::rows::span;

/// Where the vectors of a batch are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns {
    pub(super) vector: usize,
    pub(super) dim: usize,
    /// Set for hybrid searches.
    pub(super) sparse: Option<usize>,
}

/// Offers each row of `allowed` (`None`: every row) for each query, as (query, rank, row). The batch is verified.
pub(super) fn scan(
    batch: &RecordBatch,
    columns: Columns,
    queries: &[Query],
    allowed: Option<&BooleanBuffer>,
    mut offer: impl FnMut(usize, f32, usize),
) {
    let vectors = batch.column(columns.vector).as_fixed_size_list();
    let values: &[f32] = vectors.values().as_primitive::<Float32Type>().values();
    // A slice of a batch keeps the values of the whole.
    let values = &values[vectors.offset() * columns.dim..];
    let sparse = columns.sparse.map(|column| batch.column(column).as_map());
    let mut row = |row: usize| {
        let vector = &values[row * columns.dim..(row + 1) * columns.dim];
        for (at, query) in queries.iter().enumerate() {
            let rank = match sparse {
                Some(sparse) if query.is_hybrid() => query.hybrid_rank(vector, tokens(sparse, row)),
                _ => query.rank(vector),
            };
            offer(at, rank, row);
        }
    };
    match allowed {
        Some(allowed) => allowed.set_indices().for_each(&mut row),
        None => (0..batch.num_rows()).for_each(&mut row),
    }
}

/// Tokens and weights of a row; none where it has no sparse vector.
fn tokens(sparse: &MapArray, row: usize) -> impl Iterator<Item = (&str, f32)> {
    let tokens = sparse.keys().as_string::<i32>();
    let weights = sparse.values().as_primitive::<Float32Type>().values();
    let range = if sparse.is_null(row) { 0..0 } else { span(sparse.value_offsets(), row) };
    range.map(move |at| (tokens.value(at), weights[at]))
}
