//! Tasks: durable bulk jobs, moved by compare-and-set on their revision.
//!
//! The service decides what a task does next; here it is only made sure that two deciders never both win, that a
//! final task never changes again, and that a cancel and a publication never both happen.

mod store;

use knarr_base::id::{AccountId, KeyId, TableId, TaskId};

use crate::audit::Audit;
use crate::dialect::bound;
use crate::write::Op;
use crate::{Catalog, Error};

/// Where a task is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Stored; nobody has looked at it.
    Init,
    /// Waits for room to run.
    Queued,
    /// Scans, or works on its units.
    Running,
    /// Waits for a human's confirmation.
    Confirm,
    /// Confirmed; not yet running again.
    Confirmed,
    /// Ended as asked. Final.
    Done,
    /// Ended otherwise; the error says why. Final.
    Fail,
}

impl Status {
    /// Every status, in the order of a task's life.
    pub const ALL: [Status; 7] =
        [Status::Init, Status::Queued, Status::Running, Status::Confirm, Status::Confirmed, Status::Done, Status::Fail];

    /// Lower-case name, as stored and as clients see it.
    pub fn name(self) -> &'static str {
        match self {
            Status::Init => "init",
            Status::Queued => "queued",
            Status::Running => "running",
            Status::Confirm => "confirm",
            Status::Confirmed => "confirmed",
            Status::Done => "done",
            Status::Fail => "fail",
        }
    }

    /// The status of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// True if the task has ended for good.
    pub fn is_final(self) -> bool {
        match self {
            Status::Done | Status::Fail => true,
            Status::Init | Status::Queued | Status::Running | Status::Confirm | Status::Confirmed => false,
        }
    }
}

/// The state of a table that a task works on; it stays readable until the task is final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// Manifest version.
    pub version: u64,
    /// Rows with a greater `_seq` do not belong to it.
    pub seq: u64,
    /// Unix milliseconds when it was taken.
    pub at_ms: i64,
}

/// A task to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    /// Chosen by the caller, so that it can be read back after a lost answer.
    pub id: TaskId,
    /// The account it belongs to.
    pub account: AccountId,
    /// Key of its creator.
    pub creator: KeyId,
    /// `data_export`, `filter_delete`.
    pub kind: String,
    /// Name of the collection when the task was made.
    pub collection: String,
    /// The incarnation it works on.
    pub table: TableId,
    /// The request's parameters, echoed.
    pub params: String,
    /// What it shall do, in the service's own JSON.
    pub spec: String,
    /// Hash of key and signed request: an exact retransmission finds the task that was made the first time.
    pub dedup: Option<[u8; 32]>,
}

/// A task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Id.
    pub id: TaskId,
    /// See [`NewTask::account`].
    pub account: AccountId,
    /// See [`NewTask::creator`].
    pub creator: KeyId,
    /// See [`NewTask::kind`].
    pub kind: String,
    /// See [`NewTask::collection`].
    pub collection: String,
    /// See [`NewTask::table`].
    pub table: TableId,
    /// See [`NewTask::params`].
    pub params: String,
    /// See [`NewTask::spec`].
    pub spec: String,
    /// Where it is on its way.
    pub status: Status,
    /// Grows with every move and with the request to cancel; starts at 0.
    pub revision: u64,
    /// What it has found and done, in the service's own JSON; `{}` at first.
    pub report: String,
    /// Why it failed; empty while all is well.
    pub error: String,
    /// The state of the table it works on. It is kept as a fact when the task is final, but holds nothing any more.
    pub pin: Option<Pin>,
    /// True once somebody asked to cancel it; nothing begins to publish from then on.
    pub cancel_requested: bool,
    /// Unix milliseconds after which a confirmation comes too late.
    pub confirm_by_ms: Option<i64>,
    /// Unix milliseconds.
    pub created_ms: i64,
    /// Unix milliseconds of the last move.
    pub updated_ms: i64,
    /// Key of the last change by a human.
    pub updated_by: KeyId,
}

/// What [`Catalog::create_task`] found or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// The task.
    pub task: Task,
    /// False if an earlier transmission of the same request made it.
    pub fresh: bool,
}

/// Which tasks to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskQuery {
    /// Only of the collection that had this name when they were made.
    pub collection: Option<String>,
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only with this status.
    pub status: Option<Status>,
    /// Skip so many.
    pub offset: u64,
    /// At most so many.
    pub limit: u64,
}

/// Which final tasks are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept<'a> {
    /// Those that ended then or later, in unix milliseconds;
    pub since_ms: i64,
    /// and of those the last of each account, so many.
    pub per_account: usize,
    /// Done ones of this kind that ended then or later count apart: other tasks do not push them out, nor they others.
    pub apart: (&'a str, i64),
}

