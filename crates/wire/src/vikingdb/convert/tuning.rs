//! What tunes a search, under the names that both versions of the API give it: in `search` of v1, in `advance` of V2.

use knarr_base::search::PostOp;
use knarr_base::{Result, limit};

use crate::http::request::required;
use crate::json::{self, Object, Value, invalid};

const DEFAULT_DENSE_WEIGHT: f64 = 0.5;

/// Weights, operations on the ranked rows, and hints.
#[derive(Debug)]
pub(crate) struct Tuning {
    pub(crate) dense_weight: f64,
    pub(crate) ops: Vec<PostOp>,
    /// Rows that the operations look at; `None`: the version's default.
    pub(crate) ops_input: Option<usize>,
    pub(crate) scale: f64,
    pub(crate) exact_up_to: Option<u64>,
    pub(crate) exact_up_to_ratio: Option<f64>,
}

/// The members that [`Tuning::parse`] reads.
pub(crate) const MEMBERS: &[&str] = &[
    "dense_weight",
    "post_process_ops",
    "post_process_input_limit",
    "scale_k",
    "filter_pre_ann_limit",
    "filter_pre_ann_ratio",
];

impl Tuning {
    pub(crate) fn parse(members: &Object<'_>) -> Result<Self> {
        Ok(Self {
            dense_weight: members.number("dense_weight")?.unwrap_or(DEFAULT_DENSE_WEIGHT),
            ops: members.value("post_process_ops")?.map_or(Ok(Vec::new()), post_ops)?,
            ops_input: size("post_process_input_limit", members)?,
            scale: members.number("scale_k")?.unwrap_or(1.0),
            exact_up_to: size("filter_pre_ann_limit", members)?.map(|n| n as u64),
            exact_up_to_ratio: members.number("filter_pre_ann_ratio")?.map(not_negative).transpose()?,
        })
    }
}

/// The most rows that operations may look at for an answer of `limit` rows.
pub(crate) fn most_input(limit: usize) -> usize {
    limit::POST_OPS_INPUT.min(limit.saturating_mul(limit::POST_OPS_INPUT_PER_ROW))
}

/// A number of rows.
pub(crate) fn size(name: &str, search: &Object<'_>) -> Result<Option<usize>> {
    let wrong = |_| invalid(format!("{name} must not be negative"));
    search.int(name)?.map(|n| usize::try_from(n).map_err(wrong)).transpose()
}

fn not_negative(x: f64) -> Result<f64> {
    if x >= 0.0 { Ok(x) } else { Err(invalid("filter_pre_ann_ratio must not be negative")) }
}

fn post_ops(value: Value) -> Result<Vec<PostOp>> {
    match value {
        Value::List(list) if list.len() <= limit::POST_OPS => list.into_iter().map(post_op).collect(),
        _ => Err(invalid(format!("post_process_ops must be a list of at most {} objects", limit::POST_OPS))),
    }
}

fn post_op(value: Value) -> Result<PostOp> {
    let Value::Map(mut members) = value else {
        return Err(invalid("an entry of post_process_ops is an object with an op"));
    };
    let mut text = |name: &str| required(name, json::text(name, members.take(name))?);
    let (op, field) = (text("op")?, text("field")?);
    let post = match op.as_str() {
        "string_match" => PostOp::Match { field, pattern: text("pattern")? },
        "string_contain" => PostOp::Contain { field, pattern: text("pattern")? },
        "string_like" => PostOp::Like { field, pattern: text("pattern")? },
        "enum_freq_limiter" => {
            let threshold = required("threshold", json::int("threshold", members.take("threshold"))?)?;
            let threshold = u64::try_from(threshold).map_err(|_| invalid("threshold must be at least 1"))?;
            PostOp::PerValue { field, threshold }
        }
        _ => return Err(invalid(format!("unknown op {op:?} in post_process_ops"))),
    };
    match members.0.first() {
        None => Ok(post),
        Some((name, _)) => Err(invalid(format!("op {op} does not know {name:?}"))),
    }
}
