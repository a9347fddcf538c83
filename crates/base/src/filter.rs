//! Which rows: one expression type for every dialect, task and search (docs/wire/vikingdb.md section 4).
//!
//! Dialects parse their own texts into it, the engine evaluates it over columns; it is never text again in between.

use std::cmp::Ordering;

use crate::limit;
use crate::schema::{AUTO_ID, FieldType, PrimaryKey, Schema};
use crate::value::Number;
use crate::{Error, Kind, Result};

/// A condition on a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// Every row. Only an export may ask for it; delete and update refuse it.
    All,
    /// All of them; at least one.
    And(Vec<Filter>),
    /// Any of them; at least one.
    Or(Vec<Filter>),
    /// The field's value, or any element of its list, is among `values`. `negated`: none is. An empty set matches
    /// nothing (negated: everything).
    In {
        /// Field name, or `__AUTO_ID__`.
        field: String,
        /// Constants of the field's type.
        values: Values,
        /// `must_not`.
        negated: bool,
    },
    /// A number within all bounds. `outside`: each bound is a disjunct instead (`value > gt OR value < lt`).
    Range {
        /// An int64 or float32 field, or `__AUTO_ID__`.
        field: String,
        /// At least one bound.
        bounds: Bounds,
        /// `range_out`.
        outside: bool,
    },
    /// A point of two numeric fields within `radius` (inclusive) of `center`, planar. `outside`: beyond it.
    Circle {
        /// x and y fields.
        fields: [String; 2],
        /// Finite.
        center: [f64; 2],
        /// Finite, not negative.
        radius: f64,
        /// `range_out`.
        outside: bool,
    },
}

/// Constants of one type.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// For int64 and list<int64>.
    Int(Vec<i64>),
    /// For string and list<string>.
    Str(Vec<String>),
    /// For bool.
    Bool(Vec<bool>),
    /// Written as `[]`: fits every type, matches nothing.
    Empty,
}

impl Values {
    /// Number of constants.
    pub fn len(&self) -> usize {
        match self {
            Values::Int(v) => v.len(),
            Values::Str(v) => v.len(),
            Values::Bool(v) => v.len(),
            Values::Empty => 0,
        }
    }

    /// True without any constant.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Whether a value stays, given how it compares with a bound.
pub type Keep = fn(Ordering) -> bool;

/// Bounds of a range; any subset.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Bounds {
    /// value >= gte
    pub gte: Option<Number>,
    /// value > gt
    pub gt: Option<Number>,
    /// value <= lte
    pub lte: Option<Number>,
    /// value < lt
    pub lt: Option<Number>,
}

impl Bounds {
    /// The tests `keep(ordering of the value relative to the bound)`, in a fixed order.
    pub fn tests(&self) -> impl Iterator<Item = (Number, Keep)> + '_ {
        let all: [(Option<Number>, Keep); 4] = [
            (self.gte, Ordering::is_ge),
            (self.gt, Ordering::is_gt),
            (self.lte, Ordering::is_le),
            (self.lt, Ordering::is_lt),
        ];
        all.into_iter().filter_map(|(bound, keep)| bound.map(|b| (b, keep)))
    }
}

impl Filter {
    /// Checks names and types against a schema and every bound of `limit.rs`. An evaluator may rely on it.
    pub fn check(&self, schema: &Schema) -> Result<()> {
        let mut nodes = 0;
        self.check_node(schema, 1, &mut nodes)
    }

    /// True if this is [`Filter::All`], which delete and update refuse.
    pub fn is_all(&self) -> bool {
        matches!(self, Filter::All)
    }

    /// Every field it names, repeats repeated.
    pub fn fields(&self) -> Vec<&str> {
        match self {
            Filter::All => Vec::new(),
            Filter::And(parts) | Filter::Or(parts) => parts.iter().flat_map(Filter::fields).collect(),
            Filter::In { field, .. } | Filter::Range { field, .. } => vec![field],
            Filter::Circle { fields, .. } => fields.iter().map(String::as_str).collect(),
        }
    }

    /// Rows that pass all of `parts`. Nothing is wrapped that need not be, since nesting is bounded.
    pub fn all_of(parts: impl IntoIterator<Item = Filter>) -> Filter {
        let mut all = Vec::new();
        for part in parts {
            match part {
                Filter::All => {}
                Filter::And(inner) => all.extend(inner),
                other => all.push(other),
            }
        }
        match all.len() {
            0 => Filter::All,
            1 => all.remove(0),
            _ => Filter::And(all),
        }
    }

    fn check_node(&self, schema: &Schema, depth: usize, nodes: &mut usize) -> Result<()> {
        *nodes += 1;
        if depth > limit::FILTER_DEPTH {
            return Err(invalid(format!("filter is nested deeper than {}", limit::FILTER_DEPTH)));
        }
        if *nodes > limit::FILTER_NODES {
            return Err(invalid(format!("filter has more than {} nodes", limit::FILTER_NODES)));
        }
        match self {
            Filter::All => Ok(()),
            Filter::And(parts) | Filter::Or(parts) => {
                if parts.is_empty() {
                    return Err(invalid("'and' and 'or' need at least one condition".to_owned()));
                }
                parts.iter().try_for_each(|part| part.check_node(schema, depth + 1, nodes))
            }
            Filter::In { field, values, .. } => check_values(field, type_of(schema, field)?, values),
            Filter::Range { field, bounds, .. } => {
                if bounds.tests().next().is_none() {
                    return Err(invalid(format!("range on {field} needs one of gte, gt, lte, lt")));
                }
                check_numeric(field, type_of(schema, field)?)?;
                bounds.tests().try_for_each(|(bound, _)| check_finite(field, bound.as_f64()))
            }
            Filter::Circle { fields, center, radius, .. } => {
                for (field, at) in fields.iter().zip(center) {
                    check_numeric(field, type_of(schema, field)?)?;
                    check_finite(field, *at)?;
                }
                check_finite("radius", *radius)?;
                if *radius < 0.0 {
                    return Err(invalid("radius must not be negative".to_owned()));
                }
                Ok(())
            }
        }
    }
}

