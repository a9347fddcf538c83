//! Searches, aggregations and sorts (docs/wire/vikingdb.md sections 2.6 to 2.8).
//!
//! Shapes are read first and without the index; what they mean, which needs its fields, comes after the index was
//! found. A member that is not known is refused: a filter under a misspelt name would widen an answer.

use knarr_base::search::{Post, Sparse};
use knarr_base::value::{Key, Number};
use knarr_base::{Result, limit};
use knarr_service::embedding::Material;
use knarr_service::indexes::{AggregateRequest, Explain, OpenIndex, OrderBy, Partition, Planned, SearchRequest, Way};
use serde_json::value::RawValue;

use super::index::texts;
use super::rows;
use super::tuning::{Tuning, most_input, size};
use crate::http::request::{Args, required};
use crate::json::{Members, Object, Value, invalid};
use crate::vikingdb::{filter, model};

pub(crate) const DEFAULT_LIMIT: usize = 10;
const DEFAULT_PARTITION: &str = "default";

/// A search as it was written.
#[derive(Debug)]
pub(crate) struct Form<'a> {
    pub(crate) order: Order<'a>,
    pub(crate) filter: Option<Value>,
    pub(crate) partition: Partition,
    pub(crate) keys_in: Vec<Key>,
    pub(crate) keys_not_in: Vec<Key>,
    pub(crate) limit: usize,
    pub(crate) offset: usize,
    pub(crate) tuning: Tuning,
    /// The number of rows that pass the filter is wanted.
    pub(crate) count: bool,
    /// `None`: every scalar field.
    pub(crate) output_fields: Option<Vec<String>>,
    pub(crate) with_vector: bool,
    pub(crate) replace_primary: bool,
    /// Ours: `extend.explain` is wanted.
    pub(crate) explain: bool,
}

/// What a search is ordered by.
#[derive(Debug)]
pub(crate) enum Order<'a> {
    /// Raw texts of the vectors.
    Vectors(Vec<&'a str>, Vec<Sparse>),
    Keys(Vec<Key>),
    /// What a model turns into a vector first.
    Raw(Material),
    Scalar {
        field: String,
        descending: bool,
    },
    Random,
}

/// Every member of `search`.
const MEMBERS: [&str; 21] = [
    "order_by_vector",
    "order_by_raw",
    "order_by_scalar",
    "limit",
    "offset",
    "partition",
    "filter",
    "output_fields",
    "dense_weight",
    "need_instruction",
    "primary_key_in",
    "primary_key_not_in",
    "post_process_ops",
    "post_process_input_limit",
    "scale_k",
    "filter_pre_ann_limit",
    "filter_pre_ann_ratio",
    "need_search_count",
    "need_return_vector",
    "replace_primay",
    "explain",
];

impl<'a> Form<'a> {
    /// index/search.
    pub(crate) fn parse(args: &Args<'a>) -> Result<Self> {
        let search = object("search", required("search", args.raw("search"))?)?;
        known("search", &search, &MEMBERS)?;
        // Read and checked; what is searched for is the same with and without.
        search.flag("need_instruction")?;
        Ok(Self {
            order: order(&search)?,
            filter: search.value("filter")?,
            partition: partition(search.value("partition")?)?,
            keys_in: keys("primary_key_in", &search)?,
            keys_not_in: keys("primary_key_not_in", &search)?,
            limit: size("limit", &search)?.unwrap_or(DEFAULT_LIMIT),
            offset: size("offset", &search)?.unwrap_or(0),
            tuning: Tuning::parse(&search)?,
            count: search.flag("need_search_count")?.unwrap_or(false),
            output_fields: output_fields(search.value("output_fields")?)?,
            with_vector: search.flag("need_return_vector")?.unwrap_or(false),
            // One client puts it beside `search`.
            replace_primary: search.flag("replace_primay")?.or(args.flag("replace_primay")?).unwrap_or(false),
            explain: search.flag("explain")?.or(args.flag("explain")?).unwrap_or(false),
        })
    }

    /// True if rows are ranked by one dense vector each, so that a score can be a distance.
    pub(crate) fn orders_by_distance(&self) -> bool {
        match &self.order {
            Order::Vectors(_, sparse) => sparse.is_empty(),
            Order::Keys(_) | Order::Raw(_) => true,
            Order::Scalar { .. } | Order::Random => false,
        }
    }

