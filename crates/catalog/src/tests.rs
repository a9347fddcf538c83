//! What all tests of this crate share, and the tests of opening, closing and failing.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use knarr_base::Kind;
use knarr_base::clock::ManualClock;
use knarr_base::id::{AccountId, KeyId, Name, TableId, TaskId};
use knarr_base::object::BucketName;
use knarr_base::right::Grant;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _};

use crate::audit::Audit;
use crate::collections::{CollectionChange, NewCollection};
use crate::indexes::tests::new_index;
use crate::indexes::{IndexChange, IndexKey};
use crate::tasks::{Kept, NewTask, Status, Task, TaskChange};
use crate::{Catalog, Error, FAILPOINTS, MasterKey, dialect};

pub(crate) const START_MS: i64 = 1_700_000_000_000;

/// Failpoints belong to the whole process: tests that set some run alone.
static FAILPOINT_GATE: RwLock<()> = RwLock::new(());

#[expect(dead_code, reason = "held, never read")]
enum Gate {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

/// A database file in a directory of its own, with its clock and master key.
pub(crate) struct Home {
    dir: tempfile::TempDir,
    pub(crate) clock: Arc<ManualClock>,
    master: String,
    _gate: Gate,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self::behind(Gate::Shared(FAILPOINT_GATE.read().unwrap_or_else(PoisonError::into_inner)))
    }

    fn alone() -> Self {
        Self::behind(Gate::Alone(FAILPOINT_GATE.write().unwrap_or_else(PoisonError::into_inner)))
    }

    fn behind(gate: Gate) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            clock: ManualClock::new(START_MS),
            master: MasterKey::random().unwrap().to_hex().to_string(),
            _gate: gate,
        }
    }

    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("catalog.db")
    }

    pub(crate) async fn try_open(&self, master: MasterKey) -> Result<Catalog, Error> {
        Catalog::open(&self.path(), self.clock.clone(), master).await
    }

    pub(crate) async fn open(&self) -> Catalog {
        self.try_open(MasterKey::from_hex(&self.master).unwrap()).await.unwrap()
    }

    /// Runs statements past the catalog, as somebody with the file would.
    pub(crate) async fn raw(&self, sql: &str) {
        let mut connection = dialect::writer_options(&self.path()).foreign_keys(false).connect().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }

    /// Every row of every table, as text.
    pub(crate) async fn dump(&self) -> String {
        let mut connection = dialect::writer_options(&self.path()).connect().await.unwrap();
        let mut text = String::new();
        let tables = sqlx::query("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
            .fetch_all(&mut connection)
            .await
            .unwrap();
        for table in tables {
            let table: String = table.get(0);
            let rows = sqlx::query(AssertSqlSafe(format!("SELECT * FROM {table}"))).fetch_all(&mut connection).await;
            for row in rows.unwrap() {
                text.push_str(&table);
                for i in 0..row.len() {
                    let value = row.try_get_unchecked::<Option<Vec<u8>>, _>(i).unwrap();
                    text.push_str(&format!(" {:?}", value.map(|v| String::from_utf8_lossy(&v).into_owned())));
                }
                text.push('\n');
            }
        }
        text
    }

    /// Every byte of the database's files.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let files = std::fs::read_dir(self.dir.path()).unwrap();
        files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
    }
}

pub(crate) fn key() -> KeyId {
    KeyId::new("AKLTtest")
}

pub(crate) fn account(name: &str) -> AccountId {
    AccountId::new(name)
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse("name", text).unwrap()
}

pub(crate) fn bucket(text: &str) -> BucketName {
    BucketName::parse(text).unwrap()
}

pub(crate) fn note(action: &'static str) -> Audit {
    Audit { who: key(), action, object: "x".into(), detail: "{}".into(), outcome: "done" }
}

pub(crate) fn new_collection(owner: &str, text: &str) -> NewCollection {
    NewCollection {
        account: account(owner),
        name: name(text),
        table: TableId::random(),
        project: "default".into(),
        description: "free \0 text é 船".into(),
        aliases: Vec::new(),
        vectorize: None,
    }
}

pub(crate) fn new_task(owner: &str) -> NewTask {
    NewTask {
        id: TaskId::random(),
        account: account(owner),
        creator: key(),
        kind: "data_export".into(),
        collection: "example".into(),
        table: TableId::random(),
        params: r#"{"filter":"\u0000"}"#.into(),
        spec: "{\"船\":\0}".into(),
        dedup: None,
    }
}

