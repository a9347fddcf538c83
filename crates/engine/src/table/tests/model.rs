//! The table against a map: random calls, and after each of them both must tell the same story.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use knarr_base::clock::Clock;
use knarr_base::id::TableId;
use knarr_base::index::Distance;
use knarr_base::schema::{FieldType, PrimaryKey};
use knarr_base::value::{Key, KeyType};
use proptest::prelude::*;

use super::undo::Deletions;
use super::world::*;
use crate::disk::OsDisk;
use crate::error::Error;
use crate::table::compact::Rewritten;
use crate::table::{Snapshot, Table, Wanted};

#[derive(Debug, Clone)]
pub(super) enum Op {
    Upsert {
        keys: Vec<i64>,
        n: i64,
        ttl: i64,
    },
    Update {
        keys: Vec<i64>,
        ttl: i64,
    },
    Delete(Vec<i64>),
    Truncate,
    Flush,
    /// Merges the segments whose position has its bit set.
    Compact(u8),
    CompactWhenDue,
    /// As `Compact`, but what it wrote is published by the next `EndCompact`.
    BeginCompact(u8),
    EndCompact,
    Collect,
    Wait(u64),
    AddField,
    TakeSnapshot,
    /// Structures for every distance, or for none any more.
    Structures(bool),
    DeleteMatching {
        low: i64,
        high: i64,
    },
    /// Of one of the deletions that were not undone yet.
    Undo(u8),
    ForgetOverdue,
    Reopen,
}

fn keys() -> impl Strategy<Value = Vec<i64>> {
    proptest::collection::btree_set(0i64..40, 1..20).prop_map(|keys| keys.into_iter().collect())
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let ttl = prop_oneof![4 => Just(0i64), 1 => 1i64..20];
    prop_oneof![
        8 => (keys(), 0i64..100, ttl.clone()).prop_map(|(keys, n, ttl)| Op::Upsert { keys, n, ttl }),
        3 => (keys(), ttl).prop_map(|(keys, ttl)| Op::Update { keys, ttl }),
        3 => keys().prop_map(Op::Delete),
        1 => Just(Op::Truncate),
        4 => Just(Op::Flush),
        3 => any::<u8>().prop_map(Op::Compact),
        1 => Just(Op::CompactWhenDue),
        1 => any::<u8>().prop_map(Op::BeginCompact),
        1 => Just(Op::EndCompact),
        1 => Just(Op::Collect),
        1 => (1u64..15).prop_map(Op::Wait),
        1 => Just(Op::AddField),
        2 => Just(Op::TakeSnapshot),
        3 => any::<bool>().prop_map(Op::Structures),
        3 => (0i64..100, 1i64..60).prop_map(|(low, width)| Op::DeleteMatching { low, high: low + width }),
        1 => any::<u8>().prop_map(Op::Undo),
        1 => Just(Op::ForgetOverdue),
        2 => Just(Op::Reopen),
    ]
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    row: Row,
    seq: u64,
    expiry: i64,
}

impl Entry {
    pub(super) fn live(&self, now_ms: i64) -> bool {
        self.expiry == 0 || self.expiry > now_ms
    }
}

pub(super) type Model = BTreeMap<Key, Entry>;

pub(super) struct Run {
    dir: tempfile::TempDir,
    world: World,
    pub(super) table: Arc<Table>,
    kind: KeyType,
    pub(super) model: Model,
    pub(super) deletions: Deletions,
    compaction: Option<(Rewritten, Vec<u64>)>,
    /// Taken earlier, with what it must hold for ever.
    snapshot: Option<(Snapshot, Model)>,
    last_seq: u64,
    unit: u32,
    fields: u32,
}

