//! Damage that only a person can mend: nothing may be made worse by it.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::world::{World, alive, create_collection, create_task, eventually, fill, row, task_info};

fn files(dir: &Path) -> usize {
    let count = |entry: fs::DirEntry| if entry.path().is_dir() { files(&entry.path()) } else { 1 };
    fs::read_dir(dir).unwrap().map(|entry| count(entry.unwrap())).sum()
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
