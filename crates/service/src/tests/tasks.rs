//! Promises T1, T4, T5, T6, T8, T10, T11 of the tasks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use knarr_base::Kind;
use knarr_base::filter::Filter;
use knarr_base::limit;
use knarr_base::right::{Grant, Right};
use serde_json::Value;

use super::harness::{Bed, admin, city, delete, export, named, path, principal, users_below};
use crate::tasks::{CreateTask, Format, Status, TaskQuery, TaskSpec};

const FINAL: [Status; 2] = [Status::Done, Status::Fail];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn export_equals_version() {
    let bed = Arc::new(Bed::new().await);
    let by = bed.example().await;
    bed.upsert(&by, (0..100).map(|id| (id, 0, "a"))).await;
    // One call rewrites all hundred rows: a snapshot shows one value of user_id, never two.
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (bed, by, stop) = (bed.clone(), by.clone(), stop.clone());
        async move {
            let mut version = 0;
            while !stop.load(Ordering::SeqCst) {
                version += 1;
                bed.upsert(&by, (0..100).map(|id| (id, version, "a"))).await;
            }
            version
        }
    });
    for _ in 0..5 {
        let id = bed.create(&by, export(Filter::All)).await.expect("created");
        let info = bed.wait(&by, id, &FINAL).await;
        assert_eq!(info.status, Status::Done, "{}", info.process.err_msg);
        let rows = bed.exported(&info);
        assert_eq!(rows.len(), 100);
        let versions: std::collections::HashSet<_> = rows.values().map(|row| row["user_id"].as_i64()).collect();
        assert_eq!(versions.len(), 1, "an export saw half a call");
        assert_eq!(info.process.matched_rows, 100);
    }
    stop.store(true, Ordering::SeqCst);
    assert!(writer.await.expect("writer") > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_upsert_survives_delete() {
    let bed = Bed::new().await;
    let by = bed.example().await;
    bed.upsert(&by, (0..1000).map(|id| (id, id % 10, "beijing"))).await;
    let id = bed.create(&by, delete(users_below(3), true)).await.expect("created");
    let shown = bed.wait(&by, id, &[Status::Confirm]).await;
    assert_eq!(shown.process.matched_rows, 300);
    assert_eq!(shown.process.percent, 50);
    assert_eq!(shown.process.step, Some("scan_data"));
    let sample: Vec<Value> = serde_json::from_str(&shown.process.sampled_data).expect("sample");
    let ids: Vec<_> = sample.iter().filter_map(|row| row["id"].as_i64()).collect();
    assert_eq!(ids, [0, 1, 2, 10, 11], "the first five in key order");
    // Rewritten with values that still match, deleted by key, and new rows that match: none of them may be touched.
    bed.upsert(&by, (0..50).map(|id| (id, 0, "beijing"))).await;
    bed.service.delete_rows(&by, &named("example"), vec![knarr_base::value::Key::Int(100)]).await.expect("deleted");
    bed.upsert(&by, (2000..2100).map(|id| (id, 1, "beijing"))).await;
    bed.service.confirm_task(&by, id).await.expect("confirmed");
    let done = bed.wait(&by, id, &FINAL).await;
    assert_eq!(done.status, Status::Done, "{}", done.process.err_msg);
    // 15 of the rewritten matched before; 100 was one of the 300.
    let (deleted, changed) = (done.process.deleted_rows, done.process.changed_rows);
    assert_eq!((deleted, changed), (300 - 15 - 1, 15), "matched = deleted + changed + missing");
    let expected: Vec<_> = (0..50).chain((50..1000).filter(|id| id % 10 >= 3)).chain(2000..2100).collect();
    assert_eq!(bed.present(&by, (0..1000).chain(2000..2100)).await, expected);
    // Gone everywhere: a new export and a new sample do not show them either.
    let id = bed.create(&by, export(Filter::All)).await.expect("created");
    let info = bed.wait(&by, id, &FINAL).await;
    assert_eq!(bed.exported(&info).into_keys().collect::<Vec<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_is_gone_everywhere() {
    let bed = Bed::new().await;
    let by = bed.example().await;
    bed.upsert(&by, (0..500).map(|id| (id, id % 10, "a"))).await;
    let id = bed.create(&by, delete(users_below(5), false)).await.expect("created");
    let info = bed.wait(&by, id, &FINAL).await;
    assert_eq!((info.status, info.process.deleted_rows), (Status::Done, 250));
    assert_eq!(bed.present(&by, 0..500).await, (0..500).filter(|id| id % 10 >= 5).collect::<Vec<_>>());
    let again = bed.create(&by, delete(users_below(5), true)).await.expect("created");
    let info = bed.wait(&by, again, &[Status::Confirm]).await;
    assert_eq!((info.process.matched_rows, info.process.sampled_data.as_str()), (0, "[]"));
    let bed = bed.restart().await;
    assert_eq!(bed.present(&by, 0..500).await.len(), 250);
    bed.service.confirm_task(&by, again).await.expect("confirmed");
    assert_eq!(bed.wait(&by, again, &FINAL).await.process.deleted_rows, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn confirm_binds_preview() {
    let bed = Bed::new().await;
    let by = bed.example().await;
    bed.upsert(&by, (0..100).map(|id| (id, id, "a"))).await;
    let id = bed.create(&by, delete(users_below(10), true)).await.expect("created");
    bed.wait(&by, id, &[Status::Confirm]).await;
    // A stranger does not even learn that it exists; a reader of the account may not confirm.
    let stranger = admin("other");
    assert_eq!(bed.service.confirm_task(&stranger, id).await.map_err(|e| e.kind()), Err(Kind::TaskMissing));
    let reader = principal("default", "r", vec![Grant { rights: vec![Right::Read], pattern: "*".into() }]);
    assert_eq!(bed.service.confirm_task(&reader, id).await.map_err(|e| e.kind()), Err(Kind::Forbidden));
    assert_eq!(bed.present(&by, 0..100).await.len(), 100, "nothing is deleted before the confirmation");
    bed.service.confirm_task(&by, id).await.expect("confirmed");
    bed.service.confirm_task(&by, id).await.expect("repeated: no effect");
    let done = bed.wait(&by, id, &FINAL).await;
    assert_eq!((done.process.deleted_rows, done.process.step), (10, Some("delete_data")));
    bed.service.confirm_task(&by, id).await.expect("repeated after the end: no effect");
    let plain = bed.create(&by, export(Filter::All)).await.expect("created");
    bed.wait(&by, plain, &FINAL).await;
    assert_eq!(bed.service.confirm_task(&by, plain).await.map_err(|e| e.kind()), Err(Kind::Invalid));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_confirms_in_time() {
    let bed = Bed::new().await;
    let by = bed.example().await;
    bed.upsert(&by, (0..10).map(|id| (id, id, "a"))).await;
    let id = bed.create(&by, delete(users_below(5), true)).await.expect("created");
    bed.wait(&by, id, &[Status::Confirm]).await;
    bed.clock.advance(limit::CONFIRM_WAIT - Duration::from_secs(1));
    let bed = bed.restart().await;
    assert_eq!(bed.service.task_info(&by, id).await.expect("info").status, Status::Confirm);
    bed.clock.advance(Duration::from_secs(2));
    assert_eq!(bed.service.confirm_task(&by, id).await.map_err(|e| e.kind()), Err(Kind::Invalid));
    let bed = bed.restart().await;
    let mut info = bed.service.task_info(&by, id).await.expect("info");
    for _ in 0..500 {
        if info.status == Status::Fail {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        info = bed.service.task_info(&by, id).await.expect("info");
    }
    assert_eq!(info.status, Status::Fail);
    assert!(info.process.err_msg.contains("in time"), "{}", info.process.err_msg);
    assert_eq!(bed.present(&by, 0..10).await.len(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_what_was_shown() {
    let bed = Bed::new().await;
    let by = bed.example().await;
    bed.upsert(&by, (0..300).map(|id| (id, id % 3, "a"))).await;
    let id = bed.create(&by, delete(users_below(1), true)).await.expect("created");
    let before = bed.wait(&by, id, &[Status::Confirm]).await;
    bed.upsert(&by, (0..6).map(|id| (id, 0, "a"))).await;
    let bed = bed.restart().await;
    let after = bed.service.task_info(&by, id).await.expect("info");
    assert_eq!(after.process.sampled_data, before.process.sampled_data);
    assert_eq!(after.process.sampled_timestamp, before.process.sampled_timestamp);
    assert_eq!(after.process.percent, 50);
    bed.service.confirm_task(&by, id).await.expect("confirmed");
    let done = bed.wait(&by, id, &FINAL).await;
    assert_eq!((done.process.deleted_rows, done.process.changed_rows), (98, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_comes_before_the_delete() {
    let bed = Bed::new().await;
    let by = bed.example().await;
    bed.upsert(&by, (0..100).map(|id| (id, id % 2, "a"))).await;
    let spec = TaskSpec::Delete {
        filter: users_below(1),
        need_confirm: true,
        backup: Some((path("backups/doomed"), Format::Json)),
    };
    let id = bed.create(&by, spec).await.expect("created");
    let shown = bed.wait(&by, id, &[Status::Confirm]).await;
    assert_eq!(bed.exported(&shown).into_keys().collect::<Vec<_>>(), (0..100).step_by(2).collect::<Vec<_>>());
    let dir = format!("backups/doomed/{id}");
    assert!(bed.object(&format!("{dir}/_SUCCESS")).exists() && bed.object(&format!("{dir}/_manifest.json")).exists());
    bed.service.confirm_task(&by, id).await.expect("confirmed");
    assert_eq!(bed.wait(&by, id, &FINAL).await.process.deleted_rows, 50);
    assert!(bed.object(&format!("{dir}/0.json")).exists(), "the backup outlives the rows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancel_reads_as_fail_with_its_reason() {
    let bed = Bed::new().await;
    let by = bed.example().await;
    bed.upsert(&by, (0..100).map(|id| (id, id, "a"))).await;
    let id = bed.create(&by, delete(users_below(50), true)).await.expect("created");
    bed.wait(&by, id, &[Status::Confirm]).await;
    let other = principal("default", "w", vec![Grant { rights: vec![Right::Write], pattern: "*".into() }]);
    assert_eq!(bed.service.cancel_task(&other, id).await.map_err(|e| e.kind()), Err(Kind::Forbidden));
    bed.service.cancel_task(&by, id).await.expect("cancelled");
    let info = bed.wait(&by, id, &[Status::Fail]).await;
    assert!(info.process.err_msg.contains("cancelled"), "{}", info.process.err_msg);
    bed.service.cancel_task(&by, id).await.expect("repeated: no effect");
    assert_eq!(bed.service.confirm_task(&by, id).await.map_err(|e| e.kind()), Err(Kind::Invalid));
    assert_eq!(bed.present(&by, 0..100).await.len(), 100);
    let id = bed.create(&by, export(Filter::All)).await.expect("created");
    bed.wait(&by, id, &FINAL).await;
    assert_eq!(bed.service.cancel_task(&by, id).await.map_err(|e| e.kind()), Err(Kind::Refused), "too late");
}

/// However cancel and finish race, the result is one of the two, whole: files with `_SUCCESS`, or no file at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancel_races_finish() {
    let bed = Bed::new().await;
    let by = bed.example().await;
    bed.upsert(&by, (0..2000).map(|id| (id, id, "a"))).await;
    let (mut done, mut failed) = (0, 0);
    for pause_us in (0..24_000).step_by(1200) {
        let id = bed.create(&by, export(Filter::All)).await.expect("created");
        tokio::time::sleep(Duration::from_micros(pause_us)).await;
        let cancelled = bed.service.cancel_task(&by, id).await;
        let info = bed.wait_any(&by, id).await;
        let dir = bed.object(&format!("data-export/task_example/{id}"));
        if info.status == Status::Done {
            done += 1;
            assert_eq!(cancelled.map_err(|e| e.kind()), Err(Kind::Refused));
            assert!(dir.join("_SUCCESS").exists() && dir.join("_manifest.json").exists());
        } else {
            failed += 1;
            cancelled.expect("it did stop it");
            let left: Vec<_> = std::fs::read_dir(&dir).map(|d| d.flatten().collect()).unwrap_or_default();
            assert!(left.is_empty(), "{left:?}");
        }
    }
    assert!(failed > 0, "no cancel came in time ({done} done)");
    assert!(bed.service.inner.catalog.pins().await.expect("pins").is_empty(), "every pin is released");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_collection_fails_its_tasks() {
    let bed = Bed::new().await;
    let by = bed.example().await;
    bed.upsert(&by, (0..100).map(|id| (id, id, "a"))).await;
    let id = bed.create(&by, delete(users_below(50), true)).await.expect("created");
    bed.wait(&by, id, &[Status::Confirm]).await;
    bed.service.drop_collection(&by, &named("example")).await.expect("dropped");
    let info = bed.wait(&by, id, &[Status::Fail]).await;
    assert_eq!(info.process.err_msg, "collection not exist");
    // The same name is another collection now; the old task can never touch it.
    bed.example().await;
    bed.upsert(&by, (0..100).map(|id| (id, id, "a"))).await;
    assert_eq!(bed.service.confirm_task(&by, id).await.map_err(|e| e.kind()), Err(Kind::Invalid));
    assert_eq!(bed.present(&by, 0..100).await.len(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retransmission_is_the_same_task() {
    let bed = Bed::new().await;
    let by = bed.example().await;
    let new = |dedup| CreateTask {
        collection: named("example"),
        spec: export(Filter::All),
        params: "{}".into(),
        dedup: Some([dedup; 32]),
    };
    let first = bed.service.create_task(&by, new(1)).await.expect("created");
    assert_eq!(bed.service.create_task(&by, new(1)).await.expect("same"), first);
    assert_ne!(bed.service.create_task(&by, new(2)).await.expect("other"), first);
    assert_eq!(bed.service.list_tasks(&by, TaskQuery::default()).await.expect("list").len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn write_tasks_take_turns_and_a_waiting_confirm_blocks_nobody() {
    let bed = Bed::new().await;
    let by = bed.example().await;
    bed.upsert(&by, (0..300).map(|id| (id, id % 3, "a"))).await;
    let waiting = bed.create(&by, delete(users_below(1), true)).await.expect("created");
    bed.wait(&by, waiting, &[Status::Confirm]).await;
    let mut ids = Vec::new();
    for bound in [1, 2] {
        ids.push(bed.create(&by, delete(users_below(bound), false)).await.expect("created"));
    }
    let first = bed.wait(&by, ids[0], &FINAL).await;
    let second = bed.wait(&by, ids[1], &FINAL).await;
    assert_eq!(
        (first.process.deleted_rows, second.process.deleted_rows),
        (100, 100),
        "the second saw the first's result"
    );
    bed.service.confirm_task(&by, waiting).await.expect("confirmed");
    let last = bed.wait(&by, waiting, &FINAL).await;
    assert_eq!((last.process.deleted_rows, last.process.changed_rows), (0, 0), "its rows were deleted by others");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_says_what_is_in_it() {
    let bed = Bed::new().await;
    let by = bed.example().await;
    bed.upsert(&by, (0..1000).map(|id| (id, id, if id % 2 == 0 { "beijing" } else { "paris" }))).await;
    let id = bed.create(&by, export(city("beijing"))).await.expect("created");
    let info = bed.wait(&by, id, &FINAL).await;
    assert_eq!((info.process.matched_rows, info.process.scanned_rows, info.process.total_rows), (500, 1000, 1000));
    let dir = bed.object(&format!("data-export/task_example/{id}"));
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(dir.join("_manifest.json")).expect("manifest")).expect("JSON");
    assert_eq!(manifest["rows"], 500);
    assert_eq!(manifest["files"].as_array().map(Vec::len), Some(info.process.files.len()));
    let first = std::fs::metadata(dir.join("0.json")).expect("file").len();
    assert_eq!(manifest["files"][0]["bytes"], first);
    // Another task over the same rows has the same digest, whatever its files.
    let again = bed.create(&by, export(city("beijing"))).await.expect("created");
    bed.wait(&by, again, &FINAL).await;
    let other: Value = serde_json::from_slice(
        &std::fs::read(bed.object(&format!("data-export/task_example/{again}/_manifest.json"))).expect("manifest"),
    )
    .expect("JSON");
    assert_eq!(other["content_digest"], manifest["content_digest"]);
    bed.service.drop_task(&by, id).await.expect("dropped");
    assert_eq!(bed.service.task_info(&by, id).await.map_err(|e| e.kind()).err(), Some(Kind::TaskMissing));
    assert!(dir.join("_SUCCESS").exists(), "files outlive their task");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_never_means_all() {
    let bed = Bed::new().await;
    let by = bed.example().await;
    assert_eq!(bed.create(&by, delete(Filter::All, true)).await.map_err(|e| e.kind()), Err(Kind::Invalid));
    assert_eq!(
        bed.create(&by, delete(Filter::And(vec![]), false)).await.map_err(|e| e.kind()),
        Err(Kind::InvalidFilter)
    );
}
