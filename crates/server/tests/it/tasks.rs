//! Tasks beside writers, with and without confirmation.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::Client;
use crate::exports;
use crate::random::Random;
use crate::world::{
    self, World, alive, create_collection, create_task, fetch, fill, missing, pause, row, task_info, update_task,
    upsert, wait,
};

const TABLE: &str = "rows";

/// Ends the other threads of a test, also when this one fails.
struct EndOthers<'a>(&'a AtomicBool);

impl Drop for EndOthers<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// T1: what is written after the sample survives, even under a matched key; the rest is gone.
#[test]
fn concurrent_upsert_survives_delete() {
    const ROWS: i64 = 3000;
    let world = World::new();
    let mut random = Random::seeded("concurrent_upsert_survives_delete");
    let server = world.start();
    let mut client = server.client();
    create_collection(&mut client, TABLE);
    fill(&mut client, TABLE, (0..ROWS).map(|id| row(id, 1, id)));

    let (sampled, ended) = (AtomicBool::new(false), AtomicBool::new(false));
    // By key: the number last written, and whether it was sent when the sample was known to be taken.
    let written = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut client = server.client();
            let mut written = std::collections::BTreeMap::new();
            let mut n = 1_000_000;
            while !ended.load(Ordering::SeqCst) {
                let after = sampled.load(Ordering::SeqCst);
                let keys: Vec<i64> = (0..20).map(|_| random.below(ROWS as u64 / 2) as i64).collect();
                n += 1;
                let rows: Vec<Value> = keys.iter().map(|key| row(*key, 1, n)).collect();
                client.must("/api/collection/upsert_data", &upsert(TABLE, &rows));
                written.extend(keys.into_iter().map(|key| (key, (n, after))));
            }
            written
        });
        let others = EndOthers(&ended);
        let task = create_task(&mut client, "filter_delete", json!({"collection_name": TABLE, "filter": {"grp": [1]}}));
        wait(&mut client, &task, "confirm");
        sampled.store(true, Ordering::SeqCst);
        pause(Duration::from_millis(200));
        assert_eq!(update_task(&mut client, &task, "confirmed").code, 0);
        let info = wait(&mut client, &task, "done")["process_info"].take();
        drop(others);
        let written = writer.join().expect("every write was accepted");
        let survivors = alive(&mut client, TABLE, 0..ROWS).len() as i64;
        assert_eq!(info["total_filter_count"], ROWS);
        assert!(info["total_deleted_count"].as_i64().unwrap() >= ROWS - survivors, "{survivors} left: {info}");
        written
    });
    let late = written.values().filter(|(_, after)| *after).count();
    assert!(late > 0, "no write came after the sample");
    for item in fetch(&mut client, TABLE, 0..ROWS) {
        let id = item["id"].as_i64().unwrap();
        match written.get(&id) {
            None => assert!(missing(&item), "row {id} was matched and never rewritten: {item}"),
            Some((n, true)) => assert_eq!(item["n"], *n, "row {id} was rewritten after the sample"),
            // Sent before the sample was known, so it may have been in it; the value is the last one or none.
            Some((n, false)) => assert!(missing(&item) || item["n"] == *n, "row {id}: {item}"),
        }
    }
    world.stop(server);
}

/// T1: an export holds exactly the calls that one moment had seen.
#[test]
fn export_equals_version() {
    const SETS: i64 = 7;
    let world = World::new();
    let server = world.start();
    let mut client = server.client();
    create_collection(&mut client, TABLE);

    // Call n writes n into all hundred rows of set n % SETS.
    let call = |client: &mut Client, n: i64| {
        let first = n % SETS * 100;
        let rows: Vec<Value> = (first..first + 100).map(|id| row(id, n % SETS, n)).collect();
        client.must("/api/collection/upsert_data", &upsert(TABLE, &rows));
    };
    (0..SETS).for_each(|n| call(&mut client, n));
    let (acknowledged, ended) = (AtomicI64::new(SETS - 1), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = server.client();
            for n in SETS.. {
                if ended.load(Ordering::SeqCst) {
                    break;
                }
                call(&mut client, n);
                acknowledged.store(n, Ordering::SeqCst);
            }
        });
        let _others = EndOthers(&ended);
        for run in 0..10 {
            let before = acknowledged.load(Ordering::SeqCst);
            let path = format!("versions/v{run}");
            let params = json!({"collection_name": TABLE, "tos_path": path, "file_type": "json", "export_all": true});
            let task = create_task(&mut client, "data_export", params);
            wait(&mut client, &task, "done");
            let after = acknowledged.load(Ordering::SeqCst) + 1;
            let rows = exports::rows(&exports::dir(&world.data(), &path, &task));
            assert_eq!(rows.len() as i64, SETS * 100);
            let last = rows.values().map(|row| row["n"].as_i64().unwrap()).max().unwrap();
            assert!((before..=after).contains(&last), "{last} is not in {before}..={after}");
            for (id, row) in rows {
                // The newest call up to `last` that wrote this set.
                let set = id / 100;
                assert_eq!(row["n"], last - (last - set).rem_euclid(SETS), "row {id} of the version after call {last}");
                assert_eq!(row["s"], world::text(row["n"].as_i64().unwrap()));
            }
        }
    });
    world.stop(server);
}

