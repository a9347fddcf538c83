//! Data of earlier releases: whatever one wrote, every later one opens, reads and goes on with.
//!
//! `testdata/format/<n>/` holds a data directory as release format `n` left it after `kill -9`, and what it had answered
//! about it. `KNARR_WRITE_FORMAT=<n>` makes it anew, for a new format only.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::client::{Client, Keys};
use crate::process::Server;
use crate::world::{World, alive, create_task, fetch, new_key, task_info, update_task, wait};

const ROWS: i64 = 300;
/// The stored tasks have to wait for whoever opens them in years.
const PATIENT: &[(&str, &str)] =
    &[("KNARR_MEMTABLE_MIB", "1"), ("KNARR_CONFIRM_DAYS", "36500"), ("KNARR_TASK_DAYS", "36500")];

fn stored() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/format")
}

/// Directories below `dir`, relative to it: a version control system keeps no empty ones.
fn directories(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir()) {
        let name = entry.file_name().into_string().unwrap();
        found.extend(directories(&entry.path()).into_iter().map(|below| format!("{name}/{below}")));
        found.push(name);
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// One field of every type.
fn collection(name: &str, key: &str) -> Value {
    let field = |name: &str, kind: &str| json!({"field_name": name, "field_type": kind});
    json!({"collection_name": name, "primary_key": "id", "description": "of an earlier release", "fields": [
        field("id", key), field("grp", "int64"), field("score", "float32"), field("city", "string"), field("ok", "bool"),
        field("numbers", "list<int64>"), field("tags", "list<string>"), {"field_name": "v", "field_type": "vector", "dim": 8},
        field("sparse", "sparse_vector"), field("body", "text"), field("picture", "image"),
        {"field_name": "with_default", "field_type": "int64", "default_val": -7},
    ]})
}

fn row(id: Value, n: i64, round: i64) -> Value {
    let v: Vec<f64> = (0..8).map(|i| ((n * 8 + i) % 97) as f64 / 64.0 - 0.5).collect();
    json!({"id": id, "grp": n % 10, "score": n as f64 / 8.0, "city": (["beijing", "\u{5317}\u{4eac}", ""][n as usize % 3]),
        "ok": n % 2 == 0, "numbers": [n, -n, i64::MAX - n], "tags": [format!("t{}", n % 5), "x"], "v": v,
        "sparse": {"a": 0.5, "b": n}, "body": format!("round {round} of {n} {}", "lorem ipsum ".repeat(n as usize % 20)),
        "picture": format!("tos://bucket/{n}.png")})
}

fn write(client: &mut Client, name: &str, rows: Vec<Value>) {
    for call in rows.chunks(100) {
        client.must("/api/collection/upsert_data", &json!({"collection_name": name, "fields": call}));
    }
}

/// Flushed segments, masks, compactions, a log tail, tombstones, a field of later, a finished export, an open delete.
fn make(client: &mut Client, admin: &mut Client) {
    client.must("/api/collection/create", &collection("numbers", "int64"));
    client.must("/api/collection/create", &collection("names", "string"));
    for round in 0..6 {
        write(client, "numbers", (0..ROWS).map(|n| row(json!(n), n, round)).collect());
        write(client, "names", (0..60).map(|n| row(json!(format!("k{n:04}")), n, round)).collect());
    }
    let export = json!({"collection_name": "numbers", "tos_path": "exports/of-old", "file_type": "json",
        "filter": {"grp": [1]}});
    let export = create_task(client, "data_export", export);
    wait(client, &export, "done");
    let delete = json!({"collection_name": "numbers", "filter": {"grp": [2]}, "need_confirm": false});
    let delete = create_task(client, "filter_delete", delete);
    wait(client, &delete, "done");
    let later = json!({"collection_name": "numbers", "fields": [{"field_name": "later", "field_type": "string"}]});
    client.must("/api/collection/update", &later);
    let open = json!({"collection_name": "numbers", "filter": {"grp": [3]}, "tos_path": "exports/backup"});
    let open = create_task(client, "filter_delete", open);
    wait(client, &open, "confirm");
    // Written after the sample was shown: these survive the confirmation.
    write(client, "numbers", vec![row(json!(13), 13, 77), row(json!(5000), 3, 77)]);
    client.must("/api/collection/del_data", &json!({"collection_name": "numbers", "primary_keys": [0, 1]}));
    let update = json!({"collection_name": "numbers", "fields": [{"id": 4, "city": "updated", "later": "set"}]});
    client.must("/api/collection/update_data", &update);
    admin.must("/knarr/v1/buckets/create", &json!({"bucket": "made-by-hand"}));
}

/// Questions whose answers have to be the same for ever.
fn ask(client: &mut Client) -> Value {
    let infos: Vec<Value> = ["numbers", "names"]
        .into_iter()
        .map(|name| {
            let mut info = client.must("/api/collection/info", &json!({"collection_name": name}));
            // Sizes are estimates.
            info.as_object_mut().unwrap().remove("stat");
            info
        })
        .collect();
    let numbers = fetch(client, "numbers", (0..ROWS).chain([5000]));
    let names: Vec<String> = (0..61).map(|n| format!("k{n:04}")).collect();
    let names = client.must("/api/collection/fetch_data", &json!({"collection_name": "names", "primary_keys": names}));
    let tasks = client.must("/api/task/list", &json!({}));
    json!({"infos": infos, "numbers": numbers, "names": names, "tasks": tasks})
}

fn make_stored(format: &str) {
    let world = World::new();
    let server = world.start_with(PATIENT);
    let keys = new_key(&mut server.client(), &[(&["read", "write", "delete", "export", "confirm", "admin"], "*")]);
    let mut client = Client::new(server.host(), &keys);
    make(&mut client, &mut server.client());
    let answers = ask(&mut client);
    server.kill();
    let target = stored().join(format);
    copy(&world.data(), &target.join("data"));
    // Memory shared by processes that are gone.
    fs::remove_file(target.join("data/catalog.db-shm")).unwrap();
    let expected = json!({"access_key": keys.access, "secret_key": keys.secret,
        "directories": directories(&world.data()), "answers": answers});
    fs::write(target.join("expected.json"), expected.to_string()).unwrap();
}

/// D7: the rows, names, keys, tasks and files of every earlier format are there, and its open delete can be confirmed.
#[test]
fn open_every_released_format() {
    if let Ok(format) = std::env::var("KNARR_WRITE_FORMAT") {
        make_stored(&format);
    }
    let entries = fs::read_dir(stored()).unwrap().map(|entry| entry.unwrap().path());
    let mut formats: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    formats.sort();
    assert!(!formats.is_empty(), "testdata/format is empty");
    for format in formats {
        let world = World::new();
        copy(&format.join("data"), &world.data());
        // Version control keeps no modes, and the server refuses a key that others may read.
        fs::set_permissions(world.data().join("master.key"), fs::Permissions::from_mode(0o600)).unwrap();
        let expected: Value = serde_json::from_slice(&fs::read(format.join("expected.json")).unwrap()).unwrap();
        for directory in expected["directories"].as_array().unwrap() {
            fs::create_dir_all(world.data().join(directory.as_str().unwrap())).unwrap();
        }
        let text = |name: &str| expected[name].as_str().unwrap().to_owned();
        let keys = Keys { access: text("access_key"), secret: text("secret_key") };
        let server = world.start_with(PATIENT);
        let mut client = Client::new(server.host(), &keys);
        let answers = ask(&mut client);
        for (what, expected) in expected["answers"].as_object().unwrap() {
            assert_eq!(&answers[what], expected, "{what} of {}", format.display());
        }
        go_on(&world, server, &mut client, &answers);
    }
}

fn go_on(world: &World, server: Server, client: &mut Client, answers: &Value) {
    let tasks = answers["tasks"].as_array().unwrap();
    let find = |status: &str, kind: &str| {
        let found = tasks.iter().find(|task| task["task_status"] == status && task["task_type"] == kind);
        found.and_then(|task| task["task_id"].as_str()).expect("is stored").to_owned()
    };
    let export = find("done", "data_export");
    let rows = crate::exports::rows(&crate::exports::dir(&world.data(), "exports/of-old", &export));
    assert_eq!(rows.len(), ROWS as usize / 10);
    let open = find("confirm", "filter_delete");
    assert_eq!(update_task(client, &open, "confirmed").code, 0);
    wait(client, &open, "done");
    // 13 was written after the sample.
    let group = (0..ROWS).filter(|n| n % 10 == 3).chain([5000]);
    assert_eq!(alive(client, "numbers", group), [13, 5000]);
    let counts = &task_info(client, &open)["process_info"];
    assert_eq!(counts["total_deleted_count"], ROWS / 10 - 1, "{counts}");
    // What this release deletes comes back; an earlier one kept nothing.
    let old = find("done", "filter_delete");
    let mut undo = |task: &str| client.post("/knarr/v1/tasks/undo", &json!({"task_id": task})).unwrap();
    assert_eq!(undo(&old).code, 1_000_006);
    assert_eq!(undo(&open).data["restored_count"], ROWS / 10 - 1);
    let group = (0..ROWS).filter(|n| n % 10 == 3);
    assert_eq!(alive(client, "numbers", group.clone()), group.collect::<Vec<_>>());
    world.stop(server);
}
