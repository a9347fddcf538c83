use super::*;
use crate::testing::golden;

fn args(body: &str) -> Args<'_> {
    Args::new("", body.as_bytes()).expect("valid")
}

fn kind<T>(result: Result<T>) -> Option<Kind> {
    result.err().map(|e| e.kind())
}

#[test]
fn a_ttl_is_seconds_or_nothing() {
    for (body, expected) in [("{}", 0), (r#"{"ttl":null}"#, 0), (r#"{"ttl":0}"#, 0), (r#"{"ttl":60}"#, 60)] {
        assert_eq!(ttl(&args(body)).expect(body), expected);
    }
    assert_eq!(ttl(&args(&format!("{{\"ttl\":{}}}", limit::TTL_SECONDS))).expect("limit"), limit::TTL_SECONDS);
    let over = format!("{{\"ttl\":{}}}", limit::TTL_SECONDS + 1);
    for bad in [r#"{"ttl":-1}"#, r#"{"ttl":1.5}"#, r#"{"ttl":"60"}"#, r#"{"ttl":true}"#, &over] {
        assert_eq!(kind(ttl(&args(bad))), Some(Kind::Invalid), "{bad}");
    }
}

#[test]
fn rows_pass_as_raw_text() {
    let body = r#"{"fields": [{"id": 1.0}, {"id":"\ud800"}] ,"collection_name":"after"}"#;
    assert_eq!(fields(&args(body)).expect("list"), r#"[{"id": 1.0}, {"id":"\ud800"}]"#);
    for bad in ["{}", r#"{"fields":null}"#, r#"{"fields":{}}"#, r#"{"fields":"[]"}"#] {
        assert_eq!(kind(fields(&args(bad))), Some(Kind::Invalid), "{bad}");
    }
}

#[test]
fn keys_are_one_or_many() {
    let int = Key::Int;
    let text = |t: &str| Key::Str(t.into());
    for (body, expected) in [
        (r#"{"primary_keys":7}"#, vec![int(7)]),
        (r#"{"primary_keys":"a"}"#, vec![text("a")]),
        (r#"{"primary_keys":[1,"2",1]}"#, vec![int(1), text("2"), int(1)]),
        (r#"{"primary_keys":9007199254740993}"#, vec![int(9_007_199_254_740_993)]),
    ] {
        assert_eq!(keys(&args(body)).expect(body), Some(expected));
    }
    let query = Args::new("primary_keys=1&primary_keys=b", b"").expect("valid");
    assert_eq!(keys(&query).expect("query"), Some(vec![text("1"), text("b")]));
    assert_eq!(keys(&args(r#"{"primary_keys":null}"#)).expect("absent"), None);
}

#[test]
fn keys_have_bounds_and_types() {
    let many = |n: usize| format!("{{\"primary_keys\":[{}]}}", vec!["1"; n].join(","));
    assert!(keys(&args(&many(limit::ROWS_PER_CALL))).is_ok());
    assert_eq!(kind(keys(&args(&many(limit::ROWS_PER_CALL + 1)))), Some(Kind::Invalid));
    assert_eq!(kind(keys(&args(&many(0)))), Some(Kind::Invalid));
    let long = |n: usize| format!("{{\"primary_keys\":\"{}\"}}", "k".repeat(n));
    assert!(keys(&args(&long(limit::KEY_BYTES))).is_ok());
    assert_eq!(kind(keys(&args(&long(limit::KEY_BYTES + 1)))), Some(Kind::InvalidKey));
    for bad in ["true", "1.0", "[null]", "[[1]]", "{}", "9223372036854775808"] {
        assert_eq!(kind(keys(&args(&format!("{{\"primary_keys\":{bad}}}")))), Some(Kind::InvalidKey), "{bad}");
    }
}

#[test]
fn items_are_flat_and_missing_ones_say_so() {
    let members = |out: &mut Vec<u8>| out.extend_from_slice(br#""id":1,"city":"x","v":[0.5]"#);
    let mut out = Vec::new();
    for replace_primary in [false, true] {
        write_found(&Key::Int(1), replace_primary, members, &mut out);
        out.push(b'\n');
        write_missing(&Key::Int(i64::MIN), "id", replace_primary, &mut out);
        out.push(b'\n');
        write_missing(&Key::Str("a\"b".into()), "name", replace_primary, &mut out);
        out.push(b'\n');
    }
    golden("fetch_items.jsonl", String::from_utf8(out).expect("UTF-8").trim_end());
}
