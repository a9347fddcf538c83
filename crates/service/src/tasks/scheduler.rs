//! Which tasks are being driven, whose turn it is, and how they are told to stop.
//!
//! A task that can move has one driver (`driver.rs`) in this process; a task in `confirm` or at its end has none. Drivers
//! are woken by what they wait for, never polled. Only durable facts decide what a driver does next, so a restart is
//! the same code: [`resume`] starts a driver for every open task.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use knarr_base::id::{TableId, TaskId};
use knarr_base::{Result, limit};
use knarr_catalog::tasks::{Kept, Status, Task};
use knarr_engine::compute::Cancel;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{driver, undo};
use crate::Inner;

/// Drivers of this process.
pub(crate) struct Scheduler {
    live: Mutex<HashMap<TaskId, Arc<Live>>>,
    pub(super) lanes: Lanes,
    /// Tasks past `queued`.
    pub(super) running: Arc<Semaphore>,
    /// Scans and units at work.
    pub(super) units: Arc<Semaphore>,
    pub(crate) undoing: undo::Undoing,
    stop: CancellationToken,
    tracker: TaskTracker,
    /// Names this process in leases; a new one at every start, so that leases of the dead are told apart.
    pub(super) holder: String,
}

/// A task with a driver.
pub(crate) struct Live {
    /// Ends waits.
    pub(super) interrupt: CancellationToken,
    /// Ends scans and copies.
    pub(super) cancel: Cancel,
    /// Why it must fail, if someone said so.
    reason: Mutex<Option<String>>,
    /// Monotonic time when this process accepted it, if it did.
    pub(super) accepted: Option<Duration>,
    /// Cancelled when the driver has left.
    left: CancellationToken,
}

impl Live {
    /// Interrupts the driver; it ends the task with this reason.
    pub(super) fn doom(&self, reason: &str) {
        self.reason.lock().get_or_insert_with(|| reason.to_owned());
        self.cancel.cancel();
        self.interrupt.cancel();
    }

    pub(super) fn reason(&self) -> Option<String> {
        self.reason.lock().clone()
    }
}

impl Scheduler {
    pub(crate) fn new() -> Self {
        Self {
            live: Mutex::default(),
            lanes: Lanes::default(),
            running: Arc::new(Semaphore::new(limit::TASKS_RUNNING)),
            units: Arc::new(Semaphore::new(limit::UNITS_RUNNING)),
            undoing: undo::Undoing::default(),
            stop: CancellationToken::new(),
            tracker: TaskTracker::new(),
            holder: TaskId::random().to_string(),
        }
    }

    /// True once the process is leaving: drivers then leave their tasks as they are.
    pub(super) fn stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    pub(super) fn live(&self, id: TaskId) -> Option<Arc<Live>> {
        self.live.lock().get(&id).cloned()
    }

    /// Runs work that goes on though nobody waits for it; the end of the process does.
    pub(super) fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.tracker.spawn(work)
    }

    /// Interrupts every driver and waits for all of them.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        for live in self.live.lock().values() {
            live.cancel.cancel();
        }
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Waits until the task has no driver, within `limit::STOP_WAIT`; true if so.
    pub(super) async fn left(&self, id: TaskId) -> bool {
        let Some(live) = self.live(id) else { return true };
        tokio::time::timeout(limit::STOP_WAIT, live.left.cancelled()).await.is_ok()
    }
}

/// Starts a driver, unless the task has one or the process is leaving.
pub(super) fn drive(inner: &Arc<Inner>, task: Task, accepted: Option<Duration>) {
    start(inner, task, accepted, None);
}

/// Makes an open task fail with this reason, whatever it is doing, and waits for it within `limit::STOP_WAIT`.
pub(super) async fn doom(inner: &Arc<Inner>, mut task: Task, reason: &str) -> Result<()> {
    let id = task.id;
    while !task.status.is_final() && !inner.tasks.stopping() {
        match inner.tasks.live(id) {
            Some(live) => live.doom(reason),
            None => start(inner, task, None, Some(reason)),
        }
        // A driver that was leaving when it was told did not hear it; the next one is told from the start.
        if !inner.tasks.left(id).await {
            break;
        }
        let Some(now) = inner.catalog.task(id).await? else { break };
        task = now;
    }
    Ok(())
}

fn start(inner: &Arc<Inner>, task: Task, accepted: Option<Duration>, reason: Option<&str>) {
    let scheduler = &inner.tasks;
    let id = task.id;
    let live = Arc::new(Live {
        interrupt: scheduler.stop.child_token(),
        cancel: Cancel::new(),
        reason: Mutex::default(),
        accepted,
        left: CancellationToken::new(),
    });
    {
        let mut all = scheduler.live.lock();
        if scheduler.stopping() || all.contains_key(&id) {
            return;
        }
        all.insert(id, live.clone());
        if driver::writes(&task.kind) {
            scheduler.lanes.enter(task.table, id);
        }
    }
    if let Some(reason) = reason {
        live.doom(reason);
    }
    let (inner, table) = (inner.clone(), task.table);
    scheduler.tracker.spawn(async move {
        driver::run(&inner, &live, task).await;
        inner.tasks.lanes.leave(table, id);
        inner.tasks.live.lock().remove(&id);
        live.left.cancel();
        // A confirmation or a cancel that came while the driver was leaving found it still here.
        rouse(&inner, id).await;
    });
}

