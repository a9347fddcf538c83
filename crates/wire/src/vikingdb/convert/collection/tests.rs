use std::sync::Arc;

use knarr_base::Kind;

use super::*;
use crate::testing::{NOW_MS, golden};
use crate::vikingdb::convert::write;

fn args(body: &str) -> Args<'_> {
    Args::new("", body.as_bytes()).expect("valid")
}

/// A create request with these `fields` and more members.
fn created(fields: &str, more: &str) -> Result<CreateCollection> {
    let body = format!(r#"{{"collection_name":"example","primary_key":"id","fields":[{fields}]{more}}}"#);
    create(&args(&body))
}

const ID: &str = r#"{"field_name":"id","field_type":"int64"}"#;

#[test]
fn the_measured_request_of_the_vendors_client() {
    let body = r#"{"collection_name":"example","description":"","project":"default","primary_key":"id",
     "fields":[{"field_name":"id","field_type":"int64"},{"field_name":"city","field_type":"string","default_val":"x"},{"field_name":"v","field_type":"vector","dim":4}]}"#;
    let new = create(&args(body)).expect("valid");
    assert_eq!((new.name.as_str(), new.project.as_str(), new.description.as_str()), ("example", "default", ""));
    assert_eq!(new.schema.key_name(), "id");
    assert_eq!(new.schema.vector(), Some((2, 4)));
    assert_eq!(new.schema.fields()[1].default, Some(value::Value::Str("x".to_owned())));
    assert!(new.aliases.is_empty() && new.vectorize.is_none());
}

#[test]
fn generated_keys_and_all_types() {
    let body = r#"{"collection_name":"c","primary_key":"__AUTO_ID__","project":"","collection_aliases":["a","b"],"fields":[
        {"field_name":"i","field_type":"int64","default_val":-1},
        {"field_name":"f","field_type":"float32","default_val":1},
        {"field_name":"g","field_type":"float32","default_val":0.1},
        {"field_name":"s","field_type":"string","default_val":null},
        {"field_name":"b","field_type":"bool","default_val":true},
        {"field_name":"li","field_type":"list<int64>","default_val":[]},
        {"field_name":"ls","field_type":"list<string>","default_val":["x"]},
        {"field_name":"sv","field_type":"sparse_vector"},
        {"field_name":"t","field_type":"text","pipeline_name":""},
        {"field_name":"im","field_type":"image"}]}"#;
    let new = create(&args(body)).expect("valid");
    assert_eq!(new.schema.key_name(), "__AUTO_ID__");
    assert_eq!(new.project, "default");
    assert_eq!(new.aliases.iter().map(Name::as_str).collect::<Vec<_>>(), ["a", "b"]);
    let defaults: Vec<_> = new.schema.fields().iter().map(|f| f.default.clone()).collect();
    assert_eq!(
        defaults[..7],
        [
            Some(value::Value::Int(-1)),
            Some(value::Value::Float(1.0)),
            Some(value::Value::Float(0.1)),
            None,
            Some(value::Value::Bool(true)),
            Some(value::Value::IntList(vec![])),
            Some(value::Value::StrList(vec!["x".to_owned()])),
        ]
    );
    assert_eq!(new.schema.fields()[8].pipeline, None);
}

