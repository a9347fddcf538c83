//! H15: no secret leaves by a way that was not made for it.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::client::{Client, Keys};
use crate::world::{self, World, create_collection, create_task, fill, new_key, row, wait};

const ACCESS: &str = "AKLTcanarycanarycanary";
const SECRET: &str = "canary-secret-7f3a-that-must-never-be-seen";
const MASTER_KEY: &str = "c0ffee00c0ffee01c0ffee02c0ffee03c0ffee04c0ffee05c0ffee06c0ffee07";

/// Every file below `dir` that holds one of `markers`.
fn holders(dir: &Path, markers: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(holders(&path, markers));
            continue;
        }
        let bytes = fs::read(&path).unwrap_or_default();
        let hit = markers.iter().find(|m| bytes.windows(m.len()).any(|w| w == m.as_bytes()));
        found.extend(hit.map(|marker| format!("{marker} in {}", path.display())));
    }
    found
}

/// Calls of every kind, good and bad; all answers but those that hand out a new key.
fn tour(world: &World, client: &mut Client, host: &str) -> Vec<String> {
    let mut answers = Vec::new();
    create_collection(client, "tour");
    fill(client, "tour", (0..200).map(|id| row(id, id % 2, id)));
    let export = create_task(client, "data_export", json!({"collection_name": "tour", "tos_path": "tour/x"}));
    wait(client, &export, "done");
    let delete = create_task(client, "filter_delete", json!({"collection_name": "tour", "filter": {"grp": [1]}}));
    wait(client, &delete, "confirm");
    for (path, body) in [
        ("/api/task/info", json!({"task_id": delete})),
        ("/api/task/update", json!({"task_id": delete, "task_status": "confirmed"})),
        ("/api/task/list", json!({})),
        ("/api/collection/list", json!({})),
        ("/api/collection/info", json!({"collection_name": "tour"})),
        ("/api/collection/fetch_data", json!({"collection_name": "tour", "primary_keys": [1, 2]})),
        ("/api/nowhere", json!({})),
        ("/knarr/v1/keys/list", json!({})),
        ("/knarr/v1/buckets/list", json!({})),
        ("/knarr/v1/objects/list", json!({"bucket": "tour", "prefix": ""})),
    ] {
        answers.push(client.post(path, &body).unwrap().text);
    }
    wait(client, &delete, "done");
    // The right key with the wrong secret, and the other way round.
    for keys in [
        Keys { access: ACCESS.to_owned(), secret: "wrong".to_owned() },
        Keys { access: "AKLTnobody".to_owned(), secret: SECRET.to_owned() },
    ] {
        let reply = Client::new(host, &keys).post("/api/collection/list", &json!({})).unwrap();
        assert_eq!(reply.status, 401);
        answers.push(reply.text);
    }
    answers.push(world.log());
    answers
}

#[test]
fn secret_canary() {
    let world = World::with_keys(ACCESS, SECRET);
    let environment = [("KNARR_MASTER_KEY", MASTER_KEY), ("KNARR_LOG", "trace"), ("KNARR_MEMTABLE_MIB", "1")];
    let server = world.start_with(&environment);
    let mut client = server.client();
    let made = new_key(&mut client, &[(&["read", "write", "delete", "export", "confirm", "admin"], "*")]);
    let revoked = new_key(&mut client, &[(&["read"], "*")]);
    client.must("/knarr/v1/keys/revoke", &json!({"access_key": revoked.access}));
    assert_eq!(Client::new(server.host(), &revoked).post("/api/collection/list", &json!({})).unwrap().status, 401);

    let mut answers = tour(&world, &mut client, server.host());
    let mut second = Client::new(server.host(), &made);
    for body in [json!({}), Value::Null, json!([])] {
        answers.push(second.post("/api/collection/list", &body).unwrap().text);
    }
    assert_eq!(world::alive(&mut second, "tour", 0..10).len(), 10 - 5);
    server.kill();
    let server = world.start_with(&environment);
    world.stop(server);

    let markers = [SECRET, MASTER_KEY, &made.secret, &revoked.secret];
    assert!(world.log().len() > 1000, "a log at trace level says something");
    answers.push(world.log());
    for answer in &answers {
        for marker in markers {
            assert!(!answer.contains(marker), "{marker} in {answer}");
        }
    }
    assert_eq!(holders(&world.data(), &markers), Vec::<String>::new());
}

/// Files that hold secrets by design are for their owner only.
#[test]
fn key_files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    world.stop(world.start());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&world.data()), 0o700);
    assert_eq!(mode(&world.data().join("master.key")), 0o600);
}
