//! Typed tables on disk: durable writes by key, searches and scans over mapped columns, bulk work.
//!
//! The only crate that names Arrow and parquet. Callers (the service) bring schemas, rows as text and filters from
//! `base`, and get closed types back; they never see a batch.

pub mod bulk;
mod columns;
pub mod compute;
pub mod decode;
pub mod disk;
pub mod error;
mod filter;
pub mod index;
mod log;
pub mod objects;
pub mod rows;
mod scan;
pub mod table;

pub use error::{Error, Result};
