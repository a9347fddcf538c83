//! Units: the smallest resumable pieces of a task. Only durable facts are stored; "being worked on" is a lease.
//!
//! A lease carries a fence that grows with every grant. Whoever holds an older fence can neither renew, publish nor
//! finish, whatever its clock says; the expiry only decides when somebody else may take over.

use knarr_base::id::TaskId;
use knarr_base::limit::UNITS_PER_TASK;
use sqlx::QueryBuilder;

use crate::audit::{self, Audit};
use crate::dialect::{Columns, Connection, Database, Row, compared, stored};
use crate::write::Op;
use crate::{Catalog, Error};

/// What is durable of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnitState {
    /// Nothing has been published.
    Pending,
    /// A publication was allowed, and may or may not have happened: read it back before acting.
    Publishing,
    /// Published, if it publishes, and reported.
    Done,
}

impl UnitState {
    /// Every state.
    pub const ALL: [UnitState; 3] = [UnitState::Pending, UnitState::Publishing, UnitState::Done];

    /// Lower-case name, as stored.
    pub fn name(self) -> &'static str {
        match self {
            UnitState::Pending => "pending",
            UnitState::Publishing => "publishing",
            UnitState::Done => "done",
        }
    }

    /// The state of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// A unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// 0, 1, 2, ... in its task.
    pub ordinal: u32,
    /// What to do, in the service's own JSON.
    pub spec: String,
    /// What is durable.
    pub state: UnitState,
    /// Fence of the newest lease; 0 if the task never leased one.
    pub fence: u64,
    /// Unix milliseconds when the lease ends; None if nobody holds one.
    pub lease_until_ms: Option<i64>,
    /// Panics counted.
    pub strikes: u32,
    /// What it has done, in the service's own JSON; empty before.
    pub report: String,
}

/// What asking for a publication led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publish {
    /// Go on: from now on a cancel comes too late.
    Granted,
    /// The task was cancelled or has ended.
    Cancelled,
    /// The lease was given up or is another's, or the unit is done.
    Fenced,
}

impl Catalog {
    /// The task's units by ordinal; none for an unknown task.
    pub async fn units(&self, task: TaskId) -> Result<Vec<Unit>, Error> {
        let rows = sqlx::query("SELECT * FROM units WHERE task = $1 ORDER BY ordinal")
            .bind(task.to_string())
            .fetch_all(self.readers())
            .await?;
        rows.iter().map(Unit::from_row).collect()
    }

    /// Takes the unit until `until_ms` (unix milliseconds) and returns the new fence. None if another holds it and
    /// its lease has not ended, or if the unit is done or unknown. A holder that asks again gets a new fence, too.
    pub async fn lease_unit(
        &self,
        task: TaskId,
        ordinal: u32,
        holder: &str,
        until_ms: i64,
    ) -> Result<Option<u64>, Error> {
        let mut tx = self.write(Op::LeaseUnit).await?;
        let row = sqlx::query(
            "UPDATE units SET fence = fence + 1, holder = $1, lease_until_ms = $2
             WHERE task = $3 AND ordinal = $4 AND state <> 'done'
             AND (holder IS NULL OR holder = $1 OR lease_until_ms <= $5)
             RETURNING fence",
        )
        .bind(holder)
        .bind(until_ms)
        .bind(task.to_string())
        .bind(i64::from(ordinal))
        .bind(self.now_ms())
        .fetch_optional(&mut *tx)
        .await;
        let fence = row.map_err(Error::from).and_then(|row| row.map(|row| row.number("fence")).transpose());
        tx.end(fence).await
    }

    /// Moves the end of the lease; false if it was given up or another has taken over.
    pub async fn renew_lease(&self, task: TaskId, ordinal: u32, fence: u64, until_ms: i64) -> Result<bool, Error> {
        let mut tx = self.write(Op::RenewLease).await?;
        let done = sqlx::query(
            "UPDATE units SET lease_until_ms = $1
             WHERE task = $2 AND ordinal = $3 AND fence = $4 AND holder IS NOT NULL AND state <> 'done'",
        )
        .bind(until_ms)
        .bind(task.to_string())
        .bind(i64::from(ordinal))
        .bind(compared(fence))
        .execute(&mut *tx)
        .await;
        tx.end(done.map(|done| done.rows_affected() == 1).map_err(Error::from)).await
    }

    /// Gives the lease up, so that anyone may take the unit at once; nothing happens if another has taken over.
    pub async fn release_lease(&self, task: TaskId, ordinal: u32, fence: u64) -> Result<(), Error> {
        let mut tx = self.write(Op::ReleaseLease).await?;
        let done = sqlx::query(
            "UPDATE units SET holder = NULL, lease_until_ms = NULL WHERE task = $1 AND ordinal = $2 AND fence = $3",
        )
        .bind(task.to_string())
        .bind(i64::from(ordinal))
        .bind(compared(fence))
        .execute(&mut *tx)
        .await;
        tx.end(done.map(drop).map_err(Error::from)).await
    }

    /// Asks to publish what the unit prepared. The fence decides, never the clock: an ended lease that nobody took
    /// over still publishes. A unit that is publishing already is granted to its newest holder.
    pub async fn begin_publish(&self, task: TaskId, ordinal: u32, fence: u64, audit: Audit) -> Result<Publish, Error> {
        let mut tx = self.write(Op::BeginPublish).await?;
        let answer = publish(&mut tx, task, ordinal, fence, &audit, self.now_ms()).await;
        tx.end(answer).await
    }

