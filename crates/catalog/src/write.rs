//! The one writer: a connection behind a mutex, one transaction per call, one sync per commit.
//!
//! A connection is used again only after a transaction ended as it should. Anything else, a failed statement, a lost
//! answer, a caller that went away, drops it; the next call opens a new one, so no half-made state is ever inherited.

use std::ops::{Deref, DerefMut};

use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::{Mutex, MutexGuard};

use crate::Error;
use crate::dialect::{BEGIN_WRITE, ConnectOptions, Connection};

macro_rules! operations {
    ($($op:ident $name:literal,)*) => {
        /// What a write transaction does; names its two failpoints.
        #[derive(Clone, Copy)]
        pub(crate) enum Op {
            $($op,)*
        }

        /// Every failpoint of this crate, two for each kind of write: before its commit (the change is not durable)
        /// and after it (durable, not yet answered). `return` at the first fails the call, at the second it loses the
        /// answer.
        pub const FAILPOINTS: &[&str] =
            &[$(concat!("catalog::", $name, "::before_commit"), concat!("catalog::", $name, "::after_commit"),)*];
    };
}

operations! {
    Open "open",
    CreateKey "create_key",
    RevokeKey "revoke_key",
    CreateBucket "create_bucket",
    CreateCollection "create_collection",
    UpdateCollection "update_collection",
    DropCollection "drop_collection",
    ForgetDroppedTable "forget_dropped_table",
    CreateIndex "create_index",
    UpdateIndex "update_index",
    DropIndex "drop_index",
    CreateTask "create_task",
    MoveTask "move_task",
    SaveReport "save_report",
    RequestCancel "request_cancel",
    DropTask "drop_task",
    ExpireTasks "expire_tasks",
    LeaseUnit "lease_unit",
    RenewLease "renew_lease",
    ReleaseLease "release_lease",
    BeginPublish "begin_publish",
    FinishUnit "finish_unit",
    StrikeUnit "strike_unit",
    ClearLeases "clear_leases",
    BeginUndo "begin_undo",
    FinishUndo "finish_undo",
    Audit "audit",
}

impl Op {
    fn before_commit(self) -> &'static str {
        FAILPOINTS[2 * self as usize]
    }

    fn after_commit(self) -> &'static str {
        FAILPOINTS[2 * self as usize + 1]
    }
}

/// Hands out write transactions, one at a time.
pub(crate) struct Writer {
    options: ConnectOptions,
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    /// None at first, and whenever a transaction did not end as it should.
    connection: Option<Connection>,
    /// The outcome of the last commit is not known.
    unsettled: bool,
    closed: bool,
}

impl Writer {
    pub(crate) fn new(options: ConnectOptions) -> Self {
        Self { options, slot: Mutex::default() }
    }

    /// Waits for the writers before it, then begins.
    pub(crate) async fn begin(&self, op: Op) -> Result<Write<'_>, Error> {
        let mut slot = self.slot.lock().await;
        if slot.closed {
            return Err(Error::Closed);
        }
        let mut connection = match slot.connection.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        if slot.unsettled {
            settle(&mut connection).await?;
            slot.unsettled = false;
        }
        sqlx::query(BEGIN_WRITE).execute(&mut connection).await?;
        Ok(Write { writer: self, slot, connection, op })
    }

    pub(crate) async fn close(&self) {
        let mut slot = self.slot.lock().await;
        slot.closed = true;
        if let Some(connection) = slot.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "the catalog did not close cleanly");
        }
    }
}

/// Makes the outcome of a commit whose answer was lost final. After a failed sync the change is not visible, but its
/// bytes lie at the end of the log, and a crash could revive them; one more commit overwrites them.
async fn settle(connection: &mut Connection) -> Result<(), Error> {
    let sql = "UPDATE settings SET value = $1 WHERE name = 'settled'";
    sqlx::query(sql).bind(&[0_u8][..]).execute(connection).await?;
    Ok(())
}

/// A write transaction. Dropped without [`Write::end`] it takes its connection, and so its changes, with it.
pub(crate) struct Write<'a> {
    writer: &'a Writer,
    slot: MutexGuard<'a, Slot>,
    connection: Connection,
    op: Op,
}

impl Deref for Write<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Write<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

impl Write<'_> {
    /// Commits what led to `Ok`, rolls back what led to `Err`.
    pub(crate) async fn end<T>(self, result: Result<T, Error>) -> Result<T, Error> {
        match result {
            Ok(value) => self.commit().await.map(|()| value),
            Err(error) => {
                if error.is_refusal() {
                    self.roll_back().await;
                }
                Err(error)
            }
        }
    }

    async fn commit(mut self) -> Result<(), Error> {
        if tripped(self.op.before_commit()) {
            return Err(Error::Database(sqlx::Error::WorkerCrashed));
        }
        // Set before the commit is sent, so that a caller that goes away in between leaves the truth behind.
        self.slot.unsettled = true;
        if let Err(cause) = sqlx::query("COMMIT").execute(&mut self.connection).await {
            return Err(self.lost(cause).await);
        }
        self.slot.unsettled = false;
        if tripped(self.op.after_commit()) {
            return Err(Error::Unknown(sqlx::Error::WorkerCrashed));
        }
        self.slot.connection = Some(self.connection);
        Ok(())
    }

    /// The commit failed: try at once to make its outcome final, so that whoever reads back reads the truth.
    async fn lost(mut self, cause: sqlx::Error) -> Error {
        drop(self.connection);
        if let Ok(mut connection) = self.writer.options.connect().await
            && settle(&mut connection).await.is_ok()
        {
            self.slot.unsettled = false;
            self.slot.connection = Some(connection);
        }
        Error::Unknown(cause)
    }

    async fn roll_back(mut self) {
        if sqlx::query("ROLLBACK").execute(&mut self.connection).await.is_ok() {
            self.slot.connection = Some(self.connection);
        }
    }
}

/// True where a test told this failpoint to `return`.
fn tripped(_point: &str) -> bool {
    fail::fail_point!(_point, |_| true);
    false
}