    /// What a model has to turn into a vector first.
    pub(crate) fn raw(&self) -> Option<&Material> {
        if let Order::Raw(raw) = &self.order { Some(raw) } else { None }
    }

    /// The search that this index is asked for; `embedded` is the vector of [`Form::raw`].
    ///
    /// # Errors
    /// `Kind::InvalidFilter`, `Kind::InvalidVector`.
    pub(crate) fn request(&self, index: &OpenIndex, embedded: Option<Vec<f32>>) -> Result<SearchRequest> {
        let Tuning { dense_weight, ops, ops_input, scale, exact_up_to, exact_up_to_ratio } = &self.tuning;
        let vectors = |dense, sparse| OrderBy::Vectors { dense, sparse, dense_weight: *dense_weight as f32 };
        let order = match &self.order {
            Order::Vectors(dense, sparse) => {
                let dense = dense.iter().map(|raw| index.query_vector(raw)).collect::<Result<_>>()?;
                vectors(dense, sparse.clone())
            }
            Order::Raw(_) => vectors(embedded.into_iter().collect(), Vec::new()),
            Order::Keys(keys) => OrderBy::Keys(keys.clone()),
            Order::Scalar { field, descending } => OrderBy::Scalar { field: field.clone(), descending: *descending },
            Order::Random => OrderBy::Random,
        };
        let input = ops_input.unwrap_or_else(|| limit::POST_OPS_INPUT_DEFAULT.min(most_input(self.limit)));
        Ok(SearchRequest {
            order,
            filter: filter::parse(self.filter.clone().unwrap_or(Value::Null))?,
            partition: self.partition.clone(),
            keys_in: self.keys_in.clone(),
            keys_not_in: self.keys_not_in.clone(),
            limit: self.limit,
            offset: self.offset,
            post: Post { ops: ops.clone(), input },
            scale: *scale,
            exact_up_to: *exact_up_to,
            exact_up_to_ratio: *exact_up_to_ratio,
            count: self.count,
        })
    }
}

/// A parameter that is an object, its members as raw text.
pub(crate) fn object<'a>(name: &str, raw: &'a str) -> Result<Object<'a>> {
    if !raw.starts_with('{') {
        return Err(invalid(format!("{name} must be an object")));
    }
    Object::parse(raw.as_bytes())
}

/// A member that is an object, or nothing, which is one without members.
pub(crate) fn optional_object<'a>(name: &str, within: &Object<'a>) -> Result<Object<'a>> {
    within.raw(name).filter(|raw| *raw != "null").map_or_else(|| Ok(Object::default()), |raw| object(name, raw))
}

/// Refuses a member that is not among `names`.
pub(crate) fn known(what: &str, object: &Object<'_>, names: &[&str]) -> Result<()> {
    match object.names().find(|name| !names.contains(name)) {
        None => Ok(()),
        Some(name) => Err(invalid(format!("{what} does not know {name:?}"))),
    }
}

fn order<'a>(search: &Object<'a>) -> Result<Order<'a>> {
    const ORDERS: [&str; 3] = ["order_by_vector", "order_by_raw", "order_by_scalar"];
    let mut given = ORDERS.into_iter().filter_map(|name| Some((name, search.raw(name).filter(|raw| *raw != "null")?)));
    let (first, second) = (given.next(), given.next());
    match (first, second) {
        (None, _) => Ok(Order::Random),
        (Some(("order_by_vector", raw)), None) => by_vector(raw),
        (Some(("order_by_raw", raw)), None) => by_raw(raw),
        (Some((_, raw)), None) => by_scalar(raw),
        (Some((one, _)), Some((other, _))) => Err(invalid(format!("{one} and {other} exclude each other"))),
    }
}

fn by_vector(raw: &str) -> Result<Order<'_>> {
    let order = object("order_by_vector", raw)?;
    known("order_by_vector", &order, &["vectors", "sparse_vectors", "primary_keys"])?;
    let sparse = order.value("sparse_vectors")?.map_or(Ok(Vec::new()), sparse_vectors)?;
    let vectors = order.raw("vectors").filter(|raw| *raw != "null");
    match (vectors, order.value("primary_keys")?) {
        (Some(raw), None) => Ok(Order::Vectors(elements("vectors", raw)?, sparse)),
        (None, Some(keys)) if sparse.is_empty() => Ok(Order::Keys(key_list("primary_keys", keys)?)),
        (None, Some(_)) => Err(invalid("primary_keys and sparse_vectors exclude each other")),
        (Some(_), Some(_)) => Err(invalid("vectors and primary_keys exclude each other")),
        (None, None) => Err(invalid("order_by_vector needs vectors or primary_keys")),
    }
}

