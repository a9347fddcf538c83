use knarr_base::id::TaskId;

use crate::tasks::{Pin, Status, TaskChange};
use crate::tests::{Home, made, moved, new_task, note};

#[tokio::test]
async fn pins_are_released_when_the_task_is_final() {
    for last in [Status::Done, Status::Fail] {
        let home = Home::new();
        let catalog = home.open().await;
        let (first, second) = (new_task("a"), new_task("b"));
        let tables = (first.table, second.table);
        let (first, second) = (made(&catalog, first).await, made(&catalog, second).await);
        assert!(catalog.pins().await.unwrap().is_empty());

        let pin = Pin { version: 7, seq: u64::MAX >> 1, at_ms: -1 };
        let pinned = |pin| TaskChange { pin: Some(Some(pin)), ..TaskChange::to(Status::Running) };
        let first = moved(&catalog, &first, pinned(pin)).await;
        let second = moved(&catalog, &second, pinned(Pin { version: 8, ..pin })).await;
        assert_eq!(catalog.task(first.id).await.unwrap().unwrap().pin, Some(pin));
        let sorted = |mut pins: Vec<_>| {
            pins.sort();
            pins
        };
        let both = sorted(vec![(tables.0, 7), (tables.1, 8)]);
        assert_eq!(sorted(catalog.pins().await.unwrap()), both);
        drop(catalog);
        let catalog = home.open().await;
        assert_eq!(sorted(catalog.pins().await.unwrap()), both);

        let first = moved(&catalog, &first, TaskChange::to(last)).await;
        assert_eq!(catalog.pins().await.unwrap(), [(tables.1, 8)]);
        assert_eq!(first.pin, Some(pin), "kept as a fact");
        moved(&catalog, &second, TaskChange { pin: Some(None), ..TaskChange::to(Status::Running) }).await;
        assert!(catalog.pins().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_pin_past_the_database_is_refused_whole() {
    let home = Home::new();
    let catalog = home.open().await;
    let task = made(&catalog, new_task("a")).await;
    let before = home.dump().await;
    let pin = Pin { version: u64::MAX, seq: 0, at_ms: 0 };
    let change = TaskChange { pin: Some(Some(pin)), ..TaskChange::to(Status::Running) };
    assert!(catalog.move_task(task.id, task.revision, change, note("m")).await.is_err());
    assert_eq!(home.dump().await, before);
    assert_eq!(catalog.task(TaskId::random()).await.unwrap(), None);
}