    /// Ends the unit, from pending or from publishing; false if the lease was given up or another has taken over.
    pub async fn finish_unit(
        &self,
        task: TaskId,
        ordinal: u32,
        fence: u64,
        report: &str,
        audit: Option<Audit>,
    ) -> Result<bool, Error> {
        let mut tx = self.write(Op::FinishUnit).await?;
        let finished = finish(&mut tx, task, ordinal, fence, report, audit.as_ref(), self.now_ms()).await;
        tx.end(finished).await
    }

    /// Counts a panic of the unit; how many there are now.
    pub async fn strike_unit(&self, task: TaskId, ordinal: u32) -> Result<u32, Error> {
        let mut tx = self.write(Op::StrikeUnit).await?;
        let sql = "UPDATE units SET strikes = strikes + 1 WHERE task = $1 AND ordinal = $2 RETURNING strikes";
        let row = sqlx::query(sql).bind(task.to_string()).bind(i64::from(ordinal)).fetch_optional(&mut *tx).await;
        let strikes = match row {
            Ok(Some(row)) => row.small("strikes"),
            Ok(None) => Err(Error::UnitMissing { task, ordinal }),
            Err(cause) => Err(cause.into()),
        };
        tx.end(strikes).await
    }

    /// Ends every lease of another holder than `holder_not`; how many. For the start of a process that knows that it
    /// is the only one: the others are dead.
    pub async fn clear_leases(&self, holder_not: &str) -> Result<u64, Error> {
        let mut tx = self.write(Op::ClearLeases).await?;
        let sql = "UPDATE units SET holder = NULL, lease_until_ms = NULL WHERE holder IS NOT NULL AND holder <> $1";
        let done = sqlx::query(sql).bind(holder_not).execute(&mut *tx).await;
        tx.end(done.map(|done| done.rows_affected()).map_err(Error::from)).await
    }
}

impl Unit {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            ordinal: row.small("ordinal")?,
            spec: row.text("spec")?,
            state: UnitState::parse(&row.word("state")?).ok_or(Error::Malformed { what: "state" })?,
            fence: row.number("fence")?,
            lease_until_ms: row.time_or_none("lease_until_ms")?,
            strikes: row.small("strikes")?,
            report: row.text("report")?,
        })
    }
}

/// Replaces the units of a task. Fences go on from the greatest there was, so that whoever still works on a replaced
/// unit can never be taken for the holder of a new one.
pub(crate) async fn replace(connection: &mut Connection, task: TaskId, specs: &[String]) -> Result<(), Error> {
    /// Units per statement: bounds the statement, and its parameters to the few hundred that every database takes.
    const CHUNK: usize = 128;
    if specs.len() > UNITS_PER_TASK {
        return Err(Error::TooManyUnits { max: UNITS_PER_TASK });
    }
    let id = task.to_string();
    let row = sqlx::query("SELECT COALESCE(MAX(fence), 0) AS fence FROM units WHERE task = $1")
        .bind(&id)
        .fetch_one(&mut *connection)
        .await?;
    let fence = stored(row.number("fence")?, "fence")?;
    sqlx::query("DELETE FROM units WHERE task = $1").bind(&id).execute(&mut *connection).await?;
    let mut numbered = (0_i64..).zip(specs);
    for chunk in specs.chunks(CHUNK) {
        let mut sql =
            QueryBuilder::<Database>::new("INSERT INTO units (task, ordinal, spec, state, fence, strikes, report) ");
        sql.push_values(numbered.by_ref().take(chunk.len()), |mut row, (ordinal, spec)| {
            row.push_bind(&id).push_bind(ordinal).push_bind(spec.as_bytes()).push_bind(UnitState::Pending.name());
            row.push_bind(fence).push_bind(0_i64).push_bind(&b""[..]);
        });
        sql.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// True if some unit of the task was ever allowed to publish.
pub(crate) async fn any_published(connection: &mut Connection, task: TaskId) -> Result<bool, Error> {
    let sql = "SELECT COUNT(*) AS count FROM units WHERE task = $1 AND publish_fence IS NOT NULL";
    let row = sqlx::query(sql).bind(task.to_string()).fetch_one(connection).await?;
    Ok(row.number("count")? > 0)
}

async fn publish(
    connection: &mut Connection,
    task: TaskId,
    ordinal: u32,
    fence: u64,
    audit: &Audit,
    now_ms: i64,
) -> Result<Publish, Error> {
    let id = task.to_string();
    let row = sqlx::query("SELECT cancel_requested, finished_ms FROM tasks WHERE id = $1")
        .bind(&id)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else { return Ok(Publish::Fenced) };
    if row.flag("cancel_requested")? || row.time_or_none("finished_ms")?.is_some() {
        return Ok(Publish::Cancelled);
    }
    let done = sqlx::query(
        "UPDATE units SET state = 'publishing', publish_fence = fence
         WHERE task = $1 AND ordinal = $2 AND fence = $3 AND holder IS NOT NULL AND state <> 'done'",
    )
    .bind(&id)
    .bind(i64::from(ordinal))
    .bind(compared(fence))
    .execute(&mut *connection)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(Publish::Fenced);
    }
    audit::append(connection, now_ms, audit).await?;
    Ok(Publish::Granted)
}

async fn finish(
    connection: &mut Connection,
    task: TaskId,
    ordinal: u32,
    fence: u64,
    report: &str,
    audit: Option<&Audit>,
    now_ms: i64,
) -> Result<bool, Error> {
    let done = sqlx::query(
        "UPDATE units SET state = 'done', holder = NULL, lease_until_ms = NULL, report = $1
         WHERE task = $2 AND ordinal = $3 AND fence = $4 AND holder IS NOT NULL AND state <> 'done'",
    )
    .bind(report.as_bytes())
    .bind(task.to_string())
    .bind(i64::from(ordinal))
    .bind(compared(fence))
    .execute(&mut *connection)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    if let Some(audit) = audit {
        audit::append(connection, now_ms, audit).await?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
