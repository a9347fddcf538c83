use knarr_base::filter::Values;
use knarr_service::collections::CollectionRef;

use super::*;
use crate::testing::{NOW_MS, golden};
use crate::vikingdb::convert::write;

const ID: &str = "0c2d9d04-5a3d-4f0a-9e0b-0123456789ab";

fn read(body: &str) -> Result<CreateTask> {
    create(&Args::new("", body.as_bytes())?, [7; 32])
}

fn kind(body: &str) -> Option<Kind> {
    read(body).err().map(|e| e.kind())
}

fn export_of(params: &str) -> Result<TaskSpec> {
    read(&format!(r#"{{"task_type":"data_export","task_params":{{"collection_name":"example",{params}}}}}"#))
        .map(|t| t.spec)
}

fn delete_of(params: &str) -> Result<TaskSpec> {
    read(&format!(r#"{{"task_type":"filter_delete","task_params":{{"collection_name":"example",{params}}}}}"#))
        .map(|t| t.spec)
}

fn path(text: &str) -> ObjectPath {
    ObjectPath::parse(text).expect("valid")
}

/// `user_id in (5, 9) and city in (beijing)`, as both documented samples have it.
fn sample_filter() -> Filter {
    Filter::And(vec![
        Filter::In { field: "user_id".to_owned(), values: Values::Int(vec![5, 9]), negated: false },
        Filter::In { field: "city".to_owned(), values: Values::Str(vec!["beijing".to_owned()]), negated: false },
    ])
}

#[test]
fn the_documented_samples() {
    let params = r#"{"collection_name": "example", "filter": {"user_id": [5, 9], "city": ["beijing"]}}"#;
    let task = read(&format!(r#"{{"task_type": "filter_delete", "task_params": {params}}}"#)).expect("valid");
    assert_eq!(task.collection, CollectionRef::Name("example".to_owned()));
    assert_eq!(task.spec, TaskSpec::Delete { filter: sample_filter(), need_confirm: true, backup: None });
    assert_eq!(task.params, params, "echoed as given");
    assert_eq!(task.dedup, Some([7; 32]));

    let params = r#""tos_path":"data-export/task_example","filter":{"user_id":[5,9],"city":["beijing"]}"#;
    let expected =
        TaskSpec::Export { filter: sample_filter(), target: path("data-export/task_example"), format: Format::Parquet };
    assert_eq!(export_of(params).expect("valid"), expected);
}

#[test]
fn filters_in_either_form_under_either_name() {
    let map = r#"{"user_id":[5,9],"city":["beijing"]}"#;
    let list = r#"[{"op":"must","field":"user_id","conds":[5,9]},{"op":"must","field":"city","conds":["beijing"]}]"#;
    let node = format!(r#"{{"op":"and","conds":{list}}}"#);
    for name in ["filter", "filter_conds"] {
        for text in [map, list, &node] {
            let spec = delete_of(&format!(r#""{name}":{text}"#)).expect(text);
            assert_eq!(spec, TaskSpec::Delete { filter: sample_filter(), need_confirm: true, backup: None }, "{text}");
        }
    }
    let one = delete_of(&format!(r#""filter":null,"filter_conds":{list}"#)).expect("one of them");
    assert!(matches!(one, TaskSpec::Delete { filter, .. } if filter == sample_filter()));
    for both in [format!(r#""filter":{map},"filter_conds":{list}"#), format!(r#""filter":{{}},"filter_conds":{list}"#)]
    {
        assert_eq!(delete_of(&both).map_err(|e| e.kind()), Err(Kind::Invalid), "{both}");
        let export = format!(r#""tos_path":"bucket/dir",{both}"#);
        assert_eq!(export_of(&export).map_err(|e| e.kind()), Err(Kind::Invalid), "{both}");
    }
}

#[test]
fn empty_never_means_all() {
    let empty_exclusion = r#""filter_conds":[{"op":"must_not","field":"n","conds":[]}]"#;
    for params in [
        r#""need_confirm":false"#,
        r#""filter":null"#,
        r#""filter":{}"#,
        r#""filter":[]"#,
        r#""filter_conds":[]"#,
        r#""filter":null,"filter_conds":null"#,
        r#""filter":{"op":"and","conds":[]}"#,
        empty_exclusion,
    ] {
        assert_eq!(delete_of(params).map_err(|e| e.kind()), Err(Kind::Invalid), "{params}");
    }
    let none = delete_of(r#""filter":{"n":[]}"#).expect("matches nothing");
    let nothing = Filter::In { field: "n".to_owned(), values: Values::Empty, negated: false };
    assert_eq!(none, TaskSpec::Delete { filter: nothing, need_confirm: true, backup: None });
}

#[test]
fn an_export_without_a_filter_exports_everything() {
    for params in ["", r#","filter":null"#, r#","filter":{}"#, r#","filter_conds":[]"#, r#","export_all":false"#] {
        let spec = export_of(&format!(r#""tos_path":"bucket/dir"{params}"#)).expect(params);
        assert!(matches!(spec, TaskSpec::Export { filter: Filter::All, .. }), "{params}");
    }
    // With export_all the filter is not even looked at.
    let spec = export_of(r#""tos_path":"bucket/dir","export_all":true,"filter":{"x":1.5},"filter_conds":7"#);
    assert!(matches!(spec.expect("all"), TaskSpec::Export { filter: Filter::All, .. }));
    assert_eq!(export_of(r#""tos_path":"bucket/dir","filter":{"x":1.5}"#).map_err(|e| e.kind()), Err(Kind::Invalid));
    for bad in ["1", r#""true""#, "[]"] {
        let params = format!(r#""tos_path":"bucket/dir","export_all":{bad}"#);
        assert_eq!(export_of(&params).map_err(|e| e.kind()), Err(Kind::Invalid), "{bad}");
    }
}

/// Every spelling of need_confirm, with and without a backup.
#[test]
fn need_confirm_matrix() {
    let mut lines = Vec::new();
    for given in [None, Some("true"), Some("false"), Some("null"), Some("0"), Some("1"), Some("\"false\""), Some("{}")]
    {
        for backup in ["", r#","tos_path":"bucket/dir""#] {
            let confirm = given.map(|text| format!(r#","need_confirm":{text}"#)).unwrap_or_default();
            let outcome = match delete_of(&format!(r#""filter":{{"n":[1]}}{confirm}{backup}"#)) {
                Ok(TaskSpec::Delete { need_confirm, backup, .. }) => {
                    format!("need_confirm={need_confirm} backup={}", backup.is_some())
                }
                Ok(TaskSpec::Export { .. }) => unreachable!("asked to delete"),
                Err(error) => format!("{:?}: {error}", error.kind()),
            };
            lines.push(format!("{:<10} backup={:<5} -> {outcome}", given.unwrap_or("absent"), !backup.is_empty()));
        }
    }
    golden("need_confirm_matrix.txt", &lines.join("\n"));
}

#[test]
fn targets_and_formats() {
    let filter = r#""filter":{"n":[1]}"#;
    let target = |params: &str| match export_of(&format!("{filter},{params}")).expect(params) {
        TaskSpec::Export { target, format, .. } => (target.to_string(), format),
        TaskSpec::Delete { .. } => unreachable!("asked to export"),
    };
    assert_eq!(target(r#""tos_path":"bucket/a/b/""#), ("bucket/a/b".to_owned(), Format::Parquet));
    assert_eq!(target(r#""tos_path":"bucket/a","file_type":"json""#), ("bucket/a".to_owned(), Format::Json));
    assert_eq!(target(r#""tos_path":"bucket/a","file_type":null"#).1, Format::Parquet);
    for bad in [
        r#""x":1"#,
        r#""tos_path":null"#,
        r#""tos_path":7"#,
        r#""tos_path":"bucket""#,
        r#""tos_path":"/dir""#,
        r#""tos_path":"bucket/../x""#,
        r#""tos_path":"tos://bucket/x""#,
        r#""tos_path":"bucket/a","file_type":"csv""#,
        r#""tos_path":"bucket/a","file_type":"Parquet""#,
        r#""tos_path":"bucket/a","file_type":1"#,
    ] {
        assert_eq!(export_of(&format!("{filter},{bad}")).map_err(|e| e.kind()), Err(Kind::Invalid), "{bad}");
    }
    // One page writes it beside task_params; inside wins.
    let beside = r#"{"task_type":"data_export","tos_path":"bucket/beside","task_params":{"collection_name":"c"}}"#;
    let spec = read(beside).expect("valid").spec;
    assert!(matches!(spec, TaskSpec::Export { target, .. } if target == path("bucket/beside")));
    let inside = beside.replace(r#""c""#, r#""c","tos_path":"bucket/inside""#);
    let spec = read(&inside).expect("valid").spec;
    assert!(matches!(spec, TaskSpec::Export { target, .. } if target == path("bucket/inside")));
    let backup = delete_of(&format!(r#"{filter},"tos_path":"bucket/backup","file_type":"json""#)).expect("valid");
    assert!(matches!(backup, TaskSpec::Delete { backup: Some((to, Format::Json)), .. } if to == path("bucket/backup")));
}

#[test]
fn types_known_later_and_unknown() {
    let of = |task_type: &str| format!(r#"{{"task_type":{task_type},"task_params":{{"collection_name":"c"}}}}"#);
    for later in [r#""data_import""#, r#""filter_update""#] {
        assert_eq!(kind(&of(later)), Some(Kind::Unsupported), "{later}");
    }
    for unknown in [r#""Filter_Delete""#, r#""""#, "7", "null"] {
        assert_eq!(kind(&of(unknown)), Some(Kind::Invalid), "{unknown}");
    }
    for bad in [
        "{}",
        r#"{"task_type":"data_export"}"#,
        r#"{"task_type":"data_export","task_params":null}"#,
        r#"{"task_type":"data_export","task_params":[]}"#,
        r#"{"task_type":"data_export","task_params":"{}"}"#,
        r#"{"task_type":"data_export","task_params":{"tos_path":"bucket/a"}}"#,
        r#"{"task_type":"data_export","task_params":{"collection_name":"","tos_path":"bucket/a"}}"#,
        r#"{"task_type":"data_export","task_params":{"collection_name":"c","tos_path":"bucket/a","tos_path":"bucket/b"}}"#,
    ] {
        assert_eq!(kind(bad), Some(Kind::Invalid), "{bad}");
    }
    let alias = r#"{"task_type":"data_export","task_params":{"collection_alias":"a","tos_path":"bucket/a"}}"#;
    assert_eq!(read(alias).expect("valid").collection, CollectionRef::Alias("a".to_owned()));
}

#[test]
fn params_are_bounded() {
    let body = |n: usize| {
        let empty = r#"{"collection_name":"c","tos_path":"bucket/a","x":""}"#;
        let params = empty.replace(r#""x":"""#, &format!(r#""x":"{}""#, "x".repeat(n - empty.len())));
        format!(r#"{{"task_type":"data_export","task_params":{params}}}"#)
    };
    assert!(read(&body(limit::TASK_PARAMS_BYTES)).is_ok());
    assert!(read(&body(limit::TASK_PARAMS_BYTES + 1)).is_err());
}

#[test]
fn ids_and_changes() {
    let args = |body: &'static str| Args::new("", body.as_bytes()).expect("valid");
    assert_eq!(id(&args(r#"{"task_id":"0c2d9d04-5a3d-4f0a-9e0b-0123456789ab"}"#)).expect("id").to_string(), ID);
    for unknown in [r#"{"task_id":"x"}"#, r#"{"task_id":"0C2D9D04-5A3D-4F0A-9E0B-0123456789AB"}"#] {
        assert_eq!(id(&args(unknown)).map_err(|e| e.kind()), Err(Kind::TaskMissing), "{unknown}");
    }
    for bad in ["{}", r#"{"task_id":7}"#, r#"{"task_id":null}"#] {
        assert_eq!(id(&args(bad)).map_err(|e| e.kind()), Err(Kind::Invalid), "{bad}");
    }
    assert_eq!(change(&args(r#"{"task_status":"confirmed"}"#)).expect("known"), Change::Confirm);
    assert_eq!(change(&args(r#"{"task_status":"cancel"}"#)).expect("known"), Change::Cancel);
    for bad in ["{}", r#"{"task_status":"confirm"}"#, r#"{"task_status":"done"}"#, r#"{"task_status":true}"#] {
        assert_eq!(change(&args(bad)).map_err(|e| e.kind()), Err(Kind::Invalid), "{bad}");
    }
}

#[test]
fn lists_are_narrowed_and_paged() {
    let read = |body: &str| query(&Args::new("", body.as_bytes()).expect("valid"));
    let all = read("{}").expect("valid").expect("some");
    assert!(all.collection.is_none() && all.kind.is_none() && all.status.is_none());
    assert_eq!((all.offset, all.limit), (0, limit::TASKS_PER_PAGE));
    let body = r#"{"collection_name":"c","task_type":"data_export","task_status":"confirm","page":3,"page_size":20}"#;
    let some = read(body).expect("valid").expect("some");
    assert_eq!(some.collection.as_ref().map(Name::as_str), Some("c"));
    assert_eq!((some.kind.as_deref(), some.status), (Some("data_export"), Some(Status::Confirm)));
    assert_eq!((some.offset, some.limit), (40, 20));
    let huge = read(r#"{"page":9223372036854775807,"page_size":1000000}"#).expect("valid").expect("some");
    assert_eq!(huge.limit, limit::LIST_PAGE as u64);
    assert!(read(r#"{"collection_name":"no such-name"}"#).expect("valid").is_none());
    for bad in [r#"{"task_status":"doing"}"#, r#"{"page":-1}"#, r#"{"page_size":"x"}"#, r#"{"collection_name":1}"#] {
        assert_eq!(read(bad).map(|_| ()).map_err(|e| e.kind()), Err(Kind::Invalid), "{bad}");
    }
}

fn info(kind: &str, status: Status, process: ProcessInfo) -> TaskInfo {
    TaskInfo {
        id: ID.parse().expect("an id"),
        kind: kind.to_owned(),
        status,
        collection: "example".to_owned(),
        params: r#"{"collection_name": "example", "filter": {"user_id": [5, 9]}, "need_confirm": true}"#.to_owned(),
        created_ms: NOW_MS,
        updated_ms: NOW_MS + 3_000,
        updated_by: "AKLTexample".to_owned(),
        process,
    }
}

fn shown(task: &TaskInfo) -> String {
    let mut out = Vec::new();
    write(&view(task).expect("a view"), &mut out);
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn views_have_the_vendors_shape() {
    let start = info(DELETE, Status::Init, ProcessInfo { step: Some("scan_data"), ..ProcessInfo::default() });
    golden("task_delete_init.json", &shown(&start));
    let confirm = ProcessInfo {
        sampled_data: r#"[{"id":1,"user_id":5,"city":"beijing"}]"#.to_owned(),
        sampled_timestamp: NOW_MS,
        percent: 50,
        step: Some("scan_data"),
        total_rows: 1000,
        matched_rows: 12,
        scanned_rows: 1000,
        ..ProcessInfo::default()
    };
    golden("task_delete_confirm.json", &shown(&info(DELETE, Status::Confirm, confirm.clone())));
    let done = ProcessInfo {
        percent: 100,
        step: Some("delete_data"),
        deleted_rows: 11,
        changed_rows: 1,
        elapsed_ms: Some(3000),
        ..confirm
    };
    golden("task_delete_done.json", &shown(&info(DELETE, Status::Done, done.clone())));
    let until = ProcessInfo { undo_until_ms: Some(NOW_MS + 60_000), ..done.clone() };
    golden("task_delete_undoable.json", &shown(&info(DELETE, Status::Done, until)));
    let undone = Undone { at_ms: NOW_MS + 9_000, restored: 8, changed_since: 2, expired: 1 };
    let undone = ProcessInfo { undone: Some(undone), ..done };
    golden("task_delete_undone.json", &shown(&info(DELETE, Status::Done, undone)));
    let running = ProcessInfo {
        sampled_data: "[]".to_owned(),
        sampled_timestamp: NOW_MS,
        percent: 40,
        total_rows: 1000,
        matched_rows: 400,
        scanned_rows: 500,
        bytes: 4096,
        rows_per_second: 100_000,
        eta_seconds: Some(6),
        files: vec![format!("data-export/task_example/{ID}/0.parquet")],
        ..ProcessInfo::default()
    };
    golden("task_export_running.json", &shown(&info(EXPORT, Status::Running, running.clone())));
    let failed = ProcessInfo { err_msg: "collection not exist".to_owned(), elapsed_ms: Some(5), ..running };
    golden("task_export_fail.json", &shown(&info(EXPORT, Status::Fail, failed)));
    let mut out = Vec::new();
    write(&model::Created { task_id: ID.to_owned() }, &mut out);
    golden("task_created.json", std::str::from_utf8(&out).expect("UTF-8"));
}

/// One function makes every view, so a list shows a task as info does.
#[test]
fn a_list_shows_what_info_shows() {
    let task = info(EXPORT, Status::Queued, ProcessInfo::default());
    let mut list = Vec::new();
    write(&[view(&task).expect("a view")], &mut list);
    assert_eq!(String::from_utf8(list).expect("UTF-8"), format!("[{}]", shown(&task)));
    let damaged = TaskInfo { params: "{".to_owned(), ..task };
    assert_eq!(view(&damaged).map(|_| ()).map_err(|e| e.kind()), Err(Kind::Corrupt));
}

#[test]
fn statuses_have_the_vendors_words() {
    let words = Status::ALL.map(status);
    assert_eq!(words, ["init", "queued", "running", "confirm", "confirmed", "done", "fail"]);
}