fn invalid(text: String) -> Error {
    Error::new(Kind::InvalidFilter, text)
}

fn type_of(schema: &Schema, field: &str) -> Result<FieldType> {
    if field == AUTO_ID && schema.primary_key() == PrimaryKey::Auto {
        return Ok(FieldType::Int64);
    }
    let found = schema.field(field).map(|(_, f)| f.kind);
    found.ok_or_else(|| invalid(format!("filter names the unknown field {field:?}")))
}

fn check_values(field: &str, kind: FieldType, values: &Values) -> Result<()> {
    if values.len() > limit::FILTER_VALUES {
        return Err(invalid(format!("filter on {field} has more than {} values", limit::FILTER_VALUES)));
    }
    let fits = match kind {
        FieldType::Int64 | FieldType::Int64List => matches!(values, Values::Int(_) | Values::Empty),
        FieldType::String | FieldType::StringList => matches!(values, Values::Str(_) | Values::Empty),
        FieldType::Bool => matches!(values, Values::Bool(_) | Values::Empty),
        FieldType::Float32
        | FieldType::Vector { .. }
        | FieldType::SparseVector
        | FieldType::Text
        | FieldType::Image => {
            return Err(invalid(format!("field {field} of type {} cannot be listed by value", kind.name())));
        }
    };
    if fits { Ok(()) } else { Err(invalid(format!("filter values of {field} are not of type {}", kind.name()))) }
}

fn check_numeric(field: &str, kind: FieldType) -> Result<()> {
    if matches!(kind, FieldType::Int64 | FieldType::Float32) {
        Ok(())
    } else {
        Err(invalid(format!("field {field} of type {} has no ranges", kind.name())))
    }
}

fn check_finite(what: &str, number: f64) -> Result<()> {
    if number.is_finite() { Ok(()) } else { Err(invalid(format!("filter on {what} has a number that is not finite"))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::tests::field;

    fn schema() -> Schema {
        Schema::new(
            vec![
                field("id", FieldType::Int64),
                field("city", FieldType::String),
                field("price", FieldType::Float32),
                field("ok", FieldType::Bool),
                field("tags", FieldType::StringList),
            ],
            "id",
        )
        .expect("valid")
    }

    fn within(field: &str, values: Values) -> Filter {
        Filter::In { field: field.to_owned(), values, negated: false }
    }

    #[test]
    fn types_must_match_the_schema() {
        let s = schema();
        assert!(within("id", Values::Int(vec![1])).check(&s).is_ok());
        assert!(within("tags", Values::Str(vec!["a".into()])).check(&s).is_ok());
        assert!(within("ok", Values::Bool(vec![true])).check(&s).is_ok());
        assert!(within("city", Values::Empty).check(&s).is_ok());
        for bad in [
            within("id", Values::Str(vec!["1".into()])),
            within("city", Values::Int(vec![1])),
            within("price", Values::Int(vec![1])),
            within("nope", Values::Empty),
            within("__AUTO_ID__", Values::Int(vec![1])),
            Filter::And(vec![]),
            Filter::Range { field: "id".into(), bounds: Bounds::default(), outside: false },
            Filter::Range {
                field: "city".into(),
                bounds: Bounds { gt: Some(Number::Int(1)), ..Bounds::default() },
                outside: false,
            },
            Filter::Circle {
                fields: ["id".into(), "price".into()],
                center: [0.0, f64::NAN],
                radius: 1.0,
                outside: false,
            },
            Filter::Circle { fields: ["id".into(), "price".into()], center: [0.0, 0.0], radius: -1.0, outside: true },
        ] {
            assert_eq!(bad.check(&s).map_err(|e| e.kind()), Err(Kind::InvalidFilter), "{bad:?}");
        }
    }

    #[test]
    fn bounds_of_limit_rs_hold_exactly() {
        let s = schema();
        let nest = |n: usize| (1..n).fold(within("id", Values::Empty), |f, _| Filter::And(vec![f]));
        assert!(nest(limit::FILTER_DEPTH).check(&s).is_ok());
        assert!(nest(limit::FILTER_DEPTH + 1).check(&s).is_err());
        let wide = |n: usize| Filter::Or(vec![within("id", Values::Empty); n - 1]);
        assert!(wide(limit::FILTER_NODES).check(&s).is_ok());
        assert!(wide(limit::FILTER_NODES + 1).check(&s).is_err());
        let many = |n: usize| within("id", Values::Int(vec![0; n]));
        assert!(many(limit::FILTER_VALUES).check(&s).is_ok());
        assert!(many(limit::FILTER_VALUES + 1).check(&s).is_err());
    }
}
