use std::time::Duration;

use knarr_base::Kind;

use super::*;
use crate::tests::{Home, START_MS, account, kept, key, made, moved, new_task, note, running};
use crate::units::Publish;

#[test]
fn names_of_statuses_are_unique_and_parsed() {
    assert_eq!(Status::ALL.map(|status| Status::parse(status.name())), Status::ALL.map(Some));
    assert_eq!(Status::parse("Init"), None);
    assert_eq!(Status::ALL.map(Status::is_final), [false, false, false, false, false, true, true]);
}

#[tokio::test]
async fn a_new_task_is_what_was_asked_for() {
    let home = Home::new();
    let catalog = home.open().await;
    let new = new_task("default");
    let Created { task, fresh } = catalog.create_task(new.clone(), 1).await.unwrap();
    assert!(fresh);
    assert_eq!((task.id, &task.account, &task.creator), (new.id, &new.account, &new.creator));
    assert_eq!((&task.params, &task.spec, task.table), (&new.params, &new.spec, new.table));
    assert_eq!((&task.kind, &task.collection), (&new.kind, &new.collection));
    assert_eq!((task.status, task.revision, task.report.as_str(), task.error.as_str()), (Status::Init, 0, "{}", ""));
    assert_eq!((task.pin, task.cancel_requested, task.confirm_by_ms), (None, false, None));
    assert_eq!((task.created_ms, task.updated_ms, &task.updated_by), (START_MS, START_MS, &key()));
    assert_eq!(catalog.task(task.id).await.unwrap(), Some(task.clone()));
    assert!(catalog.units(task.id).await.unwrap().is_empty());
}

/// Threat model T14, also when the retransmissions come at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn create_idempotent() {
    let home = Home::new();
    let catalog = home.open().await;
    let calls = (0..16).map(|_| {
        let catalog = catalog.clone();
        // Each transmission chooses another id, and the queue has room for one.
        let new = NewTask { dedup: Some([7; 32]), ..new_task("default") };
        tokio::spawn(async move { catalog.create_task(new, 1).await.unwrap() })
    });
    let created = futures::future::join_all(calls.collect::<Vec<_>>()).await;
    let created: Vec<_> = created.into_iter().map(Result::unwrap).collect();
    assert_eq!(created.iter().filter(|created| created.fresh).count(), 1);
    assert!(created.iter().all(|other| other.task == created[0].task));

    let other = NewTask { dedup: Some([8; 32]), ..new_task("default") };
    assert!(matches!(catalog.create_task(other, 1).await, Err(Error::TooManyTasks { max: 1 })));
    let foreign = NewTask { dedup: Some([7; 32]), ..new_task("other") };
    assert!(catalog.create_task(foreign, 1).await.unwrap().fresh, "another account meets only its own");

    drop(catalog);
    let catalog = home.open().await;
    let done = moved(&catalog, &created[0].task, TaskChange::to(Status::Done)).await;
    let late = NewTask { dedup: Some([7; 32]), ..new_task("default") };
    let late = catalog.create_task(late, 1).await.unwrap();
    assert_eq!((late.task, late.fresh), (done, false), "also when the task has ended");
    for _ in 0..2 {
        let plain = catalog.create_task(new_task("default"), 10).await.unwrap();
        assert!(plain.fresh, "without a hash nothing is a retransmission");
    }
}

/// Threat model T15.
#[tokio::test]
async fn ttl_and_quota() {
    let home = Home::new();
    let catalog = home.open().await;
    let mut tasks = Vec::new();
    for _ in 0..4 {
        home.clock.advance(Duration::from_millis(10));
        tasks.push(catalog.create_task(new_task("a"), 4).await.unwrap().task);
    }
    let error = catalog.create_task(new_task("a"), 4).await.unwrap_err();
    assert!(matches!(error, Error::TooManyTasks { max: 4 }), "{error:?}");
    assert_eq!(error.kind(), Kind::Busy);
    let other = made(&catalog, new_task("b")).await;
    for task in &tasks[..3] {
        home.clock.advance(Duration::from_millis(10));
        moved(&catalog, task, TaskChange { units: Some(vec!["{}".into()]), ..TaskChange::to(Status::Fail) }).await;
    }
    catalog.create_task(new_task("a"), 4).await.unwrap();

    // They ended at +50, +60 and +70.
    assert_eq!(catalog.expire_tasks(&kept(START_MS + 50, 10)).await.unwrap(), 0);
    assert_eq!(catalog.expire_tasks(&kept(START_MS + 51, 10)).await.unwrap(), 1);
    assert_eq!(catalog.task(tasks[0].id).await.unwrap(), None);
    assert!(catalog.units(tasks[0].id).await.unwrap().is_empty());
    moved(&catalog, &other, TaskChange::to(Status::Done)).await;
    assert_eq!(catalog.expire_tasks(&kept(0, 1)).await.unwrap(), 1, "each account keeps its newest");
    assert_eq!(catalog.task(tasks[1].id).await.unwrap(), None);
    assert!(catalog.task(tasks[2].id).await.unwrap().is_some() && catalog.task(other.id).await.unwrap().is_some());
    assert_eq!(catalog.expire_tasks(&kept(i64::MAX, 0)).await.unwrap(), 2);
    assert_eq!(catalog.open_tasks().await.unwrap().len(), 2, "unfinished ones stay for ever");
}

