//! `knarr export`: the rows that match a filter, as files in a bucket.

use serde::Serialize;
use serde_json::json;

use super::task::{self, View};
use super::{FileFormat, FilterText};
use crate::client::Client;
use crate::failure::Result;
use crate::output::{Output, count};

/// Write the rows that match a filter to files in a bucket.
///
/// The export sees the collection as it is when it starts; rows written later are not in it. Files are
/// BUCKET/DIR/TASK_ID/0.parquet, 1.parquet, ...; then _manifest.json (rows, bytes and sha256 of each file) and, last,
/// _SUCCESS. The bucket is made if it does not exist.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  knarr export books --filter '{\"lang\":[\"de\"]}' --to exports/books --wait
  knarr export books --filter '[{\"op\":\"range\",\"field\":\"year\",\"lt\":1950}]' --to exports/old --format json
  knarr export books --all --to backups/books --wait --json | jq -r .task_id
  knarr bucket ls exports/books; knarr bucket get exports/books/TASK_ID/0.parquet books.parquet")]
pub(crate) struct Args {
    /// Where the rows are.
    collection: String,
    /// Which rows.
    #[arg(long, value_name = "JSON", required_unless_present = "all", conflicts_with = "all")]
    filter: Option<String>,
    /// Every row.
    #[arg(long)]
    all: bool,
    /// Where the files go.
    #[arg(long, value_name = "BUCKET/DIR")]
    to: String,
    /// Form of the files.
    #[arg(long, value_enum, default_value = "parquet")]
    format: FileFormat,
    /// Stay until it is done, and list the files.
    #[arg(long)]
    wait: bool,
}

#[derive(Serialize)]
struct Params<'a> {
    collection_name: &'a str,
    #[serde(flatten)]
    filter: FilterText,
    export_all: bool,
    tos_path: &'a str,
    file_type: FileFormat,
}

pub(crate) fn run(args: &Args, client: &Client, out: &Output) -> Result<()> {
    let Args { collection, filter, all, to, format, wait } = args;
    let filter = filter.as_deref().map_or_else(|| Ok(FilterText::none()), FilterText::parse)?;
    let params = Params { collection_name: collection, filter, export_all: *all, tos_path: to, file_type: *format };
    let id = task::create(client, &Request { task_type: "data_export", task_params: params })?;
    if *wait {
        return task::finish(client, out, &id, summary);
    }
    out.show(&json!({"task_id": id}).to_string(), || format!("task {id}\nfollow it with `knarr task watch {id}`"))
}

/// The body of task/create.
#[derive(Serialize)]
pub(super) struct Request<P> {
    pub(super) task_type: &'static str,
    pub(super) task_params: P,
}

fn summary(view: &View) -> String {
    let files = view.process_info.files.iter().map(|f| format!("\n  {f}")).collect::<String>();
    format!("task {} done: {} rows{files}", view.task_id, count(view.process_info.total_filter_count))
}
