//! Indexes through the wire: their life, what they answer, and which code each wrong question gets.

use serde_json::{Value, json};

use crate::client::Client;
use crate::process::Server;
use crate::world::{World, create_task, fill, upsert, wait};

const INDEX: &str = "idx";

fn field(name: &str, kind: &str) -> Value {
    json!({"field_name": name, "field_type": kind})
}

/// `shop`: key, filters of every kind, a vector of 4 whose first element is the key, a sparse vector.
fn shop(client: &mut Client) {
    let body = json!({"collection_name": "shop", "primary_key": "id", "fields": [
        field("id", "int64"), field("city", "string"), field("price", "float32"), field("n", "int64"),
        field("tags", "list<string>"), field("ok", "bool"), field("note", "text"),
        {"field_name": "v", "field_type": "vector", "dim": 4}, field("s", "sparse_vector"),
    ]});
    client.must("/api/collection/create", &body);
    fill(client, "shop", (1..=60).map(row));
}

fn row(id: i64) -> Value {
    let city = ["beijing", "shanghai", "default"][id as usize % 3];
    json!({"id": id, "city": city, "price": id as f64 / 2.0, "n": id % 5, "tags": [city, "x"], "ok": id % 2 == 0,
           "note": format!("doc{id}"), "v": [id, 1, 0, 0], "s": {format!("w{}", id % 4): 1.0}})
}

fn create(client: &mut Client, name: &str, members: Value) {
    let mut body = json!({"collection_name": "shop", "index_name": name});
    merge(&mut body, members);
    client.must("/api/index/create", &body);
}

fn merge(into: &mut Value, from: Value) {
    let (Value::Object(into), Value::Object(from)) = (into, from) else { panic!("objects") };
    into.extend(from);
}

fn search_body(index: &str, search: Value) -> Value {
    json!({"collection_name": "shop", "index_name": index, "search": search})
}

fn search(client: &mut Client, index: &str, members: Value) -> Value {
    client.must("/api/index/search", &search_body(index, members))
}

fn ids(list: &Value) -> Vec<i64> {
    list.as_array().expect("a list").iter().map(|item| item["id"].as_i64().expect("a key")).collect()
}

fn near(id: i64) -> Value {
    json!({"vectors": [[id, 1, 0, 0]]})
}

fn start() -> (World, Server, Client) {
    let world = World::new();
    let server = world.start();
    let mut client = server.client();
    shop(&mut client);
    (world, server, client)
}

#[test]
fn an_index_is_made_described_changed_and_dropped() {
    let (world, server, mut client) = start();
    let vector = json!({"index_type": "DiskANN", "distance": "l2", "quant": "pq", "hnsw_m": 8, "hnsw_cef": 9,
                        "hnsw_sef": 10});
    create(
        &mut client,
        INDEX,
        json!({"description": "d", "cpu_quota": 3, "shard_policy": "custom", "shard_count": 2,
        "partition_by": "city", "scalar_index": ["city", "price", "id"], "vector_index": vector}),
    );
    let asked = json!({"collection_name": "shop", "index_name": INDEX});
    let info = client.must("/api/index/info", &asked);
    for (name, expected) in [
        ("vector_index", vector),
        ("partition_by", json!("city")),
        ("partitions", json!(["beijing", "default", "shanghai"])),
        ("range_index", json!(["id", "price"])),
        ("enum_index", json!(["id", "city"])),
        ("status", json!("READY")),
        ("shard_policy", json!("custom")),
        ("index_cost", json!({"cpu_core": 3, "mem_gb": 1})),
        ("data_number", json!(60)),
        ("lag_writes", json!(0)),
    ] {
        assert_eq!(info[name], expected, "{name}");
    }
    let listed = client.must("/api/index/list", &json!({"collection_name": "shop"}));
    let mut one = info.clone();
    one.as_object_mut().unwrap().remove("partitions");
    assert_eq!(listed, json!([one]));
    let collection = client.must("/api/collection/info", &json!({"collection_name": "shop"}));
    assert_eq!(collection["indexes"], json!([INDEX]));

    let mut change = asked.clone();
    merge(&mut change, json!({"description": "", "cpu_quota": 5, "scalar_index": ["n"]}));
    client.must("/api/index/update", &change);
    world.stop(server);
    let server = world.start();
    let mut client = server.client();
    let info = client.must("/api/index/info", &asked);
    assert_eq!((&info["description"], &info["cpu_quota"]), (&json!(""), &json!(5)));
    assert_eq!(info["range_index"], json!(["id", "price", "n"]));
    assert_eq!(
        search(&mut client, INDEX, json!({"order_by_vector": near(3), "limit": 1}))[0][0]["id"],
        2,
        "default city"
    );

    client.must("/api/index/drop", &asked);
    assert_eq!(client.must("/api/index/list", &json!({"collection_name": "shop"})), json!([]));
    assert_eq!(client.post("/api/index/info", &asked).unwrap().code, 1_000_008);
    create(&mut client, INDEX, json!({}));
    client.must("/api/collection/drop", &json!({"collection_name": "shop"}));
    shop(&mut client);
    assert_eq!(client.post("/api/index/info", &asked).unwrap().code, 1_000_008, "gone with its collection");
}

