//! `knarr upsert`: a file's rows, many calls in flight.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::thread;

use knarr_engine::decode::{self, Batch, jsonl_batches, parquet_batches};
use serde_json::json;

use crate::client::Client;
use crate::failure::{Exit, Failure, Result};
use crate::output::{Output, Progress, count};

/// Write the rows of a .jsonl or .parquet file.
///
/// Rows go in calls of 100, several at once, and replace rows of the same key; a call is durable when it is counted.
/// Columns must bear the names of fields. The file is streamed, so it may be larger than memory.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  knarr upsert books rows.jsonl
  knarr upsert books rows.parquet --ttl 86400
  zcat rows.jsonl.gz | knarr upsert books -

On an error the command stops and says how many rows were written; with a key of your own, running it again is safe.")]
pub(crate) struct Args {
    /// Where to.
    collection: String,
    /// A .jsonl (or .json, .ndjson) or .parquet file; `-` reads JSON lines from stdin.
    file: String,
    /// Seconds until the rows expire; 0 is never.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    ttl: u64,
    /// Calls in flight.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    in_flight: u8,
}

/// A file being read: batches, and the position at which it ends.
struct Input {
    batches: Box<dyn Iterator<Item = Result<Batch, decode::Error>>>,
    end: u64,
}

/// Rows of the file, from 1; where a failure happened.
struct Numbered {
    first: u64,
    batch: Batch,
}

/// What the workers have got done together.
#[derive(Default)]
struct Done {
    rows: u64,
    position: u64,
    failure: Option<Failure>,
}

pub(crate) fn run(args: &Args, client: &Client, out: &Output) -> Result<()> {
    let mut input = open(&args.file)?;
    let done = Mutex::new(Done::default());
    let progress = Mutex::new(out.progress("upsert"));
    // As many batches wait as are in flight: enough to keep every worker busy, and memory small.
    let (sender, receiver) = mpsc::sync_channel::<Numbered>(args.in_flight.into());
    let receiver = Mutex::new(receiver);
    let read = thread::scope(|scope| {
        for _ in 0..args.in_flight {
            scope.spawn(|| work(args, client, &receiver, &done, |state| show(&progress, state, input.end)));
        }
        feed(&mut input.batches, client, sender)
    });
    drop(progress);
    let Done { rows, failure, .. } = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    match failure.or(read.err().map(|e| e.during(&args.file))) {
        Some(failure) => Err(failure.during(format!("{} rows were written, then", count(rows)))),
        None => out.show(&json!({"rows": rows}).to_string(), || format!("{} rows", count(rows))),
    }
}

fn open(name: &str) -> Result<Input> {
    if name == "-" {
        return Ok(Input { batches: Box::new(jsonl_batches(io::stdin().lock())), end: 0 });
    }
    let open = || File::open(name).map_err(|e| Failure::file(name, e));
    match Path::new(name).extension().and_then(|e| e.to_str()) {
        Some("parquet") => {
            let batches = parquet_batches(open()?).map_err(|e| decode_failure(&e).during(name))?;
            Ok(Input { end: batches.rows(), batches: Box::new(batches) })
        }
        Some("jsonl" | "json" | "ndjson") => {
            let file = open()?;
            let end = file.metadata().map_err(|e| Failure::file(name, e))?.len();
            Ok(Input { batches: Box::new(jsonl_batches(BufReader::with_capacity(1 << 20, file))), end })
        }
        _ => Err(Failure::usage(format!("{name}: the name must end in .jsonl or .parquet"))),
    }
}

fn decode_failure(error: &decode::Error) -> Failure {
    use std::error::Error as _;
    let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
    Failure::new(Exit::Usage, format!("{error}{cause}"))
}

/// Reads until the end, an error, or a worker's failure. Dropping the sender lets the workers end.
fn feed(
    batches: &mut dyn Iterator<Item = Result<Batch, decode::Error>>,
    client: &Client,
    sender: SyncSender<Numbered>,
) -> Result<()> {
    let mut first = 1;
    for batch in batches {
        let batch = batch.map_err(|e| decode_failure(&e))?;
        let rows = batch.rows as u64;
        if client.gate().closed() || sender.send(Numbered { first, batch }).is_err() {
            break;
        }
        first += rows;
    }
    Ok(())
}

/// Sends batches until there are no more. The first failure stops all workers; what they have in flight still counts.
fn work(args: &Args, client: &Client, queue: &Mutex<Receiver<Numbered>>, done: &Mutex<Done>, show: impl Fn(&Done)) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Numbered { first, batch }) = next else { return };
        if client.gate().closed() {
            // Keeps receiving, so that the reader is never left waiting for room.
            continue;
        }
        let sent = client.send("/api/collection/upsert_data", &body(args, &batch));
        let mut state = done.lock().unwrap_or_else(PoisonError::into_inner);
        match sent {
            Ok(_) => {
                state.rows += batch.rows as u64;
                state.position = state.position.max(batch.position);
                show(&state);
            }
            Err(failure) => {
                client.gate().close();
                let last = first + batch.rows as u64 - 1;
                state.failure.get_or_insert(failure.during(format!("rows {first} to {last} of {}", args.file)));
            }
        }
    }
}

fn body(args: &Args, batch: &Batch) -> String {
    let Args { collection, ttl, .. } = args;
    format!("{{\"collection_name\":{},\"ttl\":{ttl},\"fields\":{}}}", json!(collection), batch.json)
}

fn show(progress: &Mutex<Progress>, done: &Done, end: u64) {
    let percent = (done.position * 100).checked_div(end).unwrap_or(0);
    progress.lock().unwrap_or_else(PoisonError::into_inner).at(percent, &format!("{} rows", count(done.rows)));
}
