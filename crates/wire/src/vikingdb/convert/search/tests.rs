use knarr_base::Kind;
use knarr_base::search::PostOp;
use proptest::prelude::*;

use super::*;
use crate::json;

fn with<R>(body: &str, read: impl FnOnce(&Args<'_>) -> R) -> R {
    read(&Args::new("", body.as_bytes()).expect("arguments"))
}

fn refused(body: &str) -> Kind {
    with(body, |args| Form::parse(args).map(|_| ()).expect_err(body).kind())
}

fn search(members: &str) -> String {
    format!(r#"{{"collection_name":"c","index_name":"i","search":{{{members}}}}}"#)
}

#[test]
fn the_least_search_is_a_random_one_of_ten() {
    with(&search(""), |args| {
        let form = Form::parse(args).expect("valid");
        assert!(matches!(form.order, Order::Random));
        assert_eq!((form.limit, form.offset, form.tuning.scale, form.partition), (10, 0, 1.0, Partition::Default));
        assert!(form.output_fields.is_none() && !form.count && !form.with_vector && !form.replace_primary);
    });
}

#[test]
fn every_mode_of_the_clients_is_read() {
    let body =
        search(r#""order_by_vector":{"vectors":[[1,2,3,4],"AAAA"],"sparse_vectors":[{"a":1,"b":0.5}]},"limit":3"#);
    with(&body, |args| {
        let form = Form::parse(args).expect("valid");
        let Order::Vectors(dense, sparse) = &form.order else { panic!("{form:?}") };
        assert_eq!((dense.as_slice(), form.limit), (&["[1,2,3,4]", "\"AAAA\""][..], 3));
        assert_eq!(sparse[0].weights(), [("a".to_owned(), 1.0), ("b".to_owned(), 0.5)]);
        assert!(!form.orders_by_distance());
    });
    for (keys, expected) in
        [("7", vec![Key::Int(7)]), (r#""k""#, vec![Key::Str("k".into())]), ("[7,8]", vec![Key::Int(7), Key::Int(8)])]
    {
        with(&search(&format!(r#""order_by_vector":{{"primary_keys":{keys}}}"#)), |args| {
            let form = Form::parse(args).expect("valid");
            assert!(matches!(&form.order, Order::Keys(keys) if *keys == expected), "{form:?}");
        });
    }
    with(&search(r#""order_by_scalar":{"field_name":"price","order":"asc"}"#), |args| {
        let form = Form::parse(args).expect("valid");
        assert!(matches!(&form.order, Order::Scalar { field, descending: false } if field == "price"));
    });
    with(&search(r#""order_by_raw":{"text":"x"},"need_instruction":false"#), |args| {
        let material = Material { text: Some("x".into()), image: None };
        assert_eq!(Form::parse(args).expect("valid").raw(), Some(&material));
    });
    with(&search(r#""order_by_raw":{"text":"","image":"tos://b/o"}"#), |args| {
        let material = Material { text: None, image: Some("tos://b/o".into()) };
        assert_eq!(Form::parse(args).expect("valid").raw(), Some(&material));
    });
    with(&search(r#""order_by_vector":null,"filter":null,"output_fields":[],"replace_primay":true"#), |args| {
        let form = Form::parse(args).expect("valid");
        assert_eq!((form.output_fields.as_deref(), form.replace_primary), (Some(&[][..]), true));
    });
}

#[test]
fn operations_keep_their_order() {
    let ops = r#""post_process_ops":[{"op":"string_match","field":"a","pattern":"x"},{"op":"string_contain","field":"a",
        "pattern":"y"},{"op":"string_like","field":"b","pattern":"d%"},{"op":"enum_freq_limiter","field":"c","threshold":2}]"#;
    with(&search(ops), |args| {
        let (a, b, c) = (|| "a".to_owned(), "b".to_owned(), "c".to_owned());
        let expected = [
            PostOp::Match { field: a(), pattern: "x".into() },
            PostOp::Contain { field: a(), pattern: "y".into() },
            PostOp::Like { field: b, pattern: "d%".into() },
            PostOp::PerValue { field: c, threshold: 2 },
        ];
        assert_eq!(Form::parse(args).expect("valid").tuning.ops, expected);
    });
}

#[test]
fn what_is_not_understood_is_refused() {
    for members in [
        r#""filtr":{"op":"must"}"#,
        r#""limit":"10""#,
        r#""limit":1.0"#,
        r#""limit":-1"#,
        r#""offset":-1"#,
        r#""offset":true"#,
        r#""output_fields":{"a":1}"#,
        r#""output_fields":[1]"#,
        r#""dense_weight":"0.5""#,
        r#""scale_k":[]"#,
        r#""need_search_count":1"#,
        r#""filter_pre_ann_limit":-1"#,
        r#""filter_pre_ann_ratio":-0.1"#,
        r#""order_by_vector":[]"#,
        r#""order_by_vector":{}"#,
        r#""order_by_vector":{"vectors":5}"#,
        r#""order_by_vector":{"vectors":[[1]],"primary_keys":1}"#,
        r#""order_by_vector":{"primary_keys":1,"sparse_vectors":[{"a":1}]}"#,
        r#""order_by_vector":{"vectors":[[1]],"sparse":[{"a":1}]}"#,
        r#""order_by_vector":{"vectors":[[1]],"sparse_vectors":{"a":1}}"#,
        r#""order_by_vector":{"vectors":[[1]],"sparse_vectors":[{"a":"1"}]}"#,
        r#""order_by_vector":{"vectors":[[1],[1],[1],[1],[1],[1],[1],[1],[1],[1],[1]]}"#,
        r#""order_by_vector":{"vectors":[[1]]},"order_by_scalar":{"field_name":"a"}"#,
        r#""order_by_scalar":{"field_name":"a","order":"up"}"#,
        r#""order_by_scalar":{"order":"asc"}"#,
        r#""order_by_raw":{}"#,
        r#""order_by_raw":{"text":5}"#,
        r#""post_process_ops":{}"#,
        r#""post_process_ops":[{"op":"string_match","field":"a"}]"#,
        r#""post_process_ops":[{"op":"exec","field":"a","pattern":"x"}]"#,
        r#""post_process_ops":[{"op":"string_match","field":"a","pattern":"x","flags":"i"}]"#,
        r#""post_process_ops":[{"op":"enum_freq_limiter","field":"a","threshold":-1}]"#,
    ] {
        assert_eq!(refused(&search(members)), Kind::Invalid, "{members}");
    }
    for body in ["{}", r#"{"search":[]}"#, r#"{"search":null}"#, r#"{"search":"x"}"#] {
        assert_eq!(refused(body), Kind::Invalid, "{body}");
    }
    for partition in ["true", "1.5", "{}", r#"[1,"a"]"#, r#"["a",1]"#] {
        assert_eq!(refused(&search(&format!(r#""partition":{partition}"#))), Kind::InvalidPartition, "{partition}");
    }
    let many = vec![r#"{"op":"string_contain","field":"a","pattern":"x"}"#; limit::POST_OPS + 1].join(",");
    assert_eq!(refused(&search(&format!(r#""post_process_ops":[{many}]"#))), Kind::Invalid);
}

#[test]
fn partitions_have_many_spellings() {
    let read = |raw: &str| partition(Some(json::parse("partition", raw).expect("JSON"))).expect("valid");
    assert_eq!(read(r#""default""#), Partition::Default);
    assert_eq!(read(r#""""#), Partition::Default);
    assert_eq!(read(r#""a.b_1""#), Partition::Texts(vec!["a.b_1".into()]));
    assert_eq!(read("5"), Partition::Ints(vec![5]));
    assert_eq!(read("[5,6]"), Partition::Ints(vec![5, 6]));
    assert_eq!(read(r#"["a","default"]"#), Partition::Texts(vec!["a".into(), "default".into()]));
    assert_eq!(partition(None).expect("valid"), Partition::Default);
}

#[test]
fn aggregations_are_read_with_the_bound_in_either_place() {
    let read = |agg: &str| {
        let body = format!(r#"{{"search":{{"partition":"default"}},"agg":{agg}}}"#);
        with(&body, |args| AggForm::parse(args)?.request())
    };
    let count = read(r#"{"op":"count"}"#).expect("valid");
    assert_eq!((count.group_by, count.more_than), (None, None));
    for agg in [r#"{"op":"count","field":"city","cond":{"gt":2}}"#, r#"{"op":"count","field":"city","gt":2}"#] {
        let grouped = read(agg).expect("valid");
        assert_eq!((grouped.group_by.as_deref(), grouped.more_than), (Some("city"), Some(Number::Int(2))));
    }
    for bad in ["{}", r#"{"op":"sum"}"#, r#"{"op":"count","cond":{"lt":2}}"#, r#"{"op":"count","gt":"2"}"#, "[]"] {
        assert!(read(bad).is_err(), "{bad}");
    }
}

#[test]
fn sorts_keep_the_querys_text() {
    let body = r#"{"sort":{"query_vector":[1.10,2],"primary_keys":["a",2]}}"#;
    with(body, |args| {
        let (query, keys) = sort(args).expect("valid");
        assert_eq!((query, keys), ("[1.10,2]", vec![Key::Str("a".into()), Key::Int(2)]));
    });
    for bad in [r#"{}"#, r#"{"sort":{"primary_keys":[1]}}"#, r#"{"sort":{"query_vector":[1]}}"#] {
        assert!(with(bad, |args| sort(args).map(|_| ())).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn any_json_is_read_or_refused(text in r#"[\[\]{}",:a-f0-9._ ]{0,80}"#) {
        for name in ["order_by_vector", "filter", "post_process_ops", "partition", "output_fields"] {
            let body = search(&format!(r#""{name}":{text}"#));
            if let Ok(args) = Args::new("", body.as_bytes()) {
                let _ = Form::parse(&args);
            }
        }
    }
}
