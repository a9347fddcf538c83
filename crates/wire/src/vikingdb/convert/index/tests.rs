use knarr_base::Kind;
use knarr_base::id::KeyId;
use knarr_base::index::IndexKind;

use super::*;
use crate::testing::{NOW_MS, golden};

fn args<R>(query: &str, body: &str, read: impl FnOnce(&Args<'_>) -> R) -> R {
    read(&Args::new(query, body.as_bytes()).expect("arguments"))
}

fn created(body: &str) -> Result<CreateIndex> {
    args("", body, create)
}

/// The request of the vendor's Python client, as recorded.
const CLIENT: &str = r#"{"collection_name":"example","index_name":"idx","cpu_quota":2,"description":"","partition_by":"",
    "scalar_index":["city","price"],"shard_count":1,
    "vector_index":{"distance":"cosine","index_type":"hnsw","quant":"int8","hnsw_m":20,"hnsw_cef":400,"hnsw_sef":800}}"#;

#[test]
fn creations_are_read_and_take_the_vendors_defaults() {
    let index = created(CLIENT).expect("valid");
    assert_eq!(index.name.as_str(), "idx");
    assert_eq!(index.spec.partition_by, None);
    assert_eq!(index.spec.scalar_index, ScalarIndex::Fields(vec!["city".into(), "price".into()]));
    let vector = index.spec.vector.expect("given");
    assert_eq!((vector.kind, vector.distance, vector.quant), (IndexKind::Hnsw, Distance::Cosine, Quant::Int8));

    let least = created(r#"{"index_name":"i","scalar_index":null,"vector_index":{}}"#).expect("valid").spec;
    assert_eq!((least.cpu_quota, least.shard_count, least.scalar_index), (2, 1, ScalarIndex::All));
    let vector = least.vector.expect("given");
    assert_eq!((vector.spelling.as_str(), vector.distance, vector.quant), ("hnsw", Distance::Ip, Quant::Int8));
    assert_eq!((vector.hnsw_m, vector.hnsw_cef, vector.hnsw_sef), (20, 400, 800));
    assert_eq!(created(r#"{"index_name":"i"}"#).expect("valid").spec.vector, None);
    let none = created(r#"{"index_name":"i","scalar_index":[]}"#).expect("valid").spec;
    assert_eq!(none.scalar_index, ScalarIndex::Fields(vec![]));
}

#[test]
fn a_wrong_type_is_an_error_and_never_a_default() {
    for member in [
        r#""index_name":5"#,
        r#""index_name":"1x""#,
        r#""index_name":"i","cpu_quota":"2""#,
        r#""index_name":"i","cpu_quota":-1"#,
        r#""index_name":"i","cpu_quota":2.0"#,
        r#""index_name":"i","shard_count":4294967296"#,
        r#""index_name":"i","shard_policy":"some""#,
        r#""index_name":"i","partition_by":["a"]"#,
        r#""index_name":"i","scalar_index":{"a":1}"#,
        r#""index_name":"i","scalar_index":[1]"#,
        r#""index_name":"i","vector_index":[]"#,
        r#""index_name":"i","vector_index":{"index_type":"annoy"}"#,
        r#""index_name":"i","vector_index":{"index_type":1}"#,
        r#""index_name":"i","vector_index":{"distance":"hamming"}"#,
        r#""index_name":"i","vector_index":{"quant":"int8","distance":"l2"}"#,
        r#""index_name":"i","vector_index":{"hnsw_m":"20"}"#,
        r#""index_name":"i","vector_index":{"hnsw_n":20}"#,
    ] {
        let error = created(&format!("{{{member}}}")).expect_err(member);
        assert_eq!(error.kind(), Kind::Invalid, "{member}");
    }
    assert!(created("{}").is_err());
}

#[test]
fn names_come_from_body_or_query() {
    let expected =
        IndexRef { collection: knarr_service::collections::CollectionRef::Name("c".into()), name: Some("i".into()) };
    assert_eq!(args("", r#"{"collection_name":"c","index_name":"i"}"#, reference).expect("valid"), expected);
    assert_eq!(args("collection_name=c&index_name=i", "", reference).expect("valid"), expected);
    assert!(args("", r#"{"collection_name":"c"}"#, reference).is_err());
    assert!(args("", r#"{"index_name":"i"}"#, lenient_reference).is_err());
    assert_eq!(args("", r#"{"collection_name":"c"}"#, lenient_reference).expect("valid").name, None);
}

#[test]
fn updates_change_only_what_is_given() {
    let none = args("", r#"{"collection_name":"c","index_name":"i"}"#, update).expect("valid");
    assert!(none.description.is_none() && none.cpu_quota.is_none() && none.shard_count.is_none());
    let some = args("", r#"{"description":"d","cpu_quota":4,"shard_policy":"custom","scalar_index":["x"]}"#, update);
    let some = some.expect("valid");
    assert_eq!((some.description.as_deref(), some.cpu_quota, some.scalars), (Some("d"), Some(4), vec!["x".to_owned()]));
    assert_eq!(some.shard_policy, Some(ShardPolicy::Custom));
}

#[test]
fn the_view_has_the_vendors_shape() {
    let CreateIndex { name, spec } = created(CLIENT).expect("valid");
    let mut info = IndexInfo {
        collection: Name::parse("n", "example").expect("valid"),
        name,
        spec,
        partitions: None,
        range_index: vec!["price".into()],
        enum_index: vec!["city".into()],
        status: Status::Ready,
        structures: None,
        rows: 12,
        bytes: 3456,
        lag_writes: 0,
        created_ms: NOW_MS,
        updated_ms: NOW_MS + 1000,
        updated_by: KeyId::new("AKLTx").to_string(),
    };
    let text = |info: &IndexInfo| serde_json::to_string(&view(info)).expect("JSON");
    let full = text(&info);
    info.spec.vector = None;
    info.spec.partition_by = Some("city".into());
    info.partitions = Some(vec!["a".into(), "b".into()]);
    let scalar = text(&info);
    info.status = Status::Init;
    info.structures = Some(Progress { ready: false, rows: 9, built: 4, bytes: 77 });
    golden("index_info.jsonl", &format!("{full}\n{scalar}\n{}", text(&info)));
}
