//! `knarr task`: what the durable jobs are doing; and the watching that export and delete share.

use std::time::Duration;

use clap::Subcommand;
use serde::Deserialize;
use serde_json::json;

use crate::client::{Client, Data};
use crate::failure::{Failure, Result};
use crate::output::{Output, Progress, Row, bytes, count, rows_table, table};

/// First pause between two looks at a task, and the longest; small exports end within the first.
const LOOK: Duration = Duration::from_millis(20);
const LOOK_MAX: Duration = Duration::from_millis(500);

/// Types of tasks that are offered (docs/wire/vikingdb.md section 5).
const TYPES: [&str; 2] = ["data_export", "filter_delete"];
const STATUSES: [&str; 7] = ["init", "queued", "running", "confirm", "confirmed", "done", "fail"];

/// Follow, confirm, cancel and undo tasks.
#[derive(Debug, Subcommand)]
pub(crate) enum Args {
    /// List tasks, newest first.
    #[command(after_help = "Examples:\n  knarr task list\n  knarr task list --collection books --status confirm")]
    List {
        /// Only of this collection.
        #[arg(long, value_name = "NAME")]
        collection: Option<String>,
        /// Only of this type.
        #[arg(long = "type", value_name = "TYPE", value_parser = TYPES)]
        kind: Option<String>,
        /// Only with this status.
        #[arg(long, value_parser = STATUSES)]
        status: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Show everything about a task, with sampled rows.
    #[command(after_help = "Example:\n  knarr task info 7f9c24e5-2a10-4b4e-9c49-5f0a6c1d2e3f")]
    Info {
        /// Task id.
        id: String,
    },
    /// Follow a task until it is done, failed, or waits for a confirmation.
    #[command(
        after_help = "Exit code 0 when done or waiting, 1 when failed.\n\nExample:\n  knarr task watch 7f9c24e5-2a10-4b4e-9c49-5f0a6c1d2e3f"
    )]
    Watch {
        /// Task id.
        id: String,
    },
    /// Confirm a delete that waits; it starts at once.
    #[command(
        after_help = "Example:\n  knarr task info ID    # look first\n  knarr task confirm ID && knarr task watch ID"
    )]
    Confirm {
        /// Task id.
        id: String,
    },
    /// Stop a task; what it already deleted stays deleted.
    #[command(after_help = "Example:\n  knarr task cancel 7f9c24e5-2a10-4b4e-9c49-5f0a6c1d2e3f")]
    Cancel {
        /// Task id.
        id: String,
    },
    /// Bring back the rows that a finished delete deleted.
    ///
    /// A row whose key was written since, if only to be deleted, stays as it is, and a row that has expired stays away. The
    /// next fetch and the next search see the others. Asked again, it answers the same and does nothing.
    #[command(after_help = "\
`knarr task info ID` says until when: seven days after the delete, unless the server's undo_days says otherwise. A
collection keeps the rows of its newest 64 deletes; of an older one the time is over sooner. Until then deleted rows take
their space on the disk; `knarr task drop ID` gives them up at once.

Needs the key that created the task, or an administrator's, with write on the collection. Exit code 1 when nothing can come
back: another kind of task, not done, over, the collection dropped.

Examples:
  knarr task list --type filter_delete --status done      # which deletes there were
  knarr task undo 7f9c24e5-2a10-4b4e-9c49-5f0a6c1d2e3f
  knarr task undo ID --json | jq .restored_count")]
    Undo {
        /// Task id.
        id: String,
    },
    /// Remove a task from the list; a running one is cancelled first, a finished delete cannot be undone any more.
    #[command(after_help = "Example:\n  knarr task drop 7f9c24e5-2a10-4b4e-9c49-5f0a6c1d2e3f")]
    Drop {
        /// Task id.
        id: String,
    },
}

/// A task as /api/task/info shows it.
#[derive(Debug, Deserialize)]
pub(crate) struct View {
    pub(crate) task_id: String,
    task_type: String,
    pub(crate) task_status: String,
    #[serde(default)]
    collection_name: String,
    #[serde(default)]
    create_time: String,
    pub(crate) process_info: Process,
}

/// Its `process_info` (docs/wire/vikingdb.md section 5.3). Members beyond the vendor's are absent on other servers.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Process {
    pub(crate) sampled_data: Vec<Row>,
    err_msg: String,
    task_progress: String,
    process_step: String,
    total_data_count: u64,
    pub(crate) total_filter_count: u64,
    scan_data_count: u64,
    pub(crate) total_deleted_count: u64,
    pub(crate) changed_count: u64,
    bytes: u64,
    eta_seconds: Option<u64>,
    pub(crate) files: Vec<String>,
    pub(crate) undo_until: Option<String>,
    undone: Option<Undone>,
}

/// What an undo did.
#[derive(Debug, Deserialize)]
struct Undone {
    undo_time: String,
    restored_count: u64,
    changed_count: u64,
    expired_count: u64,
}

impl Undone {
    fn words(&self) -> String {
        let mut text = format!("{} rows are back", count(self.restored_count));
        if self.changed_count > 0 {
            text.push_str(&format!("; {} were written since and stay as they are", count(self.changed_count)));
        }
        if self.expired_count > 0 {
            text.push_str(&format!("; {} have expired", count(self.expired_count)));
        }
        text
    }
}

impl View {
    fn percent(&self) -> u64 {
        self.process_info.task_progress.trim_end_matches('%').parse().unwrap_or(0)
    }

