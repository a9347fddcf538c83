//! A service on a temporary directory that can be stopped and opened again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use knarr_base::clock::{ManualClock, SharedClock};
use knarr_base::filter::{Bounds, Filter, Values};
use knarr_base::id::{AccountId, KeyId, Name, TaskId};
use knarr_base::object::ObjectPath;
use knarr_base::right::Grant;
use knarr_base::schema::{Field, FieldType, Schema};
use knarr_base::value::{Key, Number};
use knarr_catalog::{Catalog, MasterKey};
use knarr_engine::compute::Pool;
use knarr_engine::disk::{Disk, OsDisk};
use knarr_engine::objects::Stores;
use knarr_engine::table::{Options, Tables};
use serde_json::Value;

use crate::collections::{CollectionRef, CreateCollection, RowWrite};
use crate::embedding::NoModels;
use crate::tasks::{CreateTask, Format, Policy, Status, TaskInfo, TaskSpec};
use crate::{Parts, Principal, Service};

/// Start of every test's wall clock, unix ms.
pub(super) const T0: i64 = 1_700_000_000_000;

pub(super) struct Bed {
    pub(super) service: Service,
    pub(super) clock: Arc<ManualClock>,
    dir: tempfile::TempDir,
}

impl Bed {
    pub(super) async fn new() -> Self {
        Self::on(|_| Arc::new(OsDisk)).await
    }