impl Run {
    fn start(kind: KeyType, auto: bool) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let world = World::new(dir.path());
        let table = world.create(if auto { auto_schema() } else { schema(kind) });
        let model = Model::new();
        let (deletions, compaction) = (Deletions::default(), None);
        Self { dir, world, table, kind, model, deletions, compaction, snapshot: None, last_seq: 0, unit: 0, fields: 0 }
    }

    fn auto(&self) -> bool {
        self.table.schema().primary_key() == PrimaryKey::Auto
    }

    pub(super) fn now(&self) -> i64 {
        self.world.clock.now_ms()
    }

    /// A key that calls name by number: for generated keys one of those that were given out.
    fn key(&self, n: i64) -> Key {
        if self.auto() {
            return self.model.keys().nth(n as usize).cloned().unwrap_or(Key::Int(n));
        }
        key(self.kind, n)
    }

    fn distinct_keys(&self, numbers: &[i64]) -> Vec<Key> {
        let mut keys: Vec<_> = numbers.iter().map(|n| self.key(*n)).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    fn expiry(&self, ttl: i64) -> i64 {
        if ttl == 0 { 0 } else { self.now() + ttl * 1000 }
    }

    fn took_seq(&mut self, seq: u64) {
        assert_eq!(seq, self.last_seq + 1, "one number per call that succeeded");
        self.last_seq = seq;
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Upsert { keys, n, ttl } => {
                let content: Vec<_> = keys.iter().zip(*n..).map(|(k, n)| (self.key(*k), row(n))).collect();
                let seq = wait(self.table.upsert(rows(&self.table.schema(), &content), *ttl)).expect("upserts");
                self.took_seq(seq);
                for (at, (key, row)) in content.into_iter().enumerate() {
                    let key = if self.auto() { Key::Int((seq as i64) << 7 | at as i64) } else { key };
                    self.deletions.wrote(&key);
                    self.model.insert(key, Entry { row, seq, expiry: self.expiry(*ttl) });
                }
            }
            Op::Update { keys, ttl } => self.update(keys, *ttl),
            Op::Delete(keys) => {
                let keys = self.distinct_keys(keys);
                let seq = wait(self.table.delete(keys.clone())).expect("deletes");
                self.took_seq(seq);
                keys.iter().for_each(|key| {
                    self.deletions.wrote(key);
                    self.model.remove(key);
                });
            }
            Op::Truncate => {
                let seq = wait(self.table.truncate()).expect("truncates");
                self.took_seq(seq);
                self.deletions.wrote_all();
                self.model.clear();
            }
            Op::Flush => self.table.flush().expect("flushes"),
            Op::Compact(bits) => self.compact(*bits),
            Op::CompactWhenDue => {
                self.table.compact_while_due().expect("compacts");
            }
            Op::BeginCompact(bits) => self.begin_compact(*bits),
            Op::EndCompact => self.end_compact(),
            Op::Collect => {
                self.table.collect(&|_| true).expect("collects");
            }
            Op::Wait(seconds) => self.world.clock.advance(Duration::from_secs(*seconds)),
            Op::AddField => {
                self.fields += 1;
                let added = field(&format!("extra{}", self.fields), FieldType::String);
                self.table.add_fields(vec![added]).expect("adds a field");
            }
            Op::Structures(wanted) => {
                let fields = ["id", "n", "city", "tags", "flag"].map(str::to_owned).into();
                let all = Wanted { distances: Distance::ALL.to_vec(), fields };
                self.table.keep_structures(&if *wanted { all } else { Wanted::default() });
                self.table.structures_in_background();
            }
            Op::TakeSnapshot => {
                let snapshot = self.table.snapshot().expect("snapshots");
                assert_eq!(snapshot.seq(), self.last_seq);
                let now = self.now();
                let content = self.model.iter().filter(|(_, e)| e.live(now)).map(|(k, e)| (k.clone(), e.clone()));
                let content = content.collect();
                self.snapshot = Some((snapshot, content));
            }
            Op::DeleteMatching { low, high } => self.delete_matching(*low, *high),
            Op::Undo(which) => self.undo(*which),
            Op::ForgetOverdue => self.table.forget_overdue().expect("forgets"),
            Op::Reopen => self.reopen(),
        }
    }

    fn update(&mut self, numbers: &[i64], ttl: i64) {
        let keys = self.distinct_keys(numbers);
        let content: Vec<_> = keys.iter().map(|key| (key.clone(), format!("moved{}", self.last_seq))).collect();
        let result = wait(self.table.update(new_cities(&self.table.schema(), &content), ttl));
        let now = self.now();
        if keys.iter().any(|key| !self.model.get(key).is_some_and(|entry| entry.live(now))) {
            assert!(matches!(result, Err(Error::RowMissing(_))), "{result:?}");
            return;
        }
        let seq = result.expect("updates");
        let expiry = self.expiry(ttl);
        self.took_seq(seq);
        for (key, city) in content {
            self.deletions.wrote(&key);
            let entry = self.model.get_mut(&key).expect("checked");
            entry.row.city = city;
            entry.seq = seq;
            if ttl > 0 {
                entry.expiry = expiry;
            }
        }
    }

    /// Segments whose position has its bit set.
    fn chosen(&self, bits: u8) -> Vec<u64> {
        let view = self.table.view.load_full();
        let chosen = view.version.segments.iter().enumerate().filter(|(at, _)| bits & (1 << (at % 8)) != 0);
        chosen.map(|(_, held)| held.id()).collect()
    }

    fn compact(&mut self, bits: u8) {
        let chosen = self.chosen(bits);
        if !chosen.is_empty() {
            self.table.compact(&chosen).expect("compacts or gives up");
        }
    }

    fn begin_compact(&mut self, bits: u8) {
        let (chosen, mut ids) = (self.chosen(bits), Vec::new());
        if !chosen.is_empty() && self.compaction.is_none() {
            let rewritten = self.table.rewrite(&chosen, &mut ids).expect("rewrites");
            self.compaction = Some((rewritten.expect("they are there"), ids));
        }
    }

    fn end_compact(&mut self) {
        if let Some((rewritten, ids)) = self.compaction.take() {
            self.table.replace(rewritten).expect("publishes or gives up");
            self.table.give_back_segment_ids(ids);
        }
    }

    fn delete_matching(&mut self, low: i64, high: i64) {
        let Some((snapshot, then)) = &self.snapshot else { return };
        let now = self.now();
        let selected: Vec<_> = then.iter().filter(|(_, e)| (low..high).contains(&e.row.n)).collect();
        let counts = delete_matching(&self.table, snapshot, &n_between(low, high), self.unit).expect("deletes");
        let again = delete_matching(&self.table, snapshot, &n_between(low, high), self.unit);
        assert!(matches!(again, Err(Error::AlreadyPublished(p)) if p.deleted == counts.deleted), "{again:?}");
        let mut taken = Model::new();
        let (mut changed, mut expired) = (0, 0);
        for (key, entry) in &selected {
            match self.model.get(*key) {
                Some(present) if present.seq == entry.seq && present.live(now) => {
                    taken.extend(self.model.remove_entry(*key));
                }
                // Whether an expired row is still there depends on compaction.
                Some(present) if present.seq == entry.seq => {
                    expired += 1;
                    self.model.remove(*key);
                }
                Some(present) if present.live(now) => changed += 1,
                _ => {}
            }
        }
        let deleted = taken.len() as u64;
        assert_eq!(counts.changed_since, changed);
        assert!(
            (deleted..=deleted + expired).contains(&counts.deleted),
            "{counts:?}, {deleted} live, {expired} expired"
        );
        assert_eq!(counts.deleted + counts.changed_since + counts.missing, selected.len() as u64);
        self.deletions.add(self.unit, counts.deleted, now, taken);
        self.unit += 1;
    }

    fn reopen(&mut self) {
        let kept = self.snapshot.take().map(|(snapshot, model)| {
            self.table.pin(snapshot.version());
            ((snapshot.version(), snapshot.seq(), snapshot.at_ms()), model)
        });
        // What it wrote is garbage now.
        self.compaction = None;
        let (id, dir) = (self.world.id, self.dir.path());
        let now = self.now();
        self.world.tables.close();
        // Frees the directory's lock; another world must never be open beside it.
        self.world = {
            let placeholder = tempfile::tempdir().expect("a directory");
            let empty = World::open(placeholder.path(), OsDisk::shared(), TableId::random(), 1 << 20).expect("opens");
            let old = std::mem::replace(&mut self.world, empty);
            drop(old);
            World::open(dir, OsDisk::shared(), id, 1 << 20).expect("opens")
        };
        self.world.clock.set_wall(now);
        self.table = self.world.tables.table(id).expect("opens");
        if let Some(((version, seq, at_ms), model)) = kept {
            self.table.pin(version);
            self.snapshot = Some((self.table.snapshot_at(version, seq, at_ms).expect("is pinned"), model));
        }
    }

    fn check(&self) {
        let now = self.now();
        let mut asked: Vec<_> = self.model.keys().cloned().collect();
        asked.extend((0..45).map(|n| key(self.kind, n)));
        let expected: Vec<_> =
            asked.iter().map(|k| self.model.get(k).filter(|e| e.live(now)).map(|e| e.row.clone())).collect();
        for (asked, expected) in asked.chunks(50).zip(expected.chunks(50)) {
            assert_eq!(fetch(&self.table, asked).expect("fetches"), expected, "{asked:?}");
        }
        let live = self.model.iter().filter(|(_, e)| e.live(now)).map(|(k, e)| (k.clone(), e.row.clone())).collect();
        self.deletions.check(&self.table);
        super::search::check(&self.table, &live, self.last_seq as i64 * 7 + now / 1000);
        if let Some((snapshot, then)) = &self.snapshot {
            let found: BTreeMap<_, _> = scan(snapshot).expect("scans");
            let expected: BTreeMap<_, _> = then.iter().map(|(k, e)| (k.clone(), (e.row.clone(), e.seq))).collect();
            assert_eq!(found, expected);
        }
    }

    /// A fresh snapshot holds exactly the live rows of the model.
    fn check_whole(&mut self) {
        self.apply(&Op::TakeSnapshot);
        self.check();
    }
}

pub(super) fn run(kind: KeyType, auto: bool, ops: &[Op]) {
    let mut run = Run::start(kind, auto);
    for op in ops {
        run.apply(op);
        run.check();
    }
    run.check_whole();
    run.reopen();
    run.check_whole();
}

pub(super) fn config() -> ProptestConfig {
    ProptestConfig { cases: if long() { 2_000 } else { 40 }, ..ProptestConfig::default() }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    proptest::collection::vec(op(), 1..40)
}

proptest! {
    #![proptest_config(config())]

    /// Integer keys: reads equal the model's after every call.
    #[test]
    fn fetch_matches_model(ops in ops()) {
        run(KeyType::Int, false, &ops);
    }

    /// String keys, where byte order differs from the order of writing.
    #[test]
    fn pk_unique_always(ops in ops()) {
        run(KeyType::Str, false, &ops);
    }

    /// Generated keys are unique, never change, and survive the log.
    #[test]
    fn generated_keys_match_model(ops in ops()) {
        run(KeyType::Int, true, &ops);
    }
}
