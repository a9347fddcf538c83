//! Servers that are killed at random moments. What was acknowledged is kept here, outside the killed process, and compared.

use std::collections::BTreeMap;
use std::ops::Range;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::door::{Door, Visitor};
use crate::exports;
use crate::process::Server;
use crate::random::Random;
use crate::world::{self, Deadline, World, create_collection, missing, pause, row, text};

const TABLE: &str = "journal";
/// Keys of one writer; few, so that each is often overwritten and deleted.
const WRITER_KEYS: i64 = 400;
const WRITERS: i64 = 3;
/// Rows that the task worker writes, exports and deletes in one round.
const ROUND_ROWS: i64 = 150;

fn run_time(short: u64) -> Duration {
    let long = std::env::var("KNARR_KILL_SECONDS").ok();
    Duration::from_secs(long.map_or(short, |s| s.parse().expect("KNARR_KILL_SECONDS is a number")))
}

/// Each start has another configuration: the data must not depend on it.
fn start_somehow(world: &World, random: &mut Random) -> Server {
    let memtable = *random.pick(&["1", "1", "2", "64"]);
    let threads = *random.pick(&["0", "1", "3"]);
    let structured = *random.pick(&["30", "200", "10000"]);
    let settings = [("KNARR_MEMTABLE_MIB", memtable), ("KNARR_THREADS", threads), ("KNARR_STRUCTURE_ROWS", structured)];
    world.start_with(&settings)
}

