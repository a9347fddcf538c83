//! Searches as they are sent: bodies made and signed before a clock starts.

use serde_json::{Value, json};

use super::Near;
use super::drive::in_parallel;
use super::filters::Filter;
use crate::bench::{Bench, TABLE};
use crate::client::Signer;
use crate::data::Shape;
use crate::measure;
use crate::process::Server;
use crate::search::K;
use crate::search::sets::QUERIES;

/// What is asked of every query alike.
#[derive(Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) near: Near,
    /// Times the effort of the index; 1 is left away.
    pub(crate) scale: f64,
    /// Keys and scores alone, instead of all scalar fields as well.
    pub(crate) bare: bool,
}

/// Held-out queries number `batch`: rows of the table's shape beyond its end. Batch 0 is what `search` and the peers ask.
pub(crate) fn queries(bench: &Bench, batch: i64, count: i64) -> Vec<Vec<f32>> {
    let (shape, from) = (Shape::new(), bench.rows + batch * QUERIES);
    // A stream is cut at hundreds.
    let rows = shape.rows(0, from, from + (count + 99) / 100 * 100);
    rows.take(count as usize).map(|row| row.vector.to_vec()).collect()
}

/// Signed requests, one for each query; `filter` by the query's place.
pub(crate) fn searches(server: &Server, ask: Ask, queries: &[Vec<f32>], filter: Option<&[Filter]>) -> Vec<Vec<u8>> {
    let signer = Signer::new(server.keys(), server.host(), measure::now_ms());
    in_parallel(queries.len(), |at| {
        let body = body(ask, &queries[at], filter.map(|filters| &filters[at]));
        signer.request("POST", "/api/index/search", body.to_string().as_bytes())
    })
}

/// The body of one search.
pub(crate) fn body(ask: Ask, query: &[f32], filter: Option<&Filter>) -> Value {
    let Ask { near, scale, bare } = ask;
    let mut search = json!({"order_by_vector": {"vectors": [query]}, "limit": K});
    if let Some(filter) = filter {
        search["filter"] = filter.json();
    }
    if scale != 1.0 {
        search["scale_k"] = scale.into();
    }
    if bare {
        search["output_fields"] = json!([]);
    }
    json!({"collection_name": TABLE, "index_name": near.name(), "search": search})
}
