//! Undos: finished deletes whose rows somebody wants back, or got back. One of a task, for as long as the task is kept.

use knarr_base::id::{KeyId, TaskId};

use crate::audit::{self, Audit};
use crate::dialect::{Columns, Connection, Row};
use crate::tasks::Status;
use crate::write::Op;
use crate::{Catalog, Error};

/// An undo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undo {
    /// Of this task.
    pub task: TaskId,
    /// Key of whoever asked for it first.
    pub asked_by: KeyId,
    /// Unix milliseconds.
    pub asked_ms: i64,
    /// Unix milliseconds; None as long as its outcome is not recorded: the rows may be back or not.
    pub done_ms: Option<i64>,
    /// What it did, in the service's own JSON; empty before.
    pub report: String,
}

const BY_TASK: &str = "SELECT * FROM undos WHERE task = $1";

impl Catalog {
    /// The undo of a task, if somebody asked for it.
    pub async fn undo(&self, task: TaskId) -> Result<Option<Undo>, Error> {
        let row = sqlx::query(BY_TASK).bind(task.to_string()).fetch_optional(self.readers()).await?;
        row.as_ref().map(Undo::from_row).transpose()
    }

    /// Those whose outcome is not recorded, oldest first.
    pub async fn open_undos(&self) -> Result<Vec<Undo>, Error> {
        let sql = "SELECT * FROM undos WHERE done_ms IS NULL ORDER BY asked_ms, task";
        let rows = sqlx::query(sql).fetch_all(self.readers()).await?;
        rows.iter().map(Undo::from_row).collect()
    }

    /// Notes that the rows of a task are wanted back, or finds that this was noted before, which changes nothing.
    /// [`Error::TaskMissing`], [`Error::TaskNotDone`].
    pub async fn begin_undo(&self, task: TaskId, audit: Audit) -> Result<Undo, Error> {
        let mut tx = self.write(Op::BeginUndo).await?;
        let begun = begin(&mut tx, task, &audit, self.now_ms()).await;
        tx.end(begun).await
    }

    /// Records what an undo did, once; `None`: it was refused, and may be asked for again. The record of the audit is
    /// made also where the task was dropped meanwhile.
    pub async fn finish_undo(&self, task: TaskId, report: Option<&str>, audit: Audit) -> Result<(), Error> {
        let mut tx = self.write(Op::FinishUndo).await?;
        let finished = finish(&mut tx, task, report, &audit, self.now_ms()).await;
        tx.end(finished).await
    }
}

impl Undo {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            task: row.parsed("task")?,
            asked_by: KeyId::new(row.word("asked_by")?),
            asked_ms: row.time("asked_ms")?,
            done_ms: row.time_or_none("done_ms")?,
            report: row.text("report")?,
        })
    }
}

async fn find(connection: &mut Connection, task: TaskId) -> Result<Option<Undo>, Error> {
    let row = sqlx::query(BY_TASK).bind(task.to_string()).fetch_optional(connection).await?;
    row.as_ref().map(Undo::from_row).transpose()
}

async fn begin(connection: &mut Connection, task: TaskId, audit: &Audit, now_ms: i64) -> Result<Undo, Error> {
    if let Some(undo) = find(connection, task).await? {
        return Ok(undo);
    }
    let sql = "SELECT status FROM tasks WHERE id = $1";
    let row = sqlx::query(sql).bind(task.to_string()).fetch_optional(&mut *connection).await?;
    let status = row.ok_or(Error::TaskMissing { id: task })?.word("status")?;
    if status != Status::Done.name() {
        return Err(Error::TaskNotDone { id: task });
    }
    let asked_by = audit.who.clone();
    let undo = Undo { task, asked_by, asked_ms: now_ms, done_ms: None, report: String::new() };
    sqlx::query("INSERT INTO undos (task, asked_by, asked_ms, report) VALUES ($1, $2, $3, $4)")
        .bind(task.to_string())
        .bind(undo.asked_by.as_str())
        .bind(undo.asked_ms)
        .bind(undo.report.as_bytes())
        .execute(&mut *connection)
        .await?;
    audit::append(connection, now_ms, audit).await?;
    Ok(undo)
}

async fn finish(
    connection: &mut Connection,
    task: TaskId,
    report: Option<&str>,
    audit: &Audit,
    now_ms: i64,
) -> Result<(), Error> {
    if find(connection, task).await?.is_some_and(|undo| undo.done_ms.is_some()) {
        return Ok(());
    }
    let id = task.to_string();
    match report {
        Some(report) => {
            let sql = "UPDATE undos SET done_ms = $1, report = $2 WHERE task = $3";
            sqlx::query(sql).bind(now_ms).bind(report.as_bytes()).bind(id).execute(&mut *connection).await?;
        }
        None => {
            sqlx::query("DELETE FROM undos WHERE task = $1").bind(id).execute(&mut *connection).await?;
        }
    }
    audit::append(connection, now_ms, audit).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
