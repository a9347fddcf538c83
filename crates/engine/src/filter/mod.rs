//! Filters over stored batches: compiled once per scan, evaluated a batch at a time.
//!
//! Called by `bulk`, by `index` and by the table's task delete. Evaluation never fails and never blocks; callers look at their
//! cancel flag between two batches. Semantics are those of `knarr_base::filter` and nothing else decides them: bounds
//! are turned into exact intervals of the column's own type when the filter is compiled (`interval`).

mod evaluate;
pub(crate) mod interval;
mod residual;
mod set;

use std::ops::RangeInclusive;

use arrow_array::RecordBatch;
use arrow_buffer::BooleanBuffer;
use knarr_base::filter::{Filter, Values};
use knarr_base::schema::{AUTO_ID, FieldType, Schema};
use knarr_base::value::{Number, Value};

pub(crate) use self::residual::Residual;
pub(crate) use self::set::{IntSet, StrSet};
use crate::columns;
use crate::error::Error;

/// A filter bound to the columns of a schema.
#[derive(Debug)]
pub(crate) struct Predicate {
    root: Node,
}

/// A filter as it is evaluated. Columns are those of a stored batch of the newest schema; they keep their places when
/// fields are added.
#[derive(Debug)]
pub(crate) enum Node {
    Const(bool),
    And(Vec<Node>),
    Or(Vec<Node>),
    Leaf(Leaf),
}

/// One condition on one column, or on two. `negated` turns the answer of `test` round.
#[derive(Debug)]
pub(crate) struct Leaf {
    pub(crate) test: Test,
    pub(crate) negated: bool,
}

/// What a value, or some element of a list, must be. Sets are not empty, ends of ranges are no NaN.
#[derive(Debug)]
pub(crate) enum Test {
    IntRange { column: usize, range: RangeInclusive<i64> },
    FloatRange { column: usize, range: RangeInclusive<f32> },
    IntIn { column: usize, set: IntSet },
    BoolIs { column: usize, value: bool },
    Circle { columns: [usize; 2], center: [f64; 2], radius: f64 },
    StrIn { column: usize, set: StrSet },
    IntListIn { column: usize, set: IntSet },
    StrListIn { column: usize, set: StrSet },
}

impl Predicate {
    /// # Errors
    /// `Filter` when the filter does not pass [`Filter::check`].
    pub(crate) fn compile(filter: &Filter, schema: &Schema) -> Result<Predicate, Error> {
        filter.check(schema).map_err(|e| Error::Filter(e.message().to_owned()))?;
        Ok(Predicate { root: node(filter, schema) })
    }

    /// The condition itself, for whoever can tell matching rows without looking at them.
    pub(crate) fn root(&self) -> &Node {
        &self.root
    }

    /// True if it was said of every row, so that nothing has to be evaluated.
    pub(crate) fn is_all(&self) -> bool {
        matches!(self.root, Node::Const(true))
    }

    /// The rows of a stored batch that match and are live. `live: None` means that all rows are.
    pub(crate) fn evaluate(&self, batch: &RecordBatch, live: Option<&BooleanBuffer>) -> BooleanBuffer {
        evaluate::node(&self.root, batch, live)
    }

    /// False only if no row can match in a part whose user columns have these least and greatest values.
    pub(crate) fn may_match(&self, bounds: &dyn Fn(usize) -> Option<(Number, Number)>) -> bool {
        may_match(&self.root, bounds)
    }
}

impl Leaf {
    /// Whether rows that hold `value` match, for example those that were written before the field existed.
    pub(crate) fn holds(&self, value: &Value) -> bool {
        let passes = match (&self.test, value) {
            (Test::IntRange { range, .. }, Value::Int(n)) => range.contains(n),
            (Test::FloatRange { range, .. }, Value::Float(x)) => range.contains(x),
            (Test::IntIn { set, .. }, Value::Int(n)) => set.contains(*n),
            (Test::BoolIs { value, .. }, Value::Bool(b)) => value == b,
            (Test::StrIn { set, .. }, Value::Str(s)) => set.contains(s.as_bytes()),
            (Test::IntListIn { set, .. }, Value::IntList(list)) => list.iter().any(|n| set.contains(*n)),
            (Test::StrListIn { set, .. }, Value::StrList(list)) => list.iter().any(|s| set.contains(s.as_bytes())),
            (test, value) => unreachable!("Filter::check compared the types of {test:?} and {value:?}"),
        };
        passes != self.negated
    }
}

fn node(filter: &Filter, schema: &Schema) -> Node {
    match filter {
        Filter::All => Node::Const(true),
        Filter::And(parts) => all_of(parts.iter().map(|part| node(part, schema)).collect()),
        Filter::Or(parts) => any_of(parts.iter().map(|part| node(part, schema)).collect()),
        Filter::In { field, values, negated } => membership(schema, field, values, *negated),
        Filter::Range { field, bounds, outside } => match resolve(schema, field) {
            (column, FieldType::Float32) => {
                let range = if *outside { interval::float_hole(bounds) } else { interval::float(bounds) };
                range.map_or(Node::Const(*outside), |range| leaf(Test::FloatRange { column, range }, *outside))
            }
            (column, _) => {
                let range = if *outside { interval::int_hole(bounds) } else { interval::int(bounds) };
                range.map_or(Node::Const(*outside), |range| leaf(Test::IntRange { column, range }, *outside))
            }
        },
        Filter::Circle { fields: [x, y], center, radius, outside } => {
            let columns = [resolve(schema, x).0, resolve(schema, y).0];
            leaf(Test::Circle { columns, center: *center, radius: *radius }, *outside)
        }
    }
}

