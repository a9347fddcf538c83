use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::BooleanBuffer;
use knarr_base::filter::{Bounds, Filter, Values};
use knarr_base::schema::{FieldType, Schema};
use knarr_base::value::Number;
use proptest::prelude::*;

use super::Predicate;
use crate::bulk::testing::bounds;
use crate::columns;
use crate::rows::testing::{Cell, Row, any_rows, any_schema, field, float, int, kinds, names, stored, text};

/// The filter's meaning, over plain values, by the wording of the specification.
fn holds(filter: &Filter, schema: &Schema, row: &Row) -> bool {
    let cell = |name: &str| &row[names(schema).iter().position(|n| *n == name).unwrap()];
    let number = |name: &str| match cell(name) {
        Cell::Int(n) => *n as f64,
        Cell::Float(x) => f64::from(*x),
        other => panic!("not a number: {other:?}"),
    };
    match filter {
        Filter::All => true,
        Filter::And(parts) => parts.iter().all(|part| holds(part, schema, row)),
        Filter::Or(parts) => parts.iter().any(|part| holds(part, schema, row)),
        Filter::In { field, values, negated } => {
            let among = match (cell(field), values) {
                (_, Values::Empty) => false,
                (Cell::Int(n), Values::Int(values)) => values.contains(n),
                (Cell::Str(s), Values::Str(values)) => values.contains(s),
                (Cell::Bool(b), Values::Bool(values)) => values.contains(b),
                (Cell::IntList(list), Values::Int(values)) => list.iter().any(|n| values.contains(n)),
                (Cell::StrList(list), Values::Str(values)) => list.iter().any(|s| values.contains(s)),
                (cell, values) => panic!("{cell:?} among {values:?}"),
            };
            among != *negated
        }
        Filter::Range { field, bounds, outside } => {
            let compare = |bound: Number| match cell(field) {
                Cell::Int(n) => bound.cmp_int(*n),
                Cell::Float(x) => bound.cmp_float(*x),
                other => panic!("not a number: {other:?}"),
            };
            let mut tests = bounds.tests().map(|(bound, keep)| keep(compare(bound)));
            if *outside { tests.any(|kept| kept) } else { tests.all(|kept| kept) }
        }
        Filter::Circle { fields: [x, y], center, radius, outside } => {
            let (dx, dy) = (number(x) - center[0], number(y) - center[1]);
            (dx * dx + dy * dy > radius * radius) == *outside
        }
    }
}

fn any_bound() -> impl Strategy<Value = Number> {
    prop_oneof![
        2 => int().prop_map(Number::Int),
        2 => (-20i32..21).prop_map(|n| Number::Float(f64::from(n) / 4.0)),
        1 => float().prop_map(|x| Number::Float(x.into())),
        1 => prop::sample::select(vec![1e300, -1e300, 9_223_372_036_854_775_808.0, 0.1]).prop_map(Number::Float),
    ]
}

fn any_bounds() -> impl Strategy<Value = Bounds> {
    let end = || prop::option::weighted(0.4, any_bound());
    let some = |(gte, gt, lte, lt)| Bounds { gte, gt, lte, lt };
    (end(), end(), end(), end()).prop_map(some).prop_filter("at least one", |b| b.tests().next().is_some())
}

