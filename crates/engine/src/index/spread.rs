//! One piece of work on several threads: whoever is free takes the next step.
//!
//! The caller, itself on a compute thread, works through the steps and invites idle threads to take some. It waits
//! only for those that have begun, and they wait for nobody, so a pool full of callers cannot lock up; under load
//! nobody comes and each search runs on its own thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};

use crate::compute::{Lane, Pool};
use crate::error::{Error, Result};

/// Work in steps, of which each thread sums up its own.
pub(super) trait Work: Send + Sync + 'static {
    /// What one thread has found.
    type Part: Send + 'static;
    /// Nothing yet.
    fn start(&self) -> Self::Part;
    /// Does step `step` of `0..steps`.
    fn step(&self, part: &mut Self::Part, step: usize) -> Result<()>;
}

struct Shared<W: Work> {
    work: W,
    steps: usize,
    next: AtomicUsize,
    state: Mutex<State<W::Part>>,
    left: Condvar,
}

struct State<P> {
    /// No more helpers may begin.
    closed: bool,
    helping: usize,
    parts: Vec<Result<P>>,
}

/// Does all steps; what each thread found, in no order. `heavy` of them take some time; `per_thread` of these are worth
/// another thread.
///
/// # Errors
/// The first of any thread; `Panicked` if a helper panicked.
pub(super) fn spread<W: Work>(
    pool: &Pool,
    work: W,
    steps: usize,
    heavy: usize,
    per_thread: usize,
) -> Result<Vec<W::Part>> {
    let helpers = (heavy / per_thread.max(1)).min(pool.threads()).saturating_sub(1);
    let state = State { closed: false, helping: 0, parts: Vec::new() };
    let shared =
        Arc::new(Shared { work, steps, next: AtomicUsize::new(0), state: Mutex::new(state), left: Condvar::new() });
    for _ in 0..helpers {
        let shared = Arc::clone(&shared);
        // A full or stopping pool sends nobody, and the work is done here.
        let _ = pool.spawn(Lane::Serve, move || shared.help());
    }
    let mine = shared.run();
    let mut state = shared.state.lock();
    state.closed = true;
    while state.helping > 0 {
        shared.left.wait(&mut state);
    }
    let mut parts = std::mem::take(&mut state.parts);
    parts.push(mine);
    parts.into_iter().collect()
}

impl<W: Work> Shared<W> {
    fn run(&self) -> Result<W::Part> {
        let mut part = self.work.start();
        loop {
            let step = self.next.fetch_add(1, Ordering::Relaxed);
            if step >= self.steps {
                return Ok(part);
            }
            if let Err(error) = self.work.step(&mut part, step) {
                // Nobody needs the other steps.
                self.next.store(self.steps, Ordering::Relaxed);
                return Err(error);
            }
        }
    }

    fn help(&self) {
        {
            let mut state = self.state.lock();
            if state.closed {
                return;
            }
            state.helping += 1;
        }
        let mut leave = Leave { shared: self, found: None };
        leave.found = Some(self.run());
    }
}

/// Signs a helper off, also one that panics.
struct Leave<'a, W: Work> {
    shared: &'a Shared<W>,
    found: Option<Result<W::Part>>,
}

impl<W: Work> Drop for Leave<'_, W> {
    fn drop(&mut self) {
        let lost = || Err(Error::Panicked { message: "a step of a search".to_owned() });
        let mut state = self.shared.state.lock();
        state.parts.push(self.found.take().unwrap_or_else(lost));
        state.helping -= 1;
        self.shared.left.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sum {
        fail_at: Option<usize>,
        panic_at: Option<usize>,
    }

    impl Work for Sum {
        type Part = usize;

        fn start(&self) -> usize {
            0
        }

        fn step(&self, part: &mut usize, step: usize) -> Result<()> {
            assert!(self.panic_at != Some(step), "step {step}");
            if self.fail_at == Some(step) {
                return Err(Error::Cancelled);
            }
            *part += step;
            Ok(())
        }
    }

    #[test]
    fn every_step_is_done_once() {
        let pool = Pool::new(3);
        for steps in [0, 1, 7, 1000] {
            let parts = spread(&pool, Sum { fail_at: None, panic_at: None }, steps, steps, 1).unwrap();
            assert_eq!(parts.iter().sum::<usize>(), (0..steps).sum::<usize>());
            assert!(parts.len() <= 3);
        }
    }

    #[test]
    fn a_failure_ends_all_of_it() {
        let pool = Pool::new(3);
        for at in [0, 10, 999] {
            let failed = spread(&pool, Sum { fail_at: Some(at), panic_at: None }, 1000, 1000, 1);
            assert!(matches!(failed, Err(Error::Cancelled)), "{failed:?}");
        }
    }

    #[test]
    fn callers_that_fill_the_pool_do_not_wait_for_each_other() {
        let pool = Pool::new(2);
        let (done, wait) = std::sync::mpsc::channel();
        for _ in 0..8 {
            let (inner, done) = (Arc::clone(&pool), done.clone());
            pool.spawn(Lane::Serve, move || {
                let parts = spread(&inner, Sum { fail_at: None, panic_at: None }, 200, 200, 1).unwrap();
                done.send(parts.iter().sum::<usize>()).unwrap();
            })
            .unwrap();
        }
        drop(done);
        assert_eq!(wait.iter().collect::<Vec<_>>(), vec![(0..200).sum::<usize>(); 8]);
    }

    /// A helper's panic is an error of the whole, the caller's own goes through to whoever runs it.
    #[test]
    fn a_panic_is_never_a_partial_answer() {
        let pool = Pool::new(2);
        for _ in 0..20 {
            let work = || spread(&pool, Sum { fail_at: None, panic_at: Some(50) }, 1000, 1000, 1);
            if let Ok(answer) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
                assert!(matches!(answer, Err(Error::Panicked { .. })), "{answer:?}");
            }
        }
        assert!(spread(&pool, Sum { fail_at: None, panic_at: None }, 10, 10, 1).is_ok(), "the pool lives");
    }
}
