//! Undo of a finished filter_delete: its rows come back, but for those whose key was written since.
//!
//! Wanted, published, recorded; a crash between any two of these is made up for by the next start, or by whoever asks
//! again.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use knarr_base::id::{KeyId, TableId, TaskId};
use knarr_base::right::Right;
use knarr_base::{Error, Kind, Result};
use knarr_catalog::audit::Audit;
use knarr_catalog::tasks::{Status, Task};
use knarr_catalog::undos::Undo;
use knarr_engine::Error as EngineError;
use knarr_engine::compute::Lane;
use knarr_engine::table::{Restored, Table};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

use super::Undone;
use super::report::{Report, UndoReport, from_text, to_text};
use crate::{Inner, Principal, Service, blocking};

/// One undo at a time per table, from its intent to its record, and none while a delete is dropped: one waits for its
/// table on one thread of the pool, and others for it on none.
#[derive(Default)]
pub(crate) struct Undoing(Mutex<HashMap<TableId, Weak<Turn<()>>>>);

impl Undoing {
    pub(crate) async fn lock(&self, table: TableId) -> OwnedMutexGuard<()> {
        self.turn(table).lock_owned().await
    }

    fn try_lock(&self, table: TableId) -> Option<OwnedMutexGuard<()>> {
        self.turn(table).try_lock_owned().ok()
    }

    /// Kept for as long as somebody has it or waits for it.
    fn turn(&self, table: TableId) -> Arc<Turn<()>> {
        let mut turns = self.0.lock();
        turns.retain(|_, turn| turn.strong_count() > 0);
        let known = turns.get(&table).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let turn = Arc::default();
            turns.insert(table, Arc::downgrade(&turn));
            turn
        })
    }
}

impl Service {
    /// Brings back the rows that a finished filter_delete deleted, but for those whose key was written since, if only to
    /// be deleted, and those that have expired. The next read sees them. Creator or administrator, with write on the
    /// collection. Repeated: the same answer, without effect.
    ///
    /// # Errors
    /// `Kind::TaskMissing`, `Kind::Forbidden`; `Kind::Refused` where nothing can come back: another kind of task or one
    /// that is not done, nothing deleted, not kept, over, the collection dropped, what is stored of it damaged.
    pub async fn undo_task(&self, by: &Principal, id: TaskId) -> Result<Undone> {
        let task = self.visible(by, id).await?;
        super::api::own(by, &task)?;
        by.need(Right::Write, &task.collection)?;
        let (inner, who) = (self.inner.clone(), by.key.clone());
        // Whoever asked may go away: what has begun is brought to its end.
        let work = self.inner.tasks.spawn(async move {
            let _turn = inner.tasks.undoing.lock(task.table).await;
            run(&inner, &task, &who).await
        });
        work.await.map_err(|e| Error::new(Kind::Internal, "an undo was lost").with_source(e))?
    }
}

/// Finishes what was begun and not recorded, but for what is under way.
pub(crate) async fn catch_up(inner: &Arc<Inner>) {
    let open = match inner.catalog.open_undos().await {
        Ok(open) => open,
        Err(error) => {
            tracing::error!(%error, "undos could not be listed; the keeper tries again");
            return;
        }
    };
    for undo in open {
        match finish(inner, undo.task).await {
            Ok(Some(_)) => tracing::info!(task = %undo.task, "finished an undo"),
            Ok(None) => {}
            // It is recorded as such.
            Err(error) if error.kind() == Kind::Refused => {}
            Err(error) => {
                let error = error.chain();
                tracing::error!(task = %undo.task, error, "an undo could not be finished; the keeper tries again");
            }
        }
    }
}

/// `None`: the task is forgotten, or an undo of its table is under way, which may be this one.
async fn finish(inner: &Arc<Inner>, id: TaskId) -> Result<Option<Undone>> {
    let Some(task) = inner.catalog.task(id).await? else { return Ok(None) };
    let Some(_turn) = inner.tasks.undoing.try_lock(task.table) else { return Ok(None) };
    run(inner, &task, &Audit::server()).await.map(Some)
}

/// Forgets a task, and gives up the rows that it deleted: nobody can name it any more.
pub(super) async fn drop_task(inner: &Arc<Inner>, task: &Task, audit: Audit) -> Result<()> {
    if task.kind != super::DELETE {
        return Ok(inner.catalog.drop_task(task.id, audit).await?);
    }
    let _no_undo = inner.tasks.undoing.lock(task.table).await;
    inner.catalog.drop_task(task.id, audit).await?;
    let (tables, id, table) = (inner.tables.clone(), task.id, task.table);
    let given_up = blocking(move || {
        let table = tables.table(table)?;
        table.acknowledge_undo(id);
        table.forget_deletion(id)
    });
    match given_up.await? {
        Ok(()) | Err(EngineError::TableMissing(_)) => {}
        Err(error) => tracing::warn!(task = %id, %error, "deleted rows take space until their time is over"),
    }
    Ok(())
}

