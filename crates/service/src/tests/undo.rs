//! Promise T7: what a task deleted comes back, but for what was written since.

use std::time::Duration;

use knarr_base::Kind;
use knarr_base::filter::Filter;
use knarr_base::id::TaskId;
use knarr_base::limit;
use knarr_base::right::{Grant, Right};
use knarr_base::value::Key;
use knarr_catalog::audit::Audit;

use super::harness::{Bed, admin, city, delete, example, export, named, principal, row, users_below};
use crate::collections::RowWrite;
use crate::tasks::{CreateTask, Status, Undone, catch_up};
use crate::{Principal, Service};

/// A bed with rows 0..100 whose first ten are deleted by a task.
async fn deleted() -> (Bed, Principal, TaskId) {
    let bed = Bed::new().await;
    let by = bed.example().await;
    bed.upsert(&by, (0..100).map(|id| (id, id, "a"))).await;
    let id = bed.create(&by, delete(users_below(10), false)).await.expect("created");
    let info = bed.wait(&by, id, &[Status::Done]).await;
    assert_eq!(info.process.deleted_rows, 10);
    (bed, by, id)
}

async fn refusal(service: &Service, by: &Principal, id: TaskId) -> (Kind, String) {
    let error = service.undo_task(by, id).await.expect_err("refused");
    (error.kind(), error.message().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_deleted_comes_back_once() {
    let (bed, by, id) = deleted().await;
    let info = bed.service.task_info(&by, id).await.expect("info");
    let window = i64::try_from(limit::UNDO_WINDOW.as_millis()).expect("fits");
    let until = info.process.undo_until_ms.expect("can be undone");
    assert!((until - window - super::harness::T0).abs() < 60_000, "{until}");
    // One row is written again, one is written and deleted again: neither is touched.
    bed.upsert(&by, [(3, 1003, "new")]).await;
    bed.upsert(&by, [(4, 1004, "new")]).await;
    bed.service.delete_rows(&by, &named("example"), vec![Key::Int(4)]).await.expect("deleted");

    let undone = bed.service.undo_task(&by, id).await.expect("undone");
    assert_eq!((undone.restored, undone.changed_since, undone.expired), (8, 2, 0));
    let expected: Vec<_> = (0..100).filter(|id| *id != 4).collect();
    assert_eq!(bed.present(&by, 0..100).await, expected);
    let exported = bed.create(&by, export(Filter::All)).await.expect("created");
    let rows = bed.exported(&bed.wait(&by, exported, &[Status::Done]).await);
    assert_eq!((rows.len(), &rows[&3]["city"], &rows[&5]["city"]), (99, &"new".into(), &"a".into()));

    // Asked again it answers the same and does nothing, whatever happened since.
    bed.service.delete_rows(&by, &named("example"), vec![Key::Int(5)]).await.expect("deleted");
    assert_eq!(bed.service.undo_task(&by, id).await.expect("the same"), undone);
    let bed = bed.restart().await;
    bed.clock.advance(limit::UNDO_WINDOW);
    assert_eq!(bed.service.undo_task(&by, id).await.expect("the same"), undone);
    assert_eq!(bed.present(&by, 0..10).await, [0, 1, 2, 3, 6, 7, 8, 9]);
    let info = bed.service.task_info(&by, id).await.expect("info");
    assert_eq!((info.process.undone, info.process.undo_until_ms), (Some(undone), None));
    assert_eq!((info.status, info.process.deleted_rows), (Status::Done, 10), "the task stays what it was");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_ask_at_once_get_one_answer() {
    let (bed, by, id) = deleted().await;
    let calls = (0..8).map(|_| bed.service.undo_task(&by, id));
    let answers = futures::future::join_all(calls).await;
    let answers: Vec<Undone> = answers.into_iter().map(|answer| answer.expect("undone")).collect();
    assert!(answers.iter().all(|answer| *answer == answers[0] && answer.restored == 10), "{answers:?}");
    assert_eq!(bed.present(&by, 0..100).await.len(), 100);
}

/// Fails instead of waiting for ever.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("waits for nobody")
}

/// An undo may wait long for a busy table; only those of the same table wait behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undo_that_waits_holds_nobody_else_up() {
    let (bed, by, id) = deleted().await;
    let plain = bed.create(&by, export(Filter::All)).await.expect("created");
    bed.wait(&by, plain, &[Status::Done]).await;
    let (service, inner) = (&bed.service, &bed.service.inner);
    service.create_collection(&by, example("other")).await.expect("created");
    let rows = format!("[{}]", row(1, 1, "a"));
    service.upsert(&by, &named("other"), RowWrite::new(&rows, 0)).await.expect("upsert");
    let spec = delete(users_below(10), false);
    let new = CreateTask { collection: named("other"), spec, params: "{}".into(), dedup: None };
    let other = service.create_task(&by, new).await.expect("created");
    bed.wait(&by, other, &[Status::Done]).await;

    let table = inner.catalog.task(id).await.expect("reads").expect("there").table;
    let turn = inner.tasks.undoing.lock(table).await;
    soon(service.drop_task(&by, plain)).await.expect("dropped");
    assert_eq!(soon(service.undo_task(&by, other)).await.expect("undone").restored, 1);
    soon(service.drop_task(&by, other)).await.expect("dropped");
    let audit =
        Audit { who: Audit::server(), action: "undo", object: id.to_string(), detail: "{}".into(), outcome: "intent" };
    inner.catalog.begin_undo(id, audit).await.expect("noted");
    soon(catch_up(inner)).await;
    assert_eq!(inner.catalog.open_undos().await.expect("reads").len(), 1, "somebody is at it");
    assert_eq!(bed.present(&by, 0..100).await.len(), 90);
    drop(turn);
    catch_up(inner).await;
    assert!(inner.catalog.open_undos().await.expect("reads").is_empty());
    assert_eq!(bed.present(&by, 0..100).await.len(), 100);
}

/// What is recorded need not stay in the table, also where the process ended before a manifest was written without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asking_again_lets_the_table_forget() {
    let (bed, by, id) = deleted().await;
    let undone = bed.service.undo_task(&by, id).await.expect("undone");
    let bed = bed.restart().await;
    let table = bed.service.inner.collection(&by, Right::Read, &named("example")).await.expect("there").table;
    assert!(table.undone(id).expect("reads").is_some());
    assert_eq!(bed.service.undo_task(&by, id).await.expect("the same"), undone);
    let next = bed.create(&by, delete(users_below(5), false)).await.expect("created");
    bed.wait(&by, next, &[Status::Done]).await;
    assert_eq!(table.undone(id).expect("reads"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_delete_takes_what_came_back() {
    let (bed, by, first) = deleted().await;
    bed.service.undo_task(&by, first).await.expect("undone");
    let second = bed.create(&by, delete(users_below(5), false)).await.expect("created");
    assert_eq!(bed.wait(&by, second, &[Status::Done]).await.process.deleted_rows, 5);
    assert_eq!(bed.present(&by, 0..10).await, [5, 6, 7, 8, 9]);
    assert_eq!(bed.service.undo_task(&by, second).await.expect("undone").restored, 5);
    assert_eq!(bed.present(&by, 0..10).await.len(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_come_back_is_refused_with_its_reason() {
    let (bed, by, id) = deleted().await;
    let refused = async |id, why: &str| {
        let (kind, text) = refusal(&bed.service, &by, id).await;
        assert!(kind == Kind::Refused && text.contains(why), "{kind:?} {text}");
    };
    let plain = bed.create(&by, export(Filter::All)).await.expect("created");
    bed.wait(&by, plain, &[Status::Done]).await;
    refused(plain, "data_export").await;
    let asking = bed.create(&by, delete(users_below(50), true)).await.expect("created");
    bed.wait(&by, asking, &[Status::Confirm]).await;
    refused(asking, "confirm").await;
    bed.service.cancel_task(&by, asking).await.expect("cancelled");
    bed.wait(&by, asking, &[Status::Fail]).await;
    refused(asking, "fail").await;
    let nothing = bed.create(&by, delete(city("nowhere"), false)).await.expect("created");
    bed.wait(&by, nothing, &[Status::Done]).await;
    refused(nothing, "nothing to undo").await;
    assert_eq!(bed.service.task_info(&by, nothing).await.expect("info").process.undo_until_ms, None);
    assert_eq!(refusal(&bed.service, &by, TaskId::random()).await.0, Kind::TaskMissing);

    // The same names, another collection.
    let other = bed.create(&by, delete(users_below(20), false)).await.expect("created");
    bed.wait(&by, other, &[Status::Done]).await;
    bed.service.drop_collection(&by, &named("example")).await.expect("dropped");
    bed.service.create_collection(&by, example("example")).await.expect("created");
    refused(other, "dropped").await;
    assert!(bed.present(&by, 0..100).await.is_empty());
    bed.clock.advance(limit::UNDO_WINDOW);
    refused(id, "over").await;
    assert_eq!(bed.service.task_info(&by, id).await.expect("info").process.undo_until_ms, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_to_undo_ends() {
    let (bed, by, id) = deleted().await;
    bed.clock.advance(limit::UNDO_WINDOW - Duration::from_secs(60));
    let late = bed.create(&by, delete(users_below(20), false)).await.expect("created");
    bed.wait(&by, late, &[Status::Done]).await;
    bed.clock.advance(Duration::from_secs(120));
    let bed = bed.restart().await;
    let (kind, text) = refusal(&bed.service, &by, id).await;
    assert!(kind == Kind::Refused && text.contains("over"), "{text}");
    assert_eq!(bed.service.undo_task(&by, late).await.expect("undone").restored, 10);
    assert_eq!(bed.present(&by, 0..100).await, (10..100).collect::<Vec<_>>());
}

/// A task that was dropped cannot be named any more: what it deleted is gone for good, at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_a_task_gives_its_rows_up() {
    let (bed, by, id) = deleted().await;
    let rest = bed.create(&by, delete(users_below(100), false)).await.expect("created");
    bed.wait(&by, rest, &[Status::Done]).await;
    let table = bed.service.inner.collection(&by, Right::Read, &named("example")).await.expect("there").table;
    assert_eq!((table.stats().rows, table.stats().segments), (0, 1));
    assert!(table.undoable_until(id).is_some());
    bed.service.drop_task(&by, id).await.expect("dropped");
    assert_eq!((table.undoable_until(id), table.stats().segments), (None, 1));
    assert_eq!(refusal(&bed.service, &by, id).await.0, Kind::TaskMissing);
    bed.service.drop_task(&by, rest).await.expect("dropped");
    assert_eq!(table.stats().segments, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undo_needs_its_creator_or_an_administrator_who_may_write() {
    let (bed, by, id) = deleted().await;
    let key = |key: &str, rights: &[Right]| {
        principal("default", key, vec![Grant { rights: rights.to_vec(), pattern: "*".into() }])
    };
    let creator = by.key.as_str();
    for (who, expected) in [
        (key(creator, &[Right::Delete, Right::Read]), Kind::Forbidden),
        (key("other", &[Right::Write, Right::Delete]), Kind::Forbidden),
        (key("other", &[Right::Admin]), Kind::Forbidden),
        (admin("other"), Kind::TaskMissing),
    ] {
        assert_eq!(refusal(&bed.service, &who, id).await.0, expected, "{who:?}");
    }
    assert_eq!(bed.present(&by, 0..10).await.len(), 0);
    let undone = bed.service.undo_task(&key(creator, &[Right::Write]), id).await.expect("its creator");
    let again =
        bed.service.undo_task(&key("other", &[Right::Write, Right::Admin]), id).await.expect("an administrator");
    assert_eq!((undone.restored, again), (10, undone));
}
