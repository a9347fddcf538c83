//! H4: every bound of the API exactly: what fits is accepted, one more is refused and changes nothing.

use knarr_base::limit;
use serde_json::{Value, json};

use crate::client::{Client, Connection, Keys};
use crate::world::{self, World, alive, collection, create_collection, missing, row, task_info, upsert};

const INVALID: i64 = 1_000_003;

/// Both must hold: `fits` is accepted, `over` is refused as invalid.
fn check(client: &mut Client, what: &str, path: &str, fits: &Value, over: &Value) {
    let refused = client.post(path, over).unwrap();
    assert!(refused.status >= 400 && matches!(refused.code, INVALID | 1_000_017), "{what}, one more: {}", refused.text);
    let accepted = client.post(path, fits).unwrap();
    assert_eq!((accepted.status, accepted.code), (200, 0), "{what}, exactly: {}", accepted.text);
}

fn field(name: &str, kind: &str) -> Value {
    json!({"field_name": name, "field_type": kind})
}

fn push(body: &mut Value, field: Value) {
    body["fields"].as_array_mut().expect("a list").push(field);
}

#[test]
fn limit_plus_one_of_collections() {
    let world = World::new();
    let server = world.start();
    let mut client = server.client();
    let create = "/api/collection/create";
    let mut number = 0;
    let mut with = |change: &dyn Fn(&mut Value)| {
        number += 1;
        let mut body =
            json!({"collection_name": format!("c{number}"), "primary_key": "id", "fields": [field("id", "int64")]});
        change(&mut body);
        body
    };
    let mut both = |what: &str, change: fn(&mut Value, usize), most: usize, step: usize| {
        let (fits, over) = (with(&|body| change(body, most)), with(&|body| change(body, most + step)));
        check(&mut client, what, create, &fits, &over);
    };
    both("name", |body, n| body["collection_name"] = "n".repeat(n).into(), limit::NAME_BYTES, 1);
    both("field name", |body, n| push(body, field(&"n".repeat(n), "bool")), limit::NAME_BYTES, 1);
    both("alias", |body, n| body["collection_aliases"] = json!(["n".repeat(n)]), limit::NAME_BYTES, 1);
    both("description", |body, n| body["description"] = "n".repeat(n).into(), limit::DESCRIPTION_BYTES, 1);
    both(
        "fields",
        |body, n| {
            let more = (1..n).map(|i| field(&format!("f{i}"), "bool"));
            body["fields"] = std::iter::once(field("id", "int64")).chain(more).collect();
        },
        limit::FIELDS,
        1,
    );
    both(
        "aliases",
        |body, n| {
            let name = body["collection_name"].as_str().unwrap().to_owned();
            body["collection_aliases"] = (0..n).map(|i| format!("{name}_{i}")).collect();
        },
        limit::ALIASES_PER_COLLECTION,
        1,
    );
    both(
        "dimensions",
        |body, n| push(body, json!({"field_name": "v", "field_type": "vector", "dim": n})),
        limit::VECTOR_DIM_MAX as usize,
        limit::VECTOR_DIM_STEP as usize,
    );
    let count = client.must("/api/collection/list", &json!({})).as_array().unwrap().len();
    for i in count..limit::COLLECTIONS_PER_ACCOUNT {
        create_collection(&mut client, &format!("filler{i}"));
    }
    let refused = client.post(create, &collection("one_too_many")).unwrap();
    assert_ne!(refused.code, 0, "{}", refused.text);
    let count = client.must("/api/collection/list", &json!({})).as_array().unwrap().len();
    assert_eq!(count, limit::COLLECTIONS_PER_ACCOUNT);
    world.stop(server);
}

