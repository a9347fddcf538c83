//! `knarr delete`: the rows that match a filter, after a person has seen which.

use serde::Serialize;

use super::export::Request;
use super::task::{self, View};
use super::{FileFormat, FilterText};
use crate::client::Client;
use crate::failure::{Failure, Result};
use crate::output::{self, Output, count, rows_table};

/// Delete the rows that match a filter, after showing which.
///
/// The server scans first; then the count and sampled rows are shown and nothing happens until they are confirmed.
/// Only the rows of that scan are deleted: a row written since survives, even under the same key. For a week, unless the
/// server's settings say otherwise, `knarr task undo ID` brings them back.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  knarr delete books --filter '{\"lang\":[\"de\"]}'                      # shows, asks, deletes
  knarr delete books --filter '{\"id\":[1,2,3]}' --yes                  # for scripts
  knarr delete books --filter '{\"lang\":[\"de\"]}' --backup-to backups/books   # files first, then the question

Without a terminal and without --yes nothing is started (exit code 2). An answer other than yes cancels the task
(exit code 1). Ctrl-C at the question leaves the task
waiting, without effect: `knarr task confirm ID` or `knarr task cancel ID`.")]
pub(crate) struct Args {
    /// Where the rows are.
    collection: String,
    /// Which rows.
    #[arg(long, value_name = "JSON")]
    filter: String,
    /// Delete without asking.
    #[arg(long)]
    yes: bool,
    /// Write the doomed rows to files first.
    #[arg(long, value_name = "BUCKET/DIR")]
    backup_to: Option<String>,
    /// Form of those files.
    #[arg(long, value_enum, default_value = "parquet", requires = "backup_to")]
    format: FileFormat,
}

#[derive(Serialize)]
struct Params<'a> {
    collection_name: &'a str,
    #[serde(flatten)]
    filter: FilterText,
    need_confirm: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tos_path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_type: Option<FileFormat>,
}

const QUESTION: &str = "Delete them? They can be had back only for as long as the server's undo_days says.";

pub(crate) fn run(args: &Args, client: &Client, out: &Output) -> Result<()> {
    let Args { collection, filter, yes, backup_to, format } = args;
    let params = Params {
        collection_name: collection,
        filter: FilterText::parse(filter)?,
        need_confirm: true,
        tos_path: backup_to.as_deref(),
        file_type: backup_to.is_some().then_some(*format),
    };
    if !yes && !output::can_ask() {
        return Err(Failure::usage("nobody to ask here: give --yes"));
    }
    let id = task::create(client, &Request { task_type: "filter_delete", task_params: params })?;
    out.note(&format!("task {id}"));
    let (_, view) = task::watch(client, out, &id)?;
    if view.task_status == "confirm" {
        let shown = preview(collection, &view);
        if *yes || view.process_info.total_filter_count == 0 {
            out.note(&shown);
        } else if !output::ask(&format!("{shown}\n{QUESTION}"))? {
            task::set_status(client, &id, "cancel")?;
            return Err(output::declined());
        }
        task::set_status(client, &id, "confirmed")?;
    }
    task::finish(client, out, &id, summary)
}

/// What a person decides on.
fn preview(collection: &str, view: &View) -> String {
    let p = &view.process_info;
    let rows =
        if p.sampled_data.is_empty() { String::new() } else { format!(", such as\n{}", rows_table(&p.sampled_data)) };
    format!("{} rows of {collection} match{rows}", count(p.total_filter_count))
}

fn summary(view: &View) -> String {
    let p = &view.process_info;
    let mut text = format!("deleted {} of {} rows", count(p.total_deleted_count), count(p.total_filter_count));
    if p.changed_count > 0 {
        text.push_str(&format!("; {} were written since the scan and stay", count(p.changed_count)));
    }
    p.files.iter().for_each(|f| text.push_str(&format!("\n  {f}")));
    if let Some(until) = &p.undo_until {
        text.push_str(&format!("\nat most until {until} `knarr task undo {}` brings them back", view.task_id));
    }
    text
}
