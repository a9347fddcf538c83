//! What clients see of a task: one function from stored facts to the view, so that nothing shown can go back.
//!
//! Export: 0-99 % by files done. filter_delete: 0-50 % scan and backup, 50 % in confirm, 50-99 % delete. 100 % is done
//! and nothing else.

use knarr_base::Result;
use knarr_catalog::tasks::{Status, Task};
use knarr_catalog::undos::Undo;
use knarr_catalog::units::{Unit, UnitState};

use super::export::{done_files, file_key};
use super::report::{Report, UnitWork, from_text};
use super::{ProcessInfo, TaskInfo, TaskSpec, spec, undo};

/// The view of `task` at `now_ms`. Without `may_read` the sampled rows are left out.
pub(super) fn view(task: &Task, units: &[Unit], undo: Option<&Undo>, may_read: bool, now_ms: i64) -> Result<TaskInfo> {
    let report: Report = from_text(&task.report)?;
    let spec = spec::decode(&task.spec)?;
    let done = done_files(units)?;
    let (rows, bytes) = done.iter().fold((0, 0), |(rows, bytes), (_, file)| (rows + file.rows, bytes + file.bytes));
    let planned = !units.is_empty();
    let target = match &spec {
        TaskSpec::Export { target, format, .. } | TaskSpec::Delete { backup: Some((target, format)), .. } => {
            Some((target, *format))
        }
        TaskSpec::Delete { backup: None, .. } => None,
    };
    let mut files = Vec::new();
    if let Some((target, format)) = target {
        for (ordinal, _) in &done {
            files.push(format!("{}/{}", target.bucket, file_key(target, task, *ordinal, format)?));
        }
    }
    let delete = matches!(spec, TaskSpec::Delete { .. });
    let percent = percent(task.status, delete, &report, units)?;
    let (rows_per_second, eta_seconds) = rate(task, &report, if delete { report.scanned } else { rows }, now_ms);
    let sample = if report.sample.is_empty() || !may_read { "[]" } else { &report.sample };
    let deleting = report.confirmed || (planned && !asks(&spec));
    let done_delete = delete && task.status == Status::Done;
    let undone = undo.map(undo::outcome).transpose()?.flatten();
    let process = ProcessInfo {
        sampled_data: sample.to_owned(),
        sampled_timestamp: task.pin.map_or(0, |pin| pin.at_ms),
        err_msg: task.error.clone(),
        percent,
        step: delete.then_some(if deleting { "delete_data" } else { "scan_data" }),
        total_rows: report.total,
        matched_rows: if delete { report.matched } else { rows },
        scanned_rows: report.scanned,
        deleted_rows: report.deleted,
        changed_rows: report.changed,
        bytes,
        rows_per_second,
        eta_seconds,
        files,
        elapsed_ms: task.status.is_final().then_some(report.elapsed_ms),
        undo_until_ms: Some(report.undo_until_ms).filter(|until| done_delete && undone.is_none() && *until > now_ms),
        undone,
    };
    Ok(TaskInfo {
        id: task.id,
        kind: task.kind.clone(),
        status: task.status,
        collection: task.collection.clone(),
        params: task.params.clone(),
        created_ms: task.created_ms,
        updated_ms: task.updated_ms,
        updated_by: task.updated_by.to_string(),
        process,
    })
}

fn asks(spec: &TaskSpec) -> bool {
    matches!(spec, TaskSpec::Delete { need_confirm: true, .. })
}

