//! Two accounts on one server. Each must see exactly what it would see alone.

use std::path::{Path, PathBuf};

use knarr_base::clock::SystemClock;
use knarr_base::id::{AccountId, KeyId};
use knarr_base::right::Grant;
use knarr_catalog::{Catalog, MasterKey};
use serde_json::{Value, json};

use crate::client::{Client, Keys};
use crate::random::Random;
use crate::world::{self, World, collection, create_collection, fetch, fill, row, upsert, wait};

const MASTER_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const ENVIRONMENT: &[(&str, &str)] = &[("KNARR_MEMTABLE_MIB", "1"), ("KNARR_MASTER_KEY", MASTER_KEY)];
/// The same names for both: they are unique per account only.
const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

/// What a tenant does; the same script is played alone and beside another tenant.
enum Act {
    Create(&'static str),
    Drop(&'static str),
    Upsert(&'static str, Vec<i64>, i64),
    Delete(&'static str, Vec<i64>),
    DeleteAll(&'static str),
    Fetch(&'static str),
    Info(&'static str),
    List,
    Tasks,
    FilterDelete(&'static str, i64),
    Export(&'static str),
}

impl Act {
    fn draw(random: &mut Random) -> Self {
        let name = random.pick(&NAMES);
        let keys = |random: &mut Random| (0..10).map(|_| random.below(50) as i64).collect();
        match random.below(20) {
            0..3 => Act::Create(name),
            3 => Act::Drop(name),
            4..9 => Act::Upsert(name, keys(random), random.below(1000) as i64),
            9 => Act::Delete(name, keys(random)),
            10 => Act::DeleteAll(name),
            11..14 => Act::Fetch(name),
            14 => Act::Info(name),
            15 => Act::List,
            16 => Act::Tasks,
            17 | 18 => Act::FilterDelete(name, random.below(3) as i64),
            _ => Act::Export(name),
        }
    }

    /// Does it; what the tenant sees of it, without times and ids.
    fn perform(&self, client: &mut Client, bucket: &str, at: usize) -> String {
        let mut say = |path: &str, body: Value| client.post(path, &body).expect("the server is up");
        let named = |name: &str| json!({"collection_name": name});
        match self {
            Act::Create(name) => say("/api/collection/create", collection(name)).code.to_string(),
            Act::Drop(name) => say("/api/collection/drop", named(name)).code.to_string(),
            Act::Upsert(name, keys, n) => {
                let rows: Vec<Value> = keys.iter().map(|key| row(*key, n % 3, *n)).collect();
                say("/api/collection/upsert_data", upsert(name, &rows)).code.to_string()
            }
            Act::Delete(name, keys) => {
                say("/api/collection/del_data", json!({"collection_name": name, "primary_keys": keys})).code.to_string()
            }
            Act::DeleteAll(name) => {
                say("/api/collection/del_data", json!({"collection_name": name, "del_all": true})).code.to_string()
            }
            Act::Fetch(name) => {
                let keys: Vec<i64> = (0..50).collect();
                let body = json!({"collection_name": name, "primary_keys": keys});
                let reply = say("/api/collection/fetch_data", body);
                format!("{} {}", reply.code, reply.data)
            }
            Act::Info(name) => {
                let reply = say("/api/collection/info", named(name));
                format!("{} {}", reply.code, reply.data["fields"])
            }
            Act::List => {
                let reply = say("/api/collection/list", json!({}));
                let names = reply.data.as_array().expect("a list").iter().map(|c| c["collection_name"].to_string());
                names.collect::<Vec<_>>().join(" ")
            }
            Act::Tasks => {
                let reply = say("/api/task/list", json!({"page_size": 1000}));
                let tasks = reply.data.as_array().expect("a list").iter();
                tasks.map(|t| format!("{}/{}", t["task_type"], t["collection_name"])).collect::<Vec<_>>().join(" ")
            }
            Act::FilterDelete(name, grp) => {
                let params = json!({"collection_name": name, "filter": {"grp": [grp]}, "need_confirm": false,
                    "tos_path": format!("{bucket}/b{at}")});
                run(client, "filter_delete", params)
            }
            Act::Export(name) => {
                let params =
                    json!({"collection_name": name, "export_all": true, "tos_path": format!("{bucket}/x{at}")});
                run(client, "data_export", params)
            }
        }
    }
}

/// A whole task, and its counts.
fn run(client: &mut Client, kind: &str, params: Value) -> String {
    let made = client.post("/api/task/create", &json!({"task_type": kind, "task_params": params})).unwrap();
    if made.code != 0 {
        return made.code.to_string();
    }
    let process = wait(client, made.data["task_id"].as_str().unwrap(), "done")["process_info"].take();
    format!("{} {} {}", process["total_filter_count"], process["total_deleted_count"], process["sampled_data"])
}

/// The catalog of a data directory: the one SQLite file in it.
fn catalog_file(dir: &Path) -> PathBuf {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut found =
        files.filter(|path| path.is_file() && std::fs::read(path).unwrap().starts_with(b"SQLite format 3\0"));
    found.next().expect("a data directory has a catalog")
}

/// A world with a second account, whose key is returned. No call makes accounts, so this goes to the catalog itself.
fn world_of_two() -> (World, Keys) {
    let world = World::new();
    world.stop(world.start_with(ENVIRONMENT));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let keys = runtime.block_on(async {
        let master = MasterKey::from_hex(MASTER_KEY).unwrap();
        let catalog = Catalog::open(&catalog_file(&world.data()), SystemClock::shared(), master).await.unwrap();
        let (id, secret) = catalog
            .create_key(&KeyId::new("test"), &AccountId::new("other"), "second account", vec![Grant::everything()])
            .await
            .unwrap();
        catalog.close().await;
        Keys { access: id.as_str().to_owned(), secret: secret.expose().to_owned() }
    });
    (world, keys)
}

/// A2: the tenant's answers are the same alone and beside another tenant that does anything under the same names.
#[test]
fn two_tenants_never_meet() {
    let mut random = Random::seeded("two_tenants_never_meet");
    let script: Vec<Act> = (0..120).map(|_| Act::draw(&mut random)).collect();
    let play = |beside: Option<&mut Random>| {
        let (world, keys) = world_of_two();
        let server = world.start_with(ENVIRONMENT);
        let (mut tenant, mut other) = (Client::new(server.host(), &keys), server.client());
        let mut seen = Vec::new();
        let mut beside = beside;
        for (at, act) in script.iter().enumerate() {
            if let Some(random) = beside.as_deref_mut() {
                for turn in 0..random.below(3) as usize {
                    Act::draw(random).perform(&mut other, "bucket-of-other", at * 10 + turn);
                }
            }
            seen.push(act.perform(&mut tenant, "bucket-of-tenant", at));
        }
        world.stop(server);
        seen
    };
    let alone = play(None);
    let together = play(Some(&mut random));
    for (at, (alone, together)) in alone.iter().zip(&together).enumerate() {
        assert_eq!(alone, together, "answer {at}");
    }
}

/// A2: whoever knows a foreign name or id has nothing by it.
#[test]
fn foreign_names_are_worth_nothing() {
    let (world, keys) = world_of_two();
    let server = world.start_with(ENVIRONMENT);
    let (mut owner, mut stranger) = (server.client(), Client::new(server.host(), &keys));
    create_collection(&mut owner, "alpha");
    fill(&mut owner, "alpha", (0..10).map(|id| row(id, 1, id)));
    let delete = json!({"collection_name": "alpha", "filter": {"grp": [1]}, "tos_path": "owned-bucket/x"});
    let task = world::create_task(&mut owner, "filter_delete", delete);
    wait(&mut owner, &task, "confirm");

    let nothing = "00000000-0000-4000-8000-000000000000";
    for (path, status) in [
        ("/api/task/info", None),
        ("/api/task/drop", None),
        ("/knarr/v1/tasks/undo", None),
        ("/api/task/update", Some("confirmed")),
        ("/api/task/update", Some("cancel")),
    ] {
        let mut ask = |id: &str| {
            let reply = stranger.post(path, &json!({"task_id": id, "task_status": status})).unwrap();
            (reply.status, reply.code, reply.data)
        };
        assert_eq!(ask(&task), ask(nothing), "{path} of a foreign and of no task");
        assert_eq!(ask(&task).1, 1_000_035);
    }
    let none = json!({"collection_name": "alpha"});
    assert_eq!(stranger.post("/api/collection/info", &none).unwrap().code, 1_000_005);
    assert_eq!(stranger.must("/api/task/list", &json!({})), json!([]));
    assert_eq!(stranger.must("/knarr/v1/buckets/list", &json!({})), json!([]));
    for (path, body) in [
        ("/knarr/v1/objects/list", json!({"bucket": "owned-bucket", "prefix": ""})),
        ("/knarr/v1/buckets/create", json!({"bucket": "owned-bucket"})),
        ("/knarr/v1/keys/revoke", json!({"access_key": world.keys().access})),
    ] {
        assert_ne!(stranger.post(path, &body).unwrap().code, 0, "{path}");
    }
    create_collection(&mut stranger, "alpha");
    let export = json!({"collection_name": "alpha", "tos_path": "owned-bucket/y"});
    let made = stranger.post("/api/task/create", &json!({"task_type": "data_export", "task_params": export})).unwrap();
    if made.code == 0 {
        // The bucket is looked at when the task runs.
        let id = made.data["task_id"].as_str().unwrap();
        wait(&mut stranger, id, "fail");
    }
    assert_eq!(world::alive(&mut owner, "alpha", 0..10).len(), 10);
    assert!(fetch(&mut stranger, "alpha", 0..10).iter().all(world::missing));
    world.stop(server);
}
