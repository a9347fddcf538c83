//! Both texts of a filter, map and operators, into [`Filter`] (docs/wire/vikingdb.md section 4).
//!
//! Names and types are checked later, against the schema; here a shape that is not understood is refused, never
//! guessed: a bound lost to a misspelt word would widen a delete.

use knarr_base::filter::{Bounds, Filter, Values};
use knarr_base::value::Number;
use knarr_base::{Error, Kind, Result};

use crate::json::{Members, Value};

/// `null`, `{}` and `[]` are [`Filter::All`]; an array is the AND of its nodes.
///
/// # Errors
/// `Kind::InvalidFilter`.
pub(super) fn parse(value: Value) -> Result<Filter> {
    match value {
        Value::Null => Ok(Filter::All),
        Value::Map(members) if members.0.is_empty() => Ok(Filter::All),
        Value::Map(members) if members.has("op") || members.has("conds") => node(members),
        Value::Map(members) => Ok(and(members.0.into_iter().map(entry).collect::<Result<_>>()?)),
        Value::List(nodes) if nodes.is_empty() => Ok(Filter::All),
        Value::List(nodes) => Ok(and(nodes.into_iter().map(any_node).collect::<Result<_>>()?)),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) => {
            Err(invalid("a filter is an object or a list of conditions"))
        }
    }
}

/// True if an empty list inside makes the filter match more than its author can have meant.
pub(super) fn has_empty_exclusion(filter: &Filter) -> bool {
    match filter {
        Filter::And(parts) | Filter::Or(parts) => parts.iter().any(has_empty_exclusion),
        Filter::In { values, negated, .. } => *negated && values.is_empty(),
        Filter::All | Filter::Range { .. } | Filter::Circle { .. } => false,
    }
}

/// One field of the map form: the field's value is among these.
fn entry((field, value): (String, Value)) -> Result<Filter> {
    match values(&field, value)? {
        Values::Bool(_) => Err(invalid(format!("field {field:?} cannot be listed by true and false here"))),
        values => Ok(Filter::In { field, values, negated: false }),
    }
}

fn any_node(value: Value) -> Result<Filter> {
    match value {
        Value::Map(members) => node(members),
        _ => Err(invalid("a condition is an object with an op")),
    }
}

/// One node of the operator form.
fn node(mut members: Members) -> Result<Filter> {
    let Some(Value::Text(op)) = members.take("op") else {
        return Err(invalid("a condition needs an op"));
    };
    let filter = match op.as_str() {
        "and" => Filter::And(children(&mut members)?),
        "or" => Filter::Or(children(&mut members)?),
        "must" => member_of(&mut members, false)?,
        // One page misspells it.
        "must_not" | "must_nor" => member_of(&mut members, true)?,
        "range" => range(&mut members, false)?,
        "range_out" => range(&mut members, true)?,
        _ => return Err(invalid(format!("unknown op {op:?}"))),
    };
    match members.0.first() {
        None => Ok(filter),
        Some((name, _)) => Err(invalid(format!("op {op} does not know {name:?}"))),
    }
}

fn children(members: &mut Members) -> Result<Vec<Filter>> {
    match members.take("conds") {
        Some(Value::List(nodes)) if !nodes.is_empty() => nodes.into_iter().map(any_node).collect(),
        _ => Err(invalid("'and' and 'or' need a list of at least one condition")),
    }
}

fn member_of(members: &mut Members, negated: bool) -> Result<Filter> {
    let Some(Value::Text(field)) = members.take("field") else {
        return Err(invalid("a condition needs a field"));
    };
    let conds = members.take("conds").ok_or_else(|| invalid(format!("the condition on {field:?} needs conds")))?;
    Ok(Filter::In { values: values(&field, conds)?, field, negated })
}

/// A list of constants of one type; a single one stands for a list of it.
fn values(field: &str, value: Value) -> Result<Values> {
    let list = match value {
        Value::List(list) => list,
        single => vec![single],
    };
    let mixed = || invalid(format!("values of {field:?} must all be integers, or all strings, or all true or false"));
    let Some(first) = list.first() else {
        return Ok(Values::Empty);
    };
    match first {
        Value::Int(_) => all(list, |v| if let Value::Int(n) = v { Some(n) } else { None }).map(Values::Int),
        Value::Text(_) => all(list, |v| if let Value::Text(t) = v { Some(t) } else { None }).map(Values::Str),
        Value::Bool(_) => all(list, |v| if let Value::Bool(b) = v { Some(b) } else { None }).map(Values::Bool),
        Value::Null | Value::Float(_) | Value::List(_) | Value::Map(_) => None,
    }
    .ok_or_else(mixed)
}

fn all<T>(list: Vec<Value>, pick: impl FnMut(Value) -> Option<T>) -> Option<Vec<T>> {
    list.into_iter().map(pick).collect()
}

fn range(members: &mut Members, outside: bool) -> Result<Filter> {
    match members.take("field") {
        Some(Value::Text(field)) => {
            let mut bound = |name: &str| members.take(name).map(|value| number(name, value)).transpose();
            let bounds = Bounds { gte: bound("gte")?, gt: bound("gt")?, lte: bound("lte")?, lt: bound("lt")? };
            if bounds.tests().next().is_none() {
                return Err(invalid(format!("range on {field:?} needs one of gte, gt, lte, lt")));
            }
            Ok(Filter::Range { field, bounds, outside })
        }
        Some(Value::List(fields)) => circle(fields, members, outside),
        _ => Err(invalid("a range needs a field, or two of them")),
    }
}

fn circle(fields: Vec<Value>, members: &mut Members, outside: bool) -> Result<Filter> {
    let fields: Option<[String; 2]> =
        all(fields, |v| if let Value::Text(t) = v { Some(t) } else { None }).and_then(|f| f.try_into().ok());
    let fields = fields.ok_or_else(|| invalid("a range over a plane needs two fields"))?;
    let center = match members.take("center") {
        Some(Value::List(at)) => at.into_iter().map(|v| number("center", v)).collect::<Result<Vec<_>>>()?,
        _ => Vec::new(),
    };
    let center: [Number; 2] = center.try_into().map_err(|_| invalid("a range over a plane needs center: [x, y]"))?;
    let radius = members.take("radius").ok_or_else(|| invalid("a range over a plane needs a radius"))?;
    let radius = number("radius", radius)?.as_f64();
    Ok(Filter::Circle { fields, center: center.map(Number::as_f64), radius, outside })
}

fn number(name: &str, value: Value) -> Result<Number> {
    match value {
        Value::Int(n) => Ok(Number::Int(n)),
        Value::Float(x) => Ok(Number::Float(x)),
        _ => Err(invalid(format!("{name} must be a number"))),
    }
}

/// A conjunction; one part stands for itself.
fn and(mut parts: Vec<Filter>) -> Filter {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            Filter::And(parts)
        }
        None => Filter::All,
    }
}

fn invalid(text: impl Into<String>) -> Error {
    Error::new(Kind::InvalidFilter, text)
}

#[cfg(test)]
mod tests;