    /// One line of what is going on.
    fn words(&self) -> String {
        let p = &self.process_info;
        let eta = p.eta_seconds.map_or_else(String::new, |s| format!(", {s} s left"));
        let doing = match (self.task_status.as_str(), p.process_step.as_str()) {
            ("running", "delete_data") => format!("deleted {}", count(p.total_deleted_count)),
            ("running", "scan_data") => format!("scanned {}", count(p.scan_data_count)),
            ("running", _) => format!("{} rows, {}", count(p.total_filter_count), bytes(p.bytes)),
            (other, _) => other.to_owned(),
        };
        format!("{doing}{eta}")
    }

    /// Everything, for people.
    fn page(&self) -> String {
        let p = &self.process_info;
        let mut lines = vec![
            format!(
                "{} {} of {}: {} {}",
                self.task_type, self.task_id, self.collection_name, self.task_status, p.task_progress
            ),
            format!("created {}", self.create_time),
            format!(
                "rows: about {} in all, {} scanned, {} {}, {} deleted, {} changed since and kept",
                count(p.total_data_count),
                count(p.scan_data_count),
                count(p.total_filter_count),
                if self.task_type == "data_export" { "exported" } else { "matched" },
                count(p.total_deleted_count),
                count(p.changed_count)
            ),
        ];
        if !p.err_msg.is_empty() {
            lines.push(format!("error: {}", p.err_msg));
        }
        if let Some(until) = &p.undo_until {
            lines.push(format!("at most until {until} `knarr task undo {}` brings the rows back", self.task_id));
        }
        if let Some(undone) = &p.undone {
            lines.push(format!("undone {}: {}", undone.undo_time, undone.words()));
        }
        lines.extend(p.files.iter().map(|file| format!("file: {file}")));
        if !p.sampled_data.is_empty() {
            lines.push(format!("{} of the matching rows:\n{}", p.sampled_data.len(), rows_table(&p.sampled_data)));
        }
        lines.join("\n")
    }
}

pub(crate) fn run(args: Args, client: &Client, out: &Output) -> Result<()> {
    match args {
        Args::List { collection, kind, status, limit } => {
            let mut query = json!({"page": 1, "page_size": limit});
            for (name, value) in [("collection_name", collection), ("task_type", kind), ("task_status", status)] {
                if let Some(value) = value {
                    query[name] = json!(value);
                }
            }
            list(client, out, &query)
        }
        Args::Info { id } => {
            let data = look(client, &id)?;
            let view: View = data.read()?;
            out.show(data.text(), || view.page())
        }
        Args::Watch { id } => finish(client, out, &id, |view| view.page()),
        Args::Confirm { id } => update(client, out, &id, "confirmed"),
        Args::Cancel { id } => update(client, out, &id, "cancel"),
        Args::Undo { id } => {
            let data = client.call("/knarr/v1/tasks/undo", &json!({"task_id": id}))?;
            let undone: Undone = data.read()?;
            out.show(data.text(), || undone.words())
        }
        Args::Drop { id } => {
            client.call("/api/task/drop", &json!({"task_id": id}))?;
            out.show(&json!({"task_id": id}).to_string(), || format!("dropped {id}"))
        }
    }
}

fn list(client: &Client, out: &Output, query: &serde_json::Value) -> Result<()> {
    let data = client.call("/api/task/list", query)?;
    let found: Vec<View> = data.read()?;
    out.show(data.text(), || {
        let rows = found.iter().map(|t| {
            let (p, rows) = (&t.process_info, count(t.process_info.total_filter_count));
            [&t.task_id, &t.task_type, &t.collection_name, &t.task_status, &p.task_progress, &rows, &t.create_time]
                .map(String::clone)
        });
        table(["task", "type", "collection", "status", "", "rows", "created"], rows)
    })
}

fn update(client: &Client, out: &Output, id: &str, status: &str) -> Result<()> {
    set_status(client, id, status)?;
    out.show(&json!({"task_id": id, "task_status": status}).to_string(), || format!("{status} {id}"))
}

/// task/update.
pub(crate) fn set_status(client: &Client, id: &str, status: &str) -> Result<()> {
    client.call("/api/task/update", &json!({"task_id": id, "task_status": status})).map(drop)
}

/// task/create; the id.
pub(crate) fn create(client: &Client, body: &impl serde::Serialize) -> Result<String> {
    #[derive(Deserialize)]
    struct Created {
        task_id: String,
    }
    Ok(client.call("/api/task/create", body)?.read::<Created>()?.task_id)
}

fn look(client: &Client, id: &str) -> Result<Data> {
    client.call("/api/task/info", &json!({"task_id": id}))
}

/// Follows the task until nothing moves without a person: done, fail or confirm. A failed task is a failure.
pub(crate) fn watch(client: &Client, out: &Output, id: &str) -> Result<(Data, View)> {
    let mut progress: Option<Progress> = None;
    let mut pause = LOOK;
    loop {
        let data = look(client, id)?;
        let view: View = data.read()?;
        match view.task_status.as_str() {
            "done" | "confirm" => return Ok((data, view)),
            "fail" => return Err(Failure::failed(format!("task {id} failed: {}", view.process_info.err_msg))),
            _ => {}
        }
        let shown = progress.get_or_insert_with(|| out.progress(&view.task_type));
        shown.at(view.percent(), &view.words());
        client.gate().pause(pause);
        pause = (pause * 3 / 2).min(LOOK_MAX);
    }
}

/// [`watch`], then the result.
pub(crate) fn finish(client: &Client, out: &Output, id: &str, human: impl FnOnce(&View) -> String) -> Result<()> {
    let (data, view) = watch(client, out, id)?;
    out.show(data.text(), || human(&view))?;
    if view.task_status == "confirm" {
        out.note(&format!("nothing is deleted yet: `knarr task confirm {id}` or `knarr task cancel {id}`"));
    }
    Ok(())
}
