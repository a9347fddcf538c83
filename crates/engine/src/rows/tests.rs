use std::sync::Arc;

use arrow_array::RecordBatch;
use knarr_base::schema::{AUTO_ID, FieldType, Schema};
use knarr_base::value::{Key, Value};
use knarr_base::{Kind, limit};
use proptest::prelude::*;
use serde_json::Value as Json;

use super::testing::{Cell, any_rows, any_schema, cell, every_type, field, json, row, same, stored};
use super::{Call, Fetched, RowDigest, RowPrinter, Rows, Unknown, row_bytes};
use crate::error::Error;

/// Rows `0..` of a batch, printed and read back by serde_json.
fn printed(schema: &Schema, batch: &RecordBatch) -> Vec<Json> {
    let printer = RowPrinter::whole(schema);
    let print = |row| {
        let mut out = Vec::new();
        printer.write_row(batch, row, &mut out);
        serde_json::from_slice(&out).unwrap()
    };
    (0..batch.num_rows()).map(print).collect()
}

fn upsert(schema: &Arc<Schema>, text: &str) -> Vec<Json> {
    printed(schema, Rows::decode_upsert(schema, text).unwrap().batch())
}

fn refusal(schema: &Arc<Schema>, text: &str) -> (Kind, String) {
    let error = Rows::decode_upsert(schema, text).unwrap_err();
    (error.kind(), error.to_string())
}