/// With no kind apart.
pub(crate) fn kept(since_ms: i64, per_account: usize) -> Kept<'static> {
    Kept { since_ms, per_account, apart: ("", i64::MAX) }
}

pub(crate) async fn made(catalog: &Catalog, new: NewTask) -> Task {
    catalog.create_task(new, 1000).await.unwrap().task
}

pub(crate) async fn moved(catalog: &Catalog, task: &Task, change: TaskChange) -> Task {
    catalog.move_task(task.id, task.revision, change, note("task.move")).await.unwrap()
}

/// A running task with `units` units.
pub(crate) async fn running(catalog: &Catalog, units: usize) -> Task {
    let task = made(catalog, new_task("default")).await;
    let units = (0..units).map(|i| format!("{{\"unit\":{i}}}")).collect();
    moved(catalog, &task, TaskChange { units: Some(units), ..TaskChange::to(Status::Running) }).await
}

#[tokio::test]
async fn everything_survives_a_drop_without_close() {
    let home = Home::new();
    let catalog = home.open().await;
    catalog.create_collection(&key(), new_collection("default", "example")).await.unwrap();
    let task = running(&catalog, 2).await;
    let before = home.dump().await;
    drop(catalog);
    let catalog = home.open().await;
    assert_eq!(home.dump().await, before);
    assert_eq!(catalog.task(task.id).await.unwrap(), Some(task));
    catalog.audit(note("still.writes")).await.unwrap();
    assert_eq!(catalog.audit_verify().await.unwrap(), 4);
}

#[tokio::test]
async fn a_closed_catalog_says_so() {
    let home = Home::new();
    let catalog = home.open().await;
    let clone = catalog.clone();
    catalog.close().await;
    assert!(matches!(clone.audit(note("a")).await, Err(Error::Closed)));
    let read = clone.table_ids().await.unwrap_err();
    assert!(matches!(read, Error::Closed), "{read:?}");
    assert_eq!(read.kind(), Kind::Unavailable);
    home.open().await.audit(note("b")).await.unwrap();
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_untouched() {
    let home = Home::new();
    home.open().await.close().await;
    home.raw("INSERT INTO schema_versions (version, digest, applied_ms) VALUES (5, zeroblob(32), 0)").await;
    let before = home.dump().await;
    let master = MasterKey::from_hex(&home.master).unwrap();
    let Err(error) = home.try_open(master).await else { panic!("opened a newer schema") };
    assert!(matches!(error, Error::SchemaNewer { found: 5, known: 4 }), "{error:?}");
    assert_eq!(home.dump().await, before);
}

#[tokio::test]
async fn a_changed_migration_is_refused() {
    let home = Home::new();
    home.open().await.close().await;
    home.raw("UPDATE schema_versions SET digest = zeroblob(32)").await;
    let master = MasterKey::from_hex(&home.master).unwrap();
    assert!(matches!(home.try_open(master).await.err(), Some(Error::SchemaChanged { version: 1 })));
}

#[tokio::test]
async fn another_master_key_is_refused() {
    let home = Home::new();
    home.open().await;
    assert!(matches!(home.try_open(MasterKey::random().unwrap()).await.err(), Some(Error::WrongMasterKey)));
    home.open().await;
}

#[tokio::test]
async fn a_damaged_file_is_reported_as_corrupt() {
    let home = Home::new();
    home.open().await.close().await;
    std::fs::write(home.path(), b"not a database, but long enough to have a header of one hundred bytes".repeat(9))
        .unwrap();
    let master = MasterKey::from_hex(&home.master).unwrap();
    let error = home.try_open(master).await.err().unwrap();
    assert_eq!(error.kind(), Kind::Corrupt, "{error:?}");
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_nothing_else() {
    let home = Home::new();
    let catalog = home.open().await;
    let task = made(&catalog, new_task("default")).await;
    let before = home.dump().await;
    let mut tx = catalog.write(crate::write::Op::Audit).await.unwrap();
    sqlx::raw_sql("PRAGMA max_page_count = 1").execute(&mut *tx).await.unwrap();
    tx.end(Ok(())).await.unwrap();

    let big = NewTask { spec: "x".repeat(1 << 20), ..new_task("default") };
    let error = catalog.create_task(big.clone(), 1000).await.unwrap_err();
    assert_eq!(error.kind(), Kind::DiskFull, "{error:?}");
    assert_eq!(home.dump().await, before);
    assert_eq!(catalog.task(task.id).await.unwrap(), Some(task));
    // The connection was replaced, and with it the simulated bound.
    catalog.create_task(big, 1000).await.unwrap();
    catalog.audit_verify().await.unwrap();
}

#[tokio::test]
async fn a_failed_commit_is_unknown_and_settled() {
    let home = Home::new();
    let catalog = home.open().await;
    let before = home.dump().await;
    for _ in 0..3 {
        let mut tx = catalog.write(crate::write::Op::Audit).await.unwrap();
        let sql = "PRAGMA defer_foreign_keys = ON; INSERT INTO aliases (account, alias, name) VALUES ('a', 'b', 'c')";
        sqlx::raw_sql(sql).execute(&mut *tx).await.unwrap();
        let error = tx.end(Ok(())).await.unwrap_err();
        assert!(matches!(error, Error::Unknown(_)), "{error:?}");
        assert_eq!(error.kind(), Kind::Unavailable);
    }
    let unsettled = |dump: &str| dump.lines().filter(|line| !line.contains("settled")).collect::<Vec<_>>().join("\n");
    assert_eq!(unsettled(&home.dump().await), unsettled(&before));
    catalog.audit(note("a")).await.unwrap();
}

/// Callers that go away at any moment leave either all of a change or nothing, and never block the next caller.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn abandoned_calls_leave_all_or_nothing() {
    let home = Home::new();
    let catalog = home.open().await;
    let mut calls = Vec::new();
    for i in 0..120_u64 {
        let catalog = catalog.clone();
        let patience = Duration::from_micros(i * 67 % 4000);
        calls.push(tokio::spawn(async move {
            let _ = tokio::time::timeout(patience, catalog.create_task(new_task("default"), 1000)).await;
        }));
        if i % 8 == 0 {
            tokio::task::yield_now().await;
        }
    }
    for call in calls {
        call.await.unwrap();
    }
    catalog.audit(note("last")).await.unwrap();
    let records = catalog.audit_verify().await.unwrap();
    assert_eq!(catalog.open_tasks().await.unwrap().len() as u64, records - 1);
}

fn first_index(account: &AccountId) -> IndexKey<'_> {
    IndexKey { account, collection: "first", name: "first" }
}

