//! Who may do what: every right alone against every kind of call.

use serde_json::{Value, json};

use crate::client::{Client, Reply};
use crate::world::{World, alive, create_collection, create_task, fill, row, task_info, update_task, wait};

const RIGHTS: [&str; 7] = ["read", "write", "delete", "export", "import", "confirm", "admin"];

/// A call, and the rights any of which is enough for it; an empty list means that no single one is.
struct Case {
    name: &'static str,
    path: &'static str,
    body: fn(&Subjects) -> Value,
    rights: &'static [&'static str],
    /// What a key without the right is told: tasks that it may not see do not exist for it.
    refusal: i64,
}

/// What the calls name. Made by the administrator, new for every call.
struct Subjects {
    table: String,
}

/// Every table has it.
const INDEX: &str = "matrix";

fn index(s: &Subjects) -> Value {
    json!({"collection_name": s.table, "index_name": INDEX})
}

fn with(mut body: Value, members: Value) -> Value {
    let (Value::Object(all), Value::Object(more)) = (&mut body, members) else { panic!("objects") };
    all.extend(more);
    body
}

const NO_PERMISSION: i64 = 1_000_002;
const NO_TASK: i64 = 1_000_035;

/// A3: one row per call.
#[test]
fn rights_matrix() {
    let table = |s: &Subjects| json!({"collection_name": s.table});
    let cases = [
        Case { name: "info", path: "/api/collection/info", body: table, rights: &["read"], refusal: NO_PERMISSION },
        Case {
            name: "fetch",
            path: "/api/collection/fetch_data",
            body: |s| json!({"collection_name": s.table, "primary_keys": [1]}),
            rights: &["read"],
            refusal: NO_PERMISSION,
        },
        Case {
            name: "index fetch",
            path: "/api/index/fetch_data",
            body: |s| json!({"collection_name": s.table, "primary_keys": [1]}),
            rights: &["read"],
            refusal: NO_PERMISSION,
        },
        Case { name: "index info", path: "/api/index/info", body: index, rights: &["read"], refusal: NO_PERMISSION },
        Case { name: "index list", path: "/api/index/list", body: table, rights: &["read"], refusal: NO_PERMISSION },
        Case {
            name: "search",
            path: "/api/index/search",
            body: |s| with(index(s), json!({"search": {}})),
            rights: &["read"],
            refusal: NO_PERMISSION,
        },
        Case {
            name: "aggregate",
            path: "/api/index/search/agg",
            body: |s| with(index(s), json!({"agg": {"op": "count"}})),
            rights: &["read"],
            refusal: NO_PERMISSION,
        },
        Case {
            name: "sort",
            path: "/api/index/sort",
            body: |s| with(index(s), json!({"sort": {"query_vector": [1, 2, 3, 4], "primary_keys": [1]}})),
            rights: &["read"],
            refusal: NO_PERMISSION,
        },
        Case {
            name: "index create",
            path: "/api/index/create",
            body: |s| json!({"collection_name": s.table, "index_name": "another"}),
            rights: &["admin"],
            refusal: NO_PERMISSION,
        },
        Case {
            name: "index update",
            path: "/api/index/update",
            body: |s| with(index(s), json!({"description": "x"})),
            rights: &["admin"],
            refusal: NO_PERMISSION,
        },
        Case { name: "index drop", path: "/api/index/drop", body: index, rights: &["admin"], refusal: NO_PERMISSION },
        Case {
            name: "create",
            path: "/api/collection/create",
            body: |s| crate::world::collection(&format!("{}_new", s.table)),
            rights: &["admin"],
            refusal: NO_PERMISSION,
        },
        Case {
            name: "update",
            path: "/api/collection/update",
            body: |s| json!({"collection_name": s.table, "fields": [], "description": "x"}),
            rights: &["admin"],
            refusal: NO_PERMISSION,
        },
        Case { name: "drop", path: "/api/collection/drop", body: table, rights: &["admin"], refusal: NO_PERMISSION },
        Case {
            name: "upsert_data",
            path: "/api/collection/upsert_data",
            body: |s| crate::world::upsert(&s.table, &[row(1, 1, 1)]),
            rights: &["write"],
            refusal: NO_PERMISSION,
        },
        Case {
            name: "update_data",
            path: "/api/collection/update_data",
            body: |s| crate::world::upsert(&s.table, &[json!({"id": 1, "n": 2})]),
            rights: &["write"],
            refusal: NO_PERMISSION,
        },
        Case {
            name: "del_data",
            path: "/api/collection/del_data",
            body: |s| json!({"collection_name": s.table, "primary_keys": [1]}),
            rights: &["delete"],
            refusal: NO_PERMISSION,
        },
        Case {
            name: "del_all",
            path: "/api/collection/del_data",
            body: |s| json!({"collection_name": s.table, "del_all": true}),
            rights: &["delete"],
            refusal: NO_PERMISSION,
        },
        Case {
            name: "export",
            path: "/api/task/create",
            body: |s| {
                json!({"task_type": "data_export", "task_params":
                {"collection_name": s.table, "tos_path": "matrix-exports/x"}})
            },
            rights: &["export"],
            refusal: NO_PERMISSION,
        },
        Case {
            name: "filter_delete",
            path: "/api/task/create",
            body: |s| {
                json!({"task_type": "filter_delete", "task_params":
                {"collection_name": s.table, "filter": {"grp": [1]}}})
            },
            rights: &["delete"],
            refusal: NO_PERMISSION,
        },
        Case {
            name: "filter_delete with a backup needs two",
            path: "/api/task/create",
            body: |s| {
                json!({"task_type": "filter_delete", "task_params":
                {"collection_name": s.table, "filter": {"grp": [1]}, "tos_path": "matrix-exports/y"}})
            },
            rights: &[],
            refusal: NO_PERMISSION,
        },
        Case {
            name: "make a key",
            path: "/knarr/v1/keys/create",
            body: |_| json!({"label": "", "grants": [{"rights": ["read"], "pattern": "x"}]}),
            rights: &["admin"],
            refusal: NO_PERMISSION,
        },
        Case {
            name: "list keys",
            path: "/knarr/v1/keys/list",
            body: |_| json!({}),
            rights: &["admin"],
            refusal: NO_PERMISSION,
        },
        Case {
            name: "make a bucket",
            path: "/knarr/v1/buckets/create",
            body: |_| json!({"bucket": "matrix-made"}),
            rights: &["admin", "export"],
            refusal: NO_PERMISSION,
        },
        Case {
            name: "list objects",
            path: "/knarr/v1/objects/list",
            body: |_| json!({"bucket": "matrix-bucket", "prefix": ""}),
            rights: &["read"],
            refusal: NO_PERMISSION,
        },
    ];
    let world = World::new();
    let server = world.start();
    let mut admin = server.client();
    admin.must("/knarr/v1/buckets/create", &json!({"bucket": "matrix-bucket"}));
    let mut at = 0;
    for case in &cases {
        for right in RIGHTS {
            at += 1;
            let subjects = subjects(&mut admin, at);
            let mut client = World::client_with(&server, &[(&[right], "*")]);
            let reply = client.post(case.path, &(case.body)(&subjects)).unwrap();
            let wanted = if case.rights.contains(&right) { 0 } else { case.refusal };
            assert_eq!(reply.code, wanted, "{} with {right} alone: {}", case.name, reply.text);

            // The same right on other names is worth nothing.
            let mut elsewhere = World::client_with(&server, &[(&[right], "elsewhere*")]);
            let reply = elsewhere.post(case.path, &(case.body)(&subjects)).unwrap();
            assert_eq!(reply.code, case.refusal, "{} with {right} elsewhere: {}", case.name, reply.text);
            // An account has room for 200; the case may have dropped it.
            admin.post("/api/collection/drop", &json!({"collection_name": subjects.table})).unwrap();
        }
    }
    world.stop(server);
}

