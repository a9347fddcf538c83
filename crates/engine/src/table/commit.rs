//! The committer: one thread per table that turns waiting calls into synced, visible, acknowledged writes.
//!
//! A group is every call that waits, up to a bound. Its records are appended with one write and one sync, applied in
//! `_seq` order under one lock, and only then acknowledged. A group that fails leaves nothing visible.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use arrow_array::RecordBatch;
use knarr_base::limit;
use knarr_base::value::Key;
use tokio::sync::{mpsc, oneshot};

use super::keys::{KeyList, key_ref};
use super::memtable::Memtable;
use super::record::{LoggedRows, encode_keys};
use super::update::Pending;
use super::{Table, Writer};
use crate::columns;
use crate::error::{Error, Result};
use crate::log::RecordKind;
use crate::rows::Rows;

/// The running thread of a table.
pub(super) struct Committer {
    queue: mpsc::Sender<Call>,
    thread: JoinHandle<()>,
}

struct Call {
    op: Op,
    done: oneshot::Sender<Result<u64>>,
}

enum Op {
    Upsert { rows: LoggedRows, payload: Vec<u8> },
    Update { rows: Rows, expiry: Option<i64> },
    Delete { keys: KeyList, payload: Vec<u8> },
    Truncate,
}

/// What a record changes.
pub(super) enum Change {
    /// Stored columns, and the bytes they are charged.
    Rows(RecordBatch, usize),
    Delete(KeyList),
    Truncate,
    /// Sequence numbers that were set aside.
    Nothing,
}

impl Op {
    fn bytes(&self) -> usize {
        match self {
            Op::Upsert { payload, .. } | Op::Delete { payload, .. } => payload.len(),
            Op::Update { rows, .. } => rows.bytes(),
            Op::Truncate => 0,
        }
    }
}

impl Table {
    /// Writes whole rows. Durable and visible when it returns. `ttl_seconds`: 0 = never.
    ///
    /// # Errors
    /// `Busy` when the queue or the memtables are full, `DiskFull`, `WriteFailed`, `Stopped`; `Rows` for rows whose
    /// made vectors are not made. Nothing is visible then.
    pub async fn upsert(&self, rows: Rows, ttl_seconds: i64) -> Result<u64> {
        rows.need_made()?;
        let schema = rows.schema();
        let rows = LoggedRows::with_expiry(rows.batch(), self.expiry(ttl_seconds).unwrap_or(0));
        let payload = rows.encode(schema, false)?;
        self.submit(Op::Upsert { rows, payload }).await
    }

    /// Changes the given fields of rows that exist. `ttl_seconds`: 0 = keep each row's expiry.
    ///
    /// # Errors
    /// As [`Table::upsert`]; `RowMissing` when one of the rows does not exist, `RowTooLong`: nothing is changed then.
    pub async fn update(&self, rows: Rows, ttl_seconds: i64) -> Result<u64> {
        rows.need_made()?;
        self.submit(Op::Update { rows, expiry: self.expiry(ttl_seconds) }).await
    }

    /// Removes keys; ones without a row are no error.
    ///
    /// # Errors
    /// As [`Table::upsert`].
    pub async fn delete(&self, keys: Vec<Key>) -> Result<u64> {
        let keys = KeyList::from_keys(self.view.load().schema().key_type(), keys.iter().map(key_ref));
        let payload = encode_keys(&keys);
        self.submit(Op::Delete { keys, payload }).await
    }

    /// Removes every row (`del_all`).
    ///
    /// # Errors
    /// As [`Table::upsert`].
    pub async fn truncate(&self) -> Result<u64> {
        self.submit(Op::Truncate).await
    }

    fn expiry(&self, ttl_seconds: i64) -> Option<i64> {
        (ttl_seconds > 0).then(|| self.clock.now_ms().saturating_add(ttl_seconds.saturating_mul(1000)))
    }

    async fn submit(&self, op: Op) -> Result<u64> {
        let (done, wait) = oneshot::channel();
        self.enqueue(Call { op, done })?;
        wait.await.map_err(|_| Error::Stopped)?
    }