/// One call for each kind of write; the fixture lets each of them change something.
async fn write_once(catalog: &Catalog, op: &str, task: &Task, ended: &Task, fence: u64) -> Result<(), Error> {
    let (by, owner) = (key(), account("default"));
    match op {
        "open" => Ok(()),
        "create_key" => catalog.create_key(&by, &owner, "l", vec![Grant::everything()]).await.map(drop),
        "revoke_key" => {
            let keys = catalog.list_keys(&owner).await?;
            catalog.revoke_key(&by, &owner, &keys[0].id).await.map(drop)
        }
        "create_bucket" => catalog.ensure_bucket(&by, &owner, &bucket("second")).await.map(drop),
        "create_collection" => catalog.create_collection(&by, new_collection("default", "second")).await.map(drop),
        "update_collection" => {
            let change = CollectionChange { description: Some("new".into()), ..Default::default() };
            catalog.update_collection(&by, &owner, "first", change).await.map(drop)
        }
        "drop_collection" => catalog.drop_collection(&by, &owner, "first").await.map(drop),
        "forget_dropped_table" => {
            let dropped = catalog.dropped_tables().await?;
            catalog.forget_dropped_table(*dropped.iter().next().unwrap()).await
        }
        "create_index" => {
            let collection = catalog.collection(&owner, "first").await?.unwrap();
            catalog.create_index(&by, new_index(&collection, "second")).await.map(drop)
        }
        "update_index" => {
            let change = IndexChange { cpu_quota: Some(9), ..Default::default() };
            catalog.update_index(&by, first_index(&owner), &change).await.map(drop)
        }
        "drop_index" => catalog.drop_index(&by, first_index(&owner)).await.map(drop),
        "create_task" => catalog.create_task(new_task("default"), 1000).await.map(drop),
        "move_task" => {
            let change = TaskChange::to(Status::Confirm);
            catalog.move_task(task.id, task.revision, change, note("task.move")).await.map(drop)
        }
        "save_report" => catalog.save_report(task.id, "{\"rows\":1}").await,
        "request_cancel" => catalog.request_cancel(task.id, note("task.cancel")).await.map(drop),
        "drop_task" => catalog.drop_task(ended.id, note("task.drop")).await,
        "expire_tasks" => catalog.expire_tasks(&kept(i64::MAX, 0)).await.map(drop),
        "lease_unit" => catalog.lease_unit(task.id, 1, "w", START_MS + 1).await.map(drop),
        "renew_lease" => catalog.renew_lease(task.id, 0, fence, START_MS + 9).await.map(drop),
        "release_lease" => catalog.release_lease(task.id, 0, fence).await,
        "begin_publish" => catalog.begin_publish(task.id, 0, fence, note("unit.publish")).await.map(drop),
        "finish_unit" => catalog.finish_unit(task.id, 0, fence, "{}", None).await.map(drop),
        "strike_unit" => catalog.strike_unit(task.id, 0).await.map(drop),
        "clear_leases" => catalog.clear_leases("nobody").await.map(drop),
        "begin_undo" => catalog.begin_undo(ended.id, note("undo")).await.map(drop),
        "finish_undo" => {
            let open = catalog.open_undos().await?;
            catalog.finish_undo(open[0].task, Some("{}"), note("undo")).await
        }
        "audit" => catalog.audit(note("a")).await,
        op => panic!("no call for {op}"),
    }
}

