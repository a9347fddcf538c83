//! CPU work leaves the async runtime here: a fixed number of threads, two lanes, bounded queues.
//!
//! Used by `bulk`, by searches and by callers that decode or scan more than a few rows. A job must
//! be short (a batch, not a table), because a job of the serving lane waits for those that run. A job never blocks on
//! a store or on another job.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use knarr_base::limit;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::error::Error;

/// Which queue a job waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Somebody waits for the answer of a request: taken first.
    Serve,
    /// Tasks.
    Background,
}

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queues {
    serve: VecDeque<Job>,
    background: VecDeque<Job>,
    stopping: bool,
}

#[derive(Default)]
struct Shared {
    queues: Mutex<Queues>,
    wake: Condvar,
}

/// The compute threads of the process.
pub struct Pool {
    shared: Arc<Shared>,
    threads: usize,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

impl Pool {
    /// Starts `threads` threads; 0 means one per core.
    pub fn new(threads: usize) -> Arc<Pool> {
        let cores = || thread::available_parallelism().map_or(1, usize::from);
        let threads = if threads == 0 { cores() } else { threads };
        let shared = Arc::new(Shared::default());
        let start = |n: usize| {
            let shared = Arc::clone(&shared);
            let named = thread::Builder::new().name(format!("compute-{n}"));
            named.spawn(move || work(&shared)).expect("a process that cannot start threads cannot serve")
        };
        let handles = (0..threads).map(start).collect();
        Arc::new(Pool { shared, threads, handles: Mutex::new(handles) })
    }

    /// Runs `work` on a compute thread and waits for its value without blocking the runtime. Dropping the future does
    /// not stop work that has begun: hand it a [`Cancel`].
    ///
    /// # Errors
    /// `Busy` when the lane is full, `Stopped` after [`Pool::stop`], `Panicked` when `work` panics.
    pub async fn run<T: Send + 'static>(
        &self,
        lane: Lane,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, wait) = oneshot::channel();
        self.push(
            lane,
            Box::new(move || {
                // The receiver is gone when the caller lost interest; the value goes with it.
                let _ = answer.send(catch_unwind(AssertUnwindSafe(work)));
            }),
        )?;
        let done = wait.await.map_err(|_| Error::Stopped)?;
        done.map_err(|panic| Error::Panicked { message: panic_text(panic.as_ref()) })
    }

    /// Runs `work` on a compute thread some time; a panic in it is logged.
    ///
    /// # Errors
    /// `Busy` when the lane is full, `Stopped` after [`Pool::stop`].
    pub fn spawn(&self, lane: Lane, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        self.push(
            lane,
            Box::new(move || {
                if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
                    tracing::error!(message = panic_text(panic.as_ref()), "compute job panicked");
                }
            }),
        )
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Refuses new jobs, finishes the queued ones and ends the threads. May be called again.
    pub fn stop(&self) {
        self.shared.queues.lock().stopping = true;
        self.shared.wake.notify_all();
        let me = thread::current().id();
        for handle in self.handles.lock().drain(..) {
            // The last owner of a pool can be one of its own jobs; a thread cannot wait for itself.
            if handle.thread().id() != me {
                // Jobs catch their panics, so a thread can only end normally.
                let _ = handle.join();
            }
        }
    }

    fn push(&self, lane: Lane, job: Job) -> Result<(), Error> {
        let mut queues = self.shared.queues.lock();
        if queues.stopping {
            return Err(Error::Stopped);
        }
        let queue = match lane {
            Lane::Serve => &mut queues.serve,
            Lane::Background => &mut queues.background,
        };
        if queue.len() >= limit::COMPUTE_QUEUE_JOBS {
            return Err(Error::Busy { what: "compute queue" });
        }
        queue.push_back(job);
        drop(queues);
        self.shared.wake.notify_one();
        Ok(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop();
    }
}

