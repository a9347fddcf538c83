//! Between the vendor's shapes and the service's words, both ways; pure functions, no calls.

pub(crate) mod collection;
pub(crate) mod index;
pub(crate) mod rows;
pub(crate) mod search;
pub(crate) mod task;
pub(crate) mod tuning;

use knarr_base::{Error, Kind, Result};
use serde::Serialize;
use serde_json::value::RawValue;

/// Appends a view as JSON.
pub(crate) fn write<T: Serialize + ?Sized>(view: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, view).expect("views have string keys and write into memory");
}

/// Stored JSON text as it is to be echoed.
fn stored<'a>(what: &str, text: &'a str) -> Result<&'a RawValue> {
    serde_json::from_str(text)
        .map_err(|e| Error::new(Kind::Corrupt, format!("stored {what} is not JSON")).with_source(e))
}
