//! Dies at every named failpoint of every layer, restarts, goes on, and must end where an undisturbed run ends.
//!
//! Needs a server that was built with the feature `failpoints`; there a panic at a failpoint aborts the process, which is
//! SIGKILL at a place of our choice.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Client, Reply};
use crate::exports;
use crate::process::Server;
use crate::world::{self, Deadline, World, collection, missing, pause, upsert};

/// The collection that stays to the end, and one that does not.
const TABLE: &str = "walk";
const DOOMED: &str = "doomed";
const ROWS: i64 = 500;
/// Every segment of these walks is large enough for search structures.
const STRUCTURED: (&str, &str) = ("KNARR_STRUCTURE_ROWS", "20");
/// Walks at the same time: most of one is waiting for disks and for processes to start.
const WALKERS: usize = 6;

/// Writes of the catalog that no walk comes to, each with the reason; both failpoints of each.
const NOT_REACHED: [(&str, &str); 5] = [
    ("save_report", "no scan here is long enough to report while it runs"),
    ("expire_tasks", "tasks expire after days"),
    ("renew_lease", "no unit here runs for half a lease"),
    ("release_lease", "no unit here meets a store that is away"),
    ("strike_unit", "no unit here panics without ending the process"),
];

fn points() -> Vec<&'static str> {
    let layers = [
        knarr_engine::table::FAILPOINTS,
        knarr_engine::bulk::FAILPOINTS,
        knarr_catalog::FAILPOINTS,
        knarr_service::tasks::FAILPOINTS,
    ];
    layers.concat()
}

/// What a walk ends with: rows, and the content of each export.
#[derive(Debug, PartialEq)]
struct End {
    rows: BTreeMap<i64, Value>,
    digests: BTreeMap<&'static str, Value>,
}

/// A client that survives the death of its server by starting the next one, which has no failpoints.
struct Walk {
    world: World,
    server: Option<Server>,
    client: Option<Client>,
    died: bool,
    digests: BTreeMap<&'static str, Value>,
}

impl Walk {
    /// `config`: what the environment variable FAILPOINTS says; empty for an undisturbed walk.
    fn start(config: &str) -> Self {
        let world = World::new();
        let settings = [("KNARR_MEMTABLE_MIB", "1"), STRUCTURED, ("FAILPOINTS", config)];
        let server = world.try_start(&settings).ok();
        let died = server.is_none();
        assert!(!(died && config.is_empty()), "no start without failpoints\n{}", world.log());
        Self { world, server, client: None, died, digests: BTreeMap::new() }
    }

    /// A call, repeated if the server died of it; the flag says that it was.
    fn call(&mut self, path: &str, body: &Value) -> (Reply, bool) {
        let mut repeated = false;
        loop {
            if self.server.is_none() {
                self.server = Some(self.world.start_with(&[STRUCTURED]));
                self.client = None;
            }
            let server = self.server.as_ref().expect("was just set");
            let client = self.client.get_or_insert_with(|| server.client());
            if let Ok(reply) = client.post(path, body) {
                return (reply, repeated);
            }
            assert!(!self.died, "the server died a second time, at {path}\n{}", self.world.log());
            self.bury();
            repeated = true;
        }
    }

    /// Notes that the server died, which it may only do at a failpoint.
    fn bury(&mut self) {
        let code = self.server.take().map(Server::wait);
        assert_eq!(code, Some(None), "the server ended by itself\n{}", self.world.log());
        self.died = true;
    }

    /// A call that is harmless to repeat.
    fn must(&mut self, path: &str, body: &Value) -> Value {
        let (reply, _) = self.call(path, body);
        assert_eq!(reply.code, 0, "{path} {body}: {}\n{}", reply.text, self.world.log());
        reply.data
    }

    /// A call that, repeated, may answer that it has been done.
    fn once(&mut self, path: &str, body: &Value, done: i64) {
        let (reply, repeated) = self.call(path, body);
        assert!(reply.code == 0 || (repeated && reply.code == done), "{path} {body}: {}", reply.text);
    }

    fn upsert(&mut self, table: &str, ids: impl Iterator<Item = i64>, n: i64) {
        let rows: Vec<Value> = ids.map(|id| row(id, n)).collect();
        for call in rows.chunks(50) {
            self.must("/api/collection/upsert_data", &upsert(table, call));
        }
    }

    /// A task, looked for first: nobody knows what became of a create that was not answered.
    fn task(&mut self, kind: &str, params: &Value) -> String {
        loop {
            let listed = self.must("/api/task/list", &json!({"task_type": kind}));
            if let Some(task) = listed.as_array().unwrap().iter().find(|t| t["task_params"] == *params) {
                return task["task_id"].as_str().unwrap().to_owned();
            }
            self.call("/api/task/create", &json!({"task_type": kind, "task_params": params}));
        }
    }