#[test]
fn fetch_data_is_as_documented() {
    let (_world, _server, mut client) = start();
    create(&mut client, INDEX, json!({"vector_index": {"index_type": "flat", "distance": "ip", "quant": "float"}}));
    let fetch = |client: &mut Client, members: Value| {
        let mut body = json!({"collection_name": "shop"});
        merge(&mut body, members);
        client.must("/api/index/fetch_data", &body)
    };
    // The documented call omits index_name; the only index is meant.
    let items = fetch(&mut client, json!({"primary_keys": [7, 1000, 7], "output_fields": ["city", "v"]}));
    let found = json!({"id": 7, "vector": [7.0, 1.0, 0.0, 0.0], "sparse_vector": {"w3": 1.0}, "dimension": 4,
                       "fields": {"city": "shanghai", "v": [7.0, 1.0, 0.0, 0.0]}});
    let missing = json!({"id": 1000, "message": "no data found"});
    assert_eq!(items, json!([found, missing, found]));
    let all = fetch(&mut client, json!({"primary_keys": "8", "partition": "default"}));
    let fields = json!({"city": "default", "price": 4.0, "n": 3, "tags": ["default", "x"], "ok": true, "note": "doc8"});
    assert_eq!((&all[0]["id"], &all[0]["fields"]), (&json!(8), &fields), "every scalar field, no vector, not the key");
    let bare = fetch(&mut client, json!({"primary_keys": [8], "output_fields": [], "replace_primay": true}));
    assert_eq!((&bare[0]["__primary_key"], bare[0].get("fields"), bare[0].get("id")), (&json!(8), None, None));

    for (members, code) in [
        (json!({}), 1_000_003),
        (json!({"primary_keys": []}), 1_000_003),
        (json!({"primary_keys": (0..101).collect::<Vec<_>>()}), 1_000_003),
        (json!({"primary_keys": [1], "output_fields": ["nope"]}), 1_000_003),
        (json!({"primary_keys": [1], "output_fields": [1]}), 1_000_003),
        (json!({"primary_keys": [1.5]}), 1_000_017),
        (json!({"primary_keys": ["x"]}), 1_000_017),
        (json!({"primary_keys": [1], "partition": true}), 1_000_018),
        (json!({"primary_keys": [1], "partition": 5}), 1_000_018),
        (json!({"primary_keys": [1], "index_name": "nope"}), 1_000_008),
        (json!({"primary_keys": [1], "collection_name": "nope"}), 1_000_005),
    ] {
        let mut body = json!({"collection_name": "shop"});
        merge(&mut body, members);
        let reply = client.post("/api/index/fetch_data", &body).unwrap();
        assert_eq!((reply.code, reply.status), (code, 400), "{body}: {}", reply.text);
    }
    create(&mut client, "second", json!({}));
    let body = json!({"collection_name": "shop", "primary_keys": [1]});
    assert_eq!(client.post("/api/index/fetch_data", &body).unwrap().code, 1_000_003, "which one is not clear");
}

