//! `knarr fetch`: rows by key.

use knarr_base::limit;
use serde_json::json;
use serde_json::value::RawValue;

use crate::client::{Client, Data};
use crate::failure::{Exit, Failure, Result};
use crate::output::{Output, Row, rows_table};

/// Read rows by key.
///
/// Sees every write that was answered before. Exit code 5 when a key has no row; the others are still printed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  knarr fetch books 1 2 3
  knarr fetch books 42 --json | jq '.[0].v | length'
  knarr fetch books 42 --index main --partition de --fields lang,year")]
pub(crate) struct Args {
    /// Where the rows are.
    collection: String,
    /// Primary keys, of either type.
    #[arg(required = true, value_name = "KEY", allow_negative_numbers = true)]
    keys: Vec<String>,
    /// Read through this index: as it shows rows, and only those of a partition.
    #[arg(long, value_name = "INDEX")]
    index: Option<String>,
    /// Only this partition.
    #[arg(long, value_name = "NAME", requires = "index")]
    partition: Option<String>,
    /// Fields to show, separated by commas; default: every scalar field, and the vector.
    #[arg(long, value_name = "FIELDS", requires = "index")]
    fields: Option<String>,
}

pub(crate) fn run(args: &Args, client: &Client, out: &Output) -> Result<()> {
    let (mut rows, mut texts, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    for keys in args.keys.chunks(limit::ROWS_PER_CALL) {
        let data = call(args, client, keys)?;
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

fn call(args: &Args, client: &Client, keys: &[String]) -> Result<Data> {
    // Text fits both key types: the server reads numeric text as an integer where the key is one.
    let mut body = json!({"collection_name": args.collection, "primary_keys": keys});
    let Some(index) = &args.index else { return client.call("/api/collection/fetch_data", &body) };
    body["index_name"] = json!(index);
    if let Some(partition) = &args.partition {
        body["partition"] = json!(partition);
    }
    if let Some(fields) = &args.fields {
        body["output_fields"] = json!(fields.split(',').map(str::trim).collect::<Vec<_>>());
    }
    client.call("/api/index/fetch_data", &body)
}

/// The key and a hint, nothing else (docs/wire/vikingdb.md section 6.3).
fn is_missing(row: &Row) -> bool {
    row.0.len() == 2 && row.get("message").is_some_and(|m| m == "no data found")
}