/// A condition on one of the fields, or on two numbers.
fn any_leaf(schema: &Schema) -> BoxedStrategy<Filter> {
    let mut leaves: Vec<BoxedStrategy<Filter>> = vec![Just(Filter::All).boxed()];
    let fields: Vec<(String, FieldType)> = names(schema).into_iter().map(str::to_owned).zip(kinds(schema)).collect();
    let numeric = |kind: &FieldType| matches!(kind, FieldType::Int64 | FieldType::Float32);
    let numbers: Vec<String> = fields.iter().filter(|(_, kind)| numeric(kind)).map(|(name, _)| name.clone()).collect();
    for (field, kind) in fields {
        let few = 0..12usize;
        let values = match kind {
            FieldType::Int64 | FieldType::Int64List => {
                Some(prop::collection::vec(int(), few).prop_map(Values::Int).boxed())
            }
            FieldType::String | FieldType::StringList => {
                Some(prop::collection::vec(text(), few).prop_map(Values::Str).boxed())
            }
            FieldType::Bool => Some(prop::collection::vec(any::<bool>(), 0..3).prop_map(Values::Bool).boxed()),
            _ => None,
        };
        if let Some(values) = values {
            let values = prop_oneof![9 => values, 1 => Just(Values::Empty)];
            let field = field.clone();
            let within = move |(values, negated)| Filter::In { field: field.clone(), values, negated };
            leaves.push((values, any::<bool>()).prop_map(within).boxed());
        }
        if numeric(&kind) {
            let range = move |(bounds, outside)| Filter::Range { field: field.clone(), bounds, outside };
            leaves.push((any_bounds(), any::<bool>()).prop_map(range).boxed());
        }
    }
    if !numbers.is_empty() {
        let axis = || prop::sample::select(numbers.clone());
        let quarter = || (-12i32..13).prop_map(|n| f64::from(n) / 4.0);
        let circle = |(x, y, cx, cy, r, outside): (_, _, _, _, f64, _)| Filter::Circle {
            fields: [x, y],
            center: [cx, cy],
            radius: r.abs(),
            outside,
        };
        leaves.push((axis(), axis(), quarter(), quarter(), quarter(), any::<bool>()).prop_map(circle).boxed());
    }
    prop::strategy::Union::new(leaves).boxed()
}

/// Two to many conditions, nested.
pub(crate) fn any_filter(schema: &Schema) -> BoxedStrategy<Filter> {
    let several = |part: BoxedStrategy<Filter>| {
        (prop::collection::vec(part, 2..4), any::<bool>())
            .prop_map(|(parts, and)| if and { Filter::And(parts) } else { Filter::Or(parts) })
            .boxed()
    };
    let nested = any_leaf(schema).prop_recursive(3, 24, 3, move |part| several(part.boxed())).boxed();
    several(nested)
}

fn rows_of(found: &BooleanBuffer) -> Vec<usize> {
    found.set_indices().collect()
}

fn matching(filter: &Filter, schema: &Schema, batch: &RecordBatch) -> Vec<usize> {
    rows_of(&Predicate::compile(filter, schema).unwrap().evaluate(batch, None))
}

/// A schema, rows and two filters for it.
fn case() -> impl Strategy<Value = (Arc<Schema>, Vec<Row>, Filter, Filter)> {
    any_schema().prop_flat_map(|schema| {
        let (rows, one, two) = (any_rows(&schema, 200), any_filter(&schema), any_leaf(&schema));
        (Just(schema), rows, one, two)
    })
}

