//! Buckets: a name, unique everywhere, and the account it belongs to. Where its objects lie is not known here.

use knarr_base::id::{AccountId, KeyId};
use knarr_base::object::BucketName;

use crate::audit::{self, Audit};
use crate::dialect::{Columns, Connection};
use crate::write::Op;
use crate::{Catalog, Error};

/// What asking for a bucket led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BucketOutcome {
    /// It is new, and the account's.
    Created,
    /// The account had it.
    Existing,
    /// Another account has it.
    Foreign,
}

impl Catalog {
    /// Makes the bucket unless somebody has it.
    pub async fn ensure_bucket(
        &self,
        by: &KeyId,
        account: &AccountId,
        name: &BucketName,
    ) -> Result<BucketOutcome, Error> {
        // Buckets never go away, so the common case needs no writer.
        if let Some(owner) = self.bucket_owner(name).await? {
            return Ok(outcome(&owner, account));
        }
        let mut tx = self.write(Op::CreateBucket).await?;
        let created = create(&mut tx, by, account, name, self.now_ms()).await;
        tx.end(created).await
    }

    /// The account that has the bucket.
    pub async fn bucket_owner(&self, name: &BucketName) -> Result<Option<AccountId>, Error> {
        let row = sqlx::query(OWNER).bind(name.as_str()).fetch_optional(self.readers()).await?;
        row.map(|row| row.word("account").map(AccountId::new)).transpose()
    }

    /// The account's buckets by name, each with its creation in unix milliseconds.
    pub async fn list_buckets(&self, account: &AccountId) -> Result<Vec<(BucketName, i64)>, Error> {
        let rows = sqlx::query("SELECT name, created_ms FROM buckets WHERE account = $1")
            .bind(account.as_str())
            .fetch_all(self.readers())
            .await?;
        let mut buckets = Vec::with_capacity(rows.len());
        for row in rows {
            let name = BucketName::parse(&row.word("name")?).map_err(|_| Error::Malformed { what: "bucket name" })?;
            buckets.push((name, row.time("created_ms")?));
        }
        // Sorted here: databases disagree about the order of text.
        buckets.sort();
        Ok(buckets)
    }
}

const OWNER: &str = "SELECT account FROM buckets WHERE name = $1";

fn outcome(owner: &AccountId, account: &AccountId) -> BucketOutcome {
    if owner == account { BucketOutcome::Existing } else { BucketOutcome::Foreign }
}

async fn create(
    connection: &mut Connection,
    by: &KeyId,
    account: &AccountId,
    name: &BucketName,
    now_ms: i64,
) -> Result<BucketOutcome, Error> {
    let sql = "INSERT INTO buckets (name, account, created_ms) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING";
    let done =
        sqlx::query(sql).bind(name.as_str()).bind(account.as_str()).bind(now_ms).execute(&mut *connection).await?;
    if done.rows_affected() == 0 {
        let row = sqlx::query(OWNER).bind(name.as_str()).fetch_one(connection).await?;
        return Ok(outcome(&AccountId::new(row.word("account")?), account));
    }
    let detail = serde_json::json!({ "account": account.as_str() });
    audit::append(connection, now_ms, &Audit::done(by, "bucket.create", name, detail)).await?;
    Ok(BucketOutcome::Created)
}

#[cfg(test)]
mod tests;
