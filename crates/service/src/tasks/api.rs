//! What clients ask of tasks.

use std::sync::Arc;

use knarr_base::id::{KeyId, TableId, TaskId};
use knarr_base::right::Right;
use knarr_base::{Error, Kind, Result, limit};
use knarr_catalog::audit::Audit;
use knarr_catalog::tasks::{CancelOutcome, NewTask, Status, Task, TaskChange};

use super::driver::transition;
use super::machine::{self, Event, Refusal, State};
use super::report::{Report, from_text, to_text};
use super::{CreateTask, TaskInfo, TaskQuery, TaskSpec, progress, scheduler, spec, undo};
use crate::{Inner, Principal, Service};

/// Tasks answered when a list names no limit.
const LIST_DEFAULT: u64 = 100;

impl Service {
    /// Durable on return; an exact retransmission gets the same id. Needs export on the collection and the bucket for an
    /// export, delete on the collection for a delete, both for a delete with a backup.
    ///
    /// # Errors
    /// `Kind::Forbidden`, `Kind::CollectionMissing`, `Kind::InvalidFilter`, `Kind::Invalid` for a delete without a
    /// filter, `Kind::Busy` when the account has too many open tasks.
    pub async fn create_task(&self, by: &Principal, new: CreateTask) -> Result<TaskId> {
        let inner = &self.inner;
        let accepted = inner.clock.monotonic();
        let (right, filter, target) = match &new.spec {
            TaskSpec::Export { filter, target, .. } => (Right::Export, filter, Some(target)),
            TaskSpec::Delete { filter, backup, .. } => (Right::Delete, filter, backup.as_ref().map(|(path, _)| path)),
        };
        if right == Right::Delete && filter.is_all() {
            return Err(Error::new(
                Kind::Invalid,
                "a delete by filter needs a filter; use del_data with del_all for all",
            ));
        }
        let opened = inner.collection(by, right, &new.collection).await?;
        let name = opened.record.name.as_str();
        if let Some(target) = target {
            by.need(Right::Export, name)?;
            by.need(Right::Export, target.bucket.as_str())?;
        }
        filter.check(&opened.table.schema())?;
        let row = NewTask {
            id: TaskId::random(),
            account: by.account.clone(),
            creator: by.key.clone(),
            kind: new.spec.kind().to_owned(),
            collection: name.to_owned(),
            table: opened.record.table,
            params: new.params,
            spec: spec::encode(&new.spec)?,
            dedup: new.dedup,
        };
        let created = inner.catalog.create_task(row, limit::TASKS_OPEN_PER_ACCOUNT).await?;
        let id = created.task.id;
        if created.fresh {
            scheduler::drive(inner, created.task, Some(accepted));
        }
        Ok(id)
    }

    /// Foreign, unknown and invisible look alike.
    ///
    /// # Errors
    /// `Kind::TaskMissing`.
    pub async fn task_info(&self, by: &Principal, id: TaskId) -> Result<TaskInfo> {
        let task = self.visible(by, id).await?;
        self.inner.view(by, &task).await
    }

    /// Those the caller may see, newest first.
    ///
    /// # Errors
    /// Those of the catalog.
    pub async fn list_tasks(&self, by: &Principal, query: TaskQuery) -> Result<Vec<TaskInfo>> {
        let page = limit::LIST_PAGE as u64;
        let query = knarr_catalog::tasks::TaskQuery {
            collection: query.collection.map(|name| name.to_string()),
            kind: query.kind,
            status: query.status,
            offset: query.offset,
            limit: if query.limit == 0 { LIST_DEFAULT } else { query.limit.min(page) },
        };
        let mut infos = Vec::new();
        for task in self.inner.catalog.tasks(&by.account, query).await? {
            if sees(by, &task) {
                infos.push(self.inner.view(by, &task).await?);
            }
        }
        Ok(infos)
    }

    /// The human's yes. Needs confirm on the collection, and another key than the creator's where the policy says so.
    /// Repeated: success without effect.
    ///
    /// # Errors
    /// `Kind::TaskMissing`, `Kind::Forbidden`, `Kind::Invalid` in any other state.
    pub async fn confirm_task(&self, by: &Principal, id: TaskId) -> Result<()> {
        // A second round covers a confirmation that raced another one.
        let mut last = None;
        for _ in 0..2 {
            let task = self.visible(by, id).await?;
            by.need(Right::Confirm, &task.collection)?;
            if self.inner.policy.confirm_by_another && by.key == task.creator {
                return Err(Error::new(Kind::Forbidden, "another key than its creator's has to confirm this task"));
            }
            match self.try_confirm(by, task).await {
                Err(error) if error.kind() == Kind::Busy => last = Some(error),
                outcome => return outcome,
            }
        }
        Err(last.unwrap_or_else(|| Error::new(Kind::Busy, "the task is changing")))
    }