/// Looks at a task without a driver and starts one if it can move.
pub(super) async fn rouse(inner: &Arc<Inner>, id: TaskId) {
    if inner.tasks.stopping() {
        return;
    }
    match inner.catalog.task(id).await {
        Ok(Some(task)) if movable(inner, &task) => drive(inner, task, None),
        Ok(_) => {}
        Err(error) => tracing::error!(task = %id, %error, "could not look at a task"),
    }
}

fn movable(inner: &Inner, task: &Task) -> bool {
    match task.status {
        Status::Init | Status::Queued | Status::Running | Status::Confirmed => true,
        Status::Confirm => task.cancel_requested || driver::overdue(inner, task),
        Status::Done | Status::Fail => false,
    }
}

/// After a start: ends leases of dead processes, starts a driver for every task that can move, and the keeper.
pub(crate) async fn resume(inner: &Arc<Inner>, tables: &HashSet<TableId>) -> Result<()> {
    inner.catalog.clear_leases(&inner.tasks.holder).await?;
    for task in inner.catalog.open_tasks().await? {
        tracing::info!(task = %task.id, status = task.status.name(), "resuming a task");
        // A collection may have been dropped just before the end; its tasks find that out and fail.
        if movable(inner, &task) || !tables.contains(&task.table) {
            drive(inner, task, None);
        }
    }
    let (keeper, stop) = (inner.clone(), inner.tasks.stop.clone());
    inner.tasks.tracker.spawn(async move {
        undo::catch_up(&keeper).await;
        while tokio::time::timeout(limit::MAINTENANCE_INTERVAL, stop.cancelled()).await.is_err() {
            keep(&keeper).await;
        }
    });
    Ok(())
}

/// Fails tasks nobody confirmed in time, forgets old final ones, finishes undos.
async fn keep(inner: &Arc<Inner>) {
    undo::catch_up(inner).await;
    let retention = i64::try_from(inner.policy.retention.as_millis()).unwrap_or(i64::MAX);
    let window = i64::try_from(inner.policy.undo.as_millis()).unwrap_or(i64::MAX);
    let now_ms = inner.clock.now_ms();
    let kept = Kept {
        since_ms: now_ms.saturating_sub(retention),
        per_account: limit::TASKS_FINAL_PER_ACCOUNT,
        apart: (super::DELETE, now_ms.saturating_sub(window)),
    };
    if let Err(error) = inner.catalog.expire_tasks(&kept).await {
        tracing::error!(%error, "old tasks could not be forgotten");
    }
    match inner.catalog.open_tasks().await {
        Ok(open) => {
            for task in open.into_iter().filter(|task| movable(inner, task)) {
                drive(inner, task, None);
            }
        }
        Err(error) => tracing::error!(%error, "open tasks could not be listed"),
    }
}

/// One writing task at a time per table, first come first served.
#[derive(Default)]
pub(super) struct Lanes {
    queues: Mutex<HashMap<TableId, VecDeque<TaskId>>>,
    moved: Notify,
}

impl Lanes {
    fn enter(&self, table: TableId, task: TaskId) {
        self.queues.lock().entry(table).or_default().push_back(task);
    }

    fn leave(&self, table: TableId, task: TaskId) {
        let mut queues = self.queues.lock();
        if let Some(queue) = queues.get_mut(&table) {
            queue.retain(|other| *other != task);
            if queue.is_empty() {
                queues.remove(&table);
            }
        }
        drop(queues);
        self.moved.notify_waiters();
    }

    /// Returns when no earlier task writes to this table.
    pub(super) async fn turn(&self, table: TableId, task: TaskId) {
        loop {
            let moved = self.moved.notified();
            let first = self.queues.lock().get(&table).and_then(|queue| queue.front().copied());
            if first.is_none_or(|first| first == task) {
                return;
            }
            moved.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lanes_serve_in_the_order_of_entry() {
        let lanes = Lanes::default();
        let (table, other) = (TableId::random(), TableId::random());
        let tasks = [TaskId::random(), TaskId::random(), TaskId::random()];
        tasks.iter().for_each(|task| lanes.enter(table, *task));
        lanes.enter(other, tasks[2]);
        lanes.turn(table, tasks[0]).await;
        lanes.turn(other, tasks[2]).await;
        let waits = |task| tokio::time::timeout(Duration::from_millis(20), lanes.turn(table, task));
        assert!(waits(tasks[1]).await.is_err());
        lanes.leave(table, tasks[0]);
        assert!(waits(tasks[2]).await.is_err());
        lanes.turn(table, tasks[1]).await;
        lanes.leave(table, tasks[2]);
        lanes.leave(table, tasks[1]);
        assert!(lanes.queues.lock().get(&table).is_none());
    }
}