/// What an undo did, once it is recorded.
pub(super) fn outcome(undo: &Undo) -> Result<Option<Undone>> {
    let Some(at_ms) = undo.done_ms else { return Ok(None) };
    let UndoReport { restored, changed_since, expired } = from_text(&undo.report)?;
    Ok(Some(Undone { at_ms, restored, changed_since, expired }))
}

/// The caller has the turn of the task's table.
async fn run(inner: &Arc<Inner>, task: &Task, who: &KeyId) -> Result<Undone> {
    let (catalog, id) = (&inner.catalog, task.id);
    let known = catalog.undo(id).await?;
    if let Some(done) = known.as_ref().map(outcome).transpose()?.flatten() {
        // The process may have died right after the record. A table that is gone has nothing to leave out.
        if let Ok(table) = inner.table(task.table).await {
            table.acknowledge_undo(id);
        }
        return Ok(done);
    }
    let audit = |outcome, detail| Audit { who: who.clone(), action: "undo", object: id.to_string(), detail, outcome };
    if known.is_none() {
        let report = from_text::<Report>(&task.report)?;
        may_begin(task, &report, inner.clock.now_ms())?;
        let detail = json!({ "collection": task.collection, "deleted": report.deleted }).to_string();
        catalog.begin_undo(id, audit("intent", detail)).await?;
    }
    fail::fail_point!("service::undo::before_publication");
    let (table, restored) = match publish(inner, task).await {
        Err(error) if error.kind() == Kind::Refused => {
            catalog.finish_undo(id, None, audit("refused", "{}".to_owned())).await?;
            return Err(error);
        }
        published => published?,
    };
    fail::fail_point!("service::undo::after_publication");
    let Restored { restored, changed_since, expired } = restored;
    let report = to_text(&UndoReport { restored, changed_since, expired })?;
    catalog.finish_undo(id, Some(&report), audit("done", report.clone())).await?;
    fail::fail_point!("service::undo::after_record");
    table.acknowledge_undo(id);
    let recorded = catalog.undo(id).await?.map(|undo| outcome(&undo)).transpose()?.flatten();
    // The task may be forgotten by now; what was done is true all the same.
    Ok(recorded.unwrap_or_else(|| Undone { at_ms: inner.clock.now_ms(), restored, changed_since, expired }))
}

fn refused(why: impl Into<String>) -> Error {
    Error::new(Kind::Refused, why)
}

const OVER: &str = "the time to undo this task is over: upsert its rows from a backup or an export";

/// What the task itself says against it.
fn may_begin(task: &Task, report: &Report, now_ms: i64) -> Result<()> {
    if task.kind != super::DELETE {
        return Err(refused(format!("only a filter_delete can be undone, and this task is a {}", task.kind)));
    }
    if task.status != Status::Done {
        let text = format!("a task in {} cannot be undone, only one that is done", task.status.name());
        return Err(refused(text));
    }
    match report.undo_until_ms {
        _ if report.deleted == 0 => Err(refused("this task deleted no rows: there is nothing to undo")),
        0 => Err(refused(
            "the rows of this task were not kept, as undo_days said when it ran: upsert them from a backup",
        )),
        until if until <= now_ms => Err(refused(OVER)),
        _ => Ok(()),
    }
}

/// Publishes, or reads back what an earlier attempt published.
async fn publish(inner: &Arc<Inner>, task: &Task) -> Result<(Arc<Table>, Restored)> {
    let table = inner.table(task.table).await.map_err(|error| match error.kind() {
        Kind::CollectionMissing => refused("the collection was dropped, and what this task deleted with it"),
        _ => error,
    })?;
    let (opened, id) = (table.clone(), task.id);
    let result = inner.pool.run(Lane::Serve, move || opened.undo(id)).await?;
    match result {
        Ok(restored) => Ok((table, restored)),
        Err(EngineError::AlreadyPublished(before)) => Ok((table, before.into())),
        Err(EngineError::NotUndoable(_)) => Err(refused(OVER)),
        Err(damage @ EngineError::Corrupt { .. }) => {
            tracing::error!(task = %id, error = %damage, "a task cannot be undone");
            let text = "what this task deleted is damaged on the disk: upsert its rows from a backup or an export";
            Err(refused(text).with_source(damage))
        }
        Err(other) => Err(other.into()),
    }
}
