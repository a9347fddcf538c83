use std::time::Duration;

use super::*;
use crate::tasks::{CancelOutcome, Status, TaskChange};
use crate::tests::{Home, START_MS, moved, note, running};

const FOREVER: i64 = i64::MAX;

#[test]
fn names_of_states_are_unique_and_parsed() {
    assert_eq!(UnitState::ALL.map(|state| UnitState::parse(state.name())), UnitState::ALL.map(Some));
}

#[tokio::test]
async fn units_keep_their_order_and_specs() {
    let home = Home::new();
    let catalog = home.open().await;
    let task = running(&catalog, 1000).await;
    let units = catalog.units(task.id).await.unwrap();
    assert_eq!(units.len(), 1000);
    for (unit, i) in units.iter().zip(0..) {
        let fresh = Unit {
            ordinal: i,
            spec: format!("{{\"unit\":{i}}}"),
            state: UnitState::Pending,
            fence: 0,
            lease_until_ms: None,
            strikes: 0,
            report: String::new(),
        };
        assert_eq!(*unit, fresh);
    }
    let specs = vec![String::new(); UNITS_PER_TASK + 1];
    let change = TaskChange { units: Some(specs), ..TaskChange::to(Status::Running) };
    let error = catalog.move_task(task.id, task.revision, change, note("m")).await.unwrap_err();
    assert!(matches!(error, Error::TooManyUnits { .. }), "{error:?}");
    assert_eq!(catalog.units(task.id).await.unwrap(), units);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_holder_at_a_time_and_the_fence_grows() {
    let home = Home::new();
    let catalog = home.open().await;
    let task = running(&catalog, 1).await;
    for round in 1..=6_u64 {
        let until_ms = START_MS + 30_000 * i64::try_from(round).unwrap();
        let calls = (0..8).map(|i| {
            let (catalog, id) = (catalog.clone(), task.id);
            tokio::spawn(async move { catalog.lease_unit(id, 0, &format!("w{i}"), until_ms).await.unwrap() })
        });
        let grants = futures::future::join_all(calls.collect::<Vec<_>>()).await;
        let grants: Vec<_> = grants.into_iter().filter_map(Result::unwrap).collect();
        assert_eq!(grants, [round]);
        let unit = catalog.units(task.id).await.unwrap().remove(0);
        assert_eq!((unit.fence, unit.lease_until_ms), (round, Some(until_ms)));
        // One millisecond before its end it still holds.
        home.clock.set_wall(until_ms - 1);
        assert_eq!(catalog.lease_unit(task.id, 0, "late", FOREVER).await.unwrap(), None);
        home.clock.set_wall(until_ms);
    }
}

/// Threat model T12: a worker that slept past its lease is fenced by whoever took over, and not by any clock.
#[tokio::test]
async fn zombie_worker_fenced() {
    let home = Home::new();
    let catalog = home.open().await;
    let task = running(&catalog, 1).await;
    let id = task.id;
    let zombie = catalog.lease_unit(id, 0, "zombie", START_MS + 30_000).await.unwrap().unwrap();

    // Its lease ends while it sleeps, and nobody takes over: it may go on.
    home.clock.advance(Duration::from_secs(60));
    assert!(catalog.renew_lease(id, 0, zombie, START_MS + 61_000).await.unwrap());
    home.clock.advance(Duration::from_secs(60));
    let heir = catalog.lease_unit(id, 0, "heir", START_MS + 150_000).await.unwrap().unwrap();
    assert!(heir > zombie);

    // It wakes under whatever clock.
    let before = home.dump().await;
    for now_ms in [START_MS, START_MS + 120_000, 0, START_MS + 3_600_000] {
        home.clock.set_wall(now_ms);
        assert!(!catalog.renew_lease(id, 0, zombie, FOREVER).await.unwrap());
        assert_eq!(catalog.begin_publish(id, 0, zombie, note("p")).await.unwrap(), Publish::Fenced);
        assert!(!catalog.finish_unit(id, 0, zombie, "zombie", Some(note("d"))).await.unwrap());
        catalog.release_lease(id, 0, zombie).await.unwrap();
        assert_eq!(home.dump().await, before);
    }

    assert_eq!(catalog.begin_publish(id, 0, heir, note("p")).await.unwrap(), Publish::Granted);
    assert!(!catalog.finish_unit(id, 0, zombie, "zombie", None).await.unwrap());
    assert!(catalog.finish_unit(id, 0, heir, "heir", Some(note("d"))).await.unwrap());
    let unit = catalog.units(id).await.unwrap().remove(0);
    assert_eq!((unit.state, unit.report.as_str(), unit.lease_until_ms), (UnitState::Done, "heir", None));
    // Done is done, for everyone.
    assert_eq!(catalog.begin_publish(id, 0, heir, note("p")).await.unwrap(), Publish::Fenced);
    assert!(!catalog.finish_unit(id, 0, heir, "again", None).await.unwrap());
    assert!(!catalog.renew_lease(id, 0, heir, FOREVER).await.unwrap());
    assert_eq!(catalog.lease_unit(id, 0, "third", FOREVER).await.unwrap(), None);
}

/// Two workers fight over one unit with leases that end at once; whatever they do, one publishes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_workers_one_commits() {
    let home = Home::new();
    let catalog = home.open().await;
    for _ in 0..20 {
        let task = running(&catalog, 1).await;
        let workers = (0..4).map(|i| {
            let (catalog, id) = (catalog.clone(), task.id);
            tokio::spawn(async move {
                let Some(fence) = catalog.lease_unit(id, 0, &format!("w{i}"), 0).await.unwrap() else { return false };
                for _ in 0..i {
                    tokio::task::yield_now().await;
                }
                catalog.begin_publish(id, 0, fence, note("p")).await.unwrap() == Publish::Granted
                    && catalog.finish_unit(id, 0, fence, &i.to_string(), None).await.unwrap()
            })
        });
        let finished = futures::future::join_all(workers.collect::<Vec<_>>()).await;
        let finished: Vec<_> = finished.into_iter().map(Result::unwrap).collect();
        let unit = catalog.units(task.id).await.unwrap().remove(0);
        assert_eq!(finished.iter().filter(|finished| **finished).count(), 1, "{finished:?}");
        assert!(finished[unit.report.parse::<usize>().unwrap()]);
    }
}

