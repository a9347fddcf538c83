use proptest::prelude::*;

use super::*;
use crate::json;

fn read(text: &str) -> Result<Filter> {
    parse(json::parse("filter", text)?)
}

fn within(field: &str, values: Values) -> Filter {
    Filter::In { field: field.to_owned(), values, negated: false }
}

fn without(field: &str, values: Values) -> Filter {
    Filter::In { field: field.to_owned(), values, negated: true }
}

fn strings(list: &[&str]) -> Values {
    Values::Str(list.iter().map(|s| (*s).to_owned()).collect())
}

#[test]
fn the_documented_map_is_a_conjunction() {
    let expected = Filter::And(vec![within("user_id", Values::Int(vec![5, 9])), within("city", strings(&["beijing"]))]);
    assert_eq!(read(r#"{"user_id":[5,9],"city":["beijing"]}"#).expect("valid"), expected);
    assert_eq!(read(r#"{"city":"beijing"}"#).expect("valid"), within("city", strings(&["beijing"])));
    assert_eq!(read(r#"{"city":[]}"#).expect("valid"), within("city", Values::Empty));
    let big = within("user_id", Values::Int(vec![9_007_199_254_740_993]));
    assert_eq!(read(r#"{"user_id":9007199254740993}"#).expect("valid"), big);
}

#[test]
fn nothing_given_is_all() {
    for text in ["null", "{}", "[]"] {
        assert_eq!(read(text).expect("valid"), Filter::All, "{text}");
    }
}

#[test]
fn every_operator_is_read() {
    let range = |bounds, outside| Filter::Range { field: "price".to_owned(), bounds, outside };
    let both = Bounds { gte: Some(Number::Int(1)), lt: Some(Number::Float(2.5)), ..Bounds::default() };
    let apart = Bounds { gt: Some(Number::Int(500)), lt: Some(Number::Int(100)), ..Bounds::default() };
    let circle = |outside| Filter::Circle {
        fields: ["pos_x".to_owned(), "pos_y".to_owned()],
        center: [1.0, 2.5],
        radius: 3.0,
        outside,
    };
    for (text, expected) in [
        (r#"{"op":"must","field":"city","conds":["x","y"]}"#, within("city", strings(&["x", "y"]))),
        (r#"{"op":"must","field":"ok","conds":[true]}"#, within("ok", Values::Bool(vec![true]))),
        (r#"{"op":"must_not","field":"n","conds":[1]}"#, without("n", Values::Int(vec![1]))),
        (r#"{"op":"must_nor","field":"n","conds":[1]}"#, without("n", Values::Int(vec![1]))),
        (r#"{"op":"must_not","field":"n","conds":[]}"#, without("n", Values::Empty)),
        (r#"{"op":"range","field":"price","gte":1,"lt":2.5}"#, range(both, false)),
        (r#"{"op":"range_out","field":"price","gt":500,"lt":100}"#, range(apart, true)),
        (r#"{"op":"range","field":["pos_x","pos_y"],"center":[1,2.5],"radius":3}"#, circle(false)),
        (r#"{"op":"range_out","field":["pos_x","pos_y"],"center":[1,2.5],"radius":3}"#, circle(true)),
        (
            r#"{"op":"or","conds":[{"op":"must","field":"n","conds":1},{"op":"and","conds":[{"op":"must","field":"n","conds":[2]}]}]}"#,
            Filter::Or(vec![within("n", Values::Int(vec![1])), Filter::And(vec![within("n", Values::Int(vec![2]))])]),
        ),
        (
            r#"[{"op":"must","field":"n","conds":[1]},{"op":"must_not","field":"n","conds":[2]}]"#,
            Filter::And(vec![within("n", Values::Int(vec![1])), without("n", Values::Int(vec![2]))]),
        ),
        (r#"[{"op":"must","field":"n","conds":[1]}]"#, within("n", Values::Int(vec![1]))),
    ] {
        assert_eq!(read(text).expect(text), expected, "{text}");
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    for bad in [
        // Shapes.
        "1",
        "true",
        r#""user_id""#,
        r#"[1]"#,
        r#"[[{"op":"must","field":"n","conds":[1]}]]"#,
        // The map form knows integers and strings.
        r#"{"ok":[true]}"#,
        r#"{"price":[1.5]}"#,
        r#"{"n":[1,"2"]}"#,
        r#"{"n":[null]}"#,
        r#"{"n":null}"#,
        r#"{"n":{"gt":1}}"#,
        r#"{"n":[[1]]}"#,
        r#"{"n":[9223372036854775808]}"#,
        r#"{"n":[1.0]}"#,
        // Operators.
        r#"{"op":"nope","field":"n","conds":[1]}"#,
        r#"{"op":"georange","field":"n"}"#,
        r#"{"op":1,"field":"n","conds":[1]}"#,
        r#"{"conds":[1]}"#,
        r#"{"op":"must","field":"n"}"#,
        r#"{"op":"must","conds":[1]}"#,
        r#"{"op":"must","field":["n"],"conds":[1]}"#,
        r#"{"op":"must","field":"n","conds":[1,true]}"#,
        r#"{"op":"must","field":"n","conds":[1.5]}"#,
        r#"{"op":"and","conds":[]}"#,
        r#"{"op":"or"}"#,
        r#"{"op":"and","conds":[{"n":[1]}]}"#,
        r#"{"op":"range","field":"n"}"#,
        r#"{"op":"range","field":"n","gt":"1"}"#,
        r#"{"op":"range","field":"n","gt":true}"#,
        r#"{"op":"range","field":["x"],"center":[1,2],"radius":3}"#,
        r#"{"op":"range","field":["x","y","z"],"center":[1,2],"radius":3}"#,
        r#"{"op":"range","field":["x","y"],"center":[1],"radius":3}"#,
        r#"{"op":"range","field":["x","y"],"center":[1,2]}"#,
        r#"{"op":"range","field":["x","y"],"center":[1,2],"radius":"3"}"#,
        // A word that is not known may be a bound misspelt.
        r#"{"op":"range","field":"n","gt":1,"ltt":5}"#,
        r#"{"op":"must","field":"n","conds":[1],"values":[2]}"#,
        r#"{"op":"and","conds":[{"op":"must","field":"n","conds":[1]}],"field":"n"}"#,
    ] {
        assert_eq!(read(bad).map_err(|e| e.kind()), Err(Kind::InvalidFilter), "{bad}");
    }
}

#[test]
fn duplicate_names_and_wild_numbers_are_refused() {
    for bad in [
        r#"{"n":[1],"n":[2]}"#,
        r#"{"op":"range","field":"n","gt":1,"gt":0}"#,
        r#"{"op":"range","field":"n","gt":1e400}"#,
        r#"{"op":"range","field":"n","gt":NaN}"#,
        r#"{"city":["\ud800"]}"#,
    ] {
        assert_eq!(read(bad).map_err(|e| e.kind()), Err(Kind::Invalid), "{bad}");
    }
}

#[test]
fn an_empty_exclusion_is_found_at_any_depth() {
    for (text, found) in [
        (r#"{"op":"must_not","field":"n","conds":[]}"#, true),
        (r#"{"op":"or","conds":[{"op":"and","conds":[{"op":"must_not","field":"n","conds":[]}]}]}"#, true),
        (r#"{"op":"must_not","field":"n","conds":[1]}"#, false),
        (r#"{"op":"must","field":"n","conds":[]}"#, false),
    ] {
        assert_eq!(has_empty_exclusion(&read(text).expect("valid")), found, "{text}");
    }
}

/// The operator form of a filter, to read back.
fn write(filter: &Filter) -> serde_json::Value {
    use serde_json::json;
    let number = |n: Number| match n {
        Number::Int(n) => json!(n),
        Number::Float(x) => json!(x),
    };
    match filter {
        Filter::All => json!(null),
        Filter::And(parts) => json!({"op": "and", "conds": parts.iter().map(write).collect::<Vec<_>>()}),
        Filter::Or(parts) => json!({"op": "or", "conds": parts.iter().map(write).collect::<Vec<_>>()}),
        Filter::In { field, values, negated } => {
            let op = if *negated { "must_not" } else { "must" };
            let conds = match values {
                Values::Int(list) => json!(list),
                Values::Str(list) => json!(list),
                Values::Bool(list) => json!(list),
                Values::Empty => json!([]),
            };
            json!({"op": op, "field": field, "conds": conds})
        }
        Filter::Range { field, bounds, outside } => {
            let mut node = json!({"op": if *outside { "range_out" } else { "range" }, "field": field});
            for (name, bound) in [("gte", bounds.gte), ("gt", bounds.gt), ("lte", bounds.lte), ("lt", bounds.lt)] {
                if let Some(bound) = bound {
                    node[name] = number(bound);
                }
            }
            node
        }
        Filter::Circle { fields, center, radius, outside } => json!({
            "op": if *outside { "range_out" } else { "range" }, "field": fields, "center": center, "radius": radius,
        }),
    }
}

fn any_filter() -> impl Strategy<Value = Filter> {
    let number = prop_oneof![any::<i64>().prop_map(Number::Int), (-1e6..1e6f64).prop_map(|x| Number::Float(x + 0.5))];
    let bound = prop::option::of(number);
    let values = prop_oneof![
        prop::collection::vec(any::<i64>(), 1..4).prop_map(Values::Int),
        prop::collection::vec(any::<String>(), 1..4).prop_map(Values::Str),
        prop::collection::vec(any::<bool>(), 1..4).prop_map(Values::Bool),
        Just(Values::Empty),
    ];
    let bounds = (bound.clone(), bound.clone(), bound.clone(), bound)
        .prop_map(|(gte, gt, lte, lt)| Bounds { gte, gt, lte, lt })
        .prop_filter("one bound at least", |bounds| bounds.tests().next().is_some());
    let leaf = prop_oneof![
        (any::<String>(), values, any::<bool>()).prop_map(|(field, values, negated)| Filter::In {
            field,
            values,
            negated
        }),
        (any::<String>(), bounds, any::<bool>()).prop_map(|(field, bounds, outside)| Filter::Range {
            field,
            bounds,
            outside
        }),
        (any::<[String; 2]>(), [-1e6..1e6f64, -1e6..1e6f64], 0.0..1e6f64, any::<bool>())
            .prop_map(|(fields, center, radius, outside)| Filter::Circle { fields, center, radius, outside }),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let parts = prop::collection::vec(inner, 1..4);
        prop_oneof![parts.clone().prop_map(Filter::And), parts.prop_map(Filter::Or)]
    })
}

/// Text made of a filter's own words, mostly wrong.
fn filter_like() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(","),
        Just(":"),
        Just("\"op\""),
        Just("\"conds\""),
        Just("\"field\""),
        Just("\"must\""),
        Just("\"range\""),
        Just("\"and\""),
        Just("\"gt\""),
        Just("1"),
        Just("-0.5"),
        Just("\"x\""),
        Just("null"),
        Just("true"),
        Just("\"center\""),
        Just("\"radius\""),
    ];
    prop::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn written_filters_read_back(filter in any_filter()) {
        prop_assert_eq!(read(&write(&filter).to_string()).expect("valid"), filter);
    }

    #[test]
    fn filter_json_never_panics(text in prop_oneof![any::<String>(), filter_like()]) {
        let _ = read(&text);
    }
}
