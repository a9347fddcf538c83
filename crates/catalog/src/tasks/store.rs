//! The statements behind tasks; each function runs inside its caller's transaction.

use knarr_base::id::{AccountId, KeyId, TaskId};
use sha2::{Digest, Sha256};

use super::{CancelOutcome, Created, Kept, NewTask, Pin, Status, Task, TaskChange};
use crate::audit::{self, Audit};
use crate::dialect::{Columns, Connection, Row, bound, compared, stored};
use crate::secret::hex;
use crate::{Error, units};

pub(super) const BY_ID: &str = "SELECT * FROM tasks WHERE id = $1";

impl Task {
    pub(super) fn from_row(row: &Row) -> Result<Self, Error> {
        let pin = match row.number_or_none("pin_version")? {
            Some(version) => Some(Pin { version, seq: row.number("pin_seq")?, at_ms: row.time("pin_at_ms")? }),
            None => None,
        };
        Ok(Self {
            id: row.parsed("id")?,
            account: AccountId::new(row.word("account")?),
            creator: KeyId::new(row.word("creator")?),
            kind: row.word("kind")?,
            collection: row.word("collection")?,
            table: row.parsed("table_id")?,
            params: row.text("params")?,
            spec: row.text("spec")?,
            status: Status::parse(&row.word("status")?).ok_or(Error::Malformed { what: "status" })?,
            revision: row.number("revision")?,
            report: row.text("report")?,
            error: row.text("error")?,
            pin,
            cancel_requested: row.flag("cancel_requested")?,
            confirm_by_ms: row.time_or_none("confirm_by_ms")?,
            created_ms: row.time("created_ms")?,
            updated_ms: row.time("updated_ms")?,
            updated_by: KeyId::new(row.word("updated_by")?),
        })
    }
}

async fn find(connection: &mut Connection, id: TaskId) -> Result<Task, Error> {
    let row = sqlx::query(BY_ID).bind(id.to_string()).fetch_optional(connection).await?;
    Task::from_row(&row.ok_or(Error::TaskMissing { id })?)
}

pub(super) async fn create(
    connection: &mut Connection,
    new: NewTask,
    open_max: usize,
    now_ms: i64,
) -> Result<Created, Error> {
    if let Some(dedup) = &new.dedup {
        let sql = "SELECT * FROM tasks WHERE account = $1 AND dedup = $2";
        let row = sqlx::query(sql).bind(new.account.as_str()).bind(&dedup[..]).fetch_optional(&mut *connection).await?;
        if let Some(row) = row {
            return Ok(Created { task: Task::from_row(&row)?, fresh: false });
        }
    }
    let open = sqlx::query("SELECT COUNT(*) AS count FROM tasks WHERE account = $1 AND finished_ms IS NULL")
        .bind(new.account.as_str())
        .fetch_one(&mut *connection)
        .await?;
    if open.number("count")? >= open_max as u64 {
        return Err(Error::TooManyTasks { max: open_max });
    }
    let task = new_task(&new, now_ms);
    // The parameters may hold values of rows: the audit keeps their digest only.
    let detail = serde_json::json!({
        "account": task.account.as_str(),
        "kind": task.kind,
        "collection": task.collection,
        "table": task.table.to_string(),
        "params_sha256": hex(&Sha256::digest(&task.params)),
    });
    let entry = Audit::done(&task.creator, "task.create", task.id, detail);
    let n = audit::append(connection, now_ms, &entry).await?;
    insert(connection, &task, new.dedup, n).await?;
    Ok(Created { task, fresh: true })
}

fn new_task(new: &NewTask, now_ms: i64) -> Task {
    let NewTask { id, account, creator, kind, collection, table, params, spec, dedup: _ } = new.clone();
    Task {
        id,
        account,
        updated_by: creator.clone(),
        creator,
        kind,
        collection,
        table,
        params,
        spec,
        status: Status::Init,
        revision: 0,
        report: "{}".to_owned(),
        error: String::new(),
        pin: None,
        cancel_requested: false,
        confirm_by_ms: None,
        created_ms: now_ms,
        updated_ms: now_ms,
    }
}