fn work(shared: &Shared) {
    let mut queues = shared.queues.lock();
    loop {
        if let Some(job) = queues.serve.pop_front().or_else(|| queues.background.pop_front()) {
            drop(queues);
            job();
            queues = shared.queues.lock();
        } else if queues.stopping {
            return;
        } else {
            shared.wake.wait(&mut queues);
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}

/// A request to stop, shared by a piece of work and whoever may stop it. Never taken back.
#[derive(Debug, Clone, Default)]
pub struct Cancel(CancellationToken);

impl Cancel {
    /// Not cancelled yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the work to stop at its next check.
    pub fn cancel(&self) {
        self.0.cancel();
    }

    /// True after [`Cancel::cancel`].
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    /// `Error::Cancelled` after [`Cancel::cancel`]; work calls it between two batches.
    ///
    /// # Errors
    /// `Cancelled`.
    pub fn check(&self) -> Result<(), Error> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Waits until [`Cancel::cancel`], for work that waits for something else meanwhile.
    pub async fn cancelled(&self) {
        self.0.cancelled().await;
    }
}

/// Progress of a piece of work. Clones show the same counters, which only grow.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    rows_scanned: AtomicU64,
    rows_matched: AtomicU64,
    rows_done: AtomicU64,
    bytes_done: AtomicU64,
}

impl Meter {
    /// All zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Rows looked at, and how many of them matched.
    pub fn add_scanned(&self, rows: u64, matched: u64) {
        self.0.rows_scanned.fetch_add(rows, Ordering::Relaxed);
        self.0.rows_matched.fetch_add(matched, Ordering::Relaxed);
    }

    /// Rows written out, deleted or whatever the work does to them.
    pub fn add_rows_done(&self, rows: u64) {
        self.0.rows_done.fetch_add(rows, Ordering::Relaxed);
    }

    /// Bytes that reached their place.
    pub fn add_bytes_done(&self, bytes: u64) {
        self.0.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Rows looked at.
    pub fn rows_scanned(&self) -> u64 {
        self.0.rows_scanned.load(Ordering::Relaxed)
    }

    /// Rows that matched.
    pub fn rows_matched(&self) -> u64 {
        self.0.rows_matched.load(Ordering::Relaxed)
    }

    /// Rows done.
    pub fn rows_done(&self) -> u64 {
        self.0.rows_done.load(Ordering::Relaxed)
    }

    /// Bytes done.
    pub fn bytes_done(&self) -> u64 {
        self.0.bytes_done.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn answers_and_panics_come_back() {
        let pool = Pool::new(2);
        assert_eq!(pool.run(Lane::Serve, || 6 * 7).await.unwrap(), 42);
        let panicked = pool.run(Lane::Background, || panic!("lost {}", 1)).await;
        assert!(matches!(panicked, Err(Error::Panicked { message }) if message == "lost 1"));
        assert_eq!(pool.run(Lane::Serve, || 1).await.unwrap(), 1, "the thread survived the panic");
    }

    /// A pool of one thread that is held until the returned sender is dropped.
    fn held() -> (Arc<Pool>, mpsc::Sender<()>) {
        let pool = Pool::new(1);
        let (release, gate) = mpsc::channel::<()>();
        let (started, begun) = mpsc::channel();
        pool.spawn(Lane::Serve, move || {
            started.send(()).unwrap();
            let _ = gate.recv();
        })
        .unwrap();
        begun.recv().unwrap();
        (pool, release)
    }

    #[test]
    fn serving_goes_first_and_stop_drains() {
        let (pool, release) = held();
        let order = Arc::new(Mutex::new(Vec::new()));
        for (lane, name) in
            [(Lane::Background, "b1"), (Lane::Serve, "s1"), (Lane::Background, "b2"), (Lane::Serve, "s2")]
        {
            let order = Arc::clone(&order);
            pool.spawn(lane, move || order.lock().push(name)).unwrap();
        }
        drop(release);
        pool.stop();
        assert_eq!(*order.lock(), ["s1", "s2", "b1", "b2"]);
        assert!(matches!(pool.spawn(Lane::Serve, || ()), Err(Error::Stopped)));
        pool.stop();
    }

    #[test]
    fn a_full_lane_refuses_and_the_other_does_not() {
        let (pool, release) = held();
        for _ in 0..limit::COMPUTE_QUEUE_JOBS {
            pool.spawn(Lane::Background, || ()).unwrap();
        }
        assert!(matches!(pool.spawn(Lane::Background, || ()), Err(Error::Busy { .. })));
        pool.spawn(Lane::Serve, || ()).unwrap();
        drop(release);
    }

    #[test]
    fn a_pool_dropped_by_its_own_job_ends() {
        let pool = Pool::new(1);
        let (done, wait) = mpsc::channel();
        let inner = Arc::clone(&pool);
        pool.spawn(Lane::Serve, move || {
            drop(inner);
            done.send(()).unwrap();
        })
        .unwrap();
        drop(pool);
        wait.recv().unwrap();
    }

    #[tokio::test]
    async fn cancel_and_meter_are_shared_by_clones() {
        let (cancel, meter) = (Cancel::new(), Meter::new());
        let (other, reader) = (cancel.clone(), meter.clone());
        assert!(cancel.check().is_ok());
        other.cancel();
        cancel.cancelled().await;
        assert!(matches!(cancel.check(), Err(Error::Cancelled)));
        meter.add_scanned(5, 2);
        meter.add_rows_done(2);
        meter.add_bytes_done(9);
        let seen = (reader.rows_scanned(), reader.rows_matched(), reader.rows_done(), reader.bytes_done());
        assert_eq!(seen, (5, 2, 2, 9));
    }
}