/// Raw texts of a list's elements.
fn elements<'a>(name: &str, raw: &'a str) -> Result<Vec<&'a str>> {
    let list: Vec<&RawValue> =
        serde_json::from_str(raw).map_err(|_| invalid(format!("{name} must be a list of vectors")))?;
    if list.len() > limit::SEARCH_QUERIES {
        return Err(invalid(format!("{name} has at most {} entries", limit::SEARCH_QUERIES)));
    }
    Ok(list.into_iter().map(RawValue::get).collect())
}

fn sparse_vectors(value: Value) -> Result<Vec<Sparse>> {
    let Value::List(list) = value else {
        return Err(invalid("sparse_vectors must be a list of objects"));
    };
    if list.len() > limit::SEARCH_QUERIES {
        return Err(invalid(format!("sparse_vectors has at most {} entries", limit::SEARCH_QUERIES)));
    }
    list.into_iter().map(sparse_vector).collect()
}

/// Weights by token.
pub(crate) fn sparse_vector(value: Value) -> Result<Sparse> {
    let weight = |(token, value)| match value {
        Value::Int(n) => Ok((token, n as f32)),
        Value::Float(x) => Ok((token, x as f32)),
        _ => Err(invalid("weights of a sparse vector must be numbers")),
    };
    match value {
        Value::Map(Members(members)) => Sparse::new(members.into_iter().map(weight).collect::<Result<_>>()?),
        _ => Err(invalid("a sparse vector must be an object")),
    }
}

fn by_raw(raw: &str) -> Result<Order<'_>> {
    let order = object("order_by_raw", raw)?;
    known("order_by_raw", &order, &["text", "image"])?;
    let given = |name| Ok::<_, knarr_base::Error>(order.text(name)?.filter(|text| !text.is_empty()));
    match (given("text")?, given("image")?) {
        (None, None) => Err(invalid("order_by_raw needs text or image")),
        (text, image) => Ok(Order::Raw(Material { text, image })),
    }
}

fn by_scalar(raw: &str) -> Result<Order<'_>> {
    let order = object("order_by_scalar", raw)?;
    known("order_by_scalar", &order, &["field_name", "order"])?;
    let field = required("field_name", order.text("field_name")?)?;
    Ok(Order::Scalar { field, descending: descending(order.text("order")?)?.unwrap_or(true) })
}

/// A direction by its word.
pub(crate) fn descending(order: Option<String>) -> Result<Option<bool>> {
    match order.as_deref() {
        None => Ok(None),
        Some("asc") => Ok(Some(false)),
        Some("desc") => Ok(Some(true)),
        Some(_) => Err(invalid("order must be asc or desc")),
    }
}

/// One partition or a list of them, texts or integers.
pub(crate) fn partition(value: Option<Value>) -> Result<Partition> {
    let wrong = || {
        knarr_base::Error::new(
            knarr_base::Kind::InvalidPartition,
            "a partition is a string or an integer, or a list of either",
        )
    };
    let text = |value| if let Value::Text(text) = value { Ok(text) } else { Err(wrong()) };
    let int = |value| if let Value::Int(n) = value { Ok(n) } else { Err(wrong()) };
    match value {
        None => Ok(Partition::Default),
        Some(Value::Text(text)) if text.is_empty() || text == DEFAULT_PARTITION => Ok(Partition::Default),
        Some(Value::Text(text)) => Ok(Partition::Texts(vec![text])),
        Some(Value::Int(n)) => Ok(Partition::Ints(vec![n])),
        Some(Value::List(list)) if matches!(list.first(), Some(Value::Int(_))) => {
            list.into_iter().map(int).collect::<Result<_>>().map(Partition::Ints)
        }
        Some(Value::List(list)) => list.into_iter().map(text).collect::<Result<_>>().map(Partition::Texts),
        Some(_) => Err(wrong()),
    }
}

/// Absent, or at most as many names as there can be.
pub(crate) fn output_fields(value: Option<Value>) -> Result<Option<Vec<String>>> {
    value.map(|value| texts("output_fields", value, limit::FIELDS + 1)).transpose()
}

pub(crate) fn keys(name: &str, search: &Object<'_>) -> Result<Vec<Key>> {
    search.value(name)?.map_or(Ok(Vec::new()), |value| key_list(name, value))
}

