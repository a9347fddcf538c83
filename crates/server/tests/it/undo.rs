//! T7 from outside: what a task deleted comes back, and the very next read knows.

use serde_json::{Value, json};

use crate::client::Client;
use crate::world::{World, alive, create_collection, create_task, fill, missing, near, row, task_info, upsert, wait};

const TABLE: &str = "rows";
const ROWS: i64 = 500;

fn undo(client: &mut Client, task: &str) -> Value {
    client.must("/knarr/v1/tasks/undo", &json!({"task_id": task}))
}

/// Ids of the nearest rows to that of `id`.
fn search(client: &mut Client, id: i64, limit: i64) -> Vec<i64> {
    let body = json!({"collection_name": TABLE, "index_name": "near",
        "search": {"order_by_vector": {"vectors": [[id % 1000, 0.5, -1, id % 1000]]}, "limit": limit}});
    let data = client.must("/api/index/search", &body);
    let items = data[0].as_array().unwrap_or_else(|| panic!("{data}"));
    items.iter().map(|item| item["id"].as_i64().unwrap()).collect()
}

fn delete(client: &mut Client, grp: i64) -> String {
    let params = json!({"collection_name": TABLE, "filter": {"grp": [grp]}, "need_confirm": false});
    let task = create_task(client, "filter_delete", params);
    wait(client, &task, "done");
    task
}

/// With rows in memory and in segments, with search structures and without, before a crash and after it.
#[test]
fn the_very_next_read_sees_what_came_back() {
    for structured in ["20", "100000"] {
        let world = World::new();
        let settings = [("KNARR_MEMTABLE_MIB", "1"), ("KNARR_STRUCTURE_ROWS", structured)];
        let server = world.start_with(&settings);
        let mut client = server.client();
        create_collection(&mut client, TABLE);
        fill(&mut client, TABLE, (0..ROWS).map(|id| row(id, id % 5, id)));
        client.must("/api/index/create", &near(TABLE));
        let (first, second) = (delete(&mut client, 2), delete(&mut client, 3));
        let without = |grps: &[i64]| (0..ROWS).filter(|id| !grps.contains(&(id % 5))).collect::<Vec<_>>();
        assert_eq!(alive(&mut client, TABLE, 0..ROWS), without(&[2, 3]));
        assert!(!search(&mut client, 402, 3).contains(&402));
        assert!(task_info(&mut client, &first)["process_info"]["undo_until"].is_string());

        // 7 and 12 are written since; the second stays deleted.
        client.must("/api/collection/upsert_data", &upsert(TABLE, &[row(7, 9, 7_000_000), row(12, 9, 12_000_000)]));
        client.must("/api/collection/del_data", &json!({"collection_name": TABLE, "primary_keys": [12]}));
        let undone = undo(&mut client, &first);
        assert_eq!(search(&mut client, 402, 1), [402], "structures from {structured} rows");
        let expected: Vec<i64> = without(&[3]).into_iter().filter(|id| *id != 12).collect();
        assert_eq!(alive(&mut client, TABLE, 0..ROWS), expected);
        let counts = |of: &Value| ["restored_count", "changed_count", "expired_count"].map(|name| of[name].clone());
        assert_eq!(counts(&undone), [json!(98), json!(2), json!(0)], "{undone}");
        let fetched = crate::world::fetch(&mut client, TABLE, [7, 12, 17].into_iter());
        assert_eq!((&fetched[0]["n"], missing(&fetched[1]), &fetched[2]["n"]), (&json!(7_000_000), true, &json!(17)));

        server.kill();
        let server = world.start_with(&settings);
        let mut client = server.client();
        assert_eq!(alive(&mut client, TABLE, 0..ROWS), expected);
        assert_eq!(undo(&mut client, &first), undone, "the same answer, without effect");
        let info = task_info(&mut client, &first)["process_info"].take();
        assert_eq!(counts(&info["undone"]), counts(&undone), "{info}");
        assert!(info["undo_until"].is_null() && info["total_deleted_count"] == 100, "{info}");
        assert_eq!(undo(&mut client, &second)["restored_count"], 100);
        assert_eq!(search(&mut client, 403, 1), [403]);
        world.stop(server);
    }
}

/// `undo_days = 0` keeps nothing, and says so.
#[test]
fn without_days_nothing_can_be_undone() {
    let world = World::new();
    let server = world.start_with(&[("KNARR_MEMTABLE_MIB", "1"), ("KNARR_UNDO_DAYS", "0")]);
    let mut client = server.client();
    create_collection(&mut client, TABLE);
    fill(&mut client, TABLE, (0..ROWS).map(|id| row(id, id % 5, id)));
    let task = delete(&mut client, 2);
    assert!(task_info(&mut client, &task)["process_info"]["undo_until"].is_null());
    let refused = client.post("/knarr/v1/tasks/undo", &json!({"task_id": task})).unwrap();
    assert_eq!((refused.status, refused.code), (400, 1_000_006), "{}", refused.text);
    assert!(refused.text.contains("undo_days"), "{}", refused.text);
    world.stop(server);
}