proptest! {
    #[test]
    fn filter_vs_naive_eval((schema, rows, filter, _) in case(), seed in any::<u64>()) {
        let batch = stored(&schema, &rows);
        let predicate = Predicate::compile(&filter, &schema).unwrap();
        let expected: Vec<_> = (0..rows.len()).filter(|at| holds(&filter, &schema, &rows[*at])).collect();
        prop_assert_eq!(rows_of(&predicate.evaluate(&batch, None)), expected.clone());

        // Only some rows live, few or many: the rest is never found.
        let live = |at: usize| seed.rotate_left(at as u32 % 64) & seed.rotate_right(at as u32 % 7) & 1 == 1;
        let mask = BooleanBuffer::collect_bool(rows.len(), live);
        let alive: Vec<_> = expected.iter().copied().filter(|at| live(*at)).collect();
        prop_assert_eq!(rows_of(&predicate.evaluate(&batch, Some(&mask))), alive.clone());

        // A slice is a batch of its own.
        let skip = (seed % 70) as usize % (rows.len() + 1);
        let (part, mask) = (batch.slice(skip, rows.len() - skip), mask.slice(skip, rows.len() - skip));
        let moved: Vec<_> = alive.iter().filter(|at| **at >= skip).map(|at| at - skip).collect();
        prop_assert_eq!(rows_of(&predicate.evaluate(&part, Some(&mask))), moved);

        // Bounds rule a part out only if nothing in it matches.
        let of = |column: usize| bounds([batch.column(column).as_ref()].into_iter());
        prop_assert!(expected.is_empty() || predicate.may_match(&of));
        prop_assert!(expected.is_empty() || predicate.may_match(&|_| None));
    }

    /// Rows that were written before the fields existed match by the defaults.
    #[test]
    fn widened_rows_match_by_their_defaults((schema, rows, filter, _) in case(), keep in 0usize..8) {
        let fields = schema.fields();
        let old = (1..=fields.len()).filter_map(|n| Schema::new(fields[..n].to_vec(), schema.key_name()).ok());
        let old = old.filter(|old| fields[old.fields().len()..].iter().all(|f| f.default_value().is_some()));
        let Some(old) = old.collect::<Vec<_>>().into_iter().nth(keep) else { return Ok(()) };
        let had = columns::user_schema(&old).fields().len();
        let narrow: Vec<Row> = rows.iter().map(|row| row[..had].to_vec()).collect();
        let defaulted: Vec<Row> = narrow.iter().map(|row| {
            let added = fields[old.fields().len()..].iter().map(|f| match f.kind {
                FieldType::Int64 => Cell::Int(0),
                FieldType::Float32 => Cell::Float(0.0),
                FieldType::String => Cell::Str("default".to_owned()),
                FieldType::Bool => Cell::Bool(false),
                FieldType::Int64List => Cell::IntList(vec![0]),
                FieldType::StringList => Cell::StrList(vec!["default".to_owned()]),
                _ => Cell::Absent,
            });
            row.iter().cloned().chain(added).collect()
        }).collect();
        let wide = columns::widen(&stored(&old, &narrow), &schema, &columns::stored_schema(&schema));
        let expected: Vec<_> = (0..rows.len()).filter(|at| holds(&filter, &schema, &defaulted[*at])).collect();
        prop_assert_eq!(matching(&filter, &schema, &wide), expected);
    }

    /// Laws that hold whatever a condition means.
    #[test]
    fn complements_and_de_morgan((schema, rows, filter, leaf) in case()) {
        let batch = stored(&schema, &rows);
        let found = |filter: &Filter| matching(filter, &schema, &batch);
        let all = found(&Filter::All);
        prop_assert_eq!(all.len(), rows.len());
        let without = |some: &[usize]| -> Vec<usize> { all.iter().copied().filter(|at| !some.contains(at)).collect() };

        if let Some(opposite) = opposite(&leaf) {
            let (yes, no) = (found(&leaf), found(&opposite));
            prop_assert_eq!(&without(&yes), &no, "{:?}", leaf);
            if let Some(twice) = self::opposite(&opposite) {
                prop_assert_eq!(&found(&twice), &yes, "not not");
            }
            let both = found(&Filter::And(vec![filter.clone(), leaf.clone()]));
            let neither = found(&Filter::Or(vec![Filter::And(vec![filter.clone(), opposite.clone()]), leaf.clone()]));
            let split: Vec<_> = found(&filter).into_iter().filter(|at| yes.contains(at)).collect();
            prop_assert_eq!(&both, &split);
            prop_assert_eq!(neither.len(), found(&Filter::Or(vec![filter.clone(), leaf.clone()])).len());
        }
        if let Filter::And(parts) | Filter::Or(parts) = &filter
            && let Some(opposites) = parts.iter().map(opposite).collect::<Option<Vec<_>>>()
        {
            let turned = match &filter {
                Filter::And(_) => Filter::Or(opposites),
                _ => Filter::And(opposites),
            };
            prop_assert_eq!(without(&found(&filter)), found(&turned), "de Morgan");
        }
    }
}

/// The filter for all other rows, where one condition can say it.
fn opposite(filter: &Filter) -> Option<Filter> {
    match filter {
        Filter::In { field, values, negated } => {
            Some(Filter::In { field: field.clone(), values: values.clone(), negated: !negated })
        }
        Filter::Range { field, bounds: b, outside } => {
            let bounds = Bounds { gte: b.lt, gt: b.lte, lte: b.gt, lt: b.gte };
            Some(Filter::Range { field: field.clone(), bounds, outside: !outside })
        }
        Filter::Circle { fields, center, radius, outside } => {
            Some(Filter::Circle { fields: fields.clone(), center: *center, radius: *radius, outside: !outside })
        }
        Filter::All | Filter::And(_) | Filter::Or(_) => None,
    }
}

fn people(rows: usize) -> (Schema, RecordBatch) {
    let schema = Schema::new(vec![field("id", FieldType::Int64), field("city", FieldType::String)], "id").unwrap();
    let row = |n: usize| vec![Cell::Int(n as i64 * 3), Cell::Str(format!("city{}", n % 10))];
    let batch = stored(&schema, &(0..rows).map(row).collect::<Vec<_>>());
    (schema, batch)
}

