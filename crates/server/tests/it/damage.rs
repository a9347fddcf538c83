//! Damage that only a person can mend: nothing may be made worse by it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::client::Client;
use crate::world::{World, alive, create_collection, create_task, eventually, fill, row, task_info, upsert};

fn files(dir: &Path) -> usize {
    let count = |entry: fs::DirEntry| if entry.path().is_dir() { files(&entry.path()) } else { 1 };
    fs::read_dir(dir).unwrap().map(|entry| count(entry.unwrap())).sum()
}

/// Directories of all tables.
fn tables(world: &World) -> Vec<PathBuf> {
    fs::read_dir(world.data().join("tables")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Makes a collection; the directory of its table.
fn create_with_table(world: &World, client: &mut Client, name: &str) -> PathBuf {
    let before = tables(world);
    create_collection(client, name);
    tables(world).into_iter().find(|table| !before.contains(table)).expect("a collection has a table")
}

fn manifests(table: &Path) -> Vec<PathBuf> {
    let dir = table.join("shard=0000/manifest");
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn listed(client: &mut Client) -> Vec<String> {
    let all = client.must("/api/collection/list", &json!({}));
    all.as_array().unwrap().iter().map(|one| one["collection_name"].as_str().unwrap().to_owned()).collect()
}

/// Only the damaged collection suffers: the others are listed and served, and it can be dropped.
#[test]
fn a_damaged_collection_does_not_hide_the_others() {
    let world = World::new();
    let server = world.start();
    let mut client = server.client();
    create_collection(&mut client, "first");
    let table = create_with_table(&world, &mut client, "hurt");
    create_collection(&mut client, "last");
    for name in ["first", "hurt", "last"] {
        fill(&mut client, name, (0..10).map(|id| row(id, id, 1)));
    }
    world.stop(server);
    for manifest in manifests(&table) {
        let mut bytes = fs::read(&manifest).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&manifest, bytes).unwrap();
    }

    let server = world.start();
    let mut client = server.client();
    assert_eq!(listed(&mut client), ["first", "last"]);
    assert!(world.log().contains("a collection cannot be listed"), "{}", world.log());
    for name in ["first", "last"] {
        assert_eq!(alive(&mut client, name, 0..10), (0..10).collect::<Vec<_>>());
    }
    must_be_damaged(&mut client, "hurt");
    assert_eq!(listed(&mut client), ["first", "last"], "asking for it changes nothing");
    client.must("/api/collection/drop", &json!({"collection_name": "hurt"}));
    create_collection(&mut client, "hurt");
    assert_eq!(listed(&mut client), ["first", "hurt", "last"]);
    world.stop(server);
}

/// A table whose files are gone under its name is damage: nobody dropped it, and its rows may be in a backup.
#[test]
fn lost_files_are_damage_not_absence() {
    let world = World::new();
    let server = world.start();
    let mut client = server.client();
    create_collection(&mut client, "whole");
    let (no_manifest, no_table) =
        (create_with_table(&world, &mut client, "no_manifest"), create_with_table(&world, &mut client, "no_table"));
    for name in ["whole", "no_manifest", "no_table"] {
        fill(&mut client, name, (0..10).map(|id| row(id, id, 1)));
    }
    world.stop(server);
    manifests(&no_manifest).iter().for_each(|manifest| fs::remove_file(manifest).unwrap());
    fs::remove_dir_all(no_table).unwrap();

    let server = world.start();
    let mut client = server.client();
    for name in ["no_manifest", "no_table"] {
        must_be_damaged(&mut client, name);
        let export = json!({"collection_name": name, "tos_path": "files/x"});
        let export = json!({"task_type": "data_export", "task_params": export});
        assert_eq!(client.post("/api/task/create", &export).unwrap().code, 1_000_028);
        assert_eq!(listed(&mut client), ["whole"]);
    }
    assert!(files(&no_manifest) > 0, "what is left is not touched");
    let absent = client.post("/api/collection/info", &json!({"collection_name": "absent"})).unwrap();
    assert_eq!((absent.status, absent.code), (400, 1_000_005));
    for name in ["no_manifest", "no_table"] {
        client.must("/api/collection/drop", &json!({"collection_name": name}));
        create_collection(&mut client, name);
    }
    assert_eq!(alive(&mut client, "whole", 0..10), (0..10).collect::<Vec<_>>());
    world.stop(server);
}

/// Every call on the collection's rows is a fault of ours, not a name that does not exist.
fn must_be_damaged(client: &mut Client, name: &str) {
    for (path, body, code) in [
        ("/api/collection/info", json!({"collection_name": name}), 1_000_028),
        ("/api/collection/fetch_data", json!({"collection_name": name, "primary_keys": [1]}), 1_000_028),
        ("/api/collection/upsert_data", upsert(name, &[row(1, 1, 1)]), 1_000_014),
    ] {
        let reply = client.post(path, &body).unwrap();
        assert_eq!((reply.status, reply.code), (500, code), "{path}: {}", reply.text);
    }
}

/// A lost, emptied or foreign catalog never costs a row: tables that it does not know are refused, not removed.
#[test]
fn a_lost_catalog_costs_no_row() {
    let world = World::new();
    let server = world.start();
    create_collection(&mut server.client(), "kept");
    create_collection(&mut server.client(), "dropped");
    fill(&mut server.client(), "kept", (0..300).map(|id| row(id, id % 3, 1)));
    fill(&mut server.client(), "dropped", (0..300).map(|id| row(id, id % 3, 1)));
    server.client().must("/api/collection/drop", &json!({"collection_name": "dropped"}));
    world.stop(server);

    let (catalog, tables) = (world.data().join("catalog.db"), world.data().join("tables"));
    let (whole, before) = (fs::read(&catalog).unwrap(), files(&tables));
    for wal in ["catalog.db-wal", "catalog.db-shm"] {
        let _ = fs::remove_file(world.data().join(wal));
    }
    let emptied = || fs::write(&catalog, b"").unwrap();
    let removed = || fs::remove_file(&catalog).unwrap();
    for damage in [&emptied as &dyn Fn(), &removed] {
        damage();
        assert!(world.try_start(&[]).is_err(), "a start without the names of its tables");
        assert!(world.log().contains("holds rows but no collection"), "{}", world.log());
        assert_eq!(files(&tables), before);
        for made in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
            let _ = fs::remove_file(world.data().join(made));
        }
        fs::write(&catalog, &whole).unwrap();
    }
    let server = world.start();
    assert_eq!(alive(&mut server.client(), "kept", 0..300), (0..300).collect::<Vec<_>>());
    world.stop(server);
}

/// A link below the store may lead anywhere: nothing is read or written through it.
#[test]
fn links_in_the_store_lead_nowhere() {
    let world = World::new();
    let server = world.start();
    let outside = world.data().with_extension("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), b"secret").unwrap();
    let mut client = server.client();
    client.must("/knarr/v1/buckets/create", &json!({"bucket": "files"}));
    std::os::unix::fs::symlink(&outside, world.data().join("objects/files/link")).unwrap();
    let read = client.post("/knarr/v1/objects/get", &json!({"bucket": "files", "key": "link/secret"})).unwrap();
    assert!(read.status >= 400, "{}", read.text);
    create_collection(&mut client, "rows");
    fill(&mut client, "rows", (0..10).map(|id| row(id, 1, 1)));
    let task = create_task(&mut client, "data_export", json!({"collection_name": "rows", "tos_path": "files/link"}));
    eventually("the export to fail or to try again", || {
        let info = task_info(&mut client, &task);
        assert_ne!(info["task_status"], "done", "{info}");
        (info["task_status"] == "fail" || world.log().contains("symbolic link") || world.log().contains("File exists"))
            .then_some(())
    });
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "only what was there");
    world.stop(server);
}