#[test]
fn limit_plus_one_of_rows() {
    let world = World::new();
    let server = world.start();
    let mut client = server.client();
    create_collection(&mut client, "r");
    let rows = |n: usize| upsert("r", &(0..n as i64).map(|id| row(id, 0, id)).collect::<Vec<_>>());
    let keys = |n: usize| json!({"collection_name": "r", "primary_keys": (0..n).collect::<Vec<_>>()});
    let n = limit::ROWS_PER_CALL;
    check(&mut client, "rows of an upsert", "/api/collection/upsert_data", &rows(n), &rows(n + 1));
    check(&mut client, "rows of an update", "/api/collection/update_data", &rows(n), &rows(n + 1));
    check(&mut client, "keys of a fetch", "/api/collection/fetch_data", &keys(n), &keys(n + 1));
    assert_eq!(alive(&mut client, "r", 0..101).len(), n, "the hundred and first row was never written");
    check(&mut client, "keys of a delete", "/api/collection/del_data", &keys(n), &keys(n + 1));

    let ttl = |ttl: i64| json!({"collection_name": "r", "fields": [row(1, 0, 1)], "ttl": ttl});
    let most = limit::TTL_SECONDS;
    check(&mut client, "seconds to live", "/api/collection/upsert_data", &ttl(most), &ttl(most + 1));

    client.must(
        "/api/collection/create",
        &json!({"collection_name": "s", "primary_key": "k", "fields": [
            field("k", "string"), field("t", "text"), field("l", "list<int64>"),
        ]}),
    );
    let one = |row: Value| upsert("s", &[row]);
    let key = |n: usize| one(json!({"k": "k".repeat(n)}));
    check(&mut client, "key bytes", "/api/collection/upsert_data", &key(limit::KEY_BYTES), &key(limit::KEY_BYTES + 1));
    let list = |n: usize| one(json!({"k": "l", "l": vec![1; n]}));
    let most = limit::LIST_ELEMENTS;
    check(&mut client, "list elements", "/api/collection/upsert_data", &list(most), &list(most + 1));
    // How a row's bytes are counted is the engine's business; its text alone is within and beyond the bound here.
    let text = |n: usize| one(json!({"k": "t", "t": "t".repeat(n)}));
    let most = limit::ROW_BYTES;
    check(&mut client, "row bytes", "/api/collection/upsert_data", &text(most - 1000), &text(most + 1));
    world.stop(server);
}

#[test]
fn limit_plus_one_of_filters() {
    let world = World::new();
    let server = world.start();
    let mut client = server.client();
    create_collection(&mut client, "f");
    let task = |filter: Value| json!({"task_type": "filter_delete", "task_params": {"collection_name": "f", "filter": filter}});
    let leaf = || json!({"op": "must", "field": "grp", "conds": [1]});
    let nested = |n: usize| task((1..n).fold(leaf(), |inner, _| json!({"op": "and", "conds": [inner]})));
    let wide = |n: usize| task(json!({"op": "or", "conds": vec![leaf(); n - 1]}));
    let many = |n: usize| task(json!({"grp": (0..n).collect::<Vec<_>>()}));
    let create = "/api/task/create";
    check(&mut client, "filter depth", create, &nested(limit::FILTER_DEPTH), &nested(limit::FILTER_DEPTH + 1));
    check(&mut client, "filter nodes", create, &wide(limit::FILTER_NODES), &wide(limit::FILTER_NODES + 1));
    check(&mut client, "filter values", create, &many(limit::FILTER_VALUES), &many(limit::FILTER_VALUES + 1));

    let export = |key: &str| {
        json!({"task_type": "data_export", "task_params":
        {"collection_name": "f", "tos_path": format!("bucket/{key}")}})
    };
    let long = ["x".repeat(250).as_str(); 5].join("/");
    assert_eq!(client.post(create, &export(&long[..limit::OBJECT_KEY_BYTES + 1])).unwrap().code, INVALID);
    let bucket = |n: usize| json!({"bucket": "b".repeat(n)});
    let most = limit::BUCKET_NAME_BYTES;
    check(&mut client, "bucket name", "/knarr/v1/buckets/create", &bucket(most), &bucket(most + 1));
    world.stop(server);
}

#[test]
fn limit_plus_one_of_requests() {
    let world = World::new();
    let server = world.start();
    let mut client = server.client();
    create_collection(&mut client, "q");

    // JSON is padded with blanks, so that both bodies mean the same.
    let padded = |bytes: usize| {
        let mut body = b"{\"project\":\"\"".to_vec();
        body.resize(bytes - 1, b' ');
        body.push(b'}');
        body
    };
    assert_eq!(client.send("POST", "/api/collection/list", &padded(limit::BODY_BYTES)).unwrap().code, 0);
    let reply = client.send("POST", "/api/collection/list", &padded(limit::BODY_BYTES + 1));
    // Refused by its length: the connection may be gone before all of it was sent.
    if let Ok(reply) = reply {
        assert_eq!((reply.status, reply.code), (413, INVALID));
    }

    let nested = |n: usize| format!("{{\"x\":{}{}}}", "[".repeat(n - 1), "]".repeat(n - 1));
    let send =
        |client: &mut Client, n: usize| client.send("POST", "/api/collection/list", nested(n).as_bytes()).unwrap();
    assert_eq!(send(&mut client, limit::JSON_DEPTH).code, 0);
    assert_eq!(send(&mut client, limit::JSON_DEPTH + 1).code, INVALID);

    assert!(missing(
        &client.must("/api/collection/fetch_data", &json!({"collection_name": "q", "primary_keys": 1}))[0]
    ));
    world.stop(server);
}