#[tokio::test]
async fn a_lease_given_up_is_free_at_once() {
    let home = Home::new();
    let catalog = home.open().await;
    let id = running(&catalog, 1).await.id;
    assert_eq!(catalog.lease_unit(id, 0, "a", FOREVER).await.unwrap(), Some(1));
    assert_eq!(catalog.lease_unit(id, 0, "b", FOREVER).await.unwrap(), None);
    assert_eq!(catalog.lease_unit(id, 0, "a", FOREVER).await.unwrap(), Some(2), "a holder may ask again");
    assert!(!catalog.renew_lease(id, 0, 1, FOREVER).await.unwrap(), "and is fenced by itself");
    catalog.release_lease(id, 0, 1).await.unwrap();
    assert_eq!(catalog.lease_unit(id, 0, "b", FOREVER).await.unwrap(), None);
    catalog.release_lease(id, 0, 2).await.unwrap();
    assert!(!catalog.renew_lease(id, 0, 2, FOREVER).await.unwrap());
    assert_eq!(catalog.begin_publish(id, 0, 2, note("p")).await.unwrap(), Publish::Fenced);
    assert!(!catalog.finish_unit(id, 0, 2, "", None).await.unwrap());
    assert_eq!(catalog.units(id).await.unwrap()[0].lease_until_ms, None);
    assert_eq!(catalog.lease_unit(id, 0, "b", FOREVER).await.unwrap(), Some(3));
    // No such unit, no such fence.
    assert_eq!(catalog.lease_unit(id, 1, "b", FOREVER).await.unwrap(), None);
    assert_eq!(catalog.lease_unit(TaskId::random(), 0, "b", FOREVER).await.unwrap(), None);
    assert!(!catalog.renew_lease(id, 0, u64::MAX, FOREVER).await.unwrap());
    assert_eq!(catalog.begin_publish(TaskId::random(), 0, 1, note("p")).await.unwrap(), Publish::Fenced);
}