/// A move of a task; absent things stay as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskChange {
    /// The new status, which may be the old one.
    pub status: Status,
    /// The human who caused it, if any.
    pub by: Option<KeyId>,
    /// New report.
    pub report: Option<String>,
    /// New error.
    pub error: Option<String>,
    /// New pin, or `Some(None)` for none.
    pub pin: Option<Option<Pin>>,
    /// New value of the flag.
    pub cancel_requested: Option<bool>,
    /// New end of the time to confirm, or `Some(None)` for none.
    pub confirm_by_ms: Option<Option<i64>>,
    /// Replaces the units: one spec each, in order.
    pub units: Option<Vec<String>>,
}

impl TaskChange {
    /// Only the status changes.
    pub fn to(status: Status) -> Self {
        Self {
            status,
            by: None,
            report: None,
            error: None,
            pin: None,
            cancel_requested: None,
            confirm_by_ms: None,
            units: None,
        }
    }
}

/// What asking for a cancel led to.
#[expect(clippy::large_enum_variant, reason = "made once per call and never kept")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CancelOutcome {
    /// Nothing will be published from now on; the task as it is now.
    Requested(Task),
    /// A unit has begun to publish.
    TooLate,
    /// It had ended already.
    Final(Status),
}

impl Catalog {
    /// Makes a task with status [`Status::Init`], or finds the one that the same request made before.
    /// [`Error::TooManyTasks`] if the account has `open_max` that are not final.
    pub async fn create_task(&self, new: NewTask, open_max: usize) -> Result<Created, Error> {
        let mut tx = self.write(Op::CreateTask).await?;
        let created = store::create(&mut tx, new, open_max, self.now_ms()).await;
        tx.end(created).await
    }

    /// The task of that id, of whatever account.
    pub async fn task(&self, id: TaskId) -> Result<Option<Task>, Error> {
        let row = sqlx::query(store::BY_ID).bind(id.to_string()).fetch_optional(self.readers()).await?;
        row.as_ref().map(Task::from_row).transpose()
    }

    /// The account's tasks that fit, newest first.
    pub async fn tasks(&self, account: &AccountId, query: TaskQuery) -> Result<Vec<Task>, Error> {
        let TaskQuery { collection, kind, status, offset, limit } = query;
        let rows = sqlx::query(
            "SELECT * FROM tasks WHERE account = $1 AND ($2 IS NULL OR collection = $2)
             AND ($3 IS NULL OR kind = $3) AND ($4 IS NULL OR status = $4)
             ORDER BY created_n DESC LIMIT $5 OFFSET $6",
        )
        .bind(account.as_str())
        .bind(collection)
        .bind(kind)
        .bind(status.map(Status::name))
        .bind(bound(limit))
        .bind(bound(offset))
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(Task::from_row).collect()
    }

    /// Every task of every account that is not final, oldest first.
    pub async fn open_tasks(&self) -> Result<Vec<Task>, Error> {
        let sql = "SELECT * FROM tasks WHERE finished_ms IS NULL ORDER BY created_n";
        let rows = sqlx::query(sql).fetch_all(self.readers()).await?;
        rows.iter().map(Task::from_row).collect()
    }

    /// Moves the task if its revision is still `revision` and it is not final; otherwise [`Error::Stale`].
    pub async fn move_task(&self, id: TaskId, revision: u64, change: TaskChange, audit: Audit) -> Result<Task, Error> {
        let mut tx = self.write(Op::MoveTask).await?;
        let moved = store::advance(&mut tx, id, revision, change, &audit, self.now_ms()).await;
        tx.end(moved).await
    }

    /// Stores progress, without a move: no audit, no new revision. A final or unknown task ignores it.
    pub async fn save_report(&self, id: TaskId, report: &str) -> Result<(), Error> {
        let mut tx = self.write(Op::SaveReport).await?;
        let saved = sqlx::query("UPDATE tasks SET report = $1 WHERE id = $2 AND finished_ms IS NULL")
            .bind(report.as_bytes())
            .bind(id.to_string())
            .execute(&mut *tx)
            .await;
        tx.end(saved.map(drop).map_err(Error::from)).await
    }

    /// Asks for a cancel, unless a unit has begun to publish or the task is final. Asking again changes nothing.
    pub async fn request_cancel(&self, id: TaskId, audit: Audit) -> Result<CancelOutcome, Error> {
        let mut tx = self.write(Op::RequestCancel).await?;
        let outcome = store::cancel(&mut tx, id, &audit, self.now_ms()).await;
        tx.end(outcome).await
    }

    /// Removes a final task with its units; [`Error::TaskOpen`] if it is not final.
    pub async fn drop_task(&self, id: TaskId, audit: Audit) -> Result<(), Error> {
        let mut tx = self.write(Op::DropTask).await?;
        let dropped = store::remove(&mut tx, id, &audit, self.now_ms()).await;
        tx.end(dropped).await
    }

    /// Removes final tasks that are not to be kept, but none whose undo has begun and is not recorded; how many.
    pub async fn expire_tasks(&self, kept: &Kept<'_>) -> Result<u64, Error> {
        let mut tx = self.write(Op::ExpireTasks).await?;
        let expired = store::expire(&mut tx, kept, self.now_ms()).await;
        tx.end(expired).await
    }
}

#[cfg(test)]
mod tests;