/// The same of the V2 data plane: its calls are the same services under other names.
#[test]
fn rights_matrix_of_v2() {
    type Body = fn(&Subjects, Value) -> Value;
    let of_collection: Body = |s, members| with(json!({"collection_name": s.table}), members);
    let of_index: Body = |s, members| with(index(s), members);
    let cases: [(&str, Body, Value, &[&str]); 12] = [
        ("data/upsert", of_collection, json!({"data": [row(1, 1, 1)]}), &["write"]),
        ("data/update", of_collection, json!({"data": [{"id": 1, "n": 2}]}), &["write"]),
        ("data/delete", of_collection, json!({"ids": [1]}), &["delete"]),
        ("data/delete", of_collection, json!({"del_all": true}), &["delete"]),
        ("data/fetch_in_collection", of_collection, json!({"ids": [1]}), &["read"]),
        ("data/fetch_in_index", of_index, json!({"ids": [1]}), &["read"]),
        ("data/search/vector", of_index, json!({"dense_vector": [1, 2, 3, 4]}), &["read"]),
        ("data/search/id", of_index, json!({"id": 1}), &["read"]),
        ("data/search/multi_modal", of_index, json!({"text": "x"}), &["read"]),
        ("data/search/scalar", of_index, json!({"field": "n"}), &["read"]),
        ("data/search/random", of_index, json!({}), &["read"]),
        ("data/agg", of_index, json!({"op": "count"}), &["read"]),
    ];
    let world = World::new();
    let server = world.start();
    let mut admin = server.client();
    let denied = |reply: &Reply| reply.status == 403 && reply.text.starts_with(r#"{"code":"AccessDenied","#);
    for (at, (path, body, members, rights)) in cases.into_iter().enumerate() {
        let path = format!("/api/vikingdb/{path}");
        for right in RIGHTS {
            let subjects = subjects(&mut admin, at);
            let body = body(&subjects, members.clone());
            let mut elsewhere = World::client_with(&server, &[(&[right], "elsewhere*")]);
            let reply = elsewhere.post(&path, &body).unwrap();
            assert!(denied(&reply), "{path} with {right} elsewhere: {}", reply.text);
            let mut client = World::client_with(&server, &[(&[right], "*")]);
            let reply = client.post(&path, &body).unwrap();
            assert_eq!(denied(&reply), !rights.contains(&right), "{path} with {right} alone: {}", reply.text);
            admin.must("/api/collection/drop", &json!({"collection_name": subjects.table}));
        }
    }
    // A key without the right cannot tell a name that exists from one that does not.
    let mut blind = World::client_with(&server, &[(&["read"], "elsewhere*")]);
    let reply = blind.post("/api/vikingdb/data/fetch_in_collection", &json!({"collection_name": "no", "ids": [1]}));
    assert!(denied(&reply.unwrap()));
    world.stop(server);
}

fn subjects(admin: &mut Client, at: usize) -> Subjects {
    let table = format!("matrix{at}");
    create_collection(admin, &table);
    let sort = json!({"index_type": "sort", "distance": "ip", "quant": "float"});
    admin.must("/api/index/create", &json!({"collection_name": table, "index_name": INDEX, "vector_index": sort}));
    fill(admin, &table, (0..4).map(|id| row(id, id % 2, id)));
    Subjects { table }
}

/// A3, A4: who sees a waiting task, who may confirm, cancel, drop and undo it, and who sees the rows it shows.
#[test]
fn task_rights() {
    let world = World::new();
    let server = world.start();
    let mut admin = server.client();
    let mut at = 0;
    for right in RIGHTS {
        for call in ["info", "confirmed", "cancel", "drop", "undo"] {
            at += 1;
            let Subjects { table } = subjects(&mut admin, at);
            let task =
                create_task(&mut admin, "filter_delete", json!({"collection_name": table, "filter": {"grp": [1]}}));
            wait(&mut admin, &task, "confirm");
            let mut client = World::client_with(&server, &[(&[right, "read"], &table)]);
            let mut blind = World::client_with(&server, &[(&[right], "elsewhere")]);
            let (path, body) = match call {
                "info" => ("/api/task/info", json!({"task_id": task})),
                "drop" => ("/api/task/drop", json!({"task_id": task})),
                "undo" => ("/knarr/v1/tasks/undo", json!({"task_id": task})),
                status => ("/api/task/update", json!({"task_id": task, "task_status": status})),
            };
            assert_eq!(blind.post(path, &body).unwrap().code, NO_TASK, "{call} by a key that cannot see it");
            // An undo of what another key created takes admin and write.
            let wanted = match (call, right) {
                ("info", _) | ("confirmed", "confirm") | ("cancel" | "drop", "admin") => 0,
                _ => NO_PERMISSION,
            };
            let reply = client.post(path, &body).unwrap();
            assert_eq!(reply.code, wanted, "{call} with {right} and read: {}", reply.text);
            if call == "info" {
                // A4: rows are shown to those only who may read them.
                let shown = |reply: Reply| reply.data["process_info"]["sampled_data"].as_array().unwrap().len();
                assert_eq!(shown(reply), 2);
                let mut alone = World::client_with(&server, &[(&[right], &table)]);
                let rows = if right == "read" { 2 } else { 0 };
                assert_eq!(shown(alone.post(path, &body).unwrap()), rows, "rows shown to {right} alone");
            }
            admin.must("/api/collection/drop", &json!({"collection_name": table}));
        }
    }
    // The creator may stop what it began, without being an administrator.
    create_collection(&mut admin, "mine");
    let mut creator = World::client_with(&server, &[(&["read", "delete"], "mine")]);
    for (path, status) in [("/api/task/update", "cancel"), ("/api/task/drop", "")] {
        let params = json!({"collection_name": "mine", "filter": {"grp": [1]}, "file_type": "json"});
        let mut body = json!({"task_id": create_task(&mut creator, "filter_delete", params)});
        if !status.is_empty() {
            body["task_status"] = status.into();
        }
        creator.must(path, &body);
    }
    world.stop(server);
}

/// Where the settings say so, whoever asked for a delete cannot be the one who confirms it.
#[test]
fn another_key_confirms() {
    let world = World::new();
    let server = world.start_with(&[("KNARR_CONFIRM_BY_ANOTHER", "true")]);
    let mut admin = server.client();
    create_collection(&mut admin, "t");
    fill(&mut admin, "t", (0..20).map(|id| row(id, id % 2, 1)));
    let task = create_task(&mut admin, "filter_delete", json!({"collection_name": "t", "filter": {"grp": [1]}}));
    wait(&mut admin, &task, "confirm");
    let refused = update_task(&mut admin, &task, "confirmed");
    assert_eq!((refused.status, refused.code), (403, NO_PERMISSION), "{}", refused.text);
    assert_eq!(task_info(&mut admin, &task)["task_status"], "confirm");
    let mut human = World::client_with(&server, &[(&["confirm", "read"], "t")]);
    assert_eq!(update_task(&mut human, &task, "confirmed").code, 0);
    wait(&mut admin, &task, "done");
    assert_eq!(alive(&mut admin, "t", 0..20), (0..20).step_by(2).collect::<Vec<_>>());
    world.stop(server);
}

/// H8: the server's own reach is nobody's: a key writes and reads in the buckets that its patterns name and in no other.
#[test]
fn prefix_matrix() {
    let world = World::new();
    let server = world.start();
    let mut admin = server.client();
    create_collection(&mut admin, "t");
    fill(&mut admin, "t", (0..4).map(|id| row(id, 1, 1)));
    for bucket in ["team-a", "team-b", "team"] {
        admin.must("/knarr/v1/buckets/create", &json!({"bucket": bucket}));
    }
    let mut client = World::client_with(&server, &[(&["export"], "t"), (&["export", "read", "write"], "team-a*")]);
    for (bucket, allowed) in
        [("team-a", true), ("team-archive", true), ("team-b", false), ("team", false), ("team-A", false), ("t", false)]
    {
        let task = json!({"task_type": "data_export", "task_params": {"collection_name": "t", "tos_path": format!("{bucket}/x")}});
        let replies = [
            client.post("/api/task/create", &task).unwrap(),
            client.post("/knarr/v1/objects/list", &json!({"bucket": bucket, "prefix": ""})).unwrap(),
        ];
        for reply in replies {
            assert_eq!(reply.code == NO_PERMISSION, !allowed && reply.code != 1_000_003, "{bucket}: {}", reply.text);
            assert!(allowed || reply.status >= 400, "{bucket}: {}", reply.text);
        }
    }
    let made = admin.must("/knarr/v1/buckets/list", &json!({}));
    assert!(!made.to_string().contains("\"t\""), "{made}");
    world.stop(server);
}