/// One key or a list of them.
fn key_list(name: &str, value: Value) -> Result<Vec<Key>> {
    let list = match value {
        Value::List(list) => list,
        single => vec![single],
    };
    if list.len() > limit::FILTER_VALUES {
        return Err(invalid(format!("{name} has at most {} keys", limit::FILTER_VALUES)));
    }
    list.into_iter().map(rows::key).collect()
}

/// An aggregation as it was written.
#[derive(Debug)]
pub(crate) struct AggForm {
    filter: Option<Value>,
    partition: Partition,
    pub(crate) field: Option<String>,
    more_than: Option<Number>,
}

impl AggForm {
    /// index/search/agg.
    pub(crate) fn parse(args: &Args<'_>) -> Result<Self> {
        let search = match args.raw("search") {
            Some(raw) => object("search", raw)?,
            None => Object::default(),
        };
        // Clients send what a search has; an aggregation has no use for the rest of it.
        known("search", &search, &MEMBERS)?;
        let agg = object("agg", required("agg", args.raw("agg"))?)?;
        known("agg", &agg, &["op", "field", "cond", "gt"])?;
        Self::counted(
            &agg,
            agg.text("field")?.filter(|field| !field.is_empty()),
            search.value("filter")?,
            partition(search.value("partition")?)?,
        )
    }

    /// With `op` and `cond`, which both versions of the API call so, read from `agg`.
    pub(crate) fn counted(
        agg: &Object<'_>,
        field: Option<String>,
        filter: Option<Value>,
        partition: Partition,
    ) -> Result<Self> {
        match required("op", agg.text("op")?)?.as_str() {
            "count" => {}
            other => return Err(invalid(format!("agg: op must be count, not {other:?}"))),
        }
        let cond = optional_object("cond", agg)?;
        known("cond", &cond, &["gt"])?;
        // The Go client's own test puts it beside the field.
        let bound = cond.value("gt")?.or(agg.value("gt")?);
        let more_than = bound.map(|value| match value {
            Value::Int(n) => Ok(Number::Int(n)),
            Value::Float(x) => Ok(Number::Float(x)),
            _ => Err(invalid("gt must be a number")),
        });
        Ok(Self { filter, partition, field, more_than: more_than.transpose()? })
    }

    /// What the index is asked for.
    ///
    /// # Errors
    /// `Kind::InvalidFilter`.
    pub(crate) fn request(&self) -> Result<AggregateRequest> {
        Ok(AggregateRequest {
            filter: filter::parse(self.filter.clone().unwrap_or(Value::Null))?,
            partition: self.partition.clone(),
            group_by: self.field.clone(),
            more_than: self.more_than,
        })
    }
}

/// index/sort: the query's raw text, and the keys.
pub(crate) fn sort<'a>(args: &Args<'a>) -> Result<(&'a str, Vec<Key>)> {
    let sort = object("sort", required("sort", args.raw("sort"))?)?;
    known("sort", &sort, &["query_vector", "primary_keys"])?;
    let query = required("query_vector", sort.raw("query_vector").filter(|raw| *raw != "null"))?;
    let keys = key_list("primary_keys", required("primary_keys", sort.value("primary_keys")?)?)?;
    Ok((query, keys))
}

/// `extend.explain`.
pub(crate) fn explain(explain: &Explain) -> model::Explained {
    let (plan, reason) = match (explain.segments.is_empty(), explain.blocks) {
        (true, _) => ("exact", "every block is scanned, so recall is 1"),
        (false, 0) => ("structure", "every segment has a search structure"),
        (false, _) => ("structure and exact", "what is new or small is scanned beside the structures"),
    };
    let segment = |planned: &Planned| model::ExplainedSegment {
        plan: match planned.way {
            Way::Survivors => "survivors",
            Way::Nearest => "nearest",
            Way::Cells => "cells",
        },
        reason: planned.why,
        rows: planned.rows,
        rows_passed: planned.passed,
        cells_read: planned.cells,
        vectors_read: planned.scored,
    };
    model::Explained {
        plan,
        reason,
        blocks: explain.blocks,
        rows_scanned: explain.rows,
        rows_passed: explain.passed + explain.segments.iter().map(|planned| planned.passed).sum::<u64>(),
        segments: explain.segments.iter().map(segment).collect(),
    }
}

#[cfg(test)]
mod tests;
