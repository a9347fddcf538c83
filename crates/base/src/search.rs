//! What a search asks for, in the words of every dialect (docs/wire/vikingdb.md section 2.6).
//!
//! Partitions and lists of keys are filters by the time a search has this form.

use crate::filter::Filter;
use crate::index::Distance;
use crate::limit;
use crate::schema::{FieldType, Schema};
use crate::value::Number;
use crate::{Error, Kind, Result};

/// One search. The answer has one list per query, or a single one for [`Order::Scalar`] and [`Order::Random`].
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// Which rows come first.
    pub order: Order,
    /// Which rows there are.
    pub filter: Filter,
    /// Rows of each list, 1 to [`limit::SEARCH_LIMIT`].
    pub limit: usize,
    /// Rows of each list that are left out at its beginning, up to [`limit::SEARCH_OFFSET`].
    pub offset: usize,
    /// What happens to the rows in order, before `offset` and `limit` are taken.
    pub post: Post,
    /// Count the rows that pass the filter.
    pub count: bool,
    /// How hard search structures should look; `None`: every row is looked at.
    pub effort: Option<Effort>,
}

/// Which rows come first. Rows of one rank are in the order of their keys.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// By nearness to each query.
    Dense {
        /// 1 to [`limit::SEARCH_QUERIES`] of the field's dimension, finite.
        queries: Vec<Vec<f32>>,
        /// Of the index.
        distance: Distance,
    },
    /// By nearness in a dense and a sparse vector.
    Hybrid {
        /// 1 to [`limit::SEARCH_QUERIES`] of the field's dimension, finite.
        queries: Vec<(Vec<f32>, Sparse)>,
        /// Of the dense vectors; the sparse ones have the inner product.
        distance: Distance,
        /// Share of the dense score.
        dense_weight: f32,
    },
    /// By the value of a numeric field.
    Scalar {
        /// int64 or float32.
        field: String,
        /// Greatest first.
        descending: bool,
    },
    /// At random, without repeats; one seed gives one order.
    Random {
        /// Chosen by the caller.
        seed: u64,
    },
}

/// Weights by token.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sparse(Vec<(String, f32)>);

impl Sparse {
    /// Tokens may come in any order; of one that comes twice the weights add up.
    ///
    /// # Errors
    /// `Kind::InvalidVector` for a weight that is not finite or more than [`limit::SPARSE_QUERY_TOKENS`] tokens.
    pub fn new(mut weights: Vec<(String, f32)>) -> Result<Self> {
        if weights.len() > limit::SPARSE_QUERY_TOKENS {
            let text = format!("a sparse query vector has at most {} tokens", limit::SPARSE_QUERY_TOKENS);
            return Err(Error::new(Kind::InvalidVector, text));
        }
        weights.sort_by(|a, b| a.0.cmp(&b.0));
        weights.dedup_by(|later, first| {
            let same = later.0 == first.0;
            if same {
                first.1 += later.1;
            }
            same
        });
        if weights.iter().any(|(_, weight)| !weight.is_finite()) {
            return Err(Error::new(Kind::InvalidVector, "a sparse query vector has a weight that is not finite"));
        }
        Ok(Self(weights))
    }

    /// Tokens, ascending by bytes, once each.
    pub fn weights(&self) -> &[(String, f32)] {
        &self.0
    }
}

/// How hard search structures should look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort {
    /// Candidates per query: `hnsw_sef` of the index times `scale_k` of the search.
    pub candidates: usize,
    /// At most this many rows pass the filter: they are scanned exactly.
    pub exact_up_to: Option<u64>,
    /// At most this share of the rows passes the filter: they are scanned exactly.
    pub exact_up_to_ratio: Option<f64>,
}

/// Operations on the ranked rows, in their order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Post {
    /// At most [`limit::POST_OPS`].
    pub ops: Vec<PostOp>,
    /// Rows of each list that they look at.
    pub input: usize,
}

/// One of them. The first three keep rows whose text fits.
#[derive(Debug, Clone, PartialEq)]
pub enum PostOp {
    /// A regular expression matches somewhere in the field.
    Match {
        /// A string field.
        field: String,
        /// Of the linear-time kind: no look-around, no back references.
        pattern: String,
    },
    /// The field holds this text.
    Contain {
        /// A string field.
        field: String,
        /// Plain.
        pattern: String,
    },
    /// SQL's LIKE over the whole field: `%` is any text, `_` any character, a backslash takes their meaning away.
    Like {
        /// A string field.
        field: String,
        /// With wild cards.
        pattern: String,
    },
    /// At most `threshold` rows of each value stay.
    PerValue {
        /// An int64, string or bool field.
        field: String,
        /// At least 1.
        threshold: u64,
    },
}

impl Search {
    /// Checks numbers, names and types. An evaluator may rely on it.
    ///
    /// # Errors
    /// `Kind::Invalid`, `Kind::InvalidFilter`, `Kind::InvalidVector`.
    pub fn check(&self, schema: &Schema) -> Result<()> {
        if !(1..=limit::SEARCH_LIMIT).contains(&self.limit) {
            return invalid(format!("limit must be between 1 and {}", limit::SEARCH_LIMIT));
        }
        if self.offset > limit::SEARCH_OFFSET {
            return invalid(format!("offset must be between 0 and {}", limit::SEARCH_OFFSET));
        }
        self.filter.check(schema)?;
        self.order.check(schema)?;
        self.post.check(schema, self.limit)
    }
}