fn percent(status: Status, delete: bool, report: &Report, units: &[Unit]) -> Result<u8> {
    if status == Status::Done {
        return Ok(100);
    }
    let (mut files, mut files_done, mut deleted) = (0u64, 0u64, false);
    for unit in units {
        let done = unit.state == UnitState::Done;
        match from_text(&unit.spec)? {
            UnitWork::File { .. } => {
                files += 1;
                files_done += u64::from(done);
            }
            UnitWork::Seal => {}
            UnitWork::Delete => deleted = done,
        }
    }
    let share = |part: u64, whole: u64, of: u64| (part * of).checked_div(whole).unwrap_or(0).min(of);
    let value = match (delete, units.is_empty()) {
        (false, _) => share(files_done, files, 99),
        // A scan may be the whole first half, or share it with a backup whose size is not known yet.
        (true, true) => share(report.scanned, report.total, 25),
        (true, false) if files_done < files => 25 + share(files_done, files, 24),
        (true, false) => {
            if deleted {
                99
            } else {
                50
            }
        }
    };
    Ok(u8::try_from(value).unwrap_or(99))
}

/// Rows a second since the task began to run, and the seconds left at that rate.
fn rate(task: &Task, report: &Report, rows_done: u64, now_ms: i64) -> (u64, Option<u64>) {
    if task.status != Status::Running || report.running_since_ms == 0 || rows_done == 0 {
        return (0, None);
    }
    let elapsed = u64::try_from(now_ms - report.running_since_ms).unwrap_or(0).max(1);
    let per_second = rows_done.saturating_mul(1000) / elapsed;
    let whole = if task.kind == "data_export" { report.matched } else { report.total };
    let left = whole.saturating_sub(rows_done);
    (per_second, (per_second > 0).then(|| left / per_second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::report::{FileDone, to_text};

    fn unit(ordinal: u32, work: &UnitWork, state: UnitState) -> Unit {
        let done = FileDone { rows: 10, bytes: 100, sha256: String::new(), digest: "0".into() };
        Unit {
            ordinal,
            spec: to_text(work).expect("text"),
            state,
            fence: 1,
            lease_until_ms: None,
            strikes: 0,
            report: to_text(&done).expect("text"),
        }
    }

    fn units(done: usize, files: usize, last: UnitWork, last_done: bool) -> Vec<Unit> {
        let file = UnitWork::File { ranges: vec![], matched: 10 };
        let state = |yes| if yes { UnitState::Done } else { UnitState::Pending };
        let mut all: Vec<_> =
            (0..files).map(|n| unit(u32::try_from(n).expect("small"), &file, state(n < done))).collect();
        all.push(unit(99, &last, state(last_done)));
        all
    }

    #[test]
    fn progress_never_goes_down_and_ends_at_done() {
        let mut report = Report { total: 1000, ..Report::default() };
        let mut last = 0;
        let mut step = |status, delete, report: &Report, units: &[Unit]| {
            let now = percent(status, delete, report, units).expect("percent");
            assert!(now >= last, "{now} after {last}");
            assert!(now < 100 || status == Status::Done);
            last = now;
            now
        };
        step(Status::Init, true, &report, &[]);
        for scanned in [10, 500, 1000] {
            report.scanned = scanned;
            step(Status::Running, true, &report, &[]);
        }
        for done in 0..=4 {
            step(Status::Running, true, &report, &units(done, 4, UnitWork::Delete, false));
        }
        assert_eq!(step(Status::Confirm, true, &report, &units(4, 4, UnitWork::Delete, false)), 50);
        report.confirmed = true;
        step(Status::Confirmed, true, &report, &units(4, 4, UnitWork::Delete, false));
        step(Status::Running, true, &report, &units(4, 4, UnitWork::Delete, false));
        assert_eq!(step(Status::Running, true, &report, &units(4, 4, UnitWork::Delete, true)), 99);
        assert_eq!(step(Status::Done, true, &report, &units(4, 4, UnitWork::Delete, true)), 100);
    }

    #[test]
    fn exports_count_files() {
        let report = Report::default();
        let at =
            |done| percent(Status::Running, false, &report, &units(done, 4, UnitWork::Seal, false)).expect("percent");
        assert_eq!((at(0), at(2), at(4)), (0, 49, 99));
        assert_eq!(percent(Status::Queued, false, &report, &[]).expect("percent"), 0);
    }
}