async fn insert(connection: &mut Connection, task: &Task, dedup: Option<[u8; 32]>, n: u64) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO tasks (id, created_n, account, creator, kind, collection, table_id, params, spec, dedup, status,
         revision, report, error, cancel_requested, created_ms, updated_ms, updated_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $16, $4)",
    )
    .bind(task.id.to_string())
    .bind(stored(n, "audit record")?)
    .bind(task.account.as_str())
    .bind(task.creator.as_str())
    .bind(task.kind.as_str())
    .bind(task.collection.as_str())
    .bind(task.table.to_string())
    .bind(task.params.as_bytes())
    .bind(task.spec.as_bytes())
    .bind(dedup.as_ref().map(|dedup| &dedup[..]))
    .bind(task.status.name())
    .bind(stored(task.revision, "revision")?)
    .bind(task.report.as_bytes())
    .bind(task.error.as_bytes())
    .bind(task.cancel_requested)
    .bind(task.created_ms)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn advance(
    connection: &mut Connection,
    id: TaskId,
    revision: u64,
    change: TaskChange,
    audit: &Audit,
    now_ms: i64,
) -> Result<Task, Error> {
    let mut task = find(connection, id).await?;
    if task.revision != revision || task.status.is_final() {
        return Err(Error::Stale { id });
    }
    let TaskChange { status, by, report, error, pin, cancel_requested, confirm_by_ms, units } = change;
    task.status = status;
    task.revision += 1;
    task.report = report.unwrap_or(task.report);
    task.error = error.unwrap_or(task.error);
    task.pin = pin.unwrap_or(task.pin);
    task.cancel_requested = cancel_requested.unwrap_or(task.cancel_requested);
    task.confirm_by_ms = confirm_by_ms.unwrap_or(task.confirm_by_ms);
    task.updated_ms = now_ms;
    task.updated_by = by.unwrap_or(task.updated_by);
    update(connection, &task, revision).await?;
    if let Some(specs) = units {
        units::replace(connection, id, &specs).await?;
    }
    audit::append(connection, now_ms, audit).await?;
    Ok(task)
}

/// Writes everything of a task that can change. The condition repeats the caller's check, for databases where another
/// writer can come between the two.
async fn update(connection: &mut Connection, task: &Task, revision: u64) -> Result<(), Error> {
    let pinned = |n: Option<u64>| n.map(|n| stored(n, "pin")).transpose();
    let done = sqlx::query(
        "UPDATE tasks SET status = $1, revision = $2, report = $3, error = $4, pin_version = $5, pin_seq = $6,
         pin_at_ms = $7, cancel_requested = $8, confirm_by_ms = $9, updated_ms = $10, updated_by = $11,
         finished_ms = $12
         WHERE id = $13 AND revision = $14 AND finished_ms IS NULL",
    )
    .bind(task.status.name())
    .bind(stored(task.revision, "revision")?)
    .bind(task.report.as_bytes())
    .bind(task.error.as_bytes())
    .bind(pinned(task.pin.map(|pin| pin.version))?)
    .bind(pinned(task.pin.map(|pin| pin.seq))?)
    .bind(task.pin.map(|pin| pin.at_ms))
    .bind(task.cancel_requested)
    .bind(task.confirm_by_ms)
    .bind(task.updated_ms)
    .bind(task.updated_by.as_str())
    .bind(task.status.is_final().then_some(task.updated_ms))
    .bind(task.id.to_string())
    .bind(compared(revision))
    .execute(connection)
    .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(Error::Stale { id: task.id }) }
}

pub(super) async fn cancel(
    connection: &mut Connection,
    id: TaskId,
    audit: &Audit,
    now_ms: i64,
) -> Result<CancelOutcome, Error> {
    let task = find(connection, id).await?;
    if task.status.is_final() {
        return Ok(CancelOutcome::Final(task.status));
    }
    if task.cancel_requested {
        return Ok(CancelOutcome::Requested(task));
    }
    if units::any_published(connection, id).await? {
        return Ok(CancelOutcome::TooLate);
    }
    let change =
        TaskChange { by: Some(audit.who.clone()), cancel_requested: Some(true), ..TaskChange::to(task.status) };
    let revision = task.revision;
    advance(connection, id, revision, change, audit, now_ms).await.map(CancelOutcome::Requested)
}

pub(super) async fn remove(connection: &mut Connection, id: TaskId, audit: &Audit, now_ms: i64) -> Result<(), Error> {
    if !find(connection, id).await?.status.is_final() {
        return Err(Error::TaskOpen { id });
    }
    sqlx::query("DELETE FROM tasks WHERE id = $1").bind(id.to_string()).execute(&mut *connection).await?;
    audit::append(connection, now_ms, audit).await?;
    Ok(())
}

pub(super) async fn expire(connection: &mut Connection, kept: &Kept<'_>, now_ms: i64) -> Result<u64, Error> {
    let (kind, since_ms) = kept.apart;
    let done = sqlx::query(
        "DELETE FROM tasks WHERE finished_ms IS NOT NULL AND (finished_ms < $1 OR id IN (
             SELECT id FROM (
                 SELECT id, ROW_NUMBER() OVER (
                     PARTITION BY account, CASE WHEN kind = $3 AND status = $4 AND finished_ms >= $5 THEN 1 ELSE 0 END
                     ORDER BY finished_ms DESC, created_n DESC
                 ) AS place
                 FROM tasks WHERE finished_ms IS NOT NULL
             ) AS ranked WHERE place > $2
         )) AND id NOT IN (SELECT task FROM undos WHERE done_ms IS NULL)",
    )
    .bind(kept.since_ms)
    .bind(bound(kept.per_account as u64))
    .bind(kind)
    .bind(Status::Done.name())
    .bind(since_ms)
    .execute(&mut *connection)
    .await?;
    let expired = done.rows_affected();
    if expired > 0 {
        let detail = serde_json::json!({ "tasks": expired });
        audit::append(connection, now_ms, &Audit::done(&Audit::server(), "task.expire", "", detail)).await?;
    }
    Ok(expired)
}
