//! From a predicate to runs of values: what postings know of it, and what is left to look at rows for.

use std::ops::Range;

use knarr_base::filter::Bounds;
use knarr_base::schema::{FieldType, PrimaryKey, Schema};
use knarr_base::value::{Number, Value};

use super::field::{Field, Values};
use super::file::Postings;
use super::keys;
use crate::error::Result;
use crate::filter::{Leaf, Node, Predicate, Residual, Test, interval};

/// What is done with postings.
pub(super) enum Step<'a> {
    /// Every row, or none.
    Const(bool),
    And(Vec<Step<'a>>),
    Or(Vec<Step<'a>>),
    Runs(Runs<'a>),
}

impl Step<'_> {
    /// True if the number of its rows is known without looking at any.
    pub(super) fn is_counted(&self) -> bool {
        match self {
            Step::Const(_) => true,
            Step::Runs(runs) => !keys::is_list(runs.field.kind()),
            Step::And(_) | Step::Or(_) => false,
        }
    }
}

/// The rows with one of some values of a field, or all others.
pub(super) struct Runs<'a> {
    pub(super) field: &'a Field,
    pub(super) values: Values<'a>,
    /// Ascending, apart.
    pub(super) runs: Vec<Range<u32>>,
    /// All other rows are meant.
    pub(super) inverted: bool,
    /// Rows in the runs; of lists, at most.
    pub(super) rows: u64,
    /// What reading them costs, in entries of lists.
    pub(super) cost: u64,
}

/// A step that finds no row too few, and what its rows have to pass.
pub(super) struct Plan<'a, 'p> {
    pub(super) step: Step<'a>,
    pub(super) left: Residual<'p>,
}

impl<'p> Plan<'_, 'p> {
    fn exact(step: Step<'_>) -> Plan<'_, 'p> {
        Plan { step, left: Residual::none() }
    }
}

/// `None`: postings know nothing of it.
pub(super) fn plan<'a, 'p>(
    postings: &'a Postings,
    predicate: &'p Predicate,
    schema: &Schema,
) -> Result<Option<Plan<'a, 'p>>> {
    Planner { postings, schema }.node(predicate.root())
}

struct Planner<'a, 's> {
    postings: &'a Postings,
    schema: &'s Schema,
}

impl<'a> Planner<'a, '_> {
    fn node<'p>(&self, node: &'p Node) -> Result<Option<Plan<'a, 'p>>> {
        match node {
            Node::Const(value) => Ok(Some(Plan::exact(Step::Const(*value)))),
            Node::And(parts) => self.all_of(parts),
            Node::Or(parts) => self.any_of(node, parts),
            Node::Leaf(leaf) => match &leaf.test {
                Test::Circle { columns, center, radius } if !leaf.negated => {
                    let square = self.square(*columns, *center, *radius)?;
                    Ok(square.map(|step| Plan { step, left: Residual::of(node) }))
                }
                _ => Ok(self.leaf(leaf)?.map(Plan::exact)),
            },
        }
    }

    /// What is not known is left.
    fn all_of<'p>(&self, parts: &'p [Node]) -> Result<Option<Plan<'a, 'p>>> {
        let (mut steps, mut left) = (Vec::new(), Residual::none());
        for part in parts {
            match self.node(part)? {
                Some(Plan { step: Step::Const(false), .. }) => return Ok(Some(Plan::exact(Step::Const(false)))),
                Some(plan) => {
                    steps.push(plan.step);
                    left.add(plan.left);
                }
                None => left.add(Residual::of(part)),
            }
        }
        Ok((!steps.is_empty()).then_some(Plan { step: Step::And(steps), left }))
    }

    /// What is not known may be any row.
    fn any_of<'p>(&self, node: &'p Node, parts: &'p [Node]) -> Result<Option<Plan<'a, 'p>>> {
        let (mut steps, mut left) = (Vec::new(), Residual::none());
        for part in parts {
            let Some(plan) = self.node(part)? else { return Ok(None) };
            if !plan.left.is_none() {
                left = Residual::of(node);
            }
            steps.push(plan.step);
        }
        Ok(Some(Plan { step: Step::Or(steps), left }))
    }

    fn leaf(&self, leaf: &Leaf) -> Result<Option<Step<'a>>> {
        let (Test::IntRange { column, .. }
        | Test::FloatRange { column, .. }
        | Test::IntIn { column, .. }
        | Test::BoolIs { column, .. }
        | Test::StrIn { column, .. }
        | Test::IntListIn { column, .. }
        | Test::StrListIn { column, .. }) = &leaf.test
        else {
            return Ok(None);
        };
        if let Some(default) = self.added(*column) {
            return Ok(default.map(|value| Step::Const(leaf.holds(&value))));
        }
        let Some(field) = self.postings.field(*column) else { return Ok(None) };
        let values = field.values()?;
        let salt = self.postings.salt();
        let runs = match (&leaf.test, field.kind()) {
            (Test::IntRange { range, .. }, FieldType::Int64) => vec![ints(values, *range.start(), *range.end())],
            (Test::FloatRange { range, .. }, FieldType::Float32) => vec![floats(values, *range.start(), *range.end())],
            (Test::IntIn { set, .. }, FieldType::Int64) | (Test::IntListIn { set, .. }, FieldType::Int64List) => {
                joined(set.values().iter().filter_map(|value| values.find_int(*value)).collect())
            }
            (Test::BoolIs { value, .. }, FieldType::Bool) => {
                joined(values.find(u32::from(*value)).into_iter().collect())
            }
            (Test::StrIn { set, .. }, FieldType::String) | (Test::StrListIn { set, .. }, FieldType::StringList) => {
                let mut places: Vec<u32> = set.values().filter_map(|text| values.find(salt.key(text))).collect();
                places.sort_unstable();
                joined(places)
            }
            // Columns keep their types.
            _ => return Ok(None),
        };
        Ok(Some(Step::Runs(Runs::new(field, values, runs, leaf.negated))))
    }

    /// The value that all rows have in a column that was added after the segment was written.
    fn added(&self, column: usize) -> Option<Option<Value>> {
        let auto = usize::from(self.schema.primary_key() == PrimaryKey::Auto);
        let field = self.schema.fields().get(column.checked_sub(auto)?)?;
        (column >= self.postings.columns()).then(|| field.default_value())
    }

    /// Rows in the square around a circle, and some more: whatever is lost in rounding lies well within a billionth.
    fn square(&self, columns: [usize; 2], center: [f64; 2], radius: f64) -> Result<Option<Step<'a>>> {
        let radius = radius * (1.0 + 1e-9) + f64::MIN_POSITIVE;
        let mut sides = Vec::new();
        for (column, center) in columns.into_iter().zip(center) {
            let Some(field) = self.postings.field(column).filter(|field| keys::has_ranges(field.kind())) else {
                continue;
            };
            let values = field.values()?;
            let end = |x: f64| x.is_finite().then_some(Number::Float(x));
            let bounds = Bounds {
                gte: end((center - radius).next_down().next_down()),
                lte: end((center + radius).next_up().next_up()),
                ..Bounds::default()
            };
            let run = match field.kind() {
                FieldType::Int64 => interval::int(&bounds).map(|range| ints(values, *range.start(), *range.end())),
                _ => interval::float(&bounds).map(|range| floats(values, *range.start(), *range.end())),
            };
            sides.push(Step::Runs(Runs::new(field, values, run.into_iter().collect(), false)));
        }
        Ok((!sides.is_empty()).then_some(Step::And(sides)))
    }
}