    async fn try_confirm(&self, by: &Principal, task: Task) -> Result<()> {
        let mut report: Report = from_text(&task.report)?;
        let late = task.confirm_by_ms.is_some_and(|until| until <= self.inner.clock.now_ms());
        if task.status == Status::Confirm && (late || task.cancel_requested) {
            let why = if late { "the time to confirm this task is over" } else { "this task was cancelled" };
            return Err(Error::new(Kind::Invalid, why));
        }
        let state = State { status: task.status, confirmed: report.confirmed, publishing: false };
        let status = match machine::next(state, Event::Confirm) {
            Ok(status) => status,
            Err(Refusal::NoEffect) => return Ok(()),
            Err(Refusal::Illegal | Refusal::TooLate) => {
                let text = format!("a task in {} cannot be confirmed", task.status.name());
                return Err(Error::new(Kind::Invalid, text));
            }
        };
        report.confirmed = true;
        let change = TaskChange {
            by: Some(by.key.clone()),
            report: Some(to_text(&report)?),
            confirm_by_ms: Some(None),
            ..TaskChange::to(status)
        };
        let detail = format!("{{\"matched\":{}}}", report.matched);
        let audit = transition(&task, by.key.clone(), status, &detail);
        let accepted = self.inner.clock.monotonic();
        let moved = self.inner.catalog.move_task(task.id, task.revision, change, audit).await?;
        scheduler::drive(&self.inner, moved, Some(accepted));
        Ok(())
    }

    /// Stops a task that has not begun to publish; it reads as `fail` with the reason. Creator or administrator.
    /// Repeated: success without effect.
    ///
    /// # Errors
    /// `Kind::TaskMissing`, `Kind::Forbidden`, `Kind::Refused` "too late".
    pub async fn cancel_task(&self, by: &Principal, id: TaskId) -> Result<()> {
        let task = self.visible(by, id).await?;
        own(by, &task)?;
        self.inner.cancel(id, &by.key, &format!("cancelled by {}", by.key)).await
    }

    /// Cancels if needed, then forgets the task. Rows already deleted stay deleted, and no undo brings them back; complete
    /// files stay.
    ///
    /// # Errors
    /// `Kind::TaskMissing`, `Kind::Forbidden`, `Kind::Busy` if it does not stop in time.
    pub async fn drop_task(&self, by: &Principal, id: TaskId) -> Result<()> {
        let task = self.visible(by, id).await?;
        own(by, &task)?;
        if !task.status.is_final() {
            match self.inner.cancel(id, &by.key, &format!("dropped by {}", by.key)).await {
                Err(error) if error.kind() != Kind::Refused => return Err(error),
                _ => {}
            }
            if !self.inner.tasks.left(id).await {
                return Err(Error::new(Kind::Busy, "the task is still stopping; try again"));
            }
        }
        let audit = Audit {
            who: by.key.clone(),
            action: "task_drop",
            object: id.to_string(),
            detail: "{}".to_owned(),
            outcome: "done",
        };
        undo::drop_task(&self.inner, &task, audit).await
    }

    pub(super) async fn visible(&self, by: &Principal, id: TaskId) -> Result<Task> {
        let task = self.inner.catalog.task(id).await?.filter(|task| sees(by, task));
        task.ok_or_else(|| Error::new(Kind::TaskMissing, "task not exist"))
    }
}

/// In the caller's account, and made by it or on a collection it has any right on.
fn sees(by: &Principal, task: &Task) -> bool {
    task.account == by.account && (task.creator == by.key || by.knows(&task.collection))
}

pub(super) fn own(by: &Principal, task: &Task) -> Result<()> {
    if task.creator == by.key { Ok(()) } else { by.need(Right::Admin, &task.collection) }
}

impl Inner {
    async fn view(&self, by: &Principal, task: &Task) -> Result<TaskInfo> {
        let units = self.catalog.units(task.id).await?;
        let undo = if task.kind == super::DELETE { self.catalog.undo(task.id).await? } else { None };
        progress::view(task, &units, undo.as_ref(), by.may(Right::Read, &task.collection), self.clock.now_ms())
    }

    async fn cancel(self: &Arc<Self>, id: TaskId, who: &KeyId, reason: &str) -> Result<()> {
        let audit = Audit {
            who: who.clone(),
            action: "task_cancel",
            object: id.to_string(),
            detail: "{}".to_owned(),
            outcome: "intent",
        };
        match self.catalog.request_cancel(id, audit).await? {
            CancelOutcome::Requested(_) => {
                match self.tasks.live(id) {
                    Some(live) => live.doom(reason),
                    None => scheduler::rouse(self, id).await,
                }
                Ok(())
            }
            CancelOutcome::Final(Status::Fail) => Ok(()),
            CancelOutcome::TooLate | CancelOutcome::Final(_) => {
                Err(Error::new(Kind::Refused, "too late to cancel: the task is publishing or has ended"))
            }
        }
    }
}

/// Fails the unfinished tasks of a dropped collection and waits, within a bound, until none runs.
pub(crate) async fn doom_table(inner: &Arc<Inner>, table: TableId) {
    let open = match inner.catalog.open_tasks().await {
        Ok(open) => open,
        Err(error) => {
            tracing::error!(%table, %error, "tasks of a dropped collection could not be listed; they fail when they run");
            return;
        }
    };
    for task in open.into_iter().filter(|task| task.table == table) {
        let id = task.id;
        if let Err(error) = scheduler::doom(inner, task, "collection not exist").await {
            tracing::error!(task = %id, error = error.chain(), "a task of a dropped collection could not be ended");
        }
    }
}
