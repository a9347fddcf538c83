use knarr_base::limit;
use proptest::prelude::*;

use super::*;

fn value(raw: &str) -> Result<Value> {
    parse("p", raw)
}

#[test]
fn members_keep_their_raw_text() {
    let body = r#" {"fields": [ {"id": 9007199254740993 , "v":[1e-3]} ], "ttl":null,"collection_\u006eame":"x"} "#;
    let object = Object::parse(body.as_bytes()).expect("valid");
    assert_eq!(object.raw("fields"), Some(r#"[ {"id": 9007199254740993 , "v":[1e-3]} ]"#));
    assert_eq!(object.raw("ttl"), Some("null"));
    assert_eq!(object.raw("collection_name"), Some(r#""x""#));
    assert_eq!(object.raw("nope"), None);
}

#[test]
fn nothing_blanks_and_null_are_empty() {
    for body in ["", " \r\n\t", "null", " null\n", "{}", "{}\n"] {
        assert!(Object::parse(body.as_bytes()).expect("valid").is_empty(), "{body:?}");
    }
}

#[test]
fn what_is_not_one_object_is_refused() {
    let bad: [&[u8]; 10] =
        [b"[]", b"1", b"\"x\"", b"{", b"{}{}", b"{} x", b"{\"a\":}", b"{'a':1}", b"{\"a\":1,}", b"\xff\xfe"];
    for body in bad {
        let error = Object::parse(body).expect_err("refused");
        assert_eq!(error.kind(), Kind::Invalid, "{body:?}");
    }
}

#[test]
fn duplicate_members_are_refused_at_every_level() {
    for body in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#] {
        assert!(Object::parse(body.as_bytes()).is_err(), "{body}");
    }
    assert!(value(r#"{"f":{"user_id":[1],"city":["x"],"user_id":[2]}}"#).is_err());
    assert!(value(r#"[{"a":1,"a":1}]"#).is_err());
    assert!(value(r#"{"f":{"a":1},"g":{"a":1}}"#).is_ok());
}

#[test]
fn numbers_are_exact_and_finite() {
    assert_eq!(value("9007199254740993").expect("valid"), Value::Int(9_007_199_254_740_993));
    assert_eq!(value("-9223372036854775808").expect("valid"), Value::Int(i64::MIN));
    assert_eq!(value("9223372036854775808").expect("valid"), Value::Float(9_223_372_036_854_775_808.0));
    assert_eq!(value("1.0").expect("valid"), Value::Float(1.0));
    assert_eq!(value("1e2").expect("valid"), Value::Float(100.0));
    for bad in ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "01", "+1", ".5", "0x1", "1_000"] {
        assert!(value(bad).is_err(), "{bad}");
    }
}

#[test]
fn texts_are_unicode() {
    assert_eq!(value(r#""\u5317\ud83d\ude00""#).expect("valid"), Value::Text("北😀".to_owned()));
    for bad in [r#""\ud800""#, r#""\udc00""#, r#""\ud800\ud800""#, "\"a\nb\""] {
        assert!(value(bad).is_err(), "{bad}");
    }
}

#[test]
fn parameters_have_types() {
    let get = |raw: &str| Some(value(raw).expect("valid"));
    assert_eq!(text("p", get("null")).expect("absent"), None);
    assert_eq!(text("p", get(r#""x""#)).expect("text").as_deref(), Some("x"));
    assert!(text("p", get("1")).is_err());
    assert!(text("p", get(r#""a\u0000b""#)).is_err());
    assert_eq!(int("p", get("7")).expect("int"), Some(7));
    for bad in ["7.0", "true", r#""7""#, "[]", "1e3"] {
        assert!(int("p", get(bad)).is_err(), "{bad}");
    }
    assert_eq!(flag("p", get("false")).expect("flag"), Some(false));
    for bad in ["0", r#""false""#, "{}"] {
        assert!(flag("p", get(bad)).is_err(), "{bad}");
    }
}

#[test]
fn nesting_is_bounded_exactly() {
    let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
    assert!(Object::parse(nested(limit::JSON_DEPTH).as_bytes()).is_ok());
    assert!(Object::parse(nested(limit::JSON_DEPTH + 1).as_bytes()).is_err());
    let objects = format!("{}1{}", "{\"a\":".repeat(limit::JSON_DEPTH + 1), "}".repeat(limit::JSON_DEPTH + 1));
    assert!(Object::parse(objects.as_bytes()).is_err());
    // Neither brackets in texts nor siblings count, nor does it matter where a piece ends.
    for pad in 0..70 {
        let text = format!("{{\"p\":\"{}\",\"a\":\"{}\\\"\\\\\",\"b\":[]}}", "x".repeat(pad), "[{".repeat(40));
        assert!(Object::parse(text.as_bytes()).is_ok(), "{text}");
    }
    let siblings = format!("{{\"a\":[{}1]}}", "[],".repeat(100));
    assert!(Object::parse(siblings.as_bytes()).is_ok());
}

const BODIES: [&str; 6] = [
    r#"{"collection_name":"c","fields":[{"id":1,"v":[1.5,2],"s":"]\"}"}],"ttl":7}"#,
    r#" { "fields" : [ ] } "#,
    r#"{"fields":[[1,2]],"ttl":0}"#,
    r#"{"a":["fields"],"b":"fields","fields":[{"fields":[1]}]}"#,
    r#"{"fields":{"a":[1]}}"#,
    r#"{"a":{"fields":[1]},"f\u0069elds":[2]}"#,
];

proptest! {
    /// Whatever becomes of a body, leaving its list to somebody else who reads it changes nothing.
    #[test]
    fn a_body_read_around_its_list_is_the_body(
        which in 0..BODIES.len(), at in any::<prop::sample::Index>(), byte in r#"[\[\]{}",:\\ 0f]"#, change in 0..3,
    ) {
        let mut body = BODIES[which].to_owned();
        let at = at.index(body.len());
        if body.is_char_boundary(at) && body.is_char_boundary(at + 1) {
            match change {
                0 => {}
                1 => body.replace_range(at..=at, &byte),
                _ => body.insert_str(at, &byte),
            }
        }
        let whole = Object::parse(body.as_bytes());
        let around = Object::parse_around(body.as_bytes(), "fields").ok().filter(|object| {
            object.raw("fields").is_none_or(|list| serde_json::from_str::<&RawValue>(list).is_ok())
        });
        prop_assert_eq!(whole.is_ok(), around.is_some(), "{}", body);
        if let (Ok(whole), Some(around)) = (whole, around) {
            prop_assert_eq!(whole.0, around.0);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = Object::parse(&body);
    }

    #[test]
    fn any_json_like_text_is_read_or_refused(text in r#"[\[\]{}",:\\0-9a-z.eE+\- ]{0,64}"#) {
        if let Ok(value) = value(&text) {
            let strict: serde_json::Value = serde_json::from_str(&text).expect("ours is the stricter one");
            prop_assert_eq!(strict.is_object(), matches!(value, Value::Map(_)));
        }
    }

    #[test]
    fn written_texts_read_back(text in any::<String>()) {
        let mut out = Vec::new();
        write_text(&text, &mut out);
        let raw = String::from_utf8(out).expect("UTF-8");
        prop_assert_eq!(value(&raw).expect("valid"), Value::Text(text));
    }

    #[test]
    fn depth_agrees_with_a_naive_count(text in r#"[\[\]{}"\\a ]{0,200}"#) {
        let (mut depth, mut most, mut quoted, mut escaped) = (0i64, 0i64, false, false);
        for c in text.chars() {
            if escaped { escaped = false; continue; }
            match c {
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                '[' | '{' if !quoted => { depth += 1; most = most.max(depth); }
                ']' | '}' if !quoted => depth = (depth - 1).max(0),
                _ => {}
            }
        }
        let deep = most > i64::try_from(limit::JSON_DEPTH).expect("small");
        prop_assert_eq!(scan::find_list(text.as_bytes(), None).is_err(), deep);
    }
}
