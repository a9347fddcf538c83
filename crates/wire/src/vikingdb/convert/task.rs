//! Tasks: what is asked for, and what is told about them.

use knarr_base::clock::rfc3339;
use knarr_base::filter::Filter;
use knarr_base::id::{Name, TaskId};
use knarr_base::object::ObjectPath;
use knarr_base::{Error, Kind, Result, limit};
use knarr_service::tasks::{CreateTask, Format, ProcessInfo, Status, TaskInfo, TaskQuery, TaskSpec, Undone};

use super::collection::from_texts;
use super::stored;
use crate::http::request::{Args, required};
use crate::json::{self, Members, Value, invalid};
use crate::vikingdb::{filter, model};

const EXPORT: &str = "data_export";
const DELETE: &str = "filter_delete";

/// What task/update asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Confirm,
    /// Our extension.
    Cancel,
}

/// task/create in its 2023 and 2025 forms.
pub(crate) fn create(args: &Args<'_>, dedup: [u8; 32]) -> Result<CreateTask> {
    let task_type = required("task_type", args.text("task_type")?)?;
    if !matches!(task_type.as_str(), EXPORT | DELETE) {
        return Err(match task_type.as_str() {
            "data_import" | "filter_update" => Error::new(Kind::Unsupported, format!("{task_type} is not offered yet")),
            _ => invalid(format!("unknown task_type {task_type:?}")),
        });
    }
    let raw = required("task_params", args.raw("task_params"))?;
    if raw.len() > limit::TASK_PARAMS_BYTES {
        return Err(invalid(format!("task_params have at most {} bytes", limit::TASK_PARAMS_BYTES)));
    }
    let Value::Map(mut params) = json::parse("task_params", raw)? else {
        return Err(invalid("task_params must be an object"));
    };
    let name = json::text("collection_name", params.take("collection_name"))?;
    let alias = json::text("collection_alias", params.take("collection_alias"))?;
    let collection = from_texts(name, alias)?;
    let target = target(args, &mut params)?;
    let format = format(&mut params)?;
    let spec = if task_type == EXPORT {
        export(&mut params, required("tos_path", target)?, format)?
    } else {
        delete(&mut params, target, format)?
    };
    Ok(CreateTask { collection, spec, params: raw.to_owned(), dedup: Some(dedup) })
}

fn export(params: &mut Members, target: ObjectPath, format: Format) -> Result<TaskSpec> {
    let everything = json::flag("export_all", params.take("export_all"))?.unwrap_or(false);
    let filter = if everything { Filter::All } else { selection(params)? };
    Ok(TaskSpec::Export { filter, target, format })
}

fn delete(params: &mut Members, target: Option<ObjectPath>, format: Format) -> Result<TaskSpec> {
    let need_confirm = json::flag("need_confirm", params.take("need_confirm"))?.unwrap_or(true);
    let filter = selection(params)?;
    if filter.is_all() {
        return Err(invalid("filter_delete needs a filter"));
    }
    if filter::has_empty_exclusion(&filter) {
        return Err(invalid("filter_delete refuses a must_not without values: it matches everything"));
    }
    Ok(TaskSpec::Delete { filter, need_confirm, backup: target.map(|target| (target, format)) })
}

/// `filter` or `filter_conds`, each in either form; [`Filter::All`] without both.
fn selection(params: &mut Members) -> Result<Filter> {
    match (params.take("filter"), params.take("filter_conds")) {
        (Some(_), Some(_)) => Err(invalid("filter and filter_conds exclude each other")),
        (filter, conds) => filter::parse(filter.or(conds).unwrap_or(Value::Null)).map_err(as_parameter),
    }
}

/// One page writes `tos_path` beside `task_params`.
fn target(args: &Args<'_>, params: &mut Members) -> Result<Option<ObjectPath>> {
    let text = match params.take("tos_path") {
        None => args.text("tos_path")?,
        inside => json::text("tos_path", inside)?,
    };
    text.map(|text| ObjectPath::parse(&text)).transpose()
}

/// Parquet unless told otherwise: the documented export sample never sends its file_type.
fn format(params: &mut Members) -> Result<Format> {
    match json::text("file_type", params.take("file_type"))?.as_deref() {
        None | Some("parquet") => Ok(Format::Parquet),
        Some("json") => Ok(Format::Json),
        Some(other) => Err(invalid(format!("unknown file_type {other:?}"))),
    }
}