/// Places of the integers from `low` to `high`.
fn ints(values: Values<'_>, low: i64, high: i64) -> Range<u32> {
    let from = values.below(low);
    let to = high.checked_add(1).map_or(values.count(), |after| values.below(after));
    from..to.max(from)
}

/// Places of the floats from `low` to `high`, which are no NaN.
fn floats(values: Values<'_>, low: f32, high: f32) -> Range<u32> {
    // No float's key is the last one but a NaN's, so there is one after `high`.
    values.below(keys::of_float(low))..values.below(keys::of_float(high) + 1)
}

/// Runs of consecutive places; `places` ascend.
fn joined(places: Vec<u32>) -> Vec<Range<u32>> {
    let mut runs: Vec<Range<u32>> = Vec::new();
    for place in places {
        match runs.last_mut() {
            Some(run) if run.end >= place => run.end = place + 1,
            _ => runs.push(place..place + 1),
        }
    }
    runs
}

impl<'a> Runs<'a> {
    /// The same rows can be told by the other values where every row has exactly one: whichever is quicker.
    fn new(field: &'a Field, values: Values<'a>, mut runs: Vec<Range<u32>>, inverted: bool) -> Self {
        runs.retain(|run| !run.is_empty());
        let this = Self::told_by(field, values, runs, inverted);
        if keys::is_list(field.kind()) || this.rows <= u64::from(field.rows()) / 2 {
            return this;
        }
        let others = Self::told_by(field, values, others(&this.runs, values.count()), !inverted);
        if others.cost < this.cost { others } else { this }
    }

    fn told_by(field: &'a Field, values: Values<'a>, runs: Vec<Range<u32>>, inverted: bool) -> Self {
        let rows = runs.iter().map(|run| values.rows(run.clone())).sum();
        let cost = runs.iter().map(|run| values.cost(run.clone())).sum();
        Self { field, values, runs, inverted, rows, cost }
    }
}

/// All places below `count` that are in none of the runs.
fn others(runs: &[Range<u32>], count: u32) -> Vec<Range<u32>> {
    let starts = std::iter::once(0).chain(runs.iter().map(|run| run.end));
    let ends = runs.iter().map(|run| run.start).chain([count]);
    starts.zip(ends).map(|(start, end)| start..end).filter(|run| !run.is_empty()).collect()
}
