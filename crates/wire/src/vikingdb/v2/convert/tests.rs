use knarr_base::search::PostOp;
use proptest::prelude::*;

use super::*;
use crate::http::request::is_missing;

fn with<R>(body: &str, read: impl FnOnce(&Object<'_>) -> R) -> R {
    read(&Object::parse(body.as_bytes()).expect("an object"))
}

/// A whole body: the names of a collection and an index, and these members.
fn body(members: &str) -> String {
    let comma = if members.is_empty() { "" } else { "," };
    format!(r#"{{"collection_name":"c","index_name":"i"{comma}{members}}}"#)
}

fn refused(by: By, members: &str) -> Error {
    with(&body(members), |args| super::search(by, args).map(|_| ()).expect_err(members))
}

fn name(reference: &CollectionRef) -> &str {
    let CollectionRef::Name(name) = reference else { panic!("{reference:?}") };
    name
}

#[test]
fn a_collection_is_named_and_nothing_else() {
    for extra in ["", r#","project_name":"p""#, r#","resource_id":"vdb-1""#, r#","project_name":null"#] {
        let body = format!(r#"{{"collection_name":"c"{extra},"ids":[1]}}"#);
        assert_eq!(name(&with(&body, fetch).expect("valid").0), "c");
    }
    for bad in
        ["{}", r#"{"collection_name":""}"#, r#"{"collection_name":null}"#, r#"{"resource_id":"vdb-1","ids":[1]}"#]
    {
        assert!(is_missing(&with(bad, fetch).expect_err(bad)), "{bad}");
    }
    for bad in [r#"{"collection_name":5,"ids":[1]}"#, r#"{"collection_name":"c","project_name":5,"ids":[1]}"#] {
        let error = with(bad, fetch).expect_err(bad);
        assert!(error.kind() == Kind::Invalid && !is_missing(&error), "{bad}");
    }
    let without_index = r#"{"collection_name":"c","ids":[1]}"#;
    assert!(is_missing(&with(without_index, IndexFetch::parse).expect_err("no index")));
}

#[test]
fn writes_pass_their_rows_as_raw_text() {
    let write = r#"{"collection_name":"c","data": [{"id": 1.0}] ,"ttl":60,"async":true,"ignore_unknown_fields":null}"#;
    with(write, |args| {
        let read = Write::upsert(args).expect("valid");
        let RowWrite { rows, ttl, unknown } = read.rows;
        assert_eq!((name(&read.collection), rows, ttl), ("c", r#"[{"id": 1.0}]"#, 60));
        assert_eq!(unknown, Unknown::Refused);
        // An update has no such choice.
        assert_eq!(Write::update(args).expect_err("async").kind(), Kind::Invalid);
    });
    for (bad, kind) in [
        (r#"{"collection_name":"c"}"#, Kind::Invalid),
        (r#"{"collection_name":"c","data":null}"#, Kind::Invalid),
        (r#"{"collection_name":"c","data":{}}"#, Kind::Invalid),
        (r#"{"collection_name":"c","data":[],"ttl":-1}"#, Kind::Invalid),
        (r#"{"collection_name":"c","data":[],"async":1}"#, Kind::Invalid),
        (r#"{"collection_name":"c","data":[],"fields":[]}"#, Kind::Invalid),
        (r#"{"collection_name":"c","data":[],"ignore_unknown_fields":1}"#, Kind::Invalid),
    ] {
        assert_eq!(with(bad, |args| Write::upsert(args).map(|_| ())).expect_err(bad).kind(), kind, "{bad}");
    }
}

#[test]
fn deletes_say_which_rows() {
    let read = |members: &str| with(&format!(r#"{{"collection_name":"c",{members}}}"#), Delete::parse);
    assert_eq!(read(r#""ids":[1,"a"]"#).expect("keys").ids, Some(vec![Key::Int(1), Key::Str("a".into())]));
    assert_eq!(read(r#""ids":7"#).expect("a key").ids, Some(vec![Key::Int(7)]));
    assert_eq!(read(r#""del_all":true,"async":false"#).expect("all").ids, None);
    for missing in [r#""del_all":false"#, r#""del_all":null"#, r#""async":true"#, r#""ids":null"#] {
        assert!(is_missing(&read(missing).expect_err(missing)), "{missing}");
    }
    // A word that is not known never means every row, and neither does an empty list.
    for bad in [r#""ids":[1],"del_all":true"#, r#""ids":[]"#, r#""delete_all":true"#, r#""del_all":"true""#] {
        let error = read(bad).expect_err(bad);
        assert!(error.kind() == Kind::Invalid && !is_missing(&error), "{bad}");
    }
    let many = vec!["1"; limit::ROWS_PER_CALL + 1].join(",");
    assert_eq!(read(&format!(r#""ids":[{many}]"#)).expect_err("many").kind(), Kind::Invalid);
}

#[test]
fn every_path_reads_what_it_ranks_by() {
    let read = |by, members: &str, check: fn(&Order<'_>) -> bool| {
        with(&body(members), |args| {
            let (index, form) = super::search(by, args).expect(members);
            assert_eq!((name(&index.collection), index.name.as_deref()), ("c", Some("i")));
            assert!(check(&form.order), "{form:?}");
        });
    };
    read(
        By::Vector,
        r#""dense_vector":[1.10,2]"#,
        |order| matches!(order, Order::Vectors(dense, sparse) if dense == &["[1.10,2]"] && sparse.is_empty()),
    );
    read(By::Vector, r#""dense_vector":[1],"sparse_vector":{"a":1,"b":0.5}"#, |order| {
        let Order::Vectors(_, sparse) = order else { return false };
        sparse.len() == 1 && sparse[0].weights() == [("a".to_owned(), 1.0), ("b".to_owned(), 0.5)]
    });
    read(By::Id, r#""id":7"#, |order| matches!(order, Order::Keys(keys) if *keys == [Key::Int(7)]));
    read(By::Id, r#""id":"k""#, |order| matches!(order, Order::Keys(keys) if *keys == [Key::Str("k".into())]));
    read(
        By::MultiModal,
        r#""text":"x","need_instruction":true,"instruction":{"auto_fill":true},"image":null"#,
        |order| matches!(order, Order::Raw(raw) if *raw == Material { text: Some("x".into()), image: None }),
    );
    read(
        By::MultiModal,
        r#""image":"tos://b/o""#,
        |order| matches!(order, Order::Raw(raw) if *raw == Material { text: None, image: Some("tos://b/o".into()) }),
    );
    read(
        By::Scalar,
        r#""field":"price""#,
        |order| matches!(order, Order::Scalar { field, descending: true } if field == "price"),
    );
    read(By::Scalar, r#""field":"price","order":"asc""#, |order| {
        matches!(order, Order::Scalar { descending: false, .. })
    });
    read(By::Random, "", |order| matches!(order, Order::Random));
}

#[test]
fn the_least_search_has_the_vendors_defaults() {
    with(&body(""), |args| {
        let form = super::search(By::Random, args).expect("valid").1;
        assert_eq!((form.limit, form.offset, form.partition), (10, 0, Partition::All));
        assert_eq!(form.tuning.ops_input, Some(30), "three rows for one of the answer");
        assert!(form.output_fields.is_none() && form.filter.is_none() && !form.count);
    });
}

#[test]
fn what_all_searches_share_is_read() {
    let members = r#""filter":{"op":"must","field":"a","conds":[1]},"partition":"default","output_fields":["a"],"limit":7,
        "offset":2,"return_detail_info":true,"return_schema":false,"advance":{"dense_weight":0.7,"ids_in":[1,2],
        "ids_not_in":["3"],"post_process_ops":[{"op":"string_contain","field":"a","pattern":"x"}],
        "post_process_input_limit":50,"scale_k":2.5,"filter_pre_ann_limit":10,"filter_pre_ann_ratio":0.5}"#;
    with(&body(members), |args| {
        let form = super::search(By::Random, args).expect("valid").1;
        assert!(form.filter.is_some() && form.count);
        assert_eq!((form.limit, form.offset, form.partition), (7, 2, Partition::Default));
        assert_eq!(form.output_fields.as_deref(), Some(&["a".to_owned()][..]));
        assert_eq!((form.keys_in, form.keys_not_in), (vec![Key::Int(1), Key::Int(2)], vec![Key::Str("3".into())]));
        assert_eq!(form.tuning.ops_input, Some(50));
        assert_eq!(form.tuning.ops, [PostOp::Contain { field: "a".into(), pattern: "x".into() }]);
    });
    with(&body(r#""limit":5000"#), |args| {
        let form = super::search(By::Random, args).expect("valid").1;
        assert_eq!(form.tuning.ops_input, Some(limit::POST_OPS_INPUT));
    });
}

#[test]
fn what_is_missing_is_told_apart() {
    for (by, members) in [
        (By::Vector, ""),
        (By::Vector, r#""dense_vector":null,"sparse_vector":{"a":1}"#),
        (By::Id, ""),
        (By::MultiModal, ""),
        (By::MultiModal, r#""text":"""#),
        (By::Scalar, r#""order":"asc""#),
    ] {
        assert!(is_missing(&refused(by, members)), "{by:?} {members}");
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    for (by, members) in [
        (By::Random, r#""filtr":{"op":"must"}"#),
        (By::Random, r#""dense_vector":[1]"#),
        (By::Random, r#""limit":"10""#),
        (By::Random, r#""limit":-1"#),
        (By::Random, r#""offset":-1"#),
        (By::Random, r#""output_fields":{"a":1}"#),
        (By::Random, r#""advance":[]"#),
        (By::Random, r#""advance":{"ids":[1]}"#),
        (By::Random, r#""advance":{"filter":{}}"#),
        (By::Random, r#""advance":{"dense_weight":"0.5"}"#),
        (By::Random, r#""scale_k":1"#),
        (By::Random, r#""return_detail_info":1"#),
        (By::Vector, r#""dense_vector":[1],"sparse_vector":[{"a":1}]"#),
        (By::Vector, r#""dense_vector":[1],"sparse_vector":{"a":"1"}"#),
        (By::MultiModal, r#""text":5"#),
        (By::MultiModal, r#""text":"x","need_instruction":1"#),
        (By::MultiModal, r#""text":"x","instruction":true"#),
        (By::Scalar, r#""field":"a","order":"up""#),
    ] {
        let error = refused(by, members);
        assert!(error.kind() == Kind::Invalid && !is_missing(&error), "{by:?} {members}: {error:?}");
    }
    for id in ["[1]", "true", "1.5", "{}"] {
        assert_eq!(refused(By::Id, &format!(r#""id":{id}"#)).kind(), Kind::InvalidKey, "{id}");
    }
    assert_eq!(refused(By::Random, r#""partition":true"#).kind(), Kind::InvalidPartition);
}

#[test]
fn what_has_no_effect_here_is_refused_where_it_is_asked_for() {
    for (by, members) in [
        (By::Vector, r#""dense_vector":[1],"tensor_rerank":{"tensor":[[1]]}"#),
        (By::MultiModal, r#""text":"x","rerank":{"model_name":"m"}"#),
        (By::MultiModal, r#""text":"x","video":{"value":"tos://b/o"}"#),
        (By::Random, r#""return_schema":true"#),
        (By::Random, r#""return_download_url":true"#),
        (By::Random, r#""return_analyzed_result":true"#),
        (By::Random, r#""ignore_unknown_fields":true"#),
    ] {
        assert_eq!(refused(by, members).kind(), Kind::Unsupported, "{members}");
    }
    let fetched = with(r#"{"collection_name":"c","ids":[1],"return_download_url":true}"#, fetch);
    assert_eq!(fetched.expect_err("refused").kind(), Kind::Unsupported);
}

#[test]
fn index_fetches_and_counts_are_read() {
    with(&body(r#""ids":["a",2],"partition":5,"output_fields":[]"#), |args| {
        let read = IndexFetch::parse(args).expect("valid");
        assert_eq!(read.ids, vec![Key::Str("a".into()), Key::Int(2)]);
        assert_eq!((read.partition, read.output_fields), (Partition::Ints(vec![5]), Some(Vec::new())));
    });
    let read = |members: &str| with(&body(members), Count::parse);
    let field = |members: &str| read(members).expect(members).form.field;
    assert_eq!(field(r#""op":"count""#), None);
    for named in
        [r#""field":"f""#, r#""group_by":"f""#, r#""group_by":"f","field":"f""#, r#""field":"f","group_by":"""#]
    {
        assert_eq!(field(&format!(r#""op":"count",{named}"#)).as_deref(), Some("f"), "{named}");
    }
    let request = read(r#""op":"count","field":"f","cond":{"gt":2},"order":"desc""#).expect("valid");
    assert_eq!(request.descending, Some(true));
    assert_eq!(request.request().expect("valid").more_than, Some(knarr_base::value::Number::Int(2)));
    assert!(is_missing(&read("").expect_err("no op")));
    for bad in [
        r#""op":"sum""#,
        r#""op":"count","gt":2"#,
        r#""op":"count","field":"f","cond":{"gte":2}"#,
        r#""op":"count","field":"f","group_by":"g""#,
        r#""op":"count","ids":[1]"#,
        r#""op":"count","calc_value_on":"f""#,
        r#""op":"vector_weighted_sum","ids":[1],"weights":[1]"#,
        r#""op":"count","order":"up""#,
        r#""op":"count","limit":5"#,
    ] {
        assert_eq!(read(bad).expect_err(bad).kind(), Kind::Invalid, "{bad}");
    }
}

#[test]
fn what_to_embed_is_read() {
    let asked = r#"{"dense_model":{"name":"bge-m3","version":"1","dim":8},"data":[{"text":"a"},{"text":"b","image":null}],
        "project_name":"p","max_retry_time":1,"sparse_model":null}"#;
    let text = |text: &str| Material { text: Some(text.into()), image: None };
    let expected = Embedding { model: "bge-m3".into(), dim: Some(8), materials: vec![text("a"), text("b")] };
    assert_eq!(with(asked, Embedding::parse).expect("valid"), expected);
    let images = r#"{"dense_model":{"name":"m"},"data":[{"image":"tos://b/o"},{"text":"a","image":"aGk="}]}"#;
    let image = |text: Option<&str>, image: &str| Material { text: text.map(Into::into), image: Some(image.into()) };
    let expected = [image(None, "tos://b/o"), image(Some("a"), "aGk=")];
    assert_eq!(with(images, Embedding::parse).expect("valid").materials, expected);
    let kind = |body: &str| with(body, Embedding::parse).expect_err(body);
    for missing in [
        "{}",
        r#"{"dense_model":{"name":"m"}}"#,
        r#"{"dense_model":{},"data":[{"text":"a"}]}"#,
        r#"{"dense_model":{"name":"m"},"data":[{}]}"#,
    ] {
        assert!(is_missing(&kind(missing)), "{missing}");
    }
    for bad in [
        r#"{"dense_model":"m","data":[{"text":"a"}]}"#,
        r#"{"dense_model":{"name":"m"},"data":[]}"#,
        r#"{"dense_model":{"name":"m"},"data":["a"]}"#,
        r#"{"dense_model":{"name":"m","dim":"8"},"data":[{"text":"a"}]}"#,
        r#"{"dense_model":{"name":"m"},"data":[{"text":"a"}],"model":"m"}"#,
    ] {
        assert_eq!(kind(bad).kind(), Kind::Invalid, "{bad}");
    }
    for other in [
        r#"{"sparse_model":{"name":"m"},"data":[{"text":"a"}]}"#,
        r#"{"dense_model":{"name":"m"},"tensor_model":{"name":"t"},"data":[{"text":"a"}]}"#,
        r#"{"dense_model":{"name":"m","instruction":{"content":"x"}},"data":[{"text":"a"}]}"#,
        r#"{"dense_model":{"name":"m"},"data":[{"video":"tos://b/o"}]}"#,
        r#"{"dense_model":{"name":"m"},"data":[{"full_modal_seq":[{"text":"a"}]}]}"#,
    ] {
        assert_eq!(kind(other).kind(), Kind::Unsupported, "{other}");
    }
    let many = [r#"{"text":"a"}"#; limit::EMBEDDING_ITEMS_V2 + 1].join(",");
    assert_eq!(kind(&format!(r#"{{"dense_model":{{"name":"m"}},"data":[{many}]}}"#)).kind(), Kind::Invalid);
}

proptest! {
    #[test]
    fn any_json_is_read_or_refused(text in r#"[\[\]{}",:a-f0-9._ ]{0,80}"#) {
        for name in ["filter", "advance", "partition", "output_fields", "id", "ids", "dense_vector", "sparse_vector", "data",
            "instruction", "cond", "dense_model"]
        {
            let body = body(&format!(r#""{name}":{text}"#));
            if let Ok(args) = Object::parse(body.as_bytes()) {
                for by in [By::Vector, By::Id, By::MultiModal, By::Scalar, By::Random] {
                    let _ = super::search(by, &args);
                }
                let _ = (Write::upsert(&args).is_ok(), Delete::parse(&args), IndexFetch::parse(&args));
                let _ = (Count::parse(&args), Embedding::parse(&args));
            }
        }
    }
}