/// Other tasks do not take the undo of a recent delete along, and nothing takes one along that has begun.
#[tokio::test]
async fn deletes_that_can_be_undone_count_apart() {
    let home = Home::new();
    let catalog = home.open().await;
    let ended = async |kind: &str, status| {
        home.clock.advance(Duration::from_millis(10));
        let task = made(&catalog, NewTask { kind: kind.to_owned(), ..new_task("a") }).await;
        moved(&catalog, &task, TaskChange::to(status)).await.id
    };
    // They end at +10, +20, ...
    let old = ended("filter_delete", Status::Done).await;
    let failed = ended("filter_delete", Status::Fail).await;
    let (first, second) = (ended("filter_delete", Status::Done).await, ended("filter_delete", Status::Done).await);
    let exports = [ended("data_export", Status::Done).await, ended("data_export", Status::Done).await];
    let there = async || {
        let mut there = Vec::new();
        for id in [old, failed, first, second, exports[0], exports[1]] {
            there.push(catalog.task(id).await.unwrap().is_some());
        }
        there
    };
    let kept = Kept { apart: ("filter_delete", START_MS + 30), ..kept(0, 2) };
    assert_eq!(catalog.expire_tasks(&kept).await.unwrap(), 2);
    assert_eq!(there().await, [false, false, true, true, true, true]);

    catalog.begin_undo(first, note("undo.intent")).await.unwrap();
    let kept = Kept { per_account: 1, ..kept };
    assert_eq!(catalog.expire_tasks(&kept).await.unwrap(), 1, "the older export");
    assert_eq!(catalog.expire_tasks(&Kept { since_ms: i64::MAX, ..kept }).await.unwrap(), 2);
    assert_eq!(there().await, [false, false, true, false, false, false], "its undo is under way");
    catalog.finish_undo(first, Some("{}"), note("undo.done")).await.unwrap();
    assert_eq!(catalog.expire_tasks(&Kept { since_ms: i64::MAX, ..kept }).await.unwrap(), 1);
}

