//! A pause that several threads can share and any of them can end.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Open until [`Gate::close`]; then every pause ends at once, and so do all later ones.
#[derive(Default)]
pub(crate) struct Gate {
    closed: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    /// Waits; true if the gate was closed meanwhile.
    pub(crate) fn pause(&self, time: Duration) -> bool {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(closed, time, |closed| !*closed);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Ends all pauses.
    pub(crate) fn close(&self) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// True after [`Gate::close`].
    pub(crate) fn closed(&self) -> bool {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_gate_ends_pauses() {
        let gate = Gate::default();
        assert!(!gate.pause(Duration::ZERO));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| gate.pause(Duration::from_secs(3600)));
            gate.close();
            assert!(waiting.join().expect("no panic"));
        });
        assert!(gate.closed() && gate.pause(Duration::from_secs(3600)));
    }
}
