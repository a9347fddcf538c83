//! The server from outside: real processes, real signals, real sockets. One binary, so that it is linked once.
//!
//! Short by default. `KNARR_KILL_SECONDS` makes every kill loop run that long, `KNARR_SEED` repeats a run.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

#[allow(dead_code, reason = "shared with the benchmarks, which use the rest")]
#[path = "../../../../bench/src/client.rs"]
mod client;
#[allow(dead_code, reason = "shared with the benchmarks, which use the rest")]
#[path = "../../../../bench/src/process.rs"]
mod process;

mod arrows;
mod bounds;
mod commands;
mod damage;
mod door;
mod exports;
#[cfg(feature = "failpoints")]
mod failpoints;
mod format;
mod indexes;
mod kill;
mod models;
mod random;
mod rights;
mod secrets;
mod tasks;
mod tenants;
mod undo;
mod world;