#[tokio::test]
async fn a_restart_ends_the_leases_of_the_dead() {
    let home = Home::new();
    let catalog = home.open().await;
    let id = running(&catalog, 3).await.id;
    let [dead, done, own] = [(0, "dead"), (1, "dead"), (2, "own")].map(|(ordinal, holder)| {
        let catalog = catalog.clone();
        async move { catalog.lease_unit(id, ordinal, holder, FOREVER).await.unwrap().unwrap() }
    });
    let (dead, done, own) = (dead.await, done.await, own.await);
    assert_eq!(catalog.begin_publish(id, 0, dead, note("p")).await.unwrap(), Publish::Granted);
    assert!(catalog.finish_unit(id, 1, done, "", None).await.unwrap());
    drop(catalog);
    let catalog = home.open().await;
    assert_eq!(catalog.clear_leases("own").await.unwrap(), 1);
    assert!(catalog.renew_lease(id, 2, own, FOREVER).await.unwrap());

    // The unit was publishing when its worker died: the next one takes over where it stood.
    assert_eq!(catalog.begin_publish(id, 0, dead, note("p")).await.unwrap(), Publish::Fenced);
    let heir = catalog.lease_unit(id, 0, "own", FOREVER).await.unwrap().unwrap();
    let unit = catalog.units(id).await.unwrap().remove(0);
    assert_eq!((unit.state, unit.fence), (UnitState::Publishing, heir));
    assert_eq!(catalog.request_cancel(id, note("c")).await.unwrap(), CancelOutcome::TooLate);
    assert_eq!(catalog.begin_publish(id, 0, heir, note("p")).await.unwrap(), Publish::Granted);
    assert!(catalog.finish_unit(id, 0, heir, "", None).await.unwrap());
    assert_eq!(catalog.request_cancel(id, note("c")).await.unwrap(), CancelOutcome::TooLate, "published is published");
}

/// A file that is done does not keep an export from being cancelled: it never asked to publish.
#[tokio::test]
async fn units_may_end_without_publishing() {
    let home = Home::new();
    let catalog = home.open().await;
    let id = running(&catalog, 2).await.id;
    let fence = catalog.lease_unit(id, 0, "w", FOREVER).await.unwrap().unwrap();
    assert!(catalog.finish_unit(id, 0, fence, "{\"rows\":\0}", None).await.unwrap());
    assert_eq!(catalog.units(id).await.unwrap()[0].report, "{\"rows\":\0}");
    assert!(matches!(catalog.request_cancel(id, note("c")).await.unwrap(), CancelOutcome::Requested(_)));
    let fence = catalog.lease_unit(id, 1, "w", FOREVER).await.unwrap().unwrap();
    assert_eq!(catalog.begin_publish(id, 1, fence, note("p")).await.unwrap(), Publish::Cancelled);
}

#[tokio::test]
async fn a_replaced_unit_fences_whoever_worked_on_it() {
    let home = Home::new();
    let catalog = home.open().await;
    let task = running(&catalog, 2).await;
    let old = catalog.lease_unit(task.id, 0, "old", FOREVER).await.unwrap().unwrap();
    let change = TaskChange { units: Some(vec!["new".into()]), ..TaskChange::to(Status::Running) };
    moved(&catalog, &task, change).await;
    let new = catalog.lease_unit(task.id, 0, "new", FOREVER).await.unwrap().unwrap();
    assert!(new > old);
    assert!(!catalog.finish_unit(task.id, 0, old, "", None).await.unwrap());
    assert_eq!(catalog.lease_unit(task.id, 1, "new", FOREVER).await.unwrap(), None);
}

#[tokio::test]
async fn strikes_are_counted() {
    let home = Home::new();
    let catalog = home.open().await;
    let id = running(&catalog, 2).await.id;
    assert_eq!(catalog.strike_unit(id, 1).await.unwrap(), 1);
    assert_eq!(catalog.strike_unit(id, 1).await.unwrap(), 2);
    let strikes: Vec<_> = catalog.units(id).await.unwrap().iter().map(|unit| unit.strikes).collect();
    assert_eq!(strikes, [0, 2]);
    let missing = catalog.strike_unit(id, 2).await.unwrap_err();
    assert!(matches!(missing, Error::UnitMissing { ordinal: 2, .. }), "{missing:?}");
}