    fn wait(&mut self, task: &str, status: &str) -> Value {
        let deadline = Deadline::new(Duration::from_secs(60));
        loop {
            let mut info = self.must("/api/task/info", &json!({"task_id": task}));
            if info["task_status"] == status {
                return info["process_info"].take();
            }
            let ended = info["task_status"] == "done" || info["task_status"] == "fail";
            assert!(!ended && !deadline.over(), "waiting for {status}: {info}\n{}", self.world.log());
            pause(Duration::from_millis(5));
        }
    }

    /// Waits until every large segment has its search structure.
    fn built(&mut self) {
        let deadline = Deadline::new(Duration::from_secs(60));
        loop {
            let info = self.must("/api/index/info", &json!({"collection_name": TABLE, "index_name": world::NEAR}));
            let structure = &info["search_structure"];
            if info["status"] == "READY" && structure["rows"] != 0 && structure["rows"] == structure["rows_built"] {
                return;
            }
            assert!(!deadline.over(), "waiting for structures: {info}\n{}", self.world.log());
            pause(Duration::from_millis(5));
        }
    }

    fn export(&mut self, path: &'static str) -> BTreeMap<i64, Value> {
        let params = json!({"collection_name": TABLE, "tos_path": path, "file_type": "json", "export_all": true});
        let task = self.task("data_export", &params);
        self.wait(&task, "done");
        self.sealed(path, &task)
    }

    /// Rows of a finished export or backup; its digest is remembered.
    fn sealed(&mut self, path: &'static str, task: &str) -> BTreeMap<i64, Value> {
        let dir = exports::dir(&self.world.data(), path, task);
        self.digests.insert(path, exports::verify(&dir)["content_digest"].clone());
        exports::rows(&dir)
    }

    /// Everything that the failpoints are about.
    fn run(mut self) -> (bool, End) {
        self.once("/api/collection/create", &collection(TABLE), 1_000_004);
        self.once("/api/collection/create", &collection(DOOMED), 1_000_004);
        self.upsert(DOOMED, 0..50, 1);
        // More than one memtable, so that flushes happen by themselves.
        self.upsert(TABLE, 0..ROWS, 1);
        self.must(
            "/api/collection/update_data",
            &upsert(TABLE, &[json!({"id": 1, "grp": 9}), json!({"id": 2, "grp": 9})]),
        );
        self.must("/api/collection/del_data", &json!({"collection_name": TABLE, "primary_keys": [3, 4, 5]}));
        let added = json!({"collection_name": TABLE, "fields": [{"field_name": "extra", "field_type": "int64", "default_val": 7}]});
        self.must("/api/collection/update", &added);
        let index = json!({"collection_name": TABLE, "index_name": "walked"});
        self.once("/api/index/create", &index, 1_000_007);
        let mut change = index.clone();
        change["description"] = "walked".into();
        self.must("/api/index/update", &change);
        assert_eq!(self.must("/api/index/info", &index)["description"], "walked");
        self.once("/api/index/drop", &index, 1_000_008);
        assert_eq!(self.export("walk/first").len() as i64, ROWS - 3);
        self.once("/api/index/create", &world::near(TABLE), 1_000_007);
        self.built();

        let params =
            json!({"collection_name": TABLE, "filter": {"grp": [1]}, "tos_path": "walk/backup", "file_type": "json"});
        let task = self.task("filter_delete", &params);
        let matched = self.wait(&task, "confirm")["total_filter_count"].clone();
        self.must("/api/task/update", &json!({"task_id": task, "task_status": "confirmed"}));
        let deleted = self.wait(&task, "done")["total_deleted_count"].clone();
        assert_eq!(deleted, matched);
        assert_eq!(matched, self.sealed("walk/backup", &task).len());

        let params = json!({"collection_name": TABLE, "filter": {"grp": [0]}});
        let task = self.task("filter_delete", &params);
        self.wait(&task, "confirm");
        self.must("/api/task/update", &json!({"task_id": task, "task_status": "cancel"}));
        self.wait(&task, "fail");
        self.once("/api/task/drop", &json!({"task_id": task}), 1_000_035);

        let params = json!({"collection_name": TABLE, "filter": {"grp": [2]}, "need_confirm": false});
        let task = self.task("filter_delete", &params);
        let deleted = self.wait(&task, "done")["total_deleted_count"].clone();
        assert_ne!(deleted, 0);
        // Asked again after a death, it says what it did then.
        let undone = self.must("/knarr/v1/tasks/undo", &json!({"task_id": task}));
        assert_eq!((&undone["restored_count"], &undone["changed_count"]), (&deleted, &json!(0)), "{undone}");
        assert_eq!(self.must("/knarr/v1/tasks/undo", &json!({"task_id": task})), undone);

        // Every export flushes: enough segments of one size for a compaction.
        for (n, path) in (2..).zip(["walk/a", "walk/b", "walk/c", "walk/d", "walk/e"]) {
            self.upsert(TABLE, (0..40).map(|i| i * n), n);
            self.export(path);
        }
        self.must("/api/collection/del_data", &json!({"collection_name": DOOMED, "del_all": true}));
        self.once("/api/collection/drop", &json!({"collection_name": DOOMED}), 1_000_005);
        self.must("/knarr/v1/buckets/create", &json!({"bucket": "walked"}));
        let key =
            self.must("/knarr/v1/keys/create", &json!({"label": "", "grants": [{"rights": ["read"], "pattern": "x"}]}));
        let (revoked, repeated) = self.call("/knarr/v1/keys/revoke", &json!({"access_key": key["access_key"]}));
        assert!(revoked.code == 0 || repeated, "{}", revoked.text);
        self.restart();
        self.end()
    }

