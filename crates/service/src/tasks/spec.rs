//! What a task shall do, as the catalog stores it. Disk structs are private and versioned; the domain type is
//! [`TaskSpec`]. Field names here are a format: FORMAT.md section "Task records".

use knarr_base::filter::{Bounds, Filter, Values};
use knarr_base::object::ObjectPath;
use knarr_base::value::Number;
use knarr_base::{Error, Kind, Result};
use knarr_engine::bulk::Format;
use serde::{Deserialize, Serialize};

use super::TaskSpec;

#[derive(Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case", deny_unknown_fields)]
enum SpecV1 {
    Export { filter: FilterV1, target: String, format: String },
    Delete { filter: FilterV1, need_confirm: bool, backup: Option<(String, String)> },
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
enum FilterV1 {
    All,
    And { parts: Vec<FilterV1> },
    Or { parts: Vec<FilterV1> },
    In { field: String, values: ValuesV1, negated: bool },
    Range { field: String, bounds: BoundsV1, outside: bool },
    Circle { fields: [String; 2], center: [f64; 2], radius: f64, outside: bool },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ValuesV1 {
    Int(Vec<i64>),
    Str(Vec<String>),
    Bool(Vec<bool>),
    Empty,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BoundsV1 {
    gte: Option<NumberV1>,
    gt: Option<NumberV1>,
    lte: Option<NumberV1>,
    lt: Option<NumberV1>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum NumberV1 {
    Int(i64),
    Float(f64),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Versioned {
    format: u32,
    spec: SpecV1,
}

/// Text for the catalog.
pub(crate) fn encode(spec: &TaskSpec) -> Result<String> {
    let spec = match spec {
        TaskSpec::Export { filter, target, format } => SpecV1::Export {
            filter: from_filter(filter),
            target: target.to_string(),
            format: format.as_str().to_owned(),
        },
        TaskSpec::Delete { filter, need_confirm, backup } => SpecV1::Delete {
            filter: from_filter(filter),
            need_confirm: *need_confirm,
            backup: backup.as_ref().map(|(path, format)| (path.to_string(), format.as_str().to_owned())),
        },
    };
    let text = serde_json::to_string(&Versioned { format: 1, spec });
    text.map_err(|e| Error::new(Kind::Internal, "a task could not be written down").with_source(e))
}

/// Back from the catalog.
///
/// # Errors
/// `Kind::Corrupt` for text that is not of a known format.
pub(crate) fn decode(text: &str) -> Result<TaskSpec> {
    let corrupt = |e: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(Kind::Corrupt, "the stored task is not readable by this version").with_source(e)
    };
    let stored: Versioned = serde_json::from_str(text).map_err(|e| corrupt(e.into()))?;
    if stored.format != 1 {
        return Err(corrupt(format!("format {}", stored.format).into()));
    }
    let format = |name: &str| Format::parse(name).ok_or_else(|| corrupt(format!("file type {name:?}").into()));
    Ok(match stored.spec {
        SpecV1::Export { filter, target, format: name } => {
            TaskSpec::Export { filter: to_filter(filter), target: ObjectPath::parse(&target)?, format: format(&name)? }
        }
        SpecV1::Delete { filter, need_confirm, backup } => TaskSpec::Delete {
            filter: to_filter(filter),
            need_confirm,
            backup: match backup {
                Some((path, name)) => Some((ObjectPath::parse(&path)?, format(&name)?)),
                None => None,
            },
        },
    })
}

/// The filter alone, for the manifest of an export.
pub(crate) fn filter_json(filter: &Filter) -> Result<serde_json::Value> {
    let value = serde_json::to_value(from_filter(filter));
    value.map_err(|e| Error::new(Kind::Internal, "a filter could not be written down").with_source(e))
}

fn from_filter(filter: &Filter) -> FilterV1 {
    match filter {
        Filter::All => FilterV1::All,
        Filter::And(parts) => FilterV1::And { parts: parts.iter().map(from_filter).collect() },
        Filter::Or(parts) => FilterV1::Or { parts: parts.iter().map(from_filter).collect() },
        Filter::In { field, values, negated } => {
            FilterV1::In { field: field.clone(), values: from_values(values), negated: *negated }
        }
        Filter::Range { field, bounds, outside } => {
            FilterV1::Range { field: field.clone(), bounds: from_bounds(bounds), outside: *outside }
        }
        Filter::Circle { fields, center, radius, outside } => {
            FilterV1::Circle { fields: fields.clone(), center: *center, radius: *radius, outside: *outside }
        }
    }
}

fn to_filter(filter: FilterV1) -> Filter {
    match filter {
        FilterV1::All => Filter::All,
        FilterV1::And { parts } => Filter::And(parts.into_iter().map(to_filter).collect()),
        FilterV1::Or { parts } => Filter::Or(parts.into_iter().map(to_filter).collect()),
        FilterV1::In { field, values, negated } => Filter::In { field, values: to_values(values), negated },
        FilterV1::Range { field, bounds, outside } => Filter::Range { field, bounds: to_bounds(&bounds), outside },
        FilterV1::Circle { fields, center, radius, outside } => Filter::Circle { fields, center, radius, outside },
    }
}

fn from_values(values: &Values) -> ValuesV1 {
    match values {
        Values::Int(v) => ValuesV1::Int(v.clone()),
        Values::Str(v) => ValuesV1::Str(v.clone()),
        Values::Bool(v) => ValuesV1::Bool(v.clone()),
        Values::Empty => ValuesV1::Empty,
    }
}

fn to_values(values: ValuesV1) -> Values {
    match values {
        ValuesV1::Int(v) => Values::Int(v),
        ValuesV1::Str(v) => Values::Str(v),
        ValuesV1::Bool(v) => Values::Bool(v),
        ValuesV1::Empty => Values::Empty,
    }
}

fn from_bounds(bounds: &Bounds) -> BoundsV1 {
    let number = |n: Option<Number>| {
        n.map(|n| match n {
            Number::Int(n) => NumberV1::Int(n),
            Number::Float(x) => NumberV1::Float(x),
        })
    };
    BoundsV1 { gte: number(bounds.gte), gt: number(bounds.gt), lte: number(bounds.lte), lt: number(bounds.lt) }
}

fn to_bounds(bounds: &BoundsV1) -> Bounds {
    let number = |n: &Option<NumberV1>| {
        n.as_ref().map(|n| match n {
            NumberV1::Int(n) => Number::Int(*n),
            NumberV1::Float(x) => Number::Float(*x),
        })
    };
    Bounds { gte: number(&bounds.gte), gt: number(&bounds.gt), lte: number(&bounds.lte), lt: number(&bounds.lt) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_round_trip() {
        let deep = Filter::And(vec![
            Filter::In { field: "a".into(), values: Values::Int(vec![i64::MIN, i64::MAX]), negated: false },
            Filter::In { field: "b".into(), values: Values::Str(vec!["\0北京".into()]), negated: true },
            Filter::In { field: "c".into(), values: Values::Bool(vec![true]), negated: false },
            Filter::Or(vec![
                Filter::In { field: "d".into(), values: Values::Empty, negated: false },
                Filter::Range {
                    field: "e".into(),
                    bounds: Bounds {
                        gte: Some(Number::Int((1 << 53) + 1)),
                        lt: Some(Number::Float(0.1)),
                        ..Bounds::default()
                    },
                    outside: true,
                },
                Filter::Circle { fields: ["x".into(), "y".into()], center: [0.5, -1e300], radius: 2.0, outside: true },
            ]),
        ]);
        let path = || ObjectPath::parse("bucket/dir/sub").expect("valid");
        for spec in [
            TaskSpec::Export { filter: Filter::All, target: path(), format: Format::Json },
            TaskSpec::Export { filter: deep.clone(), target: path(), format: Format::Parquet },
            TaskSpec::Delete { filter: deep.clone(), need_confirm: true, backup: None },
            TaskSpec::Delete { filter: deep, need_confirm: false, backup: Some((path(), Format::Parquet)) },
        ] {
            assert_eq!(decode(&encode(&spec).expect("encodes")).expect("decodes"), spec);
        }
    }

    #[test]
    fn newer_and_damaged_specs_are_refused() {
        for text in ["", "{}", r#"{"format":2,"spec":{"task":"export"}}"#, r#"{"format":1,"spec":{"task":"other"}}"#] {
            assert_eq!(decode(text).map_err(|e| e.kind()), Err(Kind::Corrupt), "{text}");
        }
    }
}
