use std::time::Duration;

use knarr_base::Kind;

use super::*;
use crate::tasks::{Task, TaskChange};
use crate::tests::{Home, START_MS, key, made, moved, new_task, note};

async fn done(catalog: &Catalog) -> Task {
    let task = made(catalog, new_task("default")).await;
    moved(catalog, &task, TaskChange::to(Status::Done)).await
}

async fn outcomes(catalog: &Catalog) -> Vec<String> {
    let records = catalog.audit_list(0, 100).await.unwrap();
    records.into_iter().filter(|record| record.action.starts_with("undo")).map(|record| record.action).collect()
}

#[tokio::test]
async fn an_undo_is_noted_and_recorded_once() {
    let home = Home::new();
    let catalog = home.open().await;
    let task = done(&catalog).await;
    assert_eq!(catalog.undo(task.id).await.unwrap(), None);
    let begun = catalog.begin_undo(task.id, note("undo.intent")).await.unwrap();
    assert_eq!((begun.task, &begun.asked_by, begun.asked_ms), (task.id, &key(), START_MS));
    assert_eq!((begun.done_ms, begun.report.as_str()), (None, ""));
    home.clock.advance(Duration::from_secs(1));
    assert_eq!(catalog.begin_undo(task.id, note("undo.again")).await.unwrap(), begun);
    drop(catalog);

    let catalog = home.open().await;
    assert_eq!(catalog.open_undos().await.unwrap(), std::slice::from_ref(&begun));
    catalog.finish_undo(task.id, Some("{\"restored\":3}"), note("undo.done")).await.unwrap();
    catalog.finish_undo(task.id, Some("{\"restored\":4}"), note("undo.repeated")).await.unwrap();
    catalog.finish_undo(task.id, None, note("undo.refused")).await.unwrap();
    let ended = Undo { done_ms: Some(START_MS + 1000), report: "{\"restored\":3}".to_owned(), ..begun };
    assert_eq!(catalog.undo(task.id).await.unwrap(), Some(ended.clone()));
    assert_eq!(catalog.begin_undo(task.id, note("undo.late")).await.unwrap(), ended);
    assert!(catalog.open_undos().await.unwrap().is_empty());
    assert_eq!(outcomes(&catalog).await, ["undo.intent", "undo.done"]);
}

#[tokio::test]
async fn what_was_refused_may_be_asked_for_again() {
    let home = Home::new();
    let catalog = home.open().await;
    let task = done(&catalog).await;
    catalog.begin_undo(task.id, note("undo.intent")).await.unwrap();
    catalog.finish_undo(task.id, None, note("undo.refused")).await.unwrap();
    assert_eq!(catalog.undo(task.id).await.unwrap(), None);
    catalog.begin_undo(task.id, note("undo.second")).await.unwrap();
    assert_eq!(outcomes(&catalog).await, ["undo.intent", "undo.refused", "undo.second"]);
}

#[tokio::test]
async fn only_a_task_that_is_done_has_one_and_takes_it_along() {
    let home = Home::new();
    let catalog = home.open().await;
    for last in [None, Some(Status::Confirm), Some(Status::Fail)] {
        let mut task = made(&catalog, new_task("default")).await;
        if let Some(last) = last {
            task = moved(&catalog, &task, TaskChange::to(last)).await;
        }
        let error = catalog.begin_undo(task.id, note("undo.a")).await.unwrap_err();
        assert!(matches!(error, Error::TaskNotDone { id } if id == task.id), "{error:?}");
        assert_eq!(error.kind(), Kind::Refused);
    }
    let task = done(&catalog).await;
    catalog.begin_undo(task.id, note("undo.b")).await.unwrap();
    catalog.drop_task(task.id, note("task.drop")).await.unwrap();
    assert!(catalog.open_undos().await.unwrap().is_empty());
    catalog.finish_undo(task.id, Some("{}"), note("undo.c")).await.unwrap();
    let error = catalog.begin_undo(task.id, note("undo.d")).await.unwrap_err();
    assert!(matches!(error, Error::TaskMissing { .. }), "{error:?}");
    assert_eq!(outcomes(&catalog).await, ["undo.b", "undo.c"]);
}
