//! `knarr fetch`: rows by key.

use knarr_base::limit;
use serde_json::json;
use serde_json::value::RawValue;

use crate::client::Client;
use crate::failure::{Exit, Failure, Result};
use crate::output::{Output, Row, rows_table};

/// Read rows by key.
///
/// Sees every write that was answered before. Exit code 5 when a key has no row; the others are still printed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  knarr fetch books 1 2 3\n  knarr fetch books 42 --json | jq '.[0].v | length'")]
pub(crate) struct Args {
    /// Where the rows are.
    collection: String,
    /// Primary keys, of either type.
    #[arg(required = true, value_name = "KEY", allow_negative_numbers = true)]
    keys: Vec<String>,
}

pub(crate) fn run(args: &Args, client: &Client, out: &Output) -> Result<()> {
    let (mut rows, mut texts, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    for keys in args.keys.chunks(limit::ROWS_PER_CALL) {
        // Text fits both key types: the server reads numeric text as an integer where the key is one.
        let body = json!({"collection_name": args.collection, "primary_keys": keys});
        let data = client.call("/api/collection/fetch_data", &body)?;
        for (key, raw) in keys.iter().zip(data.read::<Vec<&RawValue>>()?) {
            let row: Row = serde_json::from_str(raw.get()).map_err(|e| Failure::failed(e.to_string()))?;
            if is_missing(&row) {
                missing.push(key.clone());
            }
            rows.push(row);
            texts.push(raw.get().to_owned());
        }
    }
    out.show(&format!("[{}]", texts.join(",")), || rows_table(&rows))?;
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::NotFound, format!("no row for {}", missing.join(", "))))
}

/// The key and a hint, nothing else (docs/wire/vikingdb.md section 6.3).
fn is_missing(row: &Row) -> bool {
    row.0.len() == 2 && row.get("message").is_some_and(|m| m == "no data found")
}
