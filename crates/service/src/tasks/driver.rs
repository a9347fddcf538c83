//! Moves one task from where it stands to where it must wait for a human, or to its end.
//!
//! Every step reads durable facts, does something that may be repeated, and records the result; a crash between any
//! two of these repeats the step. The steps of a kind are in `export.rs` and `delete.rs`.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use knarr_base::id::{KeyId, TaskId};
use knarr_base::{Error, Kind, Result, limit};
use knarr_catalog::audit::Audit;
use knarr_catalog::tasks::{Pin, Status, Task, TaskChange};
use knarr_engine::table::{Snapshot, Table};

use super::machine::{self, Event, Refusal, State};
use super::report::{Report, from_text, to_text};
use super::scheduler::Live;
use super::{TaskSpec, spec};
use crate::{Inner, blocking};

/// True for the kinds that change rows, which take turns.
pub(super) fn writes(kind: &str) -> bool {
    kind != "data_export"
}

/// True if nobody confirmed in time.
pub(super) fn overdue(inner: &Inner, task: &Task) -> bool {
    task.status == Status::Confirm && task.confirm_by_ms.is_some_and(|by| by <= inner.clock.now_ms())
}

/// A task and what its driver holds for it.
pub(super) struct Driver<'a> {
    pub(super) inner: &'a Arc<Inner>,
    pub(super) live: &'a Arc<Live>,
    pub(super) task: Task,
    pub(super) spec: TaskSpec,
    pub(super) report: Report,
    pub(super) table: Arc<Table>,
    snapshot: Option<Snapshot>,
}

/// Drives until the task waits for a human, is final, or the process is leaving. Never fails: what goes wrong ends the
/// task with its reason.
pub(super) async fn run(inner: &Arc<Inner>, live: &Arc<Live>, task: Task) {
    let id = task.id;
    let outcome = AssertUnwindSafe(advance(inner, live, task)).catch_unwind().await;
    let error = match outcome {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error,
        Err(_) => Error::new(Kind::Internal, "the task's driver panicked"),
    };
    if inner.tasks.stopping() {
        return;
    }
    if let Err(error) = end_badly(inner, live, id, &error).await {
        tracing::error!(task = %id, error = error.chain(), "a failed task could not be ended; the keeper tries again");
    }
}

async fn advance(inner: &Arc<Inner>, live: &Arc<Live>, task: Task) -> Result<()> {
    let table = inner.table(task.table).await?;
    let spec = spec::decode(&task.spec)?;
    let report = from_text(&task.report)?;
    let mut driver = Driver { inner, live, task, spec, report, table, snapshot: None };
    let mut slots = Slots::default();
    loop {
        driver.check()?;
        match driver.task.status {
            Status::Init => driver.move_to(Event::Enqueue, |_| (), "{}").await?,
            Status::Queued | Status::Confirmed => {
                driver.take(&mut slots).await?;
                driver.start().await?;
            }
            Status::Running => {
                driver.take(&mut slots).await?;
                driver.work().await?;
            }
            Status::Confirm if overdue(inner, &driver.task) => {
                return Err(Error::new(Kind::Refused, "nobody confirmed the task in time"));
            }
            Status::Confirm | Status::Done | Status::Fail => return Ok(()),
        }
    }
}

/// What a task holds while it is past `queued`.
#[derive(Default)]
struct Slots {
    running: Option<tokio::sync::OwnedSemaphorePermit>,
}

