//! Durable bulk jobs.
//!
//! `api` answers clients; `scheduler` knows which tasks are driven; `driver` moves one task through `machine`'s states,
//! with the steps of each kind in `export` and `delete`, unit by unit (`units`); `undo` takes a finished delete back;
//! `spec` and `report` are what the catalog stores of all that; `progress` is what clients see of it.

mod api;
mod delete;
mod driver;
mod export;
mod machine;
mod progress;
mod report;
mod scheduler;
mod spec;
mod undo;
mod units;

use std::time::Duration;

use knarr_base::filter::Filter;
use knarr_base::id::{Name, TaskId};
use knarr_base::limit;
use knarr_base::object::ObjectPath;

use crate::collections::CollectionRef;

pub(crate) use api::doom_table;
pub(crate) use scheduler::{Scheduler, resume};
#[cfg(test)]
pub(crate) use undo::catch_up;

pub use knarr_catalog::tasks::Status;
pub use knarr_engine::bulk::Format;

/// Every named failpoint of this crate, in the order a task meets them.
pub const FAILPOINTS: &[&str] = &[
    "service::task::started",
    "service::task::before_plan",
    "service::task::after_plan",
    "service::export::after_file",
    "service::export::before_manifest",
    "service::export::before_success",
    "service::export::after_success",
    "service::delete::before_publication",
    "service::delete::after_publication",
    "service::delete::after_record",
    "service::task::before_done",
    "service::task::after_done",
    "service::undo::before_publication",
    "service::undo::after_publication",
    "service::undo::after_record",
];

/// The kind that deletes.
const DELETE: &str = "filter_delete";

/// What the operator decides about tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Time a task waits in `confirm` before it fails.
    pub confirm: Duration,
    /// Time a final task can be asked for.
    pub retention: Duration,
    /// Whether a task's creator may not confirm it.
    pub confirm_by_another: bool,
    /// Time in which a finished filter_delete can be undone, but no longer than `retention`; zero: it cannot.
    pub undo: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            confirm: limit::CONFIRM_WAIT,
            retention: limit::TASK_RETENTION,
            confirm_by_another: false,
            undo: limit::UNDO_WINDOW,
        }
    }
}

/// What a task shall do.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskSpec {
    /// data_export
    Export {
        /// `Filter::All` exports everything.
        filter: Filter,
        /// Where to.
        target: ObjectPath,
        /// File format.
        format: Format,
    },
    /// filter_delete
    Delete {
        /// Never `Filter::All`.
        filter: Filter,
        /// True: waits for task/update `confirmed` after the scan.
        need_confirm: bool,
        /// Where the doomed rows are written first.
        backup: Option<(ObjectPath, Format)>,
    },
}

impl TaskSpec {
    /// `data_export` or `filter_delete`.
    pub fn kind(&self) -> &'static str {
        match self {
            TaskSpec::Export { .. } => "data_export",
            TaskSpec::Delete { .. } => DELETE,
        }
    }
}

/// task/create
#[derive(Debug, Clone)]
pub struct CreateTask {
    /// The collection, by name or alias.
    pub collection: CollectionRef,
    /// What to do.
    pub spec: TaskSpec,
    /// `task_params` as given (JSON text), echoed by info.
    pub params: String,
    /// Hash of the signed request: an exact retransmission gets the same task.
    pub dedup: Option<[u8; 32]>,
}

/// A task as its clients see it.
#[derive(Debug, Clone)]
pub struct TaskInfo {
    /// Id.
    pub id: TaskId,
    /// `data_export` or `filter_delete`.
    pub kind: String,
    /// Status.
    pub status: Status,
    /// Name of the collection when the task was made.
    pub collection: String,
    /// `task_params` as given (JSON text).
    pub params: String,
    /// Unix milliseconds.
    pub created_ms: i64,
    /// Unix milliseconds.
    pub updated_ms: i64,
    /// Key of the last human change.
    pub updated_by: String,
    /// Progress.
    pub process: ProcessInfo,
}

/// docs/wire/vikingdb.md section 5.3
#[derive(Debug, Clone, Default)]
pub struct ProcessInfo {
    /// JSON array text of up to 5 matching rows; "[]" before the scan or when the caller may not read the collection.
    pub sampled_data: String,
    /// Unix milliseconds of the snapshot, 0 before it.
    pub sampled_timestamp: i64,
    /// Empty when fine.
    pub err_msg: String,
    /// 0..=100; 100 only when done.
    pub percent: u8,
    /// filter_delete only: `scan_data` or `delete_data`.
    pub step: Option<&'static str>,
    /// Rows of the collection, estimated.
    pub total_rows: u64,
    /// Export: rows exported so far; delete: rows matched.
    pub matched_rows: u64,
    /// Rows looked at so far.
    pub scanned_rows: u64,
    /// Rows deleted.
    pub deleted_rows: u64,
    /// Rows rewritten since the sample, which survived.
    pub changed_rows: u64,
    /// Bytes of files written.
    pub bytes: u64,
    /// Rows per second over the running phase; 0 when not running.
    pub rows_per_second: u64,
    /// Estimated seconds to the end of the running phase; None when unknown.
    pub eta_seconds: Option<u64>,
    /// Files written so far, full object paths `bucket/key`.
    pub files: Vec<String>,
    /// Server time from the acceptance of create (or of the confirmation) to the end, milliseconds, once final.
    pub elapsed_ms: Option<u64>,
    /// Unix milliseconds until which the task can be undone; None if it cannot, or was. A collection keeps the rows of
    /// its newest deletes only (`limit::UNDOABLE_PER_TABLE`): the undo of an older one is refused before.
    pub undo_until_ms: Option<i64>,
    /// What undoing it did.
    pub undone: Option<Undone>,
}

/// What an undo did; its counts add up to the rows that the task had deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Undone {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// Rows that came back.
    pub restored: u64,
    /// Rows left as they are because their key was written since.
    pub changed_since: u64,
    /// Rows that had expired.
    pub expired: u64,
}

/// task/list
#[derive(Debug, Clone, Default)]
pub struct TaskQuery {
    /// Only of this collection.
    pub collection: Option<Name>,
    /// Only of this type.
    pub kind: Option<String>,
    /// Only with this status.
    pub status: Option<Status>,
    /// Skip so many.
    pub offset: u64,
    /// At most so many; 0 = default 100.
    pub limit: u64,
}