impl Order {
    fn check(&self, schema: &Schema) -> Result<()> {
        match self {
            Order::Dense { queries, .. } => {
                check_count(queries.len())?;
                queries.iter().try_for_each(|query| check_query(schema, query))
            }
            Order::Hybrid { queries, dense_weight, .. } => {
                check_count(queries.len())?;
                if schema.sparse_vector().is_none() {
                    return invalid("the collection has no sparse_vector field");
                }
                if !limit::DENSE_WEIGHT.contains(&f64::from(*dense_weight)) {
                    let (low, high) = (limit::DENSE_WEIGHT.start(), limit::DENSE_WEIGHT.end());
                    return invalid(format!("dense_weight must be between {low} and {high}"));
                }
                queries.iter().try_for_each(|(query, _)| check_query(schema, query))
            }
            Order::Scalar { field, .. } => match schema.field(field).map(|(_, f)| f.kind) {
                Some(FieldType::Int64 | FieldType::Float32) => Ok(()),
                Some(kind) => invalid(format!("rows cannot be ordered by {field}, a {}", kind.name())),
                None => invalid(format!("the order names the unknown field {field:?}")),
            },
            Order::Random { .. } => Ok(()),
        }
    }
}

fn check_count(queries: usize) -> Result<()> {
    if (1..=limit::SEARCH_QUERIES).contains(&queries) {
        Ok(())
    } else {
        invalid(format!("a search has 1 to {} query vectors", limit::SEARCH_QUERIES))
    }
}

fn check_query(schema: &Schema, query: &[f32]) -> Result<()> {
    let Some((_, dim)) = schema.vector() else { return invalid("the collection has no vector field") };
    if query.len() != dim as usize {
        let text = format!("the query vector has {} elements, the field has {dim}", query.len());
        return Err(Error::new(Kind::InvalidVector, text));
    }
    if query.iter().all(|x| x.is_finite()) {
        Ok(())
    } else {
        Err(Error::new(Kind::InvalidVector, "the query vector has an element that is not finite"))
    }
}

impl Post {
    fn check(&self, schema: &Schema, limit: usize) -> Result<()> {
        if self.ops.len() > limit::POST_OPS {
            return invalid(format!("post_process_ops has at most {} entries", limit::POST_OPS));
        }
        let most = limit::POST_OPS_INPUT.min(limit * limit::POST_OPS_INPUT_PER_ROW);
        if !self.ops.is_empty() && !(1..=most).contains(&self.input) {
            return invalid(format!("post_process_input_limit must be between 1 and {most}"));
        }
        self.ops.iter().try_for_each(|op| op.check(schema))
    }
}

impl PostOp {
    fn check(&self, schema: &Schema) -> Result<()> {
        let kind = |field: &str| match schema.field(field) {
            Some((_, found)) => Ok(found.kind),
            None => invalid(format!("post_process_ops names the unknown field {field:?}")),
        };
        match self {
            PostOp::Match { field, pattern } | PostOp::Contain { field, pattern } | PostOp::Like { field, pattern } => {
                if pattern.len() > limit::PATTERN_BYTES {
                    return invalid(format!("a pattern has at most {} bytes", limit::PATTERN_BYTES));
                }
                match kind(field)? {
                    FieldType::String | FieldType::Text => Ok(()),
                    other => invalid(format!("post_process_ops: field {field} is a {}, not a string", other.name())),
                }
            }
            PostOp::PerValue { field, threshold } => match kind(field)? {
                FieldType::Int64 | FieldType::String | FieldType::Bool if *threshold > 0 => Ok(()),
                FieldType::Int64 | FieldType::String | FieldType::Bool => invalid("threshold must be at least 1"),
                other => invalid(format!("enum_freq_limiter: field {field} is a {}", other.name())),
            },
        }
    }
}

/// A row's score, as the answer shows it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Score {
    /// Of vectors; finite.
    Float(f32),
    /// Of an int64 field.
    Int(i64),
}

/// How many rows, by the value of a field where one is named.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// Which rows.
    pub filter: Filter,
    /// An int64, string or bool field.
    pub group_by: Option<String>,
    /// Only groups with more rows than this are shown.
    pub more_than: Option<Number>,
}

impl Aggregate {
    /// # Errors
    /// `Kind::Invalid`, `Kind::InvalidFilter`.
    pub fn check(&self, schema: &Schema) -> Result<()> {
        self.filter.check(schema)?;
        match &self.group_by {
            None if self.more_than.is_some() => invalid("agg: cond needs a field"),
            None => Ok(()),
            Some(field) => match schema.field(field).map(|(_, f)| f.kind) {
                Some(FieldType::Int64 | FieldType::String | FieldType::Bool) => Ok(()),
                Some(kind) => invalid(format!("rows cannot be grouped by {field}, a {}", kind.name())),
                None => invalid(format!("agg names the unknown field {field:?}")),
            },
        }
    }
}