/// Starts and kills servers while `workers` run, then lets them end on a last one.
fn kill_loop(world: &World, door: &Door, random: &mut Random, time: Duration, longest_ms: u64) -> Server {
    let deadline = Deadline::new(time);
    let mut kills = 0;
    loop {
        let server = start_somehow(world, random);
        door.open(server.host());
        if deadline.over() {
            println!("killed {kills} servers");
            assert!(kills > 2, "too few kills to mean anything");
            door.stop();
            return server;
        }
        pause(Duration::from_millis(random.below(longest_ms)));
        server.kill();
        kills += 1;
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Cells {
    grp: i64,
    n: i64,
}

type Rows = BTreeMap<i64, Cells>;

/// A call that changes rows of one writer.
#[derive(Debug, Clone)]
enum Op {
    Upsert(Vec<(i64, Cells)>),
    /// Sets `grp` alone.
    Update(Vec<(i64, i64)>),
    Delete(Vec<i64>),
}

impl Op {
    fn draw(random: &mut Random, keys: &Range<i64>, rows: &Rows) -> Self {
        let mut some = |most: u64| -> Vec<i64> {
            (0..=random.below(most)).map(|_| keys.start + random.below(WRITER_KEYS as u64) as i64).collect()
        };
        let (keys, kind) = (some(100), some(10)[0] % 10);
        match kind {
            0 | 1 => Op::Delete(keys),
            2 | 3 => {
                let grp = random.below(1 << 40) as i64;
                // update_data wants rows that exist, and says nothing about the order of equal keys that we rely on.
                Op::Update(keys.into_iter().filter(|key| rows.contains_key(key)).map(|key| (key, grp)).collect())
            }
            _ => {
                let n = random.below(1 << 40) as i64;
                Op::Upsert(keys.into_iter().zip(n..).map(|(key, n)| (key, Cells { grp: 0, n })).collect())
            }
        }
    }

    fn request(&self) -> (&'static str, Value) {
        match self {
            Op::Upsert(some) => {
                let rows: Vec<Value> = some.iter().map(|(id, cells)| row(*id, cells.grp, cells.n)).collect();
                ("/api/collection/upsert_data", world::upsert(TABLE, &rows))
            }
            Op::Update(some) => {
                let rows: Vec<Value> = some.iter().map(|(id, grp)| json!({"id": id, "grp": grp})).collect();
                ("/api/collection/update_data", world::upsert(TABLE, &rows))
            }
            Op::Delete(keys) => ("/api/collection/del_data", json!({"collection_name": TABLE, "primary_keys": keys})),
        }
    }

    fn apply(&self, rows: &mut Rows) {
        match self {
            Op::Upsert(some) => rows.extend(some.iter().copied()),
            Op::Update(some) => {
                some.iter()
                    .for_each(|(id, grp)| rows.get_mut(id).expect("only rows that exist are updated").grp = *grp);
            }
            Op::Delete(keys) => rows.retain(|key, _| !keys.contains(key)),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Op::Upsert(some) => some.is_empty(),
            Op::Update(some) => some.is_empty(),
            Op::Delete(keys) => keys.is_empty(),
        }
    }
}

/// The collection of a test, with an index that is served by search structures.
fn create(server: &Server) {
    let mut client = server.client();
    create_collection(&mut client, TABLE);
    client.must("/api/index/create", &world::near(TABLE));
}

/// Searches see what fetches see: nothing dead, nothing twice, and of the keys asked for every one that is there.
fn search(visitor: &mut Visitor<'_>, keys: &[i64], rows: &Rows) {
    let mut ask = |members: Value| -> Vec<i64> {
        let mut search = json!({"order_by_vector": {"vectors": [[500, 0.5, -1, keys[0] % 1000]]}, "limit": 100});
        search.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let body = json!({"collection_name": TABLE, "index_name": world::NEAR, "search": search});
        let found = visitor.must("/api/index/search", &body);
        let ids = found[0].as_array().unwrap().iter().map(|item| item["id"].as_i64().unwrap());
        let mut ids: Vec<i64> = ids.collect();
        ids.sort_unstable();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "a row twice: {ids:?}");
        ids
    };
    let there: Vec<i64> = keys.iter().copied().filter(|key| rows.contains_key(key)).collect();
    assert_eq!(ask(json!({"primary_key_in": keys})), there, "of the keys asked for");
    for id in ask(json!({})) {
        assert!(!keys.contains(&id) || rows.contains_key(&id), "row {id} is dead");
    }
}

/// Every row of a range of keys as the server has it, checked to be one write and not a mixture.
fn observe(visitor: &mut Visitor<'_>, keys: &Range<i64>) -> Rows {
    let keys: Vec<i64> = keys.clone().collect();
    let mut rows = Rows::new();
    for some in keys.chunks(100) {
        let items =
            visitor.must("/api/collection/fetch_data", &json!({"collection_name": TABLE, "primary_keys": some}));
        for (key, item) in some.iter().zip(items.as_array().expect("data is a list")) {
            assert_eq!(item["id"], *key, "another key's row");
            if missing(item) {
                continue;
            }
            let cells = Cells { grp: item["grp"].as_i64().unwrap(), n: item["n"].as_i64().unwrap() };
            assert_eq!(item["s"], text(cells.n), "a mixture of two writes under {key}");
            let wanted = row(*key, cells.grp, cells.n)["v"].take();
            let floats = |v: &Value| v.as_array().unwrap().iter().map(|x| x.as_f64()).collect::<Vec<_>>();
            assert_eq!(floats(&item["v"]), floats(&wanted), "a mixture of two writes under {key}");
            rows.insert(*key, cells);
        }
        search(visitor, some, &rows);
    }
    rows
}

/// Writes at random and compares everything after every death. Returns what must be there.
fn write(door: &Door, keys: Range<i64>, mut random: Random) -> (Range<i64>, Rows) {
    let (mut visitor, mut rows) = (door.visitor(), Rows::new());
    while !door.stopping() {
        let op = Op::draw(&mut random, &keys, &rows);
        if op.is_empty() {
            continue;
        }
        let (path, body) = op.request();
        match visitor.try_call(path, &body) {
            Ok(reply) if reply.code == 0 => op.apply(&mut rows),
            // Too much at once: said before anything was done.
            Ok(reply) if reply.status == 429 => {}
            Ok(reply) => panic!("{op:?}: {}", reply.text),
            Err(_) => {
                // Nobody knows whether the call was applied, but it was applied as a whole or not at all.
                let mut after = rows.clone();
                op.apply(&mut after);
                let seen = observe(&mut visitor, &keys);
                if seen != rows {
                    assert_eq!(seen, after, "acknowledged {rows:?}, then {op:?} without an answer");
                }
                rows = seen;
            }
        }
    }
    (keys, rows)
}

/// Writes rows of a round, exports them, deletes them by filter, every other time takes that back, and checks every step,
/// through all deaths.
fn run_tasks(world: &World, door: &Door) -> i64 {
    let mut visitor = door.visitor();
    let mut round = 0;
    while !door.stopping() {
        round += 1;
        let keys = 1_000_000..1_000_000 + ROUND_ROWS;
        let rows: Vec<Value> = keys.clone().map(|id| row(id, round, round * 1000 + id)).collect();
        for some in rows.chunks(100) {
            visitor.must("/api/collection/upsert_data", &world::upsert(TABLE, some));
        }
        let filter = json!({"grp": [round]});
        let path = format!("rounds/r{round}");
        let export = json!({"collection_name": TABLE, "filter": filter, "tos_path": path, "file_type": "json"});
        let task = ensure_task(&mut visitor, "data_export", export);
        finish(&mut visitor, &task);
        let exported = exports::rows(&exports::dir(&world.data(), &path, &task));
        assert_eq!(exported.keys().copied().collect::<Vec<_>>(), keys.clone().collect::<Vec<_>>(), "round {round}");

        let task = ensure_task(&mut visitor, "filter_delete", json!({"collection_name": TABLE, "filter": filter}));
        let info = finish(&mut visitor, &task);
        assert_eq!((&info["total_filter_count"], &info["total_deleted_count"]), (&json!(150), &json!(150)), "{info}");
        assert_eq!(observe(&mut visitor, &keys), Rows::new(), "round {round} after its delete");
        if round % 2 == 0 {
            continue;
        }
        let undone = visitor.must("/knarr/v1/tasks/undo", &json!({"task_id": task}));
        assert_eq!((&undone["restored_count"], &undone["changed_count"]), (&json!(150), &json!(0)), "{undone}");
        let back: Rows = keys.clone().map(|id| (id, Cells { grp: round, n: round * 1000 + id })).collect();
        assert_eq!(observe(&mut visitor, &keys), back, "round {round} after its undo");
    }
    round
}

/// The task with these parameters, which no other has; made unless it is there.
fn ensure_task(visitor: &mut Visitor<'_>, kind: &str, params: Value) -> String {
    loop {
        let listed = visitor.must("/api/task/list", &json!({"task_type": kind}));
        let found = listed.as_array().unwrap().iter().find(|task| task["task_params"] == params);
        if let Some(task) = found {
            return task["task_id"].as_str().unwrap().to_owned();
        }
        if let Ok(reply) = visitor.try_call("/api/task/create", &json!({"task_type": kind, "task_params": params})) {
            assert_eq!(reply.code, 0, "{}", reply.text);
        }
    }
}

/// `process_info` of the task when it is done; confirms it where it asks.
fn finish(visitor: &mut Visitor<'_>, task: &str) -> Value {
    world::eventually(&format!("task {task}"), || {
        let mut info = visitor.must("/api/task/info", &json!({"task_id": task}));
        match info["task_status"].as_str().unwrap() {
            "done" => Some(info["process_info"].take()),
            "confirm" => {
                visitor.must("/api/task/update", &json!({"task_id": task, "task_status": "confirmed"}));
                None
            }
            "fail" => panic!("{info}"),
            _ => None,
        }
    })
}

/// D1, D2, T2: concurrent writers and tasks, a server that dies at random moments, every row compared after each death and
/// at the end, after a clean stop as well.
#[test]
fn kill_after_ack() {
    let world = World::new();
    let mut random = Random::seeded("kill_after_ack");
    let server = world.start();
    create(&server);
    server.kill();

    let door = Door::new(world.keys());
    let (server, written) = thread::scope(|scope| {
        let door = &door;
        let writers: Vec<_> = (0..WRITERS)
            .map(|w| {
                let random = random.fork();
                scope.spawn(move || write(door, w * WRITER_KEYS..(w + 1) * WRITER_KEYS, random))
            })
            .collect();
        let tasks = scope.spawn(|| run_tasks(&world, door));
        let server = kill_loop(&world, door, &mut random, run_time(12), 1200);
        // All end before any is judged: the last server must live until then.
        let (rounds, written) = (tasks.join(), writers.into_iter().map(|w| w.join()).collect::<Vec<_>>());
        println!("{} rounds of tasks", rounds.expect("every task ended as it should"));
        (server, written.into_iter().map(|w| w.expect("every write was kept")).collect::<Vec<_>>())
    });
    world.stop(server);
    let server = world.start();
    door.open(server.host());
    for (keys, rows) in written {
        assert_eq!(observe(&mut door.visitor(), &keys), rows, "after a clean stop");
    }
    world.stop(server);
}

/// D2 in its purest form: calls that set a hundred rows to one number; after a death all rows have the same one.
#[test]
fn torn_batch() {
    let world = World::new();
    let mut random = Random::seeded("torn_batch");
    let server = world.start();
    create(&server);
    server.kill();
    let door = Door::new(world.keys());
    let server = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut visitor = door.visitor();
            let (mut sent, mut acknowledged) = (0, 0);
            while !door.stopping() {
                sent += 1;
                let rows: Vec<Value> = (0..100).map(|id| row(id, 0, sent)).collect();
                match visitor.try_call("/api/collection/upsert_data", &world::upsert(TABLE, &rows)) {
                    Ok(reply) if reply.code == 0 => acknowledged = sent,
                    Ok(reply) if reply.status == 429 => {}
                    Ok(reply) => panic!("{}", reply.text),
                    Err(_) => {
                        let seen: Vec<i64> = observe(&mut visitor, &(0..100)).values().map(|c| c.n).collect();
                        let whole = seen.iter().all(|n| *n == seen[0]) && matches!(seen.len(), 0 | 100);
                        assert!(whole, "half a batch: {seen:?}");
                        let got = seen.first().copied().unwrap_or(0);
                        assert!(got == acknowledged || got == sent, "{got}, acknowledged {acknowledged}, sent {sent}");
                        acknowledged = got;
                    }
                }
            }
        });
        let server = kill_loop(&world, &door, &mut random, run_time(3), 300);
        writer.join().expect("no batch was torn");
        server
    });
    world.stop(server);
}