    fn enqueue(&self, call: Call) -> Result<()> {
        let mut committer = self.committer.lock();
        if self.stopped() {
            return Err(Error::Stopped);
        }
        if committer.is_none() {
            *committer = Some(Committer::start(self.me.clone(), &self.id.to_string())?);
        }
        let Some(running) = &*committer else { return Err(Error::Stopped) };
        running.queue.try_send(call).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Busy { what: "write queue" },
            mpsc::error::TrySendError::Closed(_) => Error::Stopped,
        })
    }

    /// No more calls are taken; those in the queue are finished. Waits for the thread.
    pub(super) fn stop_committer(&self) {
        let committer = {
            let mut committer = self.committer.lock();
            self.stopping.store(true, Ordering::Release);
            committer.take()
        };
        let Some(Committer { queue, thread }) = committer else { return };
        drop(queue);
        if thread.thread().id() != std::thread::current().id() {
            // A panic there was logged by the thread and failed its calls.
            let _ = thread.join();
        }
    }

    fn commit_group(&self, calls: Vec<Call>) {
        if let Err(error) = self.make_room() {
            return fail_all(calls.into_iter().map(|call| call.done), &error);
        }
        let updating = calls.iter().any(|call| matches!(call.op, Op::Update { .. }));
        let _no_task_delete = updating.then(|| self.updates.read());
        let mut writer = self.writer.lock();
        let bytes: usize = calls.iter().map(|call| call.op.bytes()).sum();
        let mut group =
            match self.check_space(bytes).and_then(|()| writer.log.begin(self.view.load().version.flushed_seq)) {
                Ok(group) => group,
                Err(error) => return fail_all(calls.into_iter().map(|call| call.done), &error),
            };
        let mut pending = Pending::new(self, updating);
        let (mut changes, mut acks) = (Vec::with_capacity(calls.len()), Vec::with_capacity(calls.len()));
        for call in calls {
            let seq = writer.next_seq;
            match self.resolve(call.op, seq, &mut pending) {
                Ok((kind, fields, payload, change)) => {
                    group.push(kind, fields, seq, &payload);
                    pending.note(&change, seq);
                    changes.push((seq, change));
                    acks.push((call.done, seq));
                    writer.next_seq += 1;
                }
                Err(error) => answer(call.done, Err(error)),
            }
        }
        drop(pending);
        if changes.is_empty() {
            return;
        }
        if let Err(error) = writer.log.append(&group) {
            tracing::error!(table = %self.id, %error, "a group of writes failed");
            return fail_all(acks.into_iter().map(|(done, _)| done), &error);
        }
        fail::fail_point!("table::commit::before_apply");
        self.apply(changes);
        parking_lot::MutexGuard::unlock_fair(writer);
        fail::fail_point!("table::commit::before_ack");
        acks.into_iter().for_each(|(done, seq)| answer(done, Ok(seq)));
    }

    pub(super) fn check_space(&self, bytes: usize) -> Result<()> {
        let what = || format!("asking for free space of {}", self.layout.shard().display());
        let free = self.disk.free_bytes(self.layout.shard()).map_err(|e| Error::io(what(), e))?;
        if free < limit::DISK_RESERVE_BYTES + bytes as u64 { Err(Error::DiskFull) } else { Ok(()) }
    }

    /// Record and change of one call; nothing is applied if it fails.
    fn resolve(&self, op: Op, seq: u64, pending: &mut Pending<'_>) -> Result<(RecordKind, u16, Vec<u8>, Change)> {
        let view = self.view.load();
        let schema = view.schema();
        match op {
            Op::Upsert { rows, payload } => {
                let (fields, bytes) = (rows.fields(schema, false), payload.len());
                let change = Change::Rows(rows.into_stored(schema, seq, false)?, bytes);
                Ok((RecordKind::Rows, fields, payload, change))
            }
            Op::Update { rows, expiry } => {
                let rows = pending.merge(&rows, expiry, self.clock.now_ms())?;
                let payload = rows.encode(schema, true)?;
                let (fields, bytes) = (rows.fields(schema, true), payload.len());
                let kind = match schema.primary_key() {
                    knarr_base::schema::PrimaryKey::Auto => RecordKind::KeyedRows,
                    knarr_base::schema::PrimaryKey::Field(_) => RecordKind::Rows,
                };
                let change = Change::Rows(rows.into_stored(schema, seq, true)?, bytes);
                Ok((kind, fields, payload, change))
            }
            Op::Delete { keys, payload } => Ok((RecordKind::Delete, 0, payload, Change::Delete(keys))),
            Op::Truncate => Ok((RecordKind::Truncate, 0, Vec::new(), Change::Truncate)),
        }
    }

    /// Makes changes visible, in their order. The caller holds the writer.
    pub(super) fn apply(&self, changes: Vec<(u64, Change)>) {
        let view = self.view.load_full();
        let key_column = columns::key_column(view.schema());
        let mut memtable = view.memtable.clone();
        let mut changes = changes.into_iter().peekable();
        while changes.peek().is_some() {
            let mut content = memtable.write();
            let mut truncated = None;
            for (seq, change) in changes.by_ref() {
                match change {
                    Change::Rows(batch, bytes) => content.put_rows(batch, key_column, seq, bytes),
                    Change::Delete(keys) => content.put_tombstones(&keys, seq),
                    Change::Nothing => content.pass(seq),
                    Change::Truncate => {
                        truncated = Some(seq);
                        break;
                    }
                }
            }
            drop(content);
            if let Some(seq) = truncated {
                memtable = Arc::new(Memtable::new(view.schema().key_type(), Some(seq)));
            }
        }
        if !Arc::ptr_eq(&memtable, &view.memtable) {
            self.change_view(|view| {
                view.memtable = memtable;
                view.frozen.clear();
            });
            self.signal_room();
        }
    }

    /// Waits until the memtable takes more rows.
    fn make_room(&self) -> Result<()> {
        let deadline = self.clock.monotonic() + limit::WRITE_WAIT;
        loop {
            let mut writer = self.writer.lock();
            let view = self.view.load_full();
            if !self.memtable_is_full(&view) {
                return Ok(());
            }
            if view.frozen.len() < limit::MEMTABLES_FROZEN {
                self.freeze(&mut writer);
                drop(writer);
                self.request_flush();
                return Ok(());
            }
            drop(writer);
            self.request_flush();
            let mut room = self.room.0.lock();
            if self.view.load().frozen.len() < limit::MEMTABLES_FROZEN {
                continue;
            }
            let left = deadline.saturating_sub(self.clock.monotonic());
            if left.is_zero() || self.room.1.wait_for(&mut room, left).timed_out() {
                return Err(Error::Busy { what: "memtable" });
            }
        }
    }

    pub(super) fn signal_room(&self) {
        let _room = self.room.0.lock();
        self.room.1.notify_all();
    }

    /// Ends the memtable, if it holds anything, and the log file with it.
    pub(super) fn freeze(&self, writer: &mut Writer) {
        let view = self.view.load_full();
        if view.memtable.is_empty() {
            return;
        }
        writer.log.rotate();
        fail::fail_point!("table::freeze::before_swap");
        let fresh = Arc::new(Memtable::new(view.schema().key_type(), None));
        self.change_view(|view| {
            let full = std::mem::replace(&mut view.memtable, fresh);
            view.frozen.push(full);
        });
    }
}