impl Driver<'_> {
    /// # Errors
    /// `Kind::Refused` when someone wants the task stopped or the process is leaving.
    pub(super) fn check(&self) -> Result<()> {
        if self.task.cancel_requested || self.live.interrupt.is_cancelled() {
            return Err(interrupted());
        }
        Ok(())
    }

    /// Runs `wait` unless the task is interrupted first.
    pub(super) async fn unless_interrupted<T>(&self, wait: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.live.interrupt.cancelled() => Err(interrupted()),
            value = wait => Ok(value),
        }
    }

    /// Waits for this task's turn on its table and for a running slot.
    async fn take(&self, slots: &mut Slots) -> Result<()> {
        if slots.running.is_some() {
            return Ok(());
        }
        let tasks = &self.inner.tasks;
        if writes(&self.task.kind) {
            self.unless_interrupted(tasks.lanes.turn(self.task.table, self.task.id)).await?;
        }
        let slot = self.unless_interrupted(tasks.running.clone().acquire_owned()).await?;
        slots.running = slot.ok();
        Ok(())
    }

    /// Running: with a snapshot whose pin is durable in the same transaction.
    async fn start(&mut self) -> Result<()> {
        let mut pinned = None;
        if self.task.pin.is_none() {
            let table = self.table.clone();
            let snapshot = blocking(move || table.snapshot()).await??;
            let pin = Pin { version: snapshot.version(), seq: snapshot.seq(), at_ms: snapshot.at_ms() };
            self.report.total = snapshot.rows();
            pinned = Some(pin);
            self.snapshot = Some(snapshot);
        }
        self.report.running_since_ms = self.inner.clock.now_ms();
        self.move_to(Event::Start, |change| change.pin = pinned.map(Some), "{}").await?;
        if let Some(pin) = pinned {
            self.table.pin(pin.version);
        }
        fail::fail_point!("service::task::started");
        Ok(())
    }

    async fn work(&mut self) -> Result<()> {
        match self.spec.clone() {
            TaskSpec::Export { filter, target, format } => self.export(&filter, &target, format).await,
            TaskSpec::Delete { filter, need_confirm, backup } => self.delete(&filter, need_confirm, backup).await,
        }
    }

    /// The task's frozen rows; the same after a restart.
    pub(super) async fn snapshot(&mut self) -> Result<Snapshot> {
        if let Some(snapshot) = &self.snapshot {
            return Ok(snapshot.clone());
        }
        let Some(pin) = self.task.pin else {
            return Err(Error::new(Kind::Internal, "a running task has no snapshot"));
        };
        let table = self.table.clone();
        let snapshot = blocking(move || table.snapshot_at(pin.version, pin.seq, pin.at_ms)).await??;
        self.snapshot = Some(snapshot.clone());
        Ok(snapshot)
    }

    /// Applies an event: machine, then compare-and-set in the catalog together with its audit record, the report and
    /// what `with` adds to the change.
    pub(super) async fn move_to(
        &mut self,
        event: Event,
        with: impl FnOnce(&mut TaskChange),
        detail: &str,
    ) -> Result<()> {
        let state = State { status: self.task.status, confirmed: self.report.confirmed, publishing: false };
        let status = machine::next(state, event).map_err(|refusal| refused(event, refusal))?;
        let mut change = TaskChange::to(status);
        with(&mut change);
        change.report = Some(to_text(&self.report)?);
        let audit = transition(&self.task, Audit::server(), status, detail);
        self.task = self.inner.catalog.move_task(self.task.id, self.task.revision, change, audit).await?;
        Ok(())
    }

    /// Done: a final task holds no pin, so its files may be collected from then on.
    pub(super) async fn finish(&mut self) -> Result<()> {
        let version = self.task.pin.map(|pin| pin.version);
        self.report.elapsed_ms = elapsed_ms(self.inner, self.live, &self.task);
        fail::fail_point!("service::task::before_done");
        self.move_to(Event::Finish, |_| (), "{}").await?;
        fail::fail_point!("service::task::after_done");
        if let Some(version) = version {
            self.table.unpin(version);
        }
        self.table.acknowledge(self.task.id);
        Ok(())
    }
}

pub(super) fn interrupted() -> Error {
    Error::new(Kind::Refused, "interrupted")
}

