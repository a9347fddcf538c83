//! The audit: who did what to which object, append-only, each record chained to the one before by its hash.
//!
//! A record never holds a row value or a secret. `hash = SHA-256(hash of the record before || record)`, where the
//! record is its number and time (8 bytes each, big-endian) and its five texts, each after its length in bytes
//! (8 bytes, big-endian); nothing stands before the first record.

use futures::TryStreamExt;
use knarr_base::id::KeyId;
use sha2::{Digest, Sha256};
use sqlx::Connection as _;

use crate::dialect::{Columns, Connection, Row, bound, stored};
use crate::write::Op;
use crate::{Catalog, Error};

/// What happened, or is about to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// The acting key, or [`Audit::server`].
    pub who: KeyId,
    /// Noun and verb: `task.confirm`.
    pub action: &'static str,
    /// What it was done to: a name or an id.
    pub object: String,
    /// Small JSON object; no row values, no secrets.
    pub detail: String,
    /// `intent` before something that can be interrupted, then `done`; `refused` for what was not allowed.
    pub outcome: &'static str,
}

impl Audit {
    /// The name under which the server acts by itself.
    pub fn server() -> KeyId {
        KeyId::new("server")
    }

    /// A finished change by `who`.
    pub(crate) fn done(who: &KeyId, action: &'static str, object: impl ToString, detail: serde_json::Value) -> Self {
        Self { who: who.clone(), action, object: object.to_string(), detail: detail.to_string(), outcome: "done" }
    }
}

/// A stored record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// 1, 2, 3, ... without gaps.
    pub n: u64,
    /// Unix milliseconds.
    pub at_ms: i64,
    /// See [`Audit::who`].
    pub who: KeyId,
    /// See [`Audit::action`].
    pub action: String,
    /// See [`Audit::object`].
    pub object: String,
    /// See [`Audit::detail`].
    pub detail: String,
    /// See [`Audit::outcome`].
    pub outcome: String,
    /// Covers this record and all before it.
    pub hash: [u8; 32],
}

impl AuditRecord {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            n: row.number("n")?,
            at_ms: row.time("at_ms")?,
            who: KeyId::new(row.text("who")?),
            action: row.text("action")?,
            object: row.text("object")?,
            detail: row.text("detail")?,
            outcome: row.text("outcome")?,
            hash: row.digest("hash")?,
        })
    }

    fn fields(&self) -> [&str; 5] {
        [self.who.as_str(), &self.action, &self.object, &self.detail, &self.outcome]
    }
}

impl Catalog {
    /// Appends a record that belongs to no other change of the catalog.
    pub async fn audit(&self, entry: Audit) -> Result<(), Error> {
        let mut tx = self.write(Op::Audit).await?;
        let appended = append(&mut tx, self.now_ms(), &entry).await;
        tx.end(appended.map(drop)).await
    }

    /// Records numbered above `after`, at most `limit`.
    pub async fn audit_list(&self, after: u64, limit: u64) -> Result<Vec<AuditRecord>, Error> {
        let rows = sqlx::query("SELECT * FROM audit WHERE n > $1 ORDER BY n LIMIT $2")
            .bind(bound(after))
            .bind(bound(limit))
            .fetch_all(self.readers())
            .await?;
        rows.iter().map(AuditRecord::from_row).collect()
    }

    /// Recomputes the chain from its first record; the number of records, or the first that does not fit.
    pub async fn audit_verify(&self) -> Result<u64, Error> {
        // One transaction, so that head and records are of the same moment.
        let mut connection = self.readers().acquire().await?;
        let mut tx = connection.begin().await?;
        let head = sqlx::query("SELECT n, hash FROM audit_head").fetch_optional(&mut *tx).await?;
        let head = head.ok_or(Error::AuditBroken { at: 0 })?;
        let (newest, newest_hash) = (head.number("n")?, head.bytes("hash")?);
        let (mut n, mut hash) = (0, Vec::new());
        let mut rows = sqlx::query("SELECT * FROM audit ORDER BY n").fetch(&mut *tx);
        while let Some(row) = rows.try_next().await? {
            n += 1;
            let broken = Error::AuditBroken { at: n };
            let Ok(record) = AuditRecord::from_row(&row) else { return Err(broken) };
            let expected = chain(&hash, n, record.at_ms, record.fields());
            if record.n != n || record.hash != expected || n > newest {
                return Err(broken);
            }
            hash = expected.to_vec();
        }
        if n == newest && hash == newest_hash { Ok(n) } else { Err(Error::AuditBroken { at: n + 1 }) }
    }
}

/// Appends to the chain inside the transaction of the change it tells of; the record's number.
pub(crate) async fn append(connection: &mut Connection, now_ms: i64, entry: &Audit) -> Result<u64, Error> {
    // Taking the number first holds the head's row until the commit.
    let head = sqlx::query("UPDATE audit_head SET n = n + 1 RETURNING n, hash").fetch_one(&mut *connection).await?;
    let n = head.number("n")?;
    let fields = [entry.who.as_str(), entry.action, &entry.object, &entry.detail, entry.outcome];
    let hash = chain(&head.bytes("hash")?, n, now_ms, fields);
    let [who, action, object, detail, outcome] = fields.map(str::as_bytes);
    sqlx::query(
        "INSERT INTO audit (n, at_ms, who, action, object, detail, outcome, hash)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(stored(n, "audit record")?)
    .bind(now_ms)
    .bind(who)
    .bind(action)
    .bind(object)
    .bind(detail)
    .bind(outcome)
    .bind(&hash[..])
    .execute(&mut *connection)
    .await?;
    sqlx::query("UPDATE audit_head SET hash = $1").bind(&hash[..]).execute(connection).await?;
    Ok(n)
}

/// The hash of one record; see the top of this file.
fn chain(previous: &[u8], n: u64, at_ms: i64, fields: [&str; 5]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(previous);
    hash.update(n.to_be_bytes());
    hash.update(at_ms.to_be_bytes());
    for field in fields {
        hash.update((field.len() as u64).to_be_bytes());
        hash.update(field);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests;