fn invalid<T>(text: impl Into<String>) -> Result<T> {
    Err(Error::new(Kind::Invalid, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::tests::field;

    fn schema() -> Schema {
        let fields = vec![
            field("id", FieldType::Int64),
            field("city", FieldType::String),
            field("price", FieldType::Float32),
            field("v", FieldType::Vector { dim: 4 }),
        ];
        Schema::new(fields, "id").expect("valid")
    }

    fn search(order: Order) -> Search {
        let effort = Some(Effort { candidates: 800, exact_up_to: None, exact_up_to_ratio: None });
        Search { order, filter: Filter::All, limit: 10, offset: 0, post: Post::default(), count: false, effort }
    }

    fn dense(queries: Vec<Vec<f32>>) -> Order {
        Order::Dense { queries, distance: Distance::Ip }
    }

    fn kind(search: &Search) -> Option<Kind> {
        search.check(&schema()).err().map(|e| e.kind())
    }

    #[test]
    fn queries_fit_the_field() {
        let ok = vec![0.0; 4];
        assert_eq!(kind(&search(dense(vec![ok.clone(); 10]))), None);
        assert_eq!(kind(&search(dense(vec![ok.clone(); 11]))), Some(Kind::Invalid));
        assert_eq!(kind(&search(dense(vec![]))), Some(Kind::Invalid));
        assert_eq!(kind(&search(dense(vec![vec![0.0; 5]]))), Some(Kind::InvalidVector));
        assert_eq!(kind(&search(dense(vec![vec![0.0, f32::NAN, 0.0, 0.0]]))), Some(Kind::InvalidVector));
        let hybrid =
            Order::Hybrid { queries: vec![(ok, Sparse::default())], distance: Distance::Ip, dense_weight: 0.5 };
        assert_eq!(kind(&search(hybrid)), Some(Kind::Invalid), "no sparse field");
    }

    #[test]
    fn numbers_stay_within_their_bounds() {
        let base = search(Order::Random { seed: 1 });
        for (limit, offset, ok) in
            [(0, 0, false), (1, 0, true), (5000, 100_000, true), (5001, 0, false), (1, 100_001, false)]
        {
            assert_eq!(kind(&Search { limit, offset, ..base.clone() }).is_none(), ok, "{limit} {offset}");
        }
        let post = |ops: usize, input| {
            let op = PostOp::Contain { field: "city".into(), pattern: "x".into() };
            Search { post: Post { ops: vec![op; ops], input }, ..base.clone() }
        };
        assert_eq!(kind(&post(0, 0)), None);
        assert_eq!(kind(&post(limit::POST_OPS, 100)), None);
        assert_eq!(kind(&post(limit::POST_OPS + 1, 100)), Some(Kind::Invalid));
        assert_eq!(kind(&post(1, 0)), Some(Kind::Invalid));
        assert_eq!(kind(&post(1, 101)), Some(Kind::Invalid), "ten times the limit");
        assert_eq!(kind(&Search { limit: 5000, ..post(1, 1601) }), Some(Kind::Invalid));
    }

    #[test]
    fn operations_name_fields_of_their_types() {
        let with = |op| kind(&Search { post: Post { ops: vec![op], input: 10 }, ..search(Order::Random { seed: 1 }) });
        let contain = |field: &str, n| PostOp::Contain { field: field.into(), pattern: "x".repeat(n) };
        assert_eq!(with(contain("city", limit::PATTERN_BYTES)), None);
        assert_eq!(with(contain("city", limit::PATTERN_BYTES + 1)), Some(Kind::Invalid));
        assert_eq!(with(contain("price", 1)), Some(Kind::Invalid));
        assert_eq!(with(contain("nope", 1)), Some(Kind::Invalid));
        let per = |field: &str, threshold| PostOp::PerValue { field: field.into(), threshold };
        assert_eq!(with(per("id", 1)), None);
        assert_eq!(with(per("id", 0)), Some(Kind::Invalid));
        assert_eq!(with(per("price", 1)), Some(Kind::Invalid));
        let by = |field: &str| kind(&search(Order::Scalar { field: field.into(), descending: true }));
        assert_eq!((by("price"), by("id")), (None, None));
        assert_eq!((by("city"), by("nope")), (Some(Kind::Invalid), Some(Kind::Invalid)));
    }

    #[test]
    fn sparse_weights_are_sorted_and_summed() {
        let sparse = |list: &[(&str, f32)]| Sparse::new(list.iter().map(|&(t, w)| (t.to_owned(), w)).collect());
        let made = sparse(&[("b", 1.0), ("a", 2.0), ("b", 0.5)]).expect("valid");
        assert_eq!(made.weights(), [("a".to_owned(), 2.0), ("b".to_owned(), 1.5)]);
        assert!(sparse(&[("a", f32::INFINITY)]).is_err());
        assert!(sparse(&[("a", f32::MAX), ("a", f32::MAX)]).is_err());
    }
}