/// At every failpoint: before the commit a failure changes nothing; after it the change is there, once, and the caller
/// is told that it does not know.
#[tokio::test]
async fn every_failpoint_fails_whole() {
    let home = Home::alone();
    for point in FAILPOINTS {
        let [_, op, moment] = point.split("::").collect::<Vec<_>>()[..] else { panic!("{point}") };
        let _ = std::fs::remove_file(home.path());
        let catalog = home.open().await;
        let owner = account("default");
        catalog.create_key(&key(), &owner, "l", vec![Grant::everything()]).await.unwrap();
        let first = catalog.create_collection(&key(), new_collection("default", "first")).await.unwrap();
        catalog.create_index(&key(), new_index(&first, "first")).await.unwrap();
        catalog.create_collection(&key(), new_collection("default", "gone")).await.unwrap();
        catalog.drop_collection(&key(), &owner, "gone").await.unwrap();
        let task = running(&catalog, 2).await;
        let fence = catalog.lease_unit(task.id, 0, "w", START_MS + 1).await.unwrap().unwrap();
        let ended = made(&catalog, new_task("default")).await;
        let ended = moved(&catalog, &ended, TaskChange::to(Status::Done)).await;
        let wanted_back = made(&catalog, new_task("default")).await;
        let wanted_back = moved(&catalog, &wanted_back, TaskChange::to(Status::Done)).await;
        catalog.begin_undo(wanted_back.id, note("undo")).await.unwrap();
        let before = home.dump().await;

        fail::cfg(*point, "return").unwrap();
        let error = if op == "open" {
            home.try_open(MasterKey::from_hex(&home.master).unwrap()).await.err().unwrap()
        } else {
            write_once(&catalog, op, &task, &ended, fence).await.unwrap_err()
        };
        fail::remove(*point);

        assert_eq!(error.kind(), Kind::Unavailable, "{point}");
        assert_eq!(matches!(error, Error::Unknown(_)), moment == "after_commit", "{point}: {error:?}");
        let after = home.dump().await;
        assert_eq!(after != before, moment == "after_commit" && op != "open", "{point}");
        catalog.audit_verify().await.unwrap();
        catalog.audit(note("the.next.call.works")).await.unwrap();
        if moment == "before_commit" {
            write_once(&catalog, op, &task, &ended, fence).await.unwrap();
        }
        catalog.close().await;
    }
}

/// The statements are to run on another database one day.
#[test]
fn statements_are_free_of_dialect() {
    const DENIED: [&str; 14] = [
        "or replace",
        "or ignore",
        "autoincrement",
        "rowid",
        "?1",
        "datetime(",
        "strftime",
        "json_extract",
        "ifnull(",
        "last_insert",
        "without rowid",
        "glob ",
        "unixepoch",
        "randomblob",
    ];
    const ONLY_IN_DIALECT: [&str; 4] = ["pragma", "blob", "begin immediate", "sqlite"];
    let mut seen = 0;
    let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                folders.push(path);
            } else if file != "tests.rs" {
                seen += 1;
                let text = std::fs::read_to_string(&path).unwrap();
                // Statements are in strings and .sql files; comments may name a database.
                let code: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
                let code = code.join("\n").to_lowercase();
                for denied in DENIED {
                    assert!(!code.contains(denied), "{denied} in {}", path.display());
                }
                for denied in ONLY_IN_DIALECT {
                    assert!(file == "dialect.rs" || !code.contains(denied), "{denied} in {}", path.display());
                }
            }
        }
    }
    assert!(seen >= 14, "only {seen} files found");
}
