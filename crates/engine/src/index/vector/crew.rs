//! Threads for work that takes seconds: training and building. Searching takes none.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::compute::Cancel;
use crate::error::{Error, Result};

/// So many threads that share the jobs of one piece of work, and what stops them between two jobs.
#[derive(Debug, Clone)]
pub struct Crew {
    threads: usize,
    cancel: Cancel,
}

impl Crew {
    /// `threads` at least 1; the calling thread is one of them.
    pub fn new(threads: usize, cancel: Cancel) -> Self {
        Self { threads: threads.max(1), cancel }
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `work(0)` to `work(jobs - 1)` and returns their values in that order. A panic goes on in the caller.
    ///
    /// # Errors
    /// `Cancelled`, the first error of `work`, `Io` if no thread can be started.
    pub(crate) fn each<T: Send>(&self, jobs: usize, work: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
        let next = AtomicUsize::new(0);
        let take = || {
            let mut done = Vec::new();
            loop {
                let job = next.fetch_add(1, Ordering::Relaxed);
                if job >= jobs {
                    return Ok(done);
                }
                let result = self.cancel.check().and_then(|()| work(job));
                // The others need not begin what nobody will use.
                done.push((job, result.inspect_err(|_| next.store(jobs, Ordering::Relaxed))?));
            }
        };
        let mut done = thread::scope(|scope| {
            let start = |n| thread::Builder::new().name(format!("index-{n}")).spawn_scoped(scope, take);
            let others: Vec<_> = (1..self.threads.min(jobs)).map(start).collect();
            let mut done: Result<Vec<(usize, T)>> = take();
            for other in others {
                let other = other.map_err(|e| Error::io("starting a thread", e))?;
                let more = other.join().unwrap_or_else(|panic| resume_unwind(panic));
                done = done.and_then(|mut done| {
                    done.extend(more?);
                    Ok(done)
                });
            }
            done
        })?;
        done.sort_unstable_by_key(|(job, _)| *job);
        Ok(done.into_iter().map(|(_, value)| value).collect())
    }
}