/// T10: progress never goes down, also across a kill, says 50 % while it asks, and 100 % only when done.
#[test]
fn progress_monotone() {
    let world = World::new();
    let mut server = world.start();
    let mut client = server.client();
    create_collection(&mut client, TABLE);
    fill(&mut client, TABLE, (0..20_000).map(|id| row(id, id % 2, id)));
    let export = json!({"collection_name": TABLE, "tos_path": "progress/x", "file_type": "json"});
    let delete = json!({"collection_name": TABLE, "tos_path": "progress/y", "filter": {"grp": [1]}});
    for (kind, params) in [("data_export", export), ("filter_delete", delete)] {
        let task = create_task(&mut client, kind, params);
        let (mut percent, mut scanned, mut polls) = (0, 0, 0);
        loop {
            let info = task_info(&mut client, &task);
            let process = &info["process_info"];
            let shown = process["task_progress"].as_str().unwrap().strip_suffix('%').expect("a percent sign");
            let now: u64 = shown.parse().expect("a whole number");
            assert!(now >= percent, "{percent} % went back: {info}");
            let rows = process["scan_data_count"].as_u64().unwrap();
            assert!(rows >= scanned, "{scanned} scanned went back: {info}");
            (percent, scanned) = (now, rows);
            let status = info["task_status"].as_str().unwrap();
            assert_eq!(now == 100, status == "done", "{info}");
            match status {
                "done" => break,
                "confirm" => {
                    assert_eq!((now, &process["process_step"]), (50, &json!("scan_data")), "{info}");
                    assert_eq!(update_task(&mut client, &task, "confirmed").code, 0);
                }
                "fail" => panic!("{info}"),
                _ => {}
            }
            polls += 1;
            if polls == 3 {
                server.kill();
                server = world.start();
                client = server.client();
            }
        }
    }
    world.stop(server);
}

/// T4, T5: what happens to the rows for every way to ask for a delete, to back it up and to answer.
#[test]
fn need_confirm_matrix() {
    let world = World::new();
    let server = world.start();
    let mut client = server.client();
    let mut at = 0;
    for backup in [false, true] {
        for (need, asks) in [
            (None, Some(true)),
            (Some(json!(true)), Some(true)),
            (Some(json!(null)), Some(true)),
            (Some(json!(false)), Some(false)),
            (Some(json!("false")), None),
            (Some(json!("")), None),
            (Some(json!(0)), None),
            (Some(json!([])), None),
        ] {
            for answer in ["confirmed", "cancel", "confirmed twice", "cancel, confirmed", "drop"] {
                at += 1;
                let name = format!("m{at}");
                let case = format!("need_confirm {need:?}, backup {backup}, answer {answer:?}");
                create_collection(&mut client, &name);
                fill(&mut client, &name, (0..20).map(|id| row(id, id % 2, id)));
                let mut params = json!({"collection_name": name, "filter": {"grp": [1]}});
                if let Some(need) = &need {
                    params["need_confirm"] = need.clone();
                }
                if backup {
                    params["tos_path"] = format!("backups/{name}").into();
                    params["file_type"] = "json".into();
                }
                let gone = run_case(&mut client, &name, params, asks, answer, &case);
                let left = alive(&mut client, &name, 0..20);
                let kept: Vec<i64> = (0..20).filter(|id| !gone || id % 2 == 0).collect();
                assert_eq!(left, kept, "{case}");
                let sealed = exports::sealed(&world.data().join("objects").join("backups").join(&name));
                if backup && gone {
                    let rows = exports::rows(&sealed[0]);
                    assert_eq!(
                        rows.keys().copied().collect::<Vec<_>>(),
                        (1..20).step_by(2).collect::<Vec<_>>(),
                        "{case}"
                    );
                }
                client.must("/api/collection/drop", &json!({"collection_name": name}));
            }
        }
    }
    world.stop(server);
}

/// Runs one way; true if the rows must be gone.
fn run_case(client: &mut Client, name: &str, params: Value, asks: Option<bool>, answer: &str, case: &str) -> bool {
    let body = json!({"task_type": "filter_delete", "task_params": params});
    let made = client.post("/api/task/create", &body).unwrap();
    let Some(asks) = asks else {
        assert_eq!((made.status, made.code), (400, 1_000_003), "{case}: {}", made.text);
        return false;
    };
    assert_eq!(made.code, 0, "{case}: {}", made.text);
    let task = made.data["task_id"].as_str().unwrap().to_owned();
    if !asks {
        wait(client, &task, "done");
        assert_eq!(update_task(client, &task, "confirmed").code, 1_000_003, "{case}: it never asked");
        return true;
    }
    wait(client, &task, "confirm");
    assert_eq!(alive(client, name, 0..20).len(), 20, "{case}: deleted before the answer");
    let mut say = |status: &str| update_task(client, &task, status).code;
    match answer {
        "confirmed" => assert_eq!(say("confirmed"), 0, "{case}"),
        "confirmed twice" => assert_eq!((say("confirmed"), say("confirmed")), (0, 0), "{case}"),
        "cancel" => assert_eq!((say("cancel"), say("cancel")), (0, 0), "{case}"),
        "cancel, confirmed" => assert_eq!((say("cancel"), say("confirmed")), (0, 1_000_003), "{case}"),
        _ => drop(client.must("/api/task/drop", &json!({"task_id": task}))),
    }
    match answer {
        "confirmed" | "confirmed twice" => {
            let info = wait(client, &task, "done");
            assert_eq!(info["process_info"]["total_deleted_count"], 10, "{case}");
            true
        }
        "drop" => false,
        _ => {
            let info = wait(client, &task, "fail");
            assert!(info["process_info"]["err_msg"].as_str().unwrap().contains("cancel"), "{case}: {info}");
            false
        }
    }
}