/// In a task, a bad filter is a bad parameter (section 4.2).
pub(crate) fn as_parameter(error: Error) -> Error {
    match error.kind() {
        Kind::InvalidFilter => Error::new(Kind::Invalid, error.message()),
        _ => error,
    }
}

/// `task_id`. A text that no task can have names no task.
pub(crate) fn id(args: &Args<'_>) -> Result<TaskId> {
    let text = required("task_id", args.text("task_id")?)?;
    text.parse().map_err(|_| Error::new(Kind::TaskMissing, "task not exist"))
}

/// `task_status` of task/update.
pub(crate) fn change(args: &Args<'_>) -> Result<Change> {
    match required("task_status", args.text("task_status")?)?.as_str() {
        "confirmed" => Ok(Change::Confirm),
        "cancel" => Ok(Change::Cancel),
        other => Err(invalid(format!("task_status can become confirmed or cancel, not {other:?}"))),
    }
}

/// task/list; `None` if no task can fit.
pub(crate) fn query(args: &Args<'_>) -> Result<Option<TaskQuery>> {
    let given = |name: &str| Ok::<_, Error>(args.text(name)?.filter(|text| !text.is_empty()));
    let collection = match given("collection_name")?.map(|name| Name::parse("collection_name", &name)) {
        Some(Ok(name)) => Some(name),
        Some(Err(_)) => return Ok(None),
        None => None,
    };
    let status = given("task_status")?.map(|text| {
        let found = Status::ALL.into_iter().find(|s| status(*s) == text);
        found.ok_or_else(|| invalid(format!("unknown task_status {text:?}")))
    });
    let count = |name: &str| match args.int(name)? {
        Some(n) => u64::try_from(n).map(Some).map_err(|_| invalid(format!("{name} must not be negative"))),
        None => Ok(None),
    };
    let most = limit::LIST_PAGE as u64;
    let limit = count("page_size")?.filter(|n| *n > 0).unwrap_or(limit::TASKS_PER_PAGE).min(most);
    let page = count("page")?.unwrap_or(1).max(1);
    Ok(Some(TaskQuery {
        collection,
        kind: given("task_type")?,
        status: status.transpose()?,
        offset: (page - 1).saturating_mul(limit),
        limit,
    }))
}

/// task/info, and an element of task/list.
///
/// # Errors
/// `Kind::Corrupt` if what was stored cannot be echoed.
pub(crate) fn view(task: &TaskInfo) -> Result<model::Task<'_>> {
    Ok(model::Task {
        task_id: task.id.to_string(),
        task_type: &task.kind,
        task_status: status(task.status),
        collection_name: &task.collection,
        update_person: &task.updated_by,
        update_time: rfc3339(task.updated_ms),
        create_time: rfc3339(task.created_ms),
        process_info: process(&task.process, task.kind == DELETE)?,
        task_params: stored("task_params", &task.params)?,
    })
}

fn process(info: &ProcessInfo, deletes: bool) -> Result<model::Process<'_>> {
    let sampled_data = if info.sampled_data.is_empty() { "[]" } else { &info.sampled_data };
    Ok(model::Process {
        sampled_data: stored("sample", sampled_data)?,
        sampled_timestamp: info.sampled_timestamp,
        err_msg: &info.err_msg,
        process_step: info.step,
        task_progress: format!("{}%", info.percent),
        total_data_count: info.total_rows,
        total_deleted_count: deletes.then_some(info.deleted_rows),
        total_filter_count: info.matched_rows,
        scan_data_count: info.scanned_rows,
        rows_per_second: info.rows_per_second,
        eta_seconds: info.eta_seconds,
        changed_count: deletes.then_some(info.changed_rows),
        files: &info.files,
        bytes: info.bytes,
        elapsed_ms: info.elapsed_ms,
        undo_until: info.undo_until_ms.map(rfc3339),
        undone: info.undone.as_ref().map(undone),
    })
}

/// What an undo did.
pub(crate) fn undone(undone: &Undone) -> model::Undone {
    let Undone { at_ms, restored, changed_since, expired } = *undone;
    model::Undone {
        undo_time: rfc3339(at_ms),
        restored_count: restored,
        changed_count: changed_since,
        expired_count: expired,
    }
}

/// The vendor's word for a status.
fn status(status: Status) -> &'static str {
    match status {
        Status::Init => "init",
        Status::Queued => "queued",
        Status::Running => "running",
        Status::Confirm => "confirm",
        Status::Confirmed => "confirmed",
        Status::Done => "done",
        Status::Fail => "fail",
    }
}

#[cfg(test)]
mod tests;
