//! The words every layer shares: ids, kinds of failure, bounds, time, values, schemas, filters, indexes and searches.
//!
//! Owns nothing that runs: no I/O, no threads, no serialisation. Wire formats live in `wire`, disk formats in
//! `engine` and `catalog`; this crate is what they convert to and from.

pub mod clock;
pub mod error;
pub mod filter;
pub mod id;
pub mod index;
pub mod limit;
pub mod object;
pub mod right;
pub mod schema;
pub mod search;
pub mod value;

pub use error::{Error, Kind, Result};