#[test]
fn unknown_members_are_left_out_where_that_is_asked_for() {
    let fields = vec![field("id", FieldType::Int64), field("city", FieldType::String)];
    let schema = Arc::new(Schema::new(fields, "id").unwrap());
    let text = r#"[{"x":{"y":[1,"}"]},"id":1,"x":null,"city":"a","__AUTO_ID__":7},{"id":2,"":1e5}]"#;
    let known = [serde_json::json!({"id": 1, "city": "a"}), serde_json::json!({"id": 2, "city": "default"})];
    let rows = Rows::decode(&schema, text, Call::Upsert, Unknown::Ignored).unwrap();
    assert_eq!(printed(&schema, rows.batch()), known);
    let changes = Rows::decode(&schema, text, Call::Update, Unknown::Ignored).unwrap();
    let city = &changes.given().unwrap()[1];
    assert_eq!((city.value(0), city.value(1)), (true, false));
    assert!(Rows::decode(&schema, text, Call::Upsert, Unknown::Refused).is_err());
    // What is left out is JSON, and nothing else is let off.
    for bad in [
        r#"[{"id":1,"x":{]}]"#,
        r#"[{"id":1,"x":tru}]"#,
        r#"[{"id":1,"x":}]"#,
        r#"[{"id":1,"x":"\q"}]"#,
        r#"[{"x":1}]"#,
        r#"[{"id":1,"city":1,"x":1}]"#,
        r#"[{"id":1,"id":1,"x":1}]"#,
    ] {
        let refused = Rows::decode(&schema, bad, Call::Upsert, Unknown::Ignored);
        assert_eq!(refused.map(|_| ()).map_err(|e| e.kind()), Err(Kind::Invalid), "{bad}");
    }
    let auto = Arc::new(Schema::new(vec![field("n", FieldType::Int64)], AUTO_ID).unwrap());
    assert!(Rows::decode(&auto, r#"[{"n":1,"__AUTO_ID__":7}]"#, Call::Upsert, Unknown::Ignored).is_err());
}

const WHOLE: &str = r#"{"id":9007199254740993,"score":0.1,"city":"a\"\u0000北","ok":true,"ns":[1,-2],"tags":["x",""],
    "v":[1,2.5,-0.0,1e-3],"s":{"b":1,"a":0.5},"t":"text","i":"tos://b/o"}"#;

#[test]
fn every_type_goes_in_and_comes_out() {
    let schema = every_type();
    let rows = Rows::decode_upsert(&schema, &format!("[{WHOLE}]")).unwrap();
    let mut out = Vec::new();
    RowPrinter::whole(&schema).write_row(rows.batch(), 0, &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        r#"{"id":9007199254740993,"score":0.1,"city":"a\"\u0000北","ok":true,"ns":[1,-2],"tags":["x",""],"v":[1.0,2.5,-0.0,0.001],"s":{"a":0.5,"b":1.0},"t":"text","i":"tos://b/o"}"#
    );
    let mut out = Vec::new();
    RowPrinter::without_vectors(&schema).write_row(rows.batch(), 0, &mut out);
    let shown: Json = serde_json::from_slice(&out).unwrap();
    assert!(shown.get("v").is_none() && shown.get("s").is_none() && shown.get("t").is_some());
    let bytes = 8 + 4 + 6 + 1 + 16 + 1 + 16 + (2 + 8) + 4 + 9;
    assert_eq!((rows.len(), rows.bytes(), row_bytes(&schema, rows.batch(), 0)), (1, bytes, bytes));
}

#[test]
fn what_is_left_out_takes_its_default() {
    let schema = every_type();
    let short = r#"[{"v":[0,0,0,0],"id":1},{"id":2,"v":[0,0,0,0],"city":null,"t":null,"ns":null,"s":{},"tags":[]}]"#;
    let rows = upsert(&schema, short);
    let expected: Json = serde_json::from_str(
        r#"{"id":1,"score":0.0,"city":"default","ok":false,"ns":[0],"tags":["default"],"v":[0.0,0.0,0.0,0.0],"s":null,"t":null,"i":null}"#,
    )
    .unwrap();
    assert_eq!(rows[0], expected);
    assert_eq!((&rows[1]["s"], &rows[1]["tags"]), (&serde_json::json!({}), &serde_json::json!([])));

    let mut fields =
        vec![field("id", FieldType::String), field("n", FieldType::Int64), field("l", FieldType::StringList)];
    fields[1].default = Some(Value::Int(-7));
    fields[2].default = Some(Value::StrList(vec!["p".to_owned(), "q".to_owned()]));
    let schema = Arc::new(Schema::new(fields, "id").unwrap());
    assert_eq!(upsert(&schema, r#"[{"id":""}]"#), [serde_json::json!({"id":"","n":-7,"l":["p","q"]})]);
}

#[test]
fn vectors_are_read_from_arrays_and_base64() {
    let schema = every_type();
    let floats = "AACAPwAAIEAAAACAb9+9PQ"; // 1, 2.5, -0, 0.0927...
    let doubles = "AAAAAAAA8D8AAAAAAAAEQAAAAAAAAACAAAAA4PqztzA=";
    for vector in [
        format!("{floats:?}"),
        format!("\"{floats}==\""),
        format!("{:?}", floats.replace('/', "\\/")).replace("\\\\", "\\"),
        format!("{doubles:?}"),
        "[1,2.5 ,-0.0,\n\t0.0927]".to_owned(),
        "[ 1e0 , 25e-1,-0,9.27e-2 ]".to_owned(),
    ] {
        let row = &upsert(&schema, &format!(r#"[{{"id":1,"v":{vector}}}]"#))[0];
        let Cell::Vector(v) = cell(FieldType::Vector { dim: 4 }, &row["v"]) else { panic!("not a vector") };
        assert_eq!((v[0], v[1], v[2].to_bits()), (1.0, 2.5, (-0.0f32).to_bits()), "{vector}");
    }
    for (vector, why) in [
        ("[1,2,3]", "dimension mismatch"),
        ("[1,2,3,4,5]", "dimension mismatch"),
        ("[]", "dimension mismatch"),
        ("\"AACAPw==\"", "dimension mismatch"),
        ("\"AACA\"", "packed"),
        ("\"!\"", "base64"),
        ("\"AADAfwAAwH8AAMB/AADAfw==\"", "not finite"),
        ("[1,2,3,1e39]", "does not fit"),
        ("[1,2,3,1e400]", "does not fit"),
        ("[1,2,3,-1e400]", "does not fit"),
        ("[1,2,3,null]", "numbers"),
        ("[1,2,3,\"4\"]", "numbers"),
        ("[1,2,3,[4]]", "numbers"),
        ("[1,2,3,true]", "numbers"),
        ("{\"a\":1}", "expected an array"),
        ("1", "expected an array"),
        ("null", "missing"),
    ] {
        let (kind, text) = refusal(&schema, &format!(r#"[{{"id":1,"v":[1,2,3,4]}},{{"id":2,"v":{vector}}}]"#));
        assert_eq!(kind, Kind::Invalid, "{vector}");
        assert!(text.contains(why) && text.contains("row 1") && text.contains("field v"), "{vector}: {text}");
    }
}

#[test]
fn bad_rows_are_named() {
    let schema = every_type();
    let v = r#""v":[0,0,0,0]"#;
    for (text, kind, parts) in [
        (format!(r#"{{"id":1,{v},"nope":1}}"#), Kind::Invalid, ["nope", "no such field"]),
        (format!(r#"{{"id":1,{v},"__AUTO_ID__":1}}"#), Kind::Invalid, ["__AUTO_ID__", "no such field"]),
        (format!(r#"{{"id":1,{v},"id":1}}"#), Kind::Invalid, ["id", "twice"]),
        (format!(r#"{{"id":1,{v},"t":null,"t":"x"}}"#), Kind::Invalid, ["t", "twice"]),
        (format!("{{{v}}}"), Kind::Invalid, ["id", "missing"]),
        (format!(r#"{{"id":null,{v}}}"#), Kind::Invalid, ["id", "missing"]),
        (r#"{"id":1}"#.to_owned(), Kind::Invalid, ["v", "missing"]),
        (format!(r#"{{"id":1.0,{v}}}"#), Kind::InvalidKey, ["id", "int64"]),
        (format!(r#"{{"id":true,{v}}}"#), Kind::InvalidKey, ["id", "int64"]),
        (format!(r#"{{"id":[1],{v}}}"#), Kind::InvalidKey, ["id", "int64"]),
        (format!(r#"{{"id":"1x",{v}}}"#), Kind::InvalidKey, ["id", "int64"]),
        (format!(r#"{{"id":"+1",{v}}}"#), Kind::InvalidKey, ["id", "int64"]),
        (format!(r#"{{"id":"",{v}}}"#), Kind::InvalidKey, ["id", "int64"]),
        (format!(r#"{{"id":9223372036854775808,{v}}}"#), Kind::InvalidKey, ["id", "64 bits"]),
        (format!(r#"{{"id":1,{v},"score":true}}"#), Kind::Invalid, ["score", "number"]),
        (format!(r#"{{"id":1,{v},"score":"1"}}"#), Kind::Invalid, ["score", "number"]),
        (format!(r#"{{"id":1,{v},"score":1e39}}"#), Kind::Invalid, ["score", "float32"]),
        (format!(r#"{{"id":1,{v},"score":1e400}}"#), Kind::Invalid, ["score", "float32"]),
        (format!(r#"{{"id":1,{v},"score":[1]}}"#), Kind::Invalid, ["score", "number"]),
        (format!(r#"{{"id":1,{v},"city":1}}"#), Kind::Invalid, ["city", "string"]),
        (format!(r#"{{"id":1,{v},"city":{{}}}}"#), Kind::Invalid, ["city", "string"]),
        (format!(r#"{{"id":1,{v},"ok":1}}"#), Kind::Invalid, ["ok", "bool"]),
        (format!(r#"{{"id":1,{v},"ok":"true"}}"#), Kind::Invalid, ["ok", "bool"]),
        (format!(r#"{{"id":1,{v},"ns":[1,2.0]}}"#), Kind::Invalid, ["ns", "i64"]),
        (format!(r#"{{"id":1,{v},"ns":[true]}}"#), Kind::Invalid, ["ns", "i64"]),
        (format!(r#"{{"id":1,{v},"ns":[null]}}"#), Kind::Invalid, ["ns", "i64"]),
        (format!(r#"{{"id":1,{v},"ns":[9223372036854775808]}}"#), Kind::Invalid, ["ns", "i64"]),
        (format!(r#"{{"id":1,{v},"ns":1}}"#), Kind::Invalid, ["ns", "list<int64>"]),
        (format!(r#"{{"id":1,{v},"tags":["a",1]}}"#), Kind::Invalid, ["tags", "string"]),
        (format!(r#"{{"id":1,{v},"tags":"a"}}"#), Kind::Invalid, ["tags", "list<string>"]),
        (format!(r#"{{"id":1,{v},"t":1}}"#), Kind::Invalid, ["t", "text"]),
        (format!(r#"{{"id":1,{v},"s":{{"a":1,"a":2}}}}"#), Kind::Invalid, ["s", "twice"]),
        (format!(r#"{{"id":1,{v},"s":{{"a":"1"}}}}"#), Kind::Invalid, ["s", "number"]),
        (format!(r#"{{"id":1,{v},"s":{{"a":1e400}}}}"#), Kind::Invalid, ["s", "float32"]),
        (format!(r#"{{"id":1,{v},"s":[{{"a":1}},{{"a":2}}]}}"#), Kind::Invalid, ["s", "twice"]),
        (format!(r#"{{"id":1,{v},"s":[{{"a":1,"b":2}}]}}"#), Kind::Invalid, ["s", "one token"]),
        (format!(r#"{{"id":1,{v},"s":[{{}}]}}"#), Kind::Invalid, ["s", "one token"]),
        (format!(r#"{{"id":1,{v},"s":[1]}}"#), Kind::Invalid, ["s", "one token"]),
        (format!(r#"{{"id":1,{v},"s":1}}"#), Kind::Invalid, ["s", "sparse_vector"]),
    ] {
        let (found, why) = refusal(&schema, &format!("[{text}]"));
        assert_eq!(found, kind, "{text}: {why}");
        assert!(parts.iter().all(|part| why.contains(part)) && why.contains("row 0"), "{text}: {why}");
    }
    for call in [
        "",
        "{}",
        "[",
        "[{]",
        "[1]",
        "[]",
        "[{\"id\":1,\"v\":[0,0,0,0]}] 1",
        "[{\"id\":1,\"v\":[0,0,0,NaN]}]",
        "[{\"id\":1,\"v\":[0,0,0,0],\"city\":\"\\ud800\"}]",
        "[{\"id\":1,\"v\":[0,0,0,0],\"score\":Infinity}]",
        "[{\"id\":01,\"v\":[0,0,0,0]}]",
        "[{\"id\":1,\"v\":[0,0,0,0],}]",
        "[{\"id\":1,\"v\":[0,0,0,0]},]",
        "[{\"id\":1 \"v\":[0,0,0,0]}]",
        "[{\"id\":1,\"v\":[0,0,0,0,]}]",
        "[{\"id\":1,\"v\":[0,0,0 0]}]",
        "[{\"id\":1,\"v\":[0,0,0,01]}]",
        "[{\"id\":1,\"v\":[0,0,0,1.]}]",
        "[{\"id\":1,\"v\":[0,0,0,.5]}]",
        "[{\"id\":1,\"v\":[0,0,0,+1]}]",
        "[{\"id\":1,\"v\":[0,0,0,-]}]",
        "[{\"id\":1,\"v\":[0,0,0,1e]}]",
        "[{\"id\":1,\"v\":[0,0,0,0}]",
        "[{\"id\":1,\"v\":[0,0,0,0",
        "[{\"id\":1,\"v\":[0,0,0,0],\"score\":01}]",
        "[{\"id\":1,\"v\":[0,0,0,0],\"score\":1 2}]",
        "[{\"id\":1,\"v\":[0,0,0,0],\"ok\":true false}]",
        "[{\"id\":1,\"v\":[0,0,0,0],\"ok\":true\u{b}}]",
        "[{\"id\":1,\"v\":[0,0,0,0],\"ns\":[1,]}]",
        "[{\"id\":1,\"v\":[0,0,0,0],\"s\":{\"a\":01}}]",
        "[{\"id\":1,\"v\":[0,0,0,0],\"s\":{\"a\":1]}}]",
        "[{\"id\":1,\"v\":[0,0,0,0],\"\\ud800\":1}]",
        "[{id:1,\"v\":[0,0,0,0]}]",
        "[[]]",
        "[{\"id\":1,\"v\":[0,0,0,0]},null]",
        "null",
    ] {
        assert_eq!(refusal(&schema, call).0, Kind::Invalid, "{call}");
    }
}

#[test]
fn integer_keys_may_stand_in_quotes_and_only_keys() {
    let fields = vec![field("id", FieldType::Int64), field("n", FieldType::Int64)];
    let schema = Arc::new(Schema::new(fields, "id").unwrap());
    assert_eq!(upsert(&schema, r#"[{"id":"-9223372036854775808","n":9223372036854775807}]"#)[0]["id"], i64::MIN);
    assert_eq!(refusal(&schema, r#"[{"id":1,"n":"1"}]"#).0, Kind::Invalid);
}

#[test]
fn sparse_vectors_may_be_lists() {
    let schema = every_type();
    let row = &upsert(&schema, r#"[{"id":1,"v":[0,0,0,0],"s":[{"é":1},{"z":2.5},{"a":0}]}]"#)[0];
    assert_eq!(serde_json::to_string(&row["s"]).unwrap(), r#"{"a":0.0,"z":2.5,"é":1.0}"#);
}

#[test]
fn generated_keys_cannot_be_given() {
    let schema = Arc::new(Schema::new(vec![field("city", FieldType::String)], AUTO_ID).unwrap());
    let rows = Rows::decode_upsert(&schema, r#"[{"city":"a"},{"city":"a"},{}]"#).unwrap();
    assert_eq!((rows.len(), rows.batch().num_columns()), (3, 1));
    let (kind, text) = refusal(&schema, r#"[{"__AUTO_ID__":1}]"#);
    assert!(kind == Kind::Invalid && text.contains("generated"), "{text}");

    let change = Rows::decode_update(&schema, r#"[{"__AUTO_ID__":"5","city":"b"}]"#).unwrap();
    assert_eq!(printed(&schema, change.batch()), [serde_json::json!({"__AUTO_ID__":5,"city":"b"})]);
    assert_eq!(Rows::decode_update(&schema, r#"[{"city":"b"}]"#).unwrap_err().kind(), Kind::Invalid);
}

#[test]
fn of_two_rows_with_one_key_the_last_stays() {
    let schema = every_type();
    let v = r#""v":[0,0,0,0]"#;
    let text = format!(
        r#"[{{"id":1,{v},"t":"a"}},{{"id":2,{v},"s":{{"x":1}}}},{{"id":1,{v},"city":"b"}},{{"id":3,{v}}},{{"id":2,{v}}}]"#
    );
    let rows = upsert(&schema, &text);
    let seen: Vec<_> = rows.iter().map(|r| (r["id"].as_i64().unwrap(), r["city"].as_str().unwrap())).collect();
    assert_eq!(seen, [(1, "b"), (3, "default"), (2, "default")]);
    assert!(rows.iter().all(|row| row["t"].is_null() && row["s"].is_null()), "whole rows, nothing of the earlier one");
}

#[test]
fn updates_remember_what_was_given() {
    let schema = every_type();
    let text = r#"[{"id":1,"t":"a","city":null},{"id":2,"v":[1,2,3,4]},{"city":"x","id":1,"score":2}]"#;
    let rows = Rows::decode_update(&schema, text).unwrap();
    let given = rows.given().unwrap();
    let shown = printed(&schema, rows.batch());
    let names: Vec<_> = schema.fields().iter().map(|f| f.name.as_str().to_owned()).collect();
    let of = |row: usize| -> Vec<(String, Json)> {
        let gave = (0..names.len()).filter(|at| given[*at].value(row));
        gave.map(|at| (names[at].clone(), shown[row][&names[at]].clone())).collect()
    };
    let pair = |name: &str, value: Json| (name.to_owned(), value);
    assert_eq!(of(0), [pair("id", 2.into()), pair("v", serde_json::json!([1.0, 2.0, 3.0, 4.0]))]);
    assert_eq!(
        of(1),
        [pair("id", 1.into()), pair("score", serde_json::json!(2.0)), pair("city", "x".into()), pair("t", "a".into())],
        "the two changes to row 1 are merged field by field"
    );
    assert!(Rows::decode_upsert(&schema, &format!("[{WHOLE}]")).unwrap().given().is_none());
    assert_eq!(Rows::decode_update(&schema, r#"[{"t":"a"}]"#).unwrap_err().kind(), Kind::Invalid);
    assert_eq!(Rows::decode_update(&schema, r#"[{"id":1,"v":[1]}]"#).unwrap_err().kind(), Kind::Invalid);
}

#[test]
fn limit_plus_one() {
    let fields = vec![field("id", FieldType::String), field("l", FieldType::Int64List), field("t", FieldType::Text)];
    let schema = Arc::new(Schema::new(fields, "id").unwrap());
    let many = |n: usize| format!("[{}]", vec![r#"{"id":"a"}"#; n].join(","));
    assert!(Rows::decode_upsert(&schema, &many(limit::ROWS_PER_CALL)).is_ok());
    assert!(refusal(&schema, &many(limit::ROWS_PER_CALL + 1)).1.contains("at most 100 rows"));

    let key = |n: usize| format!(r#"[{{"id":"{}"}}]"#, "k".repeat(n));
    assert!(Rows::decode_upsert(&schema, &key(limit::KEY_BYTES)).is_ok());
    assert_eq!(refusal(&schema, &key(limit::KEY_BYTES + 1)).0, Kind::InvalidKey);

    let list = |n: usize| format!(r#"[{{"id":"a","l":[{}]}}]"#, vec!["1"; n].join(","));
    assert!(Rows::decode_upsert(&schema, &list(limit::LIST_ELEMENTS)).is_ok());
    assert!(refusal(&schema, &list(limit::LIST_ELEMENTS + 1)).1.contains("at most 4096 elements"));

    // One byte of key, eight of the list's default.
    let row = |n: usize| format!(r#"[{{"id":"a","t":"{}"}}]"#, "t".repeat(n - 9));
    assert_eq!(Rows::decode_upsert(&schema, &row(limit::ROW_BYTES)).unwrap().bytes(), limit::ROW_BYTES);
    let (kind, text) = refusal(&schema, &row(limit::ROW_BYTES + 1));
    assert_eq!(kind, Kind::Invalid);
    assert!(text.contains("fields data is too long, should be less than 65535"), "{text}");
}

#[test]
fn fetched_entries_keep_the_order_of_the_keys() {
    let schema = Arc::new(Schema::new(vec![field("id", FieldType::Int64), field("t", FieldType::Text)], "id").unwrap());
    let rows = [vec![Cell::Int(1), Cell::Absent], vec![Cell::Int(2), Cell::Str("x".to_owned())]];
    let batch = stored(&schema, &rows);
    let keys = vec![Key::Int(2), Key::Int(9), Key::Int(1)];
    let fetched = Fetched::new(&schema, keys, vec![Some((batch.clone(), 1)), None, Some((batch.slice(0, 1), 0))]);
    let members = |i| {
        let mut out = Vec::new();
        fetched.write_members(i, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!((fetched.len(), fetched.found(1), fetched.key(1)), (3, false, &Key::Int(9)));
    assert_eq!([members(0), members(1), members(2)], [r#""id":2,"t":"x""#, "", r#""id":1,"t":null"#]);
}

/// The bytes that the format document prescribes, written out by hand.
#[test]
fn digest_is_the_documented_one() {
    let schema = every_type();
    let rows = Rows::decode_upsert(&schema, &format!("[{WHOLE}]")).unwrap();
    let mut bytes = Vec::new();
    bytes.extend(9_007_199_254_740_993i64.to_le_bytes());
    bytes.extend(0.1f32.to_le_bytes());
    bytes.extend(*b"\x06\0\0\0a\"\0\xe5\x8c\x97");
    bytes.push(1);
    bytes.extend([2, 0, 0, 0]);
    bytes.extend(1i64.to_le_bytes());
    bytes.extend((-2i64).to_le_bytes());
    bytes.extend(*b"\x02\0\0\0\x01\0\0\0x\0\0\0\0");
    bytes.extend([4, 0, 0, 0]);
    [1.0f32, 2.5, -0.0, 0.001].iter().for_each(|x| bytes.extend(x.to_le_bytes()));
    bytes.extend(*b"\x01\x02\0\0\0\x01\0\0\0a");
    bytes.extend(0.5f32.to_le_bytes());
    bytes.extend(*b"\x01\0\0\0b");
    bytes.extend(1f32.to_le_bytes());
    bytes.extend(*b"\x01\x04\0\0\0text\x01\x09\0\0\0tos://b/o");
    assert_eq!(RowDigest::new(&schema).of(rows.batch(), 0), xxhash_rust::xxh3::xxh3_128(&bytes));
    assert_eq!(xxhash_rust::xxh3::xxh3_128(b""), 0x99aa_06d3_0147_98d8_6001_c324_468d_497f, "the published test value");
}

#[test]
fn errors_say_what_to_do() {
    let kinds = [
        (Error::Stopped.kind(), Kind::Unavailable),
        (Error::Cancelled.kind(), Kind::Refused),
        (Error::RowTooLong { row: 0 }.kind(), Kind::Invalid),
        (Error::ObjectMissing("k".to_owned()).kind(), Kind::NotFound),
    ];
    assert!(kinds.iter().all(|(found, expected)| found == expected));
}

proptest! {
    /// serde_json's text -> columns -> our text -> serde_json's values: nothing changes, floats in no bit.
    #[test]
    fn text_to_columns_to_text(
        (schema, rows) in any_schema().prop_flat_map(|s| { let rows = any_rows(&s, 8); (Just(s), rows) })
    ) {
        prop_assume!(!rows.is_empty());
        let auto = schema.key_name() == AUTO_ID;
        let text: Vec<_> = rows.iter().map(|row| {
            let mut object = json(&schema, row);
            if auto { object.as_object_mut().unwrap().remove(AUTO_ID); }
            object
        }).collect();
        let decoded = Rows::decode_upsert(&schema, &serde_json::to_string(&text).unwrap()).unwrap();
        prop_assert_eq!(decoded.len(), rows.len());
        let batch = stored(&schema, &rows);
        let mut digest = RowDigest::new(&schema);
        for (at, shown) in printed(&schema, &batch).iter().enumerate() {
            let back = row(&schema, shown);
            prop_assert!(same(&back, &rows[at]), "{:?} became {:?}", rows[at], back);
            if !auto {
                prop_assert_eq!(digest.of(decoded.batch(), at), digest.of(&batch, at), "decoded as stored");
                prop_assert_eq!(row_bytes(&schema, decoded.batch(), at), row_bytes(&schema, &batch, at));
            } else {
                prop_assert_eq!(decoded.batch().columns(), &batch.columns()[1..schema.fields().len() + 1]);
            }
            let alone = batch.slice(at, 1);
            prop_assert_eq!(digest.of(&alone, 0), digest.of(&batch, at), "slices count as themselves");
            prop_assert_eq!(&printed(&schema, &alone)[0], shown);
        }
    }
}