fn leaf(test: Test, negated: bool) -> Node {
    Node::Leaf(Leaf { test, negated })
}

fn membership(schema: &Schema, field: &str, values: &Values, negated: bool) -> Node {
    let (column, kind) = resolve(schema, field);
    let list = matches!(kind, FieldType::Int64List | FieldType::StringList);
    let test = match values {
        _ if values.is_empty() => return Node::Const(negated),
        Values::Int(values) if list => Test::IntListIn { column, set: IntSet::new(values) },
        Values::Int(values) => Test::IntIn { column, set: IntSet::new(values) },
        Values::Str(values) if list => Test::StrListIn { column, set: StrSet::new(values) },
        Values::Str(values) => Test::StrIn { column, set: StrSet::new(values) },
        Values::Bool(values) if values.contains(&true) && values.contains(&false) => return Node::Const(!negated),
        Values::Bool(values) => Test::BoolIs { column, value: values.contains(&true) },
        Values::Empty => return Node::Const(negated),
    };
    leaf(test, negated)
}

/// Column and type of a field that `Filter::check` has found.
fn resolve(schema: &Schema, field: &str) -> (usize, FieldType) {
    let column = columns::named_column(schema, field).expect("Filter::check looked the field up");
    (column, if field == AUTO_ID { FieldType::Int64 } else { schema.field(field).expect("as above").1.kind })
}

fn all_of(mut parts: Vec<Node>) -> Node {
    if parts.iter().any(|part| matches!(part, Node::Const(false))) {
        return Node::Const(false);
    }
    parts.retain(|part| !matches!(part, Node::Const(_)));
    parts.sort_by_key(cost);
    if parts.is_empty() { Node::Const(true) } else { Node::And(parts) }
}

fn any_of(mut parts: Vec<Node>) -> Node {
    if parts.iter().any(|part| matches!(part, Node::Const(true))) {
        return Node::Const(true);
    }
    parts.retain(|part| !matches!(part, Node::Const(_)));
    parts.sort_by_key(cost);
    if parts.is_empty() { Node::Const(false) } else { Node::Or(parts) }
}

/// Rough nanoseconds per row: cheap conditions go first, the dear ones see only what is left.
fn cost(node: &Node) -> u32 {
    match node {
        Node::Const(_) => 0,
        Node::And(parts) | Node::Or(parts) => parts.iter().map(cost).sum(),
        Node::Leaf(leaf) => match &leaf.test {
            Test::IntRange { .. } | Test::FloatRange { .. } | Test::BoolIs { .. } => 1,
            Test::IntIn { .. } => 2,
            Test::Circle { .. } => 8,
            Test::StrIn { .. } => 10,
            Test::IntListIn { .. } => 12,
            Test::StrListIn { .. } => 30,
        },
    }
}

fn may_match(node: &Node, bounds: &dyn Fn(usize) -> Option<(Number, Number)>) -> bool {
    match node {
        Node::Const(value) => *value,
        Node::And(parts) => parts.iter().all(|part| may_match(part, bounds)),
        Node::Or(parts) => parts.iter().any(|part| may_match(part, bounds)),
        Node::Leaf(leaf) => leaf_may_match(leaf, bounds),
    }
}

fn leaf_may_match(leaf: &Leaf, bounds: &dyn Fn(usize) -> Option<(Number, Number)>) -> bool {
    let (column, bound) = match &leaf.test {
        Test::IntRange { column, .. } | Test::FloatRange { column, .. } | Test::IntIn { column, .. } => {
            (*column, bounds(*column))
        }
        _ => return true,
    };
    let Some((least, greatest)) = bound else { return true };
    // `touches`: some value of least..=greatest passes the test. `covers`: all of them do.
    let (touches, covers) = match &leaf.test {
        Test::IntRange { range, .. } => (
            greatest.cmp_int(*range.start()).is_le() && least.cmp_int(*range.end()).is_ge(),
            least.cmp_int(*range.start()).is_le() && greatest.cmp_int(*range.end()).is_ge(),
        ),
        Test::FloatRange { range, .. } => (
            greatest.cmp_float(*range.start()).is_le() && least.cmp_float(*range.end()).is_ge(),
            least.cmp_float(*range.start()).is_le() && greatest.cmp_float(*range.end()).is_ge(),
        ),
        Test::IntIn { set, .. } => (set.touches(least, greatest), set.covers(least, greatest)),
        _ => unreachable!("column {column} was taken from one of the tests above"),
    };
    if leaf.negated { !covers } else { touches }
}

#[cfg(test)]
pub(crate) mod tests;