/// T8: at every moment, also after a kill, an export that says `_SUCCESS` is complete and true; and every export ends so.
#[test]
fn no_success_before_data() {
    let world = World::new();
    let mut random = Random::seeded("no_success_before_data");
    let server = world.start();
    let mut client = server.client();
    create_collection(&mut client, TABLE);
    world::fill(&mut client, TABLE, (0..5000).map(|id| row(id, id % 7, id)));
    server.kill();

    let objects = world.data().join("objects");
    let (deadline, mut made) = (Deadline::new(run_time(4)), Vec::new());
    while !deadline.over() {
        let server = start_somehow(&world, &mut random);
        let mut client = server.client();
        let format = *random.pick(&["json", "parquet"]);
        let path = format!("exports/e{}", made.len());
        let params = json!({"collection_name": TABLE, "tos_path": path, "file_type": format});
        made.push((path, world::create_task(&mut client, "data_export", params)));
        pause(Duration::from_millis(random.below(60)));
        server.kill();
        exports::sealed(&objects).iter().for_each(|dir| drop(exports::verify(dir)));
    }
    let server = world.start();
    let mut client = server.client();
    let mut digests = Vec::new();
    for (path, task) in &made {
        let info = world::wait(&mut client, task, "done")["process_info"].take();
        assert_eq!(info["total_filter_count"], 5000);
        digests.push(exports::verify(&exports::dir(&world.data(), path, task))["content_digest"].clone());
    }
    assert!(digests.iter().all(|d| *d == digests[0]), "one table, one digest: {digests:?}");
    world.stop(server);
}
