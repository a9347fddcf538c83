//! Work that panics. A process of its own: a failpoint is one for all tests of a process.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use knarr_base::clock::SystemClock;
use knarr_base::filter::Filter;
use knarr_base::id::{AccountId, KeyId, Name, TaskId};
use knarr_base::object::ObjectPath;
use knarr_base::right::Grant;
use knarr_base::schema::{Field, FieldType, Schema};
use knarr_base::value::Key;
use knarr_catalog::{Catalog, MasterKey};
use knarr_engine::compute::Pool;
use knarr_engine::disk::OsDisk;
use knarr_engine::objects::Stores;
use knarr_engine::table::{Options, Tables};
use knarr_service::collections::{CollectionRef, CreateCollection, RowWrite};
use knarr_service::embedding::NoModels;
use knarr_service::tasks::{CreateTask, Format, Policy, Status, TaskInfo, TaskSpec};
use knarr_service::{Parts, Principal, Service};

const STEP: &str = "bulk::export::step";

async fn open(dir: &Path) -> Service {
    let (clock, pool) = (SystemClock::shared(), Pool::new(2));
    let options = Options {
        dir: dir.to_owned(),
        clock: clock.clone(),
        disk: Arc::new(OsDisk),
        pool: pool.clone(),
        memtable_bytes: 1 << 20,
        structure_rows: knarr_base::limit::INDEX_SEGMENT_ROWS,
    };
    let tables = Tables::open(options).expect("tables");
    let master = MasterKey::from_hex(&"07".repeat(32)).expect("key");
    let catalog = Catalog::open(&dir.join("catalog.db"), clock.clone(), master).await.expect("catalog");
    let stores = Arc::new(Stores::open_local(&dir.join("objects")).expect("stores"));
    let (policy, models) = (Policy::default(), Arc::new(NoModels));
    let parts = Parts { tables, catalog, stores, pool, clock, policy, models, process_keys: Vec::new() };
    Service::open(parts).await.expect("service")
}

fn collection() -> CollectionRef {
    CollectionRef::Name("example".to_owned())
}

async fn export(service: &Service, by: &Principal) -> TaskInfo {
    let target = ObjectPath::parse("exports/poison").expect("valid");
    let spec = TaskSpec::Export { filter: Filter::All, target, format: Format::Json };
    let new = CreateTask { collection: collection(), spec, params: "{}".to_owned(), dedup: None };
    let id: TaskId = service.create_task(by, new).await.expect("created");
    for _ in 0..6000 {
        let info = service.task_info(by, id).await.expect("info");
        if matches!(info.status, Status::Done | Status::Fail) {
            return info;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the task does not end");
}

/// H12: a unit that panics three times fails its task, which names it; fewer are forgiven, and nobody else notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_unit_quarantined() {
    let dir = tempfile::tempdir().expect("a directory");
    let service = open(dir.path()).await;
    let (account, key) = (AccountId::default_account(), KeyId::new("AKLTadmin"));
    let by = Principal { account, key, grants: vec![Grant::everything()] };
    let name = |text| Name::parse("name", text).expect("valid");
    let id = Field { name: name("id"), kind: FieldType::Int64, default: None, pipeline: None };
    let new = CreateCollection {
        name: name("example"),
        aliases: Vec::new(),
        description: String::new(),
        project: "default".to_owned(),
        schema: Schema::new(vec![id], "id").expect("valid"),
        vectorize: None,
    };
    service.create_collection(&by, new).await.expect("created");
    service.upsert(&by, &collection(), RowWrite::new(r#"[{"id":1},{"id":2}]"#, 0)).await.expect("upserts");

    fail::cfg(STEP, "panic").expect("failpoints are compiled in");
    let failed = export(&service, &by).await;
    assert_eq!(failed.status, Status::Fail);
    assert!(failed.process.err_msg.contains("unit 0 failed 3 times"), "{}", failed.process.err_msg);
    assert!(!dir.path().join("objects/exports/poison").join(failed.id.to_string()).exists(), "nothing half-done stays");
    service.upsert(&by, &collection(), RowWrite::new(r#"[{"id":3}]"#, 0)).await.expect("others go on");
    let found = service.fetch(&by, &collection(), (1..4).map(Key::Int).collect()).await.expect("fetches");
    assert!((0..3).all(|at| found.found(at)));

    fail::cfg(STEP, "2*panic->off").expect("failpoints are compiled in");
    assert_eq!(export(&service, &by).await.status, Status::Done, "two panics are forgiven");
    fail::remove(STEP);
    service.shutdown().await;
}