/// Heads, in the number of their headers and in bytes, however they arrive.
#[test]
fn limit_plus_one_of_heads() {
    const BODY: &[u8] = b"{}";
    let world = World::new();
    let server = world.start();
    let request = server.client().signer().request("POST", "/api/collection/list", BODY);
    let (line, rest) = request.split_at(request.iter().position(|b| *b == b'\n').unwrap() + 1);
    let status = |more: &str| {
        let whole = [line, more.as_bytes(), rest].concat();
        Connection::open(server.host()).unwrap().exchange(&whole).map(|(status, _)| status)
    };
    // A connection that ends with bytes unread can lose the answer.
    let refused = |more: &str| matches!(status(more), Ok(431) | Err(_));

    let own = rest.windows(2).filter(|pair| pair == b"\r\n").count() - 1;
    let headers = |n: usize| (own..n).map(|i| format!("Accept-{i}: x\r\n")).collect::<String>();
    assert_eq!(status(&headers(limit::HEADERS)).unwrap(), 200);
    assert!(refused(&headers(limit::HEADERS + 1)));

    let frame = request.len() - BODY.len() + "Accept: \r\n".len();
    let padding = |bytes: usize| format!("Accept: {}\r\n", "x".repeat(bytes - frame));
    assert_eq!(status(&padding(limit::HEAD_BYTES)).unwrap(), 200);
    for over in [1, 2, 4096, 40_000, limit::HEAD_BYTES] {
        assert!(refused(&padding(limit::HEAD_BYTES + over)), "{over} bytes over");
    }
    world.stop(server);
}

/// T15: the queue of tasks is bounded, and says so with the code that clients wait for.
#[test]
fn limit_plus_one_of_open_tasks() {
    let world = World::new();
    let server = world.start();
    let mut client = server.client();
    create_collection(&mut client, "o");
    let make = |client: &mut Client, n: usize| {
        let params = json!({"collection_name": "o", "filter": {"grp": [n]}});
        client.post("/api/task/create", &json!({"task_type": "filter_delete", "task_params": params})).unwrap()
    };
    let first = make(&mut client, 0);
    for n in 1..limit::TASKS_OPEN_PER_ACCOUNT {
        assert_eq!(make(&mut client, n).code, 0);
    }
    let refused = make(&mut client, limit::TASKS_OPEN_PER_ACCOUNT);
    assert_eq!((refused.status, refused.code), (429, 1_000_029), "{}", refused.text);
    let first = first.data["task_id"].as_str().unwrap();
    assert_eq!(task_info(&mut client, first)["task_id"], first);
    client.must("/api/task/drop", &json!({"task_id": first}));
    assert_eq!(make(&mut client, limit::TASKS_OPEN_PER_ACCOUNT).code, 0, "there is room again");
    world.stop(server);
}

/// A key past its rate is told to send again; another key is not held up.
#[test]
fn limit_plus_one_of_a_keys_requests() {
    let world = World::new();
    let server = world.start_with(&[("KNARR_KEY_REQUESTS_PER_SECOND", "3"), ("KNARR_KEY_REQUESTS_AT_ONCE", "2")]);
    let mut client = server.client();
    let replies: Vec<_> = (0..200).map(|_| client.post("/api/collection/list", &json!({})).unwrap()).collect();
    let busy = replies.iter().filter(|reply| (reply.status, reply.code) == (429, 1_000_029)).count();
    let accepted = replies.iter().filter(|reply| (reply.status, reply.code) == (200, 0)).count();
    assert_eq!(busy + accepted, replies.len());
    assert!(accepted >= 3 && busy > 0, "{accepted} accepted, {busy} refused");
    let made = world::eventually("a turn", || {
        let reply = client
            .post(
                "/knarr/v1/keys/create",
                &json!({"label": "other",
            "grants": [{"rights": ["read"], "pattern": "*"}]}),
            )
            .unwrap();
        (reply.code == 0).then(|| serde_json::from_str::<Value>(&reply.text).unwrap()["data"].clone())
    });
    let text = |name: &str| made[name].as_str().expect("a new key has both halves").to_owned();
    let other = Keys { access: text("access_key"), secret: text("secret_key") };
    assert_eq!(Client::new(server.host(), &other).post("/api/collection/list", &json!({})).unwrap().code, 0);
    world.stop(server);
}
