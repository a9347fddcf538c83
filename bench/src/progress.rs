//! How far a command is, on stderr, so that stdout holds tables only.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::measure;

/// Milliseconds between two lines.
const EVERY_MS: u64 = 2_000;

/// Work of so many units, which threads may share. What takes less than [`EVERY_MS`] prints nothing.
pub(crate) struct Progress {
    what: String,
    total: u64,
    done: AtomicU64,
    start: f64,
    /// When the last line was printed, in milliseconds from the start.
    said_ms: AtomicU64,
}

impl Progress {
    pub(crate) fn new(what: impl Into<String>, total: u64) -> Self {
        let (done, said_ms) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { what: what.into(), total, done, start: measure::now(), said_ms }
    }

    /// So many units more.
    pub(crate) fn add(&self, units: u64) {
        let done = self.done.fetch_add(units, Ordering::Relaxed) + units;
        self.tell(|| format!("{} of {}", done.min(self.total), self.total));
    }

    /// Says how it is, if it is time again.
    pub(crate) fn tell(&self, how: impl FnOnce() -> String) {
        let (now_ms, said_ms) = (((measure::now() - self.start) * 1000.0) as u64, self.said_ms.load(Ordering::Relaxed));
        let due = now_ms >= said_ms + EVERY_MS;
        if due && self.said_ms.compare_exchange(said_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            eprintln!("{}: {}, {} s", self.what, how(), now_ms / 1000);
        }
    }
}