    /// Gives the background a moment to reach its failpoints, then a clean stop, at which the server may die as well.
    fn restart(&mut self) {
        let deadline = Deadline::new(Duration::from_millis(300));
        while !self.died && !deadline.over() && self.server.as_mut().is_some_and(|s| !s.ended()) {
            pause(Duration::from_millis(20));
        }
        if let Some(mut server) = self.server.take() {
            let code = if server.ended() { server.wait() } else { server.stop() };
            assert!(code == Some(0) || (code.is_none() && !self.died), "exit {code:?}\n{}", self.world.log());
            self.died |= code.is_none();
        }
    }

    fn end(mut self) -> (bool, End) {
        let rows = self.export("walk/last");
        self.built();
        let keys: Vec<i64> = (0..ROWS).collect();
        for keys in keys.chunks(100) {
            let body = json!({"collection_name": TABLE, "primary_keys": keys});
            for (key, item) in keys.iter().zip(self.must("/api/collection/fetch_data", &body).as_array().unwrap()) {
                assert_eq!(missing(item), !rows.contains_key(key), "row {key} in the table and in the export of it");
            }
        }
        let (gone, _) = self.call("/api/collection/info", &json!({"collection_name": DOOMED}));
        assert_eq!(gone.code, 1_000_005, "a dropped collection is back");
        self.world.stop(self.server.take().expect("is up"));
        (self.died, End { rows, digests: self.digests })
    }
}

/// Heavy enough that some hundreds fill a memtable.
fn row(id: i64, n: i64) -> Value {
    let mut row = world::row(id, id % 3, n);
    row["s"] = format!("{n}-{id}-").repeat(600).into();
    row
}

/// T2, T8, T13, D1: from every failpoint on, the walk ends with the same rows and the same files.
#[test]
fn kill_at_every_failpoint() {
    let (died, undisturbed) = Walk::start("").run();
    assert!(!died);
    // The long form also dies at later visits of each failpoint.
    let visits = if std::env::var_os("KNARR_KILL_SECONDS").is_some() { 6 } else { 1 };
    let work: Vec<(&str, u32)> =
        (0..visits).flat_map(|visit| points().into_iter().map(move |point| (point, visit))).collect();
    let (queue, reached) = (Mutex::new(work.into_iter()), Mutex::new(std::collections::BTreeSet::new()));
    thread::scope(|scope| {
        for _ in 0..WALKERS {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap().next();
                    let Some((point, visit)) = next else { break };
                    let config =
                        format!("{point}={}panic", if visit == 0 { String::new() } else { format!("{visit}*off->") });
                    println!("{config}");
                    let (died, end) = Walk::start(&config).run();
                    assert_eq!(end, undisturbed, "after {config}");
                    if died {
                        reached.lock().unwrap().insert(point);
                    }
                }
            });
        }
    });
    let reached = reached.into_inner().unwrap();
    let missed: Vec<&str> = points().into_iter().filter(|point| !reached.contains(point)).collect();
    let known = NOT_REACHED
        .iter()
        .flat_map(|(write, _)| ["before", "after"].map(|at| format!("catalog::{write}::{at}_commit")));
    assert_eq!(missed, known.collect::<Vec<_>>(), "failpoints that the walk did not reach");
}

/// T2: an export that was killed between its files and its seal, several times over, has the content of one that was not.
#[test]
fn same_digest() {
    let (_, undisturbed) = Walk::start("").run();
    assert!(!undisturbed.digests.is_empty());
    for point in ["bulk::export::step", "service::export::after_file", "service::export::before_success"] {
        let (died, end) = Walk::start(&format!("{point}=1*off->panic")).run();
        assert!(died, "{point} was not reached twice");
        assert_eq!(end.digests, undisturbed.digests, "{point}");
    }
}
