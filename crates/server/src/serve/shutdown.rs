//! Signals: the first asks, the second insists.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT, caught from the moment of creation.
pub(super) struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    /// Must be called within the runtime.
    pub(super) fn catch() -> io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    /// Waits for either; its name.
    pub(super) async fn first(&mut self) -> &'static str {
        self.next().await.0
    }

    /// From now on a signal ends the process at once, with the exit code that shells give to it.
    pub(super) fn leave_at_the_next(mut self) {
        tokio::spawn(async move {
            let (name, number) = self.next().await;
            tracing::warn!(signal = name, "leaving at once");
            std::process::exit(128 + number);
        });
    }

    async fn next(&mut self) -> (&'static str, i32) {
        tokio::select! {
            _ = self.term.recv() => ("SIGTERM", SignalKind::terminate().as_raw_value()),
            _ = self.int.recv() => ("SIGINT", SignalKind::interrupt().as_raw_value()),
        }
    }
}