#[test]
fn a_single_fetch_has_the_shape_that_is_configured() {
    for (shape, is_list) in [("array", true), ("map", false), ("auto", false)] {
        let world = World::new();
        let server = world.start_with(&[("KNARR_SINGLE_FETCH_SHAPE", shape)]);
        let mut client = server.client();
        shop(&mut client);
        create(&mut client, INDEX, json!({}));
        let fetch = |client: &mut Client, keys: Value| {
            client.must("/api/index/fetch_data", &json!({"collection_name": "shop", "primary_keys": keys}))
        };
        assert_eq!(fetch(&mut client, json!(3)).is_array(), is_list, "{shape}");
        assert!(fetch(&mut client, json!([3])).is_array(), "a list is always answered with one");
    }
}

#[test]
fn every_mode_of_search_answers() {
    let (_world, _server, mut client) = start();
    create(
        &mut client,
        INDEX,
        json!({"vector_index": {"index_type": "hnsw_hybrid", "distance": "ip", "quant": "float"}}),
    );
    create(&mut client, "cos", json!({"vector_index": {"index_type": "flat", "distance": "cosine", "quant": "int8"}}));
    create(&mut client, "l2", json!({"vector_index": {"index_type": "flat", "distance": "l2", "quant": "float"}}));

    let two = json!({"vectors": [[1, 0, 0, 0], [-1, 0, 0, 0]]});
    let found = search(&mut client, INDEX, json!({"order_by_vector": two, "limit": 3, "output_fields": ["price"]}));
    assert_eq!(found[0][0], json!({"id": 60, "score": 60.0, "fields": {"price": 30.0}}));
    assert_eq!((ids(&found[0]), ids(&found[1])), (vec![60, 59, 58], vec![1, 2, 3]));
    let l2 = search(&mut client, "l2", json!({"order_by_vector": near(10), "limit": 3, "output_fields": []}));
    assert_eq!(
        l2,
        json!([[{"id": 10, "score": 0.0, "dist": 0.0}, {"id": 9, "score": 1.0, "dist": 1.0},
                           {"id": 11, "score": 1.0, "dist": 1.0}]])
    );
    let cosine =
        search(&mut client, "cos", json!({"order_by_vector": near(3), "limit": 1, "need_return_vector": true}));
    let length = 10f32.sqrt();
    let unit: Vec<f64> = [3.0 / f64::from(length), 1.0 / f64::from(length), 0.0, 0.0].to_vec();
    let shown: Vec<f64> = cosine[0][0]["fields"]["v"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    assert!(unit.iter().zip(&shown).all(|(a, b)| (a - b).abs() < 1e-6), "{shown:?}");
    assert_eq!(cosine[0][0]["id"], 3);

    let by_key = search(&mut client, "l2", json!({"order_by_vector": {"primary_keys": 20}, "limit": 1}));
    assert_eq!(ids(&by_key[0]), [20]);
    let by_keys = search(&mut client, "l2", json!({"order_by_vector": {"primary_keys": [20, "30"]}, "limit": 1}));
    assert_eq!((ids(&by_keys[0]), ids(&by_keys[1])), (vec![20], vec![30]));
    let scalar = json!({"order_by_scalar": {"field_name": "price", "order": "asc"}, "limit": 2, "offset": 1});
    let scalar = search(&mut client, INDEX, scalar);
    assert_eq!((ids(&scalar[0]), &scalar[0][0]["score"]), (vec![2, 3], &json!(1.0)));
    let random = search(&mut client, INDEX, json!({"limit": 5000}));
    let mut all = ids(&random[0]);
    assert_ne!(all, (1..=60).collect::<Vec<_>>(), "the odds against it are hopeless");
    all.sort_unstable();
    assert_eq!((all, &random[0][0]["score"]), ((1..=60).collect::<Vec<_>>(), &json!(0)));

    let sparse = json!({"vectors": [[0, 0, 0, 1]], "sparse_vectors": [{"w3": 8.0, "unknown": 1}]});
    let hybrid = search(&mut client, INDEX, json!({"order_by_vector": sparse, "dense_weight": 0.25, "limit": 2}));
    assert_eq!((ids(&hybrid[0]), &hybrid[0][0]["score"]), (vec![3, 7], &json!(6.0)));
}

#[test]
fn filters_partitions_and_keys_narrow_a_search() {
    let (_world, _server, mut client) = start();
    create(
        &mut client,
        INDEX,
        json!({"partition_by": "city", "vector_index": {"index_type": "flat", "distance": "ip"}}),
    );
    create(&mut client, "tagged", json!({"partition_by": "tags"}));
    create(&mut client, "numbered", json!({"partition_by": "n", "scalar_index": ["city"]}));
    let found = |client: &mut Client, index: &str, members: Value| {
        let mut body = json!({"limit": 5000, "output_fields": []});
        merge(&mut body, members);
        let mut ids = ids(&search(client, index, body)[0]);
        ids.sort_unstable();
        ids
    };
    let all = |passes: &dyn Fn(i64) -> bool| (1..=60).filter(|id| passes(*id)).collect::<Vec<i64>>();
    let must = |field: &str, conds: Value| json!({"op": "must", "field": field, "conds": conds});
    for (index, members, expected) in [
        (INDEX, json!({}), all(&|id| id % 3 == 2)),
        (INDEX, json!({"partition": "beijing"}), all(&|id| id % 3 == 0)),
        (INDEX, json!({"partition": ["beijing", "shanghai"]}), all(&|id| id % 3 < 2)),
        (INDEX, json!({"partition": "nowhere"}), vec![]),
        ("tagged", json!({"partition": "x"}), all(&|_| true)),
        ("numbered", json!({"partition": 4}), all(&|id| id % 5 == 4)),
        ("numbered", json!({"partition": ["3", "4"]}), all(&|id| id % 5 >= 3)),
        ("numbered", json!({}), vec![]),
        ("tagged", json!({"partition": "x", "filter": must("ok", json!([true]))}), all(&|id| id % 2 == 0)),
        ("tagged", json!({"partition": "x", "filter": must("id", json!([5, 6, 99]))}), vec![5, 6]),
        ("tagged", json!({"partition": "x", "primary_key_in": [5, "6", 99]}), vec![5, 6]),
        (
            "tagged",
            json!({"partition": "x", "primary_key_in": [], "primary_key_not_in": (2..=60).collect::<Vec<_>>()}),
            vec![1],
        ),
        (
            "tagged",
            json!({"partition": "x", "filter": {"op": "range", "field": "price", "gte": 29.0}}),
            vec![58, 59, 60],
        ),
        (
            "tagged",
            json!({"partition": "x", "filter": {"op": "range", "field": ["price", "n"], "center": [15, 0],
          "radius": 0.5}}),
            vec![30],
        ),
        (
            "tagged",
            json!({"partition": "x", "filter": {"op": "and", "conds": [must("city", json!(["beijing"])),
          {"op": "must_not", "field": "n", "conds": [0, 1, 2, 3]}]}}),
            all(&|id| id % 3 == 0 && id % 5 == 4),
        ),
        ("tagged", json!({"partition": "x", "filter": {}}), all(&|_| true)),
    ] {
        assert_eq!(found(&mut client, index, members.clone()), expected, "{index} {members}");
    }
    let counted = search_body(
        "tagged",
        json!({"partition": "x", "limit": 2, "need_search_count": true, "explain": true,
        "filter": must("city", json!(["beijing"]))}),
    );
    let reply = client.post("/api/index/search", &counted).unwrap();
    let whole: Value = serde_json::from_str(&reply.text).unwrap();
    assert_eq!((&whole["extend"]["search_count"], &whole["extend"]["explain"]["plan"]), (&json!(20), &json!("exact")));
    let ops = json!([{"op": "string_like", "field": "note", "pattern": "doc1%"},
                     {"op": "enum_freq_limiter", "field": "city", "threshold": 1}]);
    let order = json!({"field_name": "id", "order": "asc"});
    let kept = search(
        &mut client,
        "tagged",
        json!({"partition": "x", "order_by_scalar": order, "limit": 10,
        "post_process_ops": ops, "post_process_input_limit": 100}),
    );
    assert_eq!(ids(&kept[0]), [1, 11, 12]);
}

#[test]
fn aggregates_and_sorts_have_their_shapes() {
    let (_world, _server, mut client) = start();
    create(&mut client, INDEX, json!({"vector_index": {"index_type": "sort", "distance": "ip", "quant": "float"}}));
    let agg = |client: &mut Client, search: Value, agg: Value| {
        client.must(
            "/api/index/search/agg",
            &json!({"collection_name": "shop", "index_name": INDEX, "search": search, "agg": agg}),
        )
    };
    assert_eq!(
        agg(&mut client, json!({"partition": "default"}), json!({"op": "count"})),
        json!({"agg_op": "count", "group_by_field": "", "agg_result": {"_total": 60}})
    );
    let filter = json!({"op": "range", "field": "id", "lte": 10});
    assert_eq!(
        agg(&mut client, json!({"filter": filter}), json!({"op": "count", "field": "city", "cond": {"gt": 3}})),
        json!({"agg_op": "count", "group_by_field": "city", "agg_result": {"shanghai": 4}})
    );
    assert_eq!(
        agg(&mut client, json!({}), json!({"op": "count", "field": "ok"}))["agg_result"],
        json!({"false": 30, "true": 30})
    );
    let sort = json!({"collection_name": "shop", "index_name": INDEX,
                      "sort": {"query_vector": [1, 0, 0, 0], "primary_keys": [3, 70, 9, "5", 3]}});
    assert_eq!(
        client.must("/api/index/sort", &sort),
        json!({
        "sort_result": [{"primary_key": 9, "score": 9.0}, {"primary_key": 5, "score": 5.0},
                        {"primary_key": 3, "score": 3.0}],
        "primary_key_not_exist": [70]})
    );
}

#[test]
fn wrong_questions_have_their_codes() {
    let (_world, _server, mut client) = start();
    create(&mut client, INDEX, json!({"scalar_index": ["city"], "vector_index": {"index_type": "flat"}}));
    create(&mut client, "bare", json!({"scalar_index": []}));
    create(&mut client, "sort", json!({"vector_index": {"index_type": "sort"}}));
    let must = |field: &str, conds: Value| json!({"op": "must", "field": field, "conds": conds});
    for (index, members, code) in [
        (INDEX, json!({"limit": 0}), 1_000_003),
        (INDEX, json!({"limit": 5001}), 1_000_003),
        (INDEX, json!({"limit": "10"}), 1_000_003),
        (INDEX, json!({"offset": 100_001}), 1_000_003),
        (INDEX, json!({"unknown": 1}), 1_000_003),
        (INDEX, json!({"output_fields": ["nope"]}), 1_000_003),
        (INDEX, json!({"scale_k": 0.01}), 1_000_003),
        (INDEX, json!({"order_by_vector": {"vectors": []}}), 1_000_003),
        (INDEX, json!({"order_by_vector": {"vectors": vec![json!([1, 2, 3, 4]); 11]}}), 1_000_003),
        (INDEX, json!({"order_by_vector": {"vectors": [[1, 2, 3]]}}), 1_000_016),
        (INDEX, json!({"order_by_vector": {"vectors": [[1, 2, 3, "x"]]}}), 1_000_016),
        (INDEX, json!({"order_by_vector": {"vectors": [[1, 2, 3, 1e39]]}}), 1_000_016),
        (INDEX, json!({"order_by_vector": {"vectors": ["AAAAAAAAAAAAAAAAAADAfw=="]}}), 1_000_016),
        (INDEX, json!({"order_by_vector": {"vectors": [[1, 2, 3, 4]], "sparse_vectors": [{"a": 1}]}}), 1_000_003),
        (INDEX, json!({"order_by_vector": {"primary_keys": 99}}), 1_000_011),
        (INDEX, json!({"order_by_vector": {"primary_keys": "x"}}), 1_000_017),
        (INDEX, json!({"primary_key_in": ["x"]}), 1_000_017),
        (INDEX, json!({"partition": 1.5}), 1_000_018),
        (INDEX, json!({"partition": "a b"}), 1_000_018),
        (INDEX, json!({"filter": must("n", json!([1]))}), 1_000_019),
        (INDEX, json!({"filter": must("nope", json!([1]))}), 1_000_019),
        (INDEX, json!({"filter": must("city", json!([1]))}), 1_000_019),
        (INDEX, json!({"filter": {"op": "and", "conds": []}}), 1_000_019),
        (INDEX, json!({"filter": {"op": "georange", "field": "city"}}), 1_000_019),
        (INDEX, json!({"order_by_scalar": {"field_name": "price"}}), 1_000_003),
        (INDEX, json!({"order_by_raw": {"text": "x"}}), 1_000_025),
        (
            INDEX,
            json!({"post_process_ops": [{"op": "string_match", "field": "city", "pattern": "(a{1000}){1000}"}]}),
            1_000_003,
        ),
        ("bare", json!({"order_by_vector": near(1)}), 1_000_003),
        ("sort", json!({"order_by_vector": near(1)}), 1_000_003),
        ("nope", json!({}), 1_000_008),
    ] {
        let reply = client.post("/api/index/search", &search_body(index, members.clone())).unwrap();
        assert_eq!(reply.code, code, "{members}: {}", reply.text);
    }
    // `NaN` and huge numbers are no JSON, or no float32.
    let post =
        |client: &mut Client, text: &str| client.send("POST", "/api/index/search", text.as_bytes()).unwrap().code;
    let nan = r#"{"collection_name":"shop","index_name":"idx","search":{"order_by_vector":{"vectors":[[NaN,1,1,1]]}}}"#;
    assert_eq!(post(&mut client, nan), 1_000_003);
    for (path, body, code) in [
        ("create", json!({"collection_name": "shop", "index_name": INDEX}), 1_000_007),
        ("create", json!({"collection_name": "nope", "index_name": "i"}), 1_000_005),
        ("create", json!({"collection_name": "shop", "index_name": "1i"}), 1_000_003),
        ("create", json!({"collection_name": "shop", "index_name": "i", "partition_by": "price"}), 1_000_003),
        ("create", json!({"collection_name": "shop", "index_name": "i", "scalar_index": ["v"]}), 1_000_003),
        ("update", json!({"collection_name": "shop", "index_name": INDEX, "scalar_index": ["nope"]}), 1_000_003),
        ("update", json!({"collection_name": "shop", "index_name": "nope"}), 1_000_008),
        ("drop", json!({"collection_name": "shop"}), 1_000_003),
        ("drop", json!({"collection_name": "shop", "index_name": "nope"}), 1_000_008),
        ("info", json!({"collection_name": "nope", "index_name": INDEX}), 1_000_005),
        (
            "sort",
            json!({"collection_name": "shop", "index_name": INDEX,
                        "sort": {"query_vector": [1, 2, 3, 4], "primary_keys": [1]}}),
            1_000_003,
        ),
        (
            "search/agg",
            json!({"collection_name": "shop", "index_name": INDEX, "agg": {"op": "count", "field": "n"}}),
            1_000_019,
        ),
        ("search/agg", json!({"collection_name": "shop", "index_name": INDEX, "agg": {"op": "max"}}), 1_000_003),
    ] {
        let reply = client.post(&format!("/api/index/{path}"), &body).unwrap();
        assert_eq!(reply.code, code, "{path} {body}: {}", reply.text);
    }
}

/// Writes, deletes by key and by task, and expiry are seen by the very next search.
#[test]
fn a_search_sees_every_acknowledged_write() {
    let (_world, _server, mut client) = start();
    create(&mut client, INDEX, json!({"vector_index": {"index_type": "hnsw", "distance": "l2", "quant": "float"}}));
    let nearest = |client: &mut Client, id: i64| {
        ids(&search(client, INDEX, json!({"order_by_vector": near(id), "limit": 1, "output_fields": []}))[0])[0]
    };
    for id in 100..130 {
        client.must("/api/collection/upsert_data", &upsert("shop", &[row(id)]));
        assert_eq!(nearest(&mut client, id), id);
    }
    client.must("/api/collection/del_data", &json!({"collection_name": "shop", "primary_keys": [129]}));
    assert_eq!(nearest(&mut client, 129), 128);
    let filter = json!([{"op": "range", "field": "id", "gte": 110}]);
    let task = create_task(
        &mut client,
        "filter_delete",
        json!({"collection_name": "shop", "filter_conds": filter, "need_confirm": false}),
    );
    wait(&mut client, &task, "done");
    assert_eq!(nearest(&mut client, 129), 109);
    client.must("/api/collection/del_data", &json!({"collection_name": "shop", "del_all": true}));
    assert_eq!(search(&mut client, INDEX, json!({"order_by_vector": near(1)})), json!([[]]));
}