impl Committer {
    fn start(table: Weak<Table>, name: &str) -> Result<Self> {
        let (queue, mut calls) = mpsc::channel::<Call>(limit::COMMIT_QUEUE_CALLS);
        let run = move || {
            while let Some(first) = calls.blocking_recv() {
                let mut bytes = first.op.bytes();
                let mut group = vec![first];
                while bytes < limit::COMMIT_GROUP_BYTES
                    && let Ok(next) = calls.try_recv()
                {
                    bytes += next.op.bytes();
                    group.push(next);
                }
                let Some(table) = table.upgrade() else { return };
                table.commit_group(group);
            }
        };
        let builder = std::thread::Builder::new().name(format!("commit-{}", &name[..8]));
        let thread = builder.spawn(run).map_err(|e| Error::io("starting a committer", e))?;
        Ok(Self { queue, thread })
    }
}

fn answer(done: oneshot::Sender<Result<u64>>, result: Result<u64>) {
    // Whoever does not wait any more does not need the answer.
    let _ = done.send(result);
}

/// Every call of a failed group gets the same error.
fn fail_all(calls: impl Iterator<Item = oneshot::Sender<Result<u64>>>, error: &Error) {
    for done in calls {
        let copy = match error {
            Error::DiskFull => Error::DiskFull,
            Error::Busy { what } => Error::Busy { what },
            Error::Stopped => Error::Stopped,
            Error::WriteFailed(cause) => Error::WriteFailed(cause.clone()),
            Error::Corrupt { what, why } => Error::corrupt(what.clone(), why),
            other => Error::WriteFailed(Arc::new(std::io::Error::other(other.to_string()))),
        };
        answer(done, Err(copy));
    }
}