#[tokio::test]
async fn lists_are_newest_first_and_filtered() {
    let home = Home::new();
    let catalog = home.open().await;
    let mut ids = Vec::new();
    for i in 0..6 {
        // A clock that runs backwards changes nothing about the order.
        home.clock.set_wall(START_MS - i);
        let collection = if i < 3 { "x" } else { "y" }.to_owned();
        let kind = if i % 2 == 0 { "data_export" } else { "filter_delete" }.to_owned();
        ids.push(made(&catalog, NewTask { collection, kind, ..new_task("a") }).await.id);
    }
    let foreign = made(&catalog, new_task("b")).await.id;
    let first = catalog.task(ids[0]).await.unwrap().unwrap();
    moved(&catalog, &first, TaskChange::to(Status::Done)).await;

    let all = || TaskQuery { limit: 100, ..Default::default() };
    let list = async |query: TaskQuery| {
        let list = catalog.tasks(&account("a"), query).await.unwrap();
        list.iter().map(|task| ids.iter().position(|id| *id == task.id).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(list(all()).await, [5, 4, 3, 2, 1, 0]);
    assert_eq!(list(TaskQuery { collection: Some("x".into()), ..all() }).await, [2, 1, 0]);
    assert_eq!(list(TaskQuery { kind: Some("filter_delete".into()), ..all() }).await, [5, 3, 1]);
    assert_eq!(list(TaskQuery { status: Some(Status::Done), ..all() }).await, [0]);
    let both = TaskQuery { collection: Some("x".into()), kind: Some("data_export".into()), ..all() };
    assert_eq!(list(both).await, [2, 0]);
    assert_eq!(list(TaskQuery { offset: 1, limit: 2, ..all() }).await, [4, 3]);
    assert!(list(TaskQuery { offset: u64::MAX, ..all() }).await.is_empty());
    assert!(list(TaskQuery { limit: 0, ..all() }).await.is_empty());
    assert!(list(TaskQuery { collection: Some("\0".into()), ..all() }).await.is_empty());

    let open: Vec<_> = catalog.open_tasks().await.unwrap().iter().map(|task| task.id).collect();
    assert_eq!(open, [&ids[1..], &[foreign]].concat());
}

#[tokio::test]
async fn a_move_changes_what_it_names_and_nothing_else() {
    let home = Home::new();
    let catalog = home.open().await;
    let task = made(&catalog, new_task("default")).await;
    home.clock.set_wall(START_MS + 1);
    let pin = Pin { version: 1, seq: 2, at_ms: 3 };
    let change = TaskChange {
        status: Status::Confirm,
        by: Some(KeyId::new("AKLThuman")),
        report: Some("{\"\0\":1}".into()),
        error: Some("e\0".into()),
        pin: Some(Some(pin)),
        cancel_requested: None,
        confirm_by_ms: Some(Some(9)),
        units: Some(vec!["0".into(), "1".into()]),
    };
    let changed = moved(&catalog, &task, change).await;
    let expected = Task {
        status: Status::Confirm,
        revision: 1,
        report: "{\"\0\":1}".into(),
        error: "e\0".into(),
        pin: Some(pin),
        confirm_by_ms: Some(9),
        updated_ms: START_MS + 1,
        updated_by: KeyId::new("AKLThuman"),
        ..task.clone()
    };
    assert_eq!(changed, expected);
    assert_eq!(catalog.task(task.id).await.unwrap(), Some(expected.clone()));

    let changed = moved(&catalog, &changed, TaskChange::to(Status::Running)).await;
    assert_eq!(changed, Task { status: Status::Running, revision: 2, ..expected.clone() });
    assert_eq!(catalog.units(task.id).await.unwrap().len(), 2);
    let clear = TaskChange { pin: Some(None), confirm_by_ms: Some(None), ..TaskChange::to(Status::Running) };
    let changed = moved(&catalog, &changed, TaskChange { units: Some(Vec::new()), ..clear }).await;
    assert_eq!((changed.pin, changed.confirm_by_ms), (None, None));
    assert!(catalog.units(task.id).await.unwrap().is_empty());
    let unknown = catalog.move_task(TaskId::random(), 0, TaskChange::to(Status::Done), note("m")).await.unwrap_err();
    assert!(matches!(unknown, Error::TaskMissing { .. }), "{unknown:?}");
}

/// Threat model T3: of many deciders that read the same revision, one wins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_decider_wins() {
    let home = Home::new();
    let catalog = home.open().await;
    let mut task = made(&catalog, new_task("default")).await;
    for round in 1..=8 {
        let calls = (0..8).map(|i| {
            let (catalog, id, revision) = (catalog.clone(), task.id, task.revision);
            let change = TaskChange { report: Some(i.to_string()), ..TaskChange::to(Status::Running) };
            tokio::spawn(async move { catalog.move_task(id, revision, change, note("m")).await })
        });
        let results = futures::future::join_all(calls.collect::<Vec<_>>()).await;
        let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().map(Result::unwrap).partition(Result::is_ok);
        assert_eq!((won.len(), lost.len()), (1, 7));
        assert!(lost.into_iter().all(|lost| matches!(lost, Err(Error::Stale { .. }))));
        task = won.into_iter().next().unwrap().unwrap();
        assert_eq!(task.revision, round);
        assert_eq!(catalog.task(task.id).await.unwrap().as_ref(), Some(&task));
    }
    assert_eq!(catalog.audit_verify().await.unwrap(), 9);
}

#[tokio::test]
async fn final_is_final() {
    let home = Home::new();
    let catalog = home.open().await;
    for last in [Status::Done, Status::Fail] {
        let task = running(&catalog, 1).await;
        let fence = catalog.lease_unit(task.id, 0, "w", START_MS + 1).await.unwrap().unwrap();
        let task = moved(&catalog, &task, TaskChange::to(last)).await;
        for status in Status::ALL {
            let error = catalog.move_task(task.id, task.revision, TaskChange::to(status), note("m")).await.unwrap_err();
            assert!(matches!(error, Error::Stale { .. }), "{error:?}");
        }
        catalog.save_report(task.id, "late").await.unwrap();
        assert_eq!(catalog.request_cancel(task.id, note("c")).await.unwrap(), CancelOutcome::Final(last));
        assert_eq!(catalog.begin_publish(task.id, 0, fence, note("p")).await.unwrap(), Publish::Cancelled);
        assert_eq!(catalog.task(task.id).await.unwrap(), Some(task));
    }
}

#[tokio::test]
async fn progress_is_not_a_move() {
    let home = Home::new();
    let catalog = home.open().await;
    let task = made(&catalog, new_task("default")).await;
    let records = catalog.audit_verify().await.unwrap();
    catalog.save_report(task.id, "{\"rows\":\0}").await.unwrap();
    catalog.save_report(TaskId::random(), "{}").await.unwrap();
    assert_eq!(catalog.task(task.id).await.unwrap(), Some(Task { report: "{\"rows\":\0}".into(), ..task.clone() }));
    assert_eq!(catalog.audit_verify().await.unwrap(), records);
    moved(&catalog, &task, TaskChange::to(Status::Queued)).await;
}

#[tokio::test]
async fn only_final_tasks_are_removed() {
    let home = Home::new();
    let catalog = home.open().await;
    let task = running(&catalog, 2).await;
    assert!(matches!(catalog.drop_task(task.id, note("d")).await, Err(Error::TaskOpen { .. })));
    moved(&catalog, &task, TaskChange::to(Status::Fail)).await;
    catalog.drop_task(task.id, note("d")).await.unwrap();
    assert_eq!(catalog.task(task.id).await.unwrap(), None);
    assert!(catalog.units(task.id).await.unwrap().is_empty());
    assert!(matches!(catalog.drop_task(task.id, note("d")).await, Err(Error::TaskMissing { .. })));
}

#[tokio::test]
async fn a_cancel_is_asked_for_once() {
    let home = Home::new();
    let catalog = home.open().await;
    let task = running(&catalog, 1).await;
    let by = KeyId::new("AKLThuman");
    let entry = Audit { who: by.clone(), ..note("task.cancel") };
    let expected = Task { revision: 2, cancel_requested: true, updated_by: by, ..task.clone() };
    for _ in 0..2 {
        let outcome = catalog.request_cancel(task.id, entry.clone()).await.unwrap();
        assert_eq!(outcome, CancelOutcome::Requested(expected.clone()));
    }
    let unaware = catalog.move_task(task.id, task.revision, TaskChange::to(Status::Done), note("m")).await;
    assert!(matches!(unaware, Err(Error::Stale { .. })), "who did not see the cancel cannot finish");
    assert_eq!(catalog.audit_verify().await.unwrap(), 3);
    assert!(matches!(catalog.request_cancel(TaskId::random(), entry).await, Err(Error::TaskMissing { .. })));
}

async fn work(catalog: Catalog, task: Task) -> Publish {
    let fence = catalog.lease_unit(task.id, 0, "w", START_MS + 1).await.unwrap().unwrap();
    let publish = catalog.begin_publish(task.id, 0, fence, note("p")).await.unwrap();
    if publish == Publish::Granted {
        assert!(catalog.finish_unit(task.id, 0, fence, "{}", Some(note("d"))).await.unwrap());
        moved(&catalog, &task, TaskChange::to(Status::Done)).await;
    }
    publish
}

async fn cancel_after(catalog: Catalog, id: TaskId, writes: u32) -> CancelOutcome {
    for _ in 0..writes {
        catalog.audit(note("a.while")).await.unwrap();
    }
    catalog.request_cancel(id, note("c")).await.unwrap()
}

/// Threat model T11: a cancel and a worker race; either the cancel is granted and nothing is published, or the task is
/// published and done and the cancel hears that it came too late. Both happen, and never both at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancel_races_finish() {
    let home = Home::new();
    let catalog = home.open().await;
    let mut cancelled = 0;
    const ROUNDS: u32 = 60;
    for round in 0..ROUNDS {
        let task = running(&catalog, 1).await;
        let worker = work(catalog.clone(), task.clone());
        let canceller = cancel_after(catalog.clone(), task.id, round % 6);
        let (published, outcome) = match round {
            // Each side wins once for sure, so that both endings are seen.
            0 => {
                let outcome = canceller.await;
                (worker.await, outcome)
            }
            1 => (worker.await, canceller.await),
            _ => {
                let (worker, canceller) = (tokio::spawn(worker), tokio::spawn(canceller));
                (worker.await.unwrap(), canceller.await.unwrap())
            }
        };
        let task = catalog.task(task.id).await.unwrap().unwrap();
        match outcome {
            CancelOutcome::Requested(_) => {
                assert_eq!((published, task.status), (Publish::Cancelled, Status::Running));
                cancelled += 1;
            }
            CancelOutcome::TooLate | CancelOutcome::Final(Status::Done) => {
                assert_eq!((published, task.status, task.cancel_requested), (Publish::Granted, Status::Done, false));
            }
            CancelOutcome::Final(status) => panic!("{status:?}"),
        }
    }
    assert!(cancelled > 0 && cancelled < ROUNDS, "one side always wins: {cancelled}");
    catalog.audit_verify().await.unwrap();
}