fn ints(values: impl Iterator<Item = i64>, negated: bool) -> Filter {
    Filter::In { field: "id".to_owned(), values: Values::Int(values.collect()), negated }
}

#[test]
fn sets_of_every_form_answer_alike() {
    let (schema, batch) = people(1000);
    for spread in [1, 3, 1 << 30] {
        let filter = ints((0..500).map(|n| n * spread), false);
        let expected: Vec<_> =
            (0..1000).filter(|n| n * 3 % spread as usize == 0 && n * 3 / (spread as usize) < 500).collect();
        assert_eq!(matching(&filter, &schema, &batch), expected, "{spread}");
    }
    let extremes = ints([i64::MIN, 0, i64::MAX].into_iter(), false);
    assert_eq!(matching(&extremes, &schema, &batch), [0]);
    for count in [1, 8, 9, 100] {
        let values = Values::Str((0..count).map(|n| format!("city{}", n * 2)).collect());
        let filter = Filter::In { field: "city".to_owned(), values, negated: false };
        let expected: Vec<_> = (0..1000).filter(|n| n % 10 % 2 == 0 && n % 10 / 2 < count).collect();
        assert_eq!(matching(&filter, &schema, &batch), expected, "{count}");
    }
}

/// Lengths around those at which strings are compared in another way.
#[test]
fn strings_of_every_length_are_told_apart() {
    let schema = Schema::new(vec![field("id", FieldType::Int64), field("city", FieldType::String)], "id").unwrap();
    let texts: Vec<String> =
        (0..12).flat_map(|n| ["a".repeat(n), format!("{}b", "a".repeat(n)), format!("b{}", "a".repeat(n))]).collect();
    let row = |(n, text): (usize, &String)| vec![Cell::Int(n as i64), Cell::Str(text.clone())];
    let batch = stored(&schema, &texts.iter().enumerate().map(row).collect::<Vec<_>>());
    for wanted in texts.windows(2) {
        let filter = Filter::In { field: "city".to_owned(), values: Values::Str(wanted.to_vec()), negated: false };
        let expected: Vec<_> = (0..texts.len()).filter(|at| wanted.contains(&texts[*at])).collect();
        assert_eq!(matching(&filter, &schema, &batch), expected, "{wanted:?}");
    }
}

#[test]
fn bounds_rule_parts_out() {
    let (schema, _) = people(1);
    let may = |filter: &Filter, least, greatest| {
        let bounds = |column: usize| (column == 0).then_some((Number::Int(least), Number::Int(greatest)));
        Predicate::compile(filter, &schema).unwrap().may_match(&bounds)
    };
    let set = ints([5, 9].into_iter(), false);
    assert!(may(&set, 5, 5) && may(&set, 0, 6) && may(&set, 9, 90));
    assert!(!may(&set, 6, 8) && !may(&set, 10, 20) && !may(&set, -4, 4));
    let rest = ints([5, 6, 9].into_iter(), true);
    assert!(may(&rest, 5, 7) && may(&rest, 0, 1) && !may(&rest, 5, 6) && !may(&rest, 9, 9));
    let range = |outside| Filter::Range {
        field: "id".to_owned(),
        bounds: Bounds { gte: Some(Number::Int(5)), lt: Some(Number::Float(9.5)), ..Bounds::default() },
        outside,
    };
    assert!(may(&range(false), 9, 20) && !may(&range(false), 10, 20) && !may(&range(false), 0, 4));
    assert!(may(&range(true), 0, 4), "a range_out with both bounds inside each other admits everything");
    assert!(!may(&Filter::And(vec![set.clone(), range(false)]), 6, 7));
    assert!(may(&Filter::Or(vec![set, range(false)]), 6, 7));
}

#[test]
fn bad_filters_do_not_compile() {
    let (schema, _) = people(1);
    let error = Predicate::compile(&ints([1; 10_001].into_iter(), false), &schema).unwrap_err();
    assert_eq!(error.kind(), knarr_base::Kind::InvalidFilter);
    assert!(Predicate::compile(&ints([1; 10_000].into_iter(), false), &schema).is_ok());
}
