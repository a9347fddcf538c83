//! The service driven through its public door over the real engine, catalog and store, with an injected clock.

mod harness;
mod lifecycle;
mod rights;
mod tasks;
mod undo;
