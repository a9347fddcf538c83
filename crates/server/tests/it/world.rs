//! A data directory that outlives the servers started on it, and what tests ask of them.

use std::path::PathBuf;
use std::time::Duration;

use knarr_base::clock::{SharedClock, SystemClock};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Client, Keys, Reply};
use crate::process::Server;

/// Longer than anything here takes on a busy machine; reached only by a fault.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    root: TempDir,
    keys: Keys,
}

/// What a failed test leaves can be looked at.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.root.disable_cleanup(true);
            eprintln!("data and log of the failed test: {}", self.root.path().display());
        }
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_keys("AKLTadministrator", "the secret of the administrator of one test")
    }

    pub(crate) fn with_keys(access: &str, secret: &str) -> Self {
        let keys = Keys { access: access.to_owned(), secret: secret.to_owned() };
        Self { root: TempDir::with_prefix("knarr-it-").expect("a temporary directory"), keys }
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// What the servers wrote to stderr.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.data().with_extension("log")).unwrap_or_default()).into_owned()
    }

    /// Small memtables, so that flushes and compactions happen in small tests.
    pub(crate) fn start(&self) -> Server {
        self.start_with(&[("KNARR_MEMTABLE_MIB", "1")])
    }

    pub(crate) fn start_with(&self, environment: &[(&str, &str)]) -> Server {
        self.try_start(environment).unwrap_or_else(|why| panic!("{why}\n{}", self.log()))
    }

    pub(crate) fn try_start(&self, environment: &[(&str, &str)]) -> Result<Server, String> {
        let binary = std::path::Path::new(env!("CARGO_BIN_EXE_knarr"));
        Server::start(binary, &self.data(), &self.keys, environment)
    }

    /// SIGTERM ends in a clean exit.
    pub(crate) fn stop(&self, server: Server) {
        assert_eq!(server.stop(), Some(0), "exit code after SIGTERM\n{}", self.log());
    }

    /// A client with a new key that has these grants: `(rights, pattern)`.
    pub(crate) fn client_with(server: &Server, grants: &[(&[&str], &str)]) -> Client {
        Client::new(server.host(), &new_key(&mut server.client(), grants))
    }
}

/// Makes a key in the caller's account.
pub(crate) fn new_key(admin: &mut Client, grants: &[(&[&str], &str)]) -> Keys {
    let grants: Vec<Value> =
        grants.iter().map(|(rights, pattern)| json!({"rights": rights, "pattern": pattern})).collect();
    let made = admin.must("/knarr/v1/keys/create", &json!({"label": "test", "grants": grants}));
    let text = |name: &str| made[name].as_str().expect("a new key has both halves").to_owned();
    Keys { access: text("access_key"), secret: text("secret_key") }
}

/// Waits, without a clock of its own: nobody unparks these threads.
pub(crate) fn pause(time: Duration) {
    std::thread::park_timeout(time);
}

/// A time after which a test gives up.
pub(crate) struct Deadline {
    clock: SharedClock,
    after: Duration,
}

impl Deadline {
    pub(crate) fn new(after: Duration) -> Self {
        Self { clock: SystemClock::shared(), after }
    }

    pub(crate) fn over(&self) -> bool {
        self.clock.monotonic() > self.after
    }
}

/// Runs `look` until it finds something.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Deadline::new(PATIENCE);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(!deadline.over(), "gave up waiting for {what}");
        pause(Duration::from_millis(5));
    }
}

/// `collection/create` of the tests' table: a key, two numbers, a text and a vector.
pub(crate) fn create_collection(client: &mut Client, name: &str) {
    client.must("/api/collection/create", &collection(name));
}

pub(crate) fn collection(name: &str) -> Value {
    let field = |name: &str, kind: &str| json!({"field_name": name, "field_type": kind});
    json!({"collection_name": name, "primary_key": "id", "fields": [
        field("id", "int64"), field("grp", "int64"), field("n", "int64"), field("s", "string"),
        {"field_name": "v", "field_type": "vector", "dim": 4},
    ]})
}

/// Name of [`near`].
pub(crate) const NEAR: &str = "near";

/// A request for an index that is served by search structures.
pub(crate) fn near(collection: &str) -> Value {
    let vector = json!({"index_type": "hnsw", "distance": "l2", "quant": "float"});
    json!({"collection_name": collection, "index_name": NEAR, "vector_index": vector})
}

/// A row whose text and vector follow from `n`, so that a mixture of two writes shows.
pub(crate) fn row(id: i64, grp: i64, n: i64) -> Value {
    json!({"id": id, "grp": grp, "n": n, "s": text(n), "v": [n % 1000, 0.5, -1, id % 1000]})
}

/// Up to some hundred bytes that follow from `n`.
pub(crate) fn text(n: i64) -> String {
    format!("{n}:").repeat(1 + n.unsigned_abs() as usize % 40)
}

pub(crate) fn upsert(name: &str, rows: &[Value]) -> Value {
    json!({"collection_name": name, "fields": rows})
}

/// Writes any number of rows.
pub(crate) fn fill(client: &mut Client, name: &str, rows: impl Iterator<Item = Value>) {
    let rows: Vec<Value> = rows.collect();
    for call in rows.chunks(100) {
        client.must("/api/collection/upsert_data", &upsert(name, call));
    }
}

/// Items of any number of keys, in order.
pub(crate) fn fetch(client: &mut Client, name: &str, keys: impl Iterator<Item = i64>) -> Vec<Value> {
    let keys: Vec<i64> = keys.collect();
    let call = |client: &mut Client, keys: &[i64]| {
        let body = json!({"collection_name": name, "primary_keys": keys});
        let Value::Array(items) = client.must("/api/collection/fetch_data", &body) else { panic!("data is a list") };
        assert_eq!(items.len(), keys.len());
        items
    };
    keys.chunks(100).flat_map(|keys| call(client, keys)).collect()
}

/// True for the item of a key that has no row.
pub(crate) fn missing(item: &Value) -> bool {
    item["message"] == "no data found"
}

/// Ids of those rows that exist.
pub(crate) fn alive(client: &mut Client, name: &str, keys: impl Iterator<Item = i64>) -> Vec<i64> {
    fetch(client, name, keys).iter().filter(|item| !missing(item)).map(|item| item["id"].as_i64().unwrap()).collect()
}

pub(crate) fn create_task(client: &mut Client, kind: &str, params: Value) -> String {
    let made = client.must("/api/task/create", &json!({"task_type": kind, "task_params": params}));
    made["task_id"].as_str().expect("a task has an id").to_owned()
}

pub(crate) fn task_info(client: &mut Client, id: &str) -> Value {
    client.must("/api/task/info", &json!({"task_id": id}))
}

pub(crate) fn update_task(client: &mut Client, id: &str, status: &str) -> Reply {
    client.post("/api/task/update", &json!({"task_id": id, "task_status": status})).expect("the server is up")
}

/// The task once it has this status; another final one fails the test.
pub(crate) fn wait(client: &mut Client, id: &str, status: &str) -> Value {
    eventually(&format!("task {id} to be {status}"), || {
        let info = task_info(client, id);
        if info["task_status"] == status {
            return Some(info);
        }
        assert!(info["task_status"] != "done" && info["task_status"] != "fail", "{info}");
        None
    })
}