#[test]
fn the_keys_default_is_ignored_and_unchecked() {
    let new = created(r#"{"field_name":"id","field_type":"int64","default_val":"zero"}"#, "").expect("valid");
    assert_eq!(new.schema.fields()[0].default, None);
}

#[test]
fn bad_schemas_are_refused() {
    let bad_defaults = [
        ("int64", r#""1""#),
        ("int64", "1.0"),
        ("int64", "9223372036854775808"),
        ("float32", "1e39"),
        ("float32", r#""1""#),
        ("string", "1"),
        ("bool", "1"),
        ("list<int64>", "1"),
        ("list<int64>", "[true]"),
        ("list<string>", "[1]"),
        ("text", r#""x""#),
        ("vector", "[0,0,0,0]"),
    ];
    for (kind, default) in bad_defaults {
        let field = format!(r#"{ID},{{"field_name":"f","field_type":"{kind}","dim":4,"default_val":{default}}}"#);
        assert_eq!(created(&field, "").map_err(|e| e.kind()).err(), Some(Kind::Invalid), "{kind} {default}");
    }
    for fields in [
        "",
        "1",
        r#"{"field_name":"id"}"#,
        r#"{"field_type":"int64"}"#,
        r#"{"field_name":"id","field_type":"int32"}"#,
        r#"{"field_name":"1d","field_type":"int64"}"#,
        r#"{"field_name":"id","field_type":"vector"}"#,
        r#"{"field_name":"id","field_type":"int64"},{"field_name":"v","field_type":"vector","dim":-4}"#,
        r#"{"field_name":"id","field_type":"int64"},{"field_name":"v","field_type":"vector","dim":"4"}"#,
        r#"{"field_name":"id","field_type":"int64"},{"field_name":"id","field_type":"int64"}"#,
        r#"{"field_name":"id","field_type":"int64","field_name":"x"}"#,
    ] {
        assert_eq!(created(fields, "").map_err(|e| e.kind()).err(), Some(Kind::Invalid), "{fields}");
    }
    for body in ["{}", r#"{"collection_name":"c"}"#, r#"{"collection_name":"c","primary_key":"id"}"#] {
        assert_eq!(create(&args(body)).map_err(|e| e.kind()).err(), Some(Kind::Invalid), "{body}");
    }
}

#[test]
fn bounds_hold_exactly() {
    let field = |n: usize| format!(r#",{{"field_name":"f{n}","field_type":"int64"}}"#);
    let wide = |n: usize| ID.to_owned() + &(1..n).map(field).collect::<String>();
    assert!(created(&wide(limit::FIELDS), "").is_ok());
    assert!(created(&wide(limit::FIELDS + 1), "").is_err());
    let text = |name: &str, n: usize| format!(r#","{name}":"{}""#, "x".repeat(n));
    for (name, most) in [("description", limit::DESCRIPTION_BYTES), ("project", limit::NAME_BYTES)] {
        assert!(created(ID, &text(name, most)).is_ok(), "{name}");
        assert!(created(ID, &text(name, most + 1)).is_err(), "{name}");
    }
    let aliases = |n: usize| format!(r#","collection_aliases":[{}]"#, vec![r#""a""#; n].join(","));
    assert!(created(ID, &aliases(limit::ALIASES_PER_COLLECTION)).is_ok());
    assert!(created(ID, &aliases(limit::ALIASES_PER_COLLECTION + 1)).is_err());
    let default = |n: usize| {
        format!(r#"{ID},{{"field_name":"l","field_type":"list<int64>","default_val":[{}]}}"#, vec!["1"; n].join(","))
    };
    assert!(created(&default(limit::LIST_ELEMENTS), "").is_ok());
    assert!(created(&default(limit::LIST_ELEMENTS + 1), "").is_err());
    for bad in [r#","description":"a\u0000""#, r#","project":1"#, r#","collection_aliases":["1a"]"#] {
        assert!(created(ID, bad).is_err(), "{bad}");
    }
}

#[test]
fn vectorize_is_a_list_that_every_client_can_read() {
    let given = |text: &str| created(ID, &format!(r#","vectorize":{text}"#)).map(|new| new.vectorize);
    let entry = r#"{"dense":{"model_name":"bge-m3"},"sparse":{"model_name":"bge-m3"}}"#;
    assert_eq!(given(&format!("[{entry}]")).expect("valid"), Some(format!("[{entry}]")));
    assert_eq!(given(entry).expect("a single map"), Some(format!("[{entry}]")));
    for none in ["null", "[]"] {
        assert_eq!(given(none).expect("valid"), None, "{none}");
    }
    for bad in ["1", "[1]", "[{}]", r#"[{"dense":{}}]"#, r#"[{"dense":{"model_name":1}}]"#, r#"[{"dense":null}]"#] {
        assert!(given(bad).is_err(), "{bad}");
    }
    let vector = format!(r#"{ID},{{"field_name":"v","field_type":"vector","dim":4}}"#);
    assert!(created(&vector, &format!(r#","vectorize":[{entry}]"#)).is_err());
}

#[test]
fn collections_are_named_or_aliased() {
    let read = |body: &str| reference(&args(body));
    assert_eq!(read(r#"{"collection_name":"a"}"#).expect("name"), CollectionRef::Name("a".to_owned()));
    assert_eq!(read(r#"{"collection_alias":"b"}"#).expect("alias"), CollectionRef::Alias("b".to_owned()));
    let both = r#"{"collection_name":"a","collection_alias":"b"}"#;
    assert_eq!(read(both).expect("name"), CollectionRef::Name("a".to_owned()));
    let empty = r#"{"collection_name":"","collection_alias":"b"}"#;
    assert_eq!(read(empty).expect("alias"), CollectionRef::Alias("b".to_owned()));
    for bad in ["{}", r#"{"collection_name":""}"#, r#"{"collection_name":1}"#, r#"{"collection_name":null}"#] {
        assert_eq!(read(bad).map_err(|e| e.kind()), Err(Kind::Invalid), "{bad}");
    }
}

#[test]
fn an_update_names_what_changes() {
    let change = update(&args(r#"{"collection_name":"a","fields":[]}"#)).expect("valid");
    assert!(change.description.is_none() && change.aliases.is_none() && change.fields.is_empty());
    let body = r#"{"description":"d","collection_aliases":[],"fields":[{"field_name":"n","field_type":"int64","default_val":7}]}"#;
    let change = update(&args(body)).expect("valid");
    assert_eq!((change.description.as_deref(), change.aliases), (Some("d"), Some(vec![])));
    assert_eq!(change.fields[0].default, Some(value::Value::Int(7)));
}

fn info(fields: &str, primary_key: &str, vectorize: Option<&str>) -> CollectionInfo {
    let body = format!(r#"{{"collection_name":"example","primary_key":"{primary_key}","fields":[{fields}]}}"#);
    let new = create(&args(&body)).expect("valid");
    CollectionInfo {
        name: new.name,
        aliases: vec![Name::parse("n", "shop").expect("valid")],
        description: "what \"it\" is".to_owned(),
        project: new.project,
        schema: Arc::new(new.schema),
        vectorize: vectorize.map(str::to_owned),
        indexes: vec![],
        rows: 1234,
        bytes: 456_789,
        created_ms: NOW_MS,
        updated_ms: NOW_MS + 999,
        updated_by: "AKLTexample".to_owned(),
    }
}

#[test]
fn views_have_the_vendors_shape() {
    let fields = r#"{"field_name":"id","field_type":"int64"},{"field_name":"city","field_type":"string"},{"field_name":"price","field_type":"float32","default_val":0.1},{"field_name":"tags","field_type":"list<string>","default_val":["a"]},{"field_name":"v","field_type":"vector","dim":4},{"field_name":"sv","field_type":"sparse_vector"}"#;
    let plain = info(fields, "id", None);
    let mut out = Vec::new();
    write(&view(&plain).expect("a view"), &mut out);
    golden("collection_info.json", std::str::from_utf8(&out).expect("UTF-8"));

    let text = r#"{"field_name":"t","field_type":"text","pipeline_name":"text_bge_m3"}"#;
    let auto = info(text, "__AUTO_ID__", Some(r#"[{"dense":{"model_name":"m"}}]"#));
    let mut out = Vec::new();
    write(&[view(&plain).expect("a view"), view(&auto).expect("a view")], &mut out);
    golden("collection_list.json", std::str::from_utf8(&out).expect("UTF-8"));

    let damaged = info(fields, "id", Some("[{"));
    assert_eq!(view(&damaged).map(|_| ()).map_err(|e| e.kind()), Err(Kind::Corrupt));
}