fn refused(event: Event, refusal: Refusal) -> Error {
    Error::new(Kind::Internal, format!("the task does not allow {event:?}: {refusal:?}"))
}

/// Audit record of a move.
pub(super) fn transition(task: &Task, who: KeyId, to: Status, detail: &str) -> Audit {
    Audit {
        who,
        action: "task",
        object: task.id.to_string(),
        detail: format!(
            "{{\"type\":\"{}\",\"collection\":\"{}\",\"from\":\"{}\",\"to\":\"{}\",\"detail\":{detail}}}",
            task.kind,
            task.collection,
            task.status.name(),
            to.name()
        ),
        outcome: "done",
    }
}

/// Time since the task was accepted: by the monotonic clock where this process accepted it, else by the wall clock.
fn elapsed_ms(inner: &Inner, live: &Live, task: &Task) -> u64 {
    let wall = || u64::try_from(inner.clock.now_ms() - task.created_ms).unwrap_or(0);
    let monotonic = live.accepted.map(|start| inner.clock.monotonic().saturating_sub(start).as_millis());
    monotonic.map_or_else(wall, |ms| u64::try_from(ms).unwrap_or(u64::MAX)).max(1)
}

/// Fails a task: with the reason someone gave, or with what went wrong. Files of a cancelled, unsealed export go first.
async fn end_badly(inner: &Arc<Inner>, live: &Arc<Live>, id: TaskId, error: &Error) -> Result<()> {
    let mut pause = limit::UNIT_RETRY_PAUSE;
    for _ in 0..limit::UNIT_RETRIES {
        match try_end_badly(inner, live, id, error).await {
            Err(again) if again.kind().retryable() => {}
            outcome => return outcome,
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    try_end_badly(inner, live, id, error).await
}

async fn try_end_badly(inner: &Arc<Inner>, live: &Arc<Live>, id: TaskId, error: &Error) -> Result<()> {
    let Some(task) = inner.catalog.task(id).await? else { return Ok(()) };
    if task.status.is_final() {
        return Ok(());
    }
    let mut report: Report = from_text(&task.report).unwrap_or_default();
    let wanted = live.reason().or_else(|| task.cancel_requested.then(|| "cancelled".to_owned()));
    let reason = match &wanted {
        Some(reason) => reason.clone(),
        None if error.kind() == Kind::CollectionMissing => "collection not exist".to_owned(),
        None => error.message().to_owned(),
    };
    if wanted.is_some() {
        super::export::remove_unsealed(inner, &task).await?;
    } else {
        tracing::error!(task = %id, error = error.chain(), "a task failed");
        // What it wrote is of no use, and may be what fills the disk. It fails all the same if that cannot be removed.
        if let Err(error) = super::export::remove_unsealed(inner, &task).await {
            tracing::warn!(task = %id, error = error.chain(), "files of a failed task stay");
        }
    }
    report.elapsed_ms = elapsed_ms(inner, live, &task);
    let event = match () {
        () if task.cancel_requested => Event::Cancel,
        () if overdue(inner, &task) => Event::Expire,
        () => Event::Fail,
    };
    // A cancel is recorded only while nothing publishes, and nothing begins to publish after it.
    let state = State { status: task.status, confirmed: report.confirmed, publishing: false };
    let status = machine::next(state, event).map_err(|refusal| refused(event, refusal))?;
    let change = TaskChange { error: Some(reason), report: Some(to_text(&report)?), ..TaskChange::to(status) };
    let audit = transition(&task, Audit::server(), status, "{}");
    let ended = inner.catalog.move_task(id, task.revision, change, audit).await?;
    let (tables, pin) = (inner.tables.clone(), task.pin);
    // The table may be gone with its collection; then there is nothing to release.
    let released = blocking(move || tables.table(ended.table)).await?;
    if let Ok(table) = released {
        if let Some(pin) = pin {
            table.unpin(pin.version);
        }
        table.acknowledge(id);
    }
    Ok(())
}