    /// With the tables on this disk, which is made for the data directory.
    pub(super) async fn on(disk: impl FnOnce(&Path) -> Arc<dyn Disk>) -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let clock = ManualClock::new(T0);
        let service = open(dir.path(), clock.clone(), disk(dir.path())).await;
        Self { service, clock, dir }
    }

    /// Stops and starts again on the same directory.
    pub(super) async fn restart(self) -> Self {
        let Self { service, clock, dir } = self;
        service.shutdown().await;
        drop(service);
        let service = open(dir.path(), clock.clone(), Arc::new(OsDisk)).await;
        Self { service, clock, dir }
    }

    pub(super) fn object(&self, path: &str) -> PathBuf {
        self.dir.path().join("objects").join(path)
    }

    /// `example`: id int64 key, user_id int64, city string, v vector of 4.
    pub(super) async fn example(&self) -> Principal {
        let by = admin("default");
        self.service.create_collection(&by, example("example")).await.expect("created");
        by
    }

    /// Upserts `id -> (user_id, city)` in calls of at most 100 rows.
    pub(super) async fn upsert(&self, by: &Principal, rows: impl IntoIterator<Item = (i64, i64, &str)>) {
        let rows: Vec<_> = rows.into_iter().map(|(id, user, city)| row(id, user, city)).collect();
        for call in rows.chunks(100) {
            let rows = format!("[{}]", call.join(","));
            self.service.upsert(by, &named("example"), RowWrite::new(&rows, 0)).await.expect("upsert");
        }
    }

    /// Those of `ids` that exist.
    pub(super) async fn present(&self, by: &Principal, ids: impl IntoIterator<Item = i64>) -> Vec<i64> {
        let ids: Vec<_> = ids.into_iter().collect();
        let mut found = Vec::new();
        for call in ids.chunks(100) {
            let keys = call.iter().map(|id| Key::Int(*id)).collect();
            let rows = self.service.fetch(by, &named("example"), keys).await.expect("fetch");
            assert_eq!(rows.len(), call.len());
            found.extend(call.iter().enumerate().filter(|(at, _)| rows.found(*at)).map(|(_, id)| *id));
        }
        found
    }

    pub(super) async fn create(&self, by: &Principal, spec: TaskSpec) -> knarr_base::Result<TaskId> {
        let new = CreateTask { collection: named("example"), spec, params: "{}".into(), dedup: None };
        self.service.create_task(by, new).await
    }

    /// Waits until the task is in one of these states; checks on the way that progress never goes down.
    pub(super) async fn wait(&self, by: &Principal, id: TaskId, wanted: &[Status]) -> TaskInfo {
        let mut percent = 0;
        for _ in 0..2000 {
            let info = self.service.task_info(by, id).await.expect("info");
            assert!(info.process.percent >= percent, "progress went down");
            assert_eq!(info.process.percent == 100, info.status == Status::Done);
            percent = info.process.percent;
            if wanted.contains(&info.status) {
                return info;
            }
            assert!(!info.status.is_final(), "ended as {:?}: {}", info.status, info.process.err_msg);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the task did not reach {wanted:?}");
    }

    /// Waits for the end, whichever it is.
    pub(super) async fn wait_any(&self, by: &Principal, id: TaskId) -> TaskInfo {
        for _ in 0..2000 {
            let info = self.service.task_info(by, id).await.expect("info");
            if info.status.is_final() {
                return info;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the task did not end");
    }

    /// Rows of the JSON files of a task, by id.
    pub(super) fn exported(&self, info: &TaskInfo) -> BTreeMap<i64, Value> {
        let mut rows = BTreeMap::new();
        for file in &info.process.files {
            let text = std::fs::read_to_string(self.object(file)).expect("file");
            for line in text.lines() {
                let row: Value = serde_json::from_str(line).expect("JSON line");
                let id = row["id"].as_i64().expect("id");
                assert!(rows.insert(id, row).is_none(), "row {id} twice");
            }
        }
        rows
    }
}

async fn open(dir: &Path, clock: SharedClock, disk: Arc<dyn Disk>) -> Service {
    let pool = Pool::new(2);
    let tables = Tables::open(Options {
        dir: dir.to_owned(),
        clock: clock.clone(),
        disk,
        pool: pool.clone(),
        memtable_bytes: 256 * 1024,
        structure_rows: 1_000,
    })
    .expect("tables");
    let master = MasterKey::from_hex(&"07".repeat(32)).expect("key");
    let catalog = Catalog::open(&dir.join("catalog.db"), clock.clone(), master).await.expect("catalog");
    let stores = Arc::new(Stores::open_local(&dir.join("objects")).expect("stores"));
    let models = Arc::new(NoModels);
    Service::open(Parts {
        tables,
        catalog,
        stores,
        pool,
        clock,
        models,
        policy: Policy::default(),
        process_keys: Vec::new(),
    })
    .await
    .expect("service")
}

pub(super) fn admin(account: &str) -> Principal {
    principal(account, "AKLTadmin", vec![Grant::everything()])
}

pub(super) fn principal(account: &str, key: &str, grants: Vec<Grant>) -> Principal {
    Principal { account: AccountId::new(account), key: KeyId::new(key), grants }
}

pub(super) fn named(name: &str) -> CollectionRef {
    CollectionRef::Name(name.to_owned())
}

pub(super) fn example(name: &str) -> CreateCollection {
    let field = |name: &str, kind| Field {
        name: Name::parse("field_name", name).expect("valid"),
        kind,
        default: None,
        pipeline: None,
    };
    let fields = vec![
        field("id", FieldType::Int64),
        field("user_id", FieldType::Int64),
        field("city", FieldType::String),
        field("v", FieldType::Vector { dim: 4 }),
    ];
    CreateCollection {
        name: Name::parse("collection_name", name).expect("valid"),
        aliases: Vec::new(),
        description: String::new(),
        project: "default".into(),
        schema: Schema::new(fields, "id").expect("valid"),
        vectorize: None,
    }
}

pub(super) fn row(id: i64, user: i64, city: &str) -> String {
    format!(r#"{{"id":{id},"user_id":{user},"city":"{city}","v":[{id}.5,0,1,-1]}}"#)
}

pub(super) fn users_below(bound: i64) -> Filter {
    Filter::Range {
        field: "user_id".into(),
        bounds: Bounds { lt: Some(Number::Int(bound)), ..Bounds::default() },
        outside: false,
    }
}

pub(super) fn city(name: &str) -> Filter {
    Filter::In { field: "city".into(), values: Values::Str(vec![name.into()]), negated: false }
}

pub(super) fn path(text: &str) -> ObjectPath {
    ObjectPath::parse(text).expect("valid")
}

pub(super) fn export(filter: Filter) -> TaskSpec {
    TaskSpec::Export { filter, target: path("data-export/task_example"), format: Format::Json }
}

pub(super) fn delete(filter: Filter, need_confirm: bool) -> TaskSpec {
    TaskSpec::Delete { filter, need_confirm, backup: None }
}
