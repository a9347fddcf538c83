//! Access keys: made, found for signature checks, listed without secrets, revoked.

use knarr_base::id::{AccountId, KeyId};
use knarr_base::right::{Grant, Right};
use serde::{Deserialize, Serialize};

use crate::audit::{self, Audit};
use crate::dialect::{Columns, Connection, Row, stored};
use crate::secret::{hex, random};
use crate::write::Op;
use crate::{Catalog, Error, Secret};

/// A key as the signature check needs it.
pub struct KeyRecord {
    /// Public half.
    pub id: KeyId,
    /// The account it acts in.
    pub account: AccountId,
    /// Free text of its creator.
    pub label: String,
    /// Secret half.
    pub secret: Secret,
    /// What it may do.
    pub grants: Vec<Grant>,
}

/// A key as an administrator sees it: never its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// Public half.
    pub id: KeyId,
    /// The account it acts in.
    pub account: AccountId,
    /// Free text of its creator.
    pub label: String,
    /// What it may do.
    pub grants: Vec<Grant>,
    /// Unix milliseconds.
    pub created_ms: i64,
    /// Unix milliseconds, if revoked.
    pub revoked_ms: Option<i64>,
}

impl Catalog {
    /// Makes a key of `account`. The secret is returned this once; only its sealed form is stored.
    pub async fn create_key(
        &self,
        by: &KeyId,
        account: &AccountId,
        label: &str,
        grants: Vec<Grant>,
    ) -> Result<(KeyId, Secret), Error> {
        let id = KeyId::new(format!("AKLT{}", hex(&random::<16>()?[..])));
        let secret = Secret::random()?;
        let sealed = self.inner.master.seal(id.as_str(), secret.expose())?;
        let info = KeyInfo {
            id: id.clone(),
            account: account.clone(),
            label: label.to_owned(),
            grants,
            created_ms: self.now_ms(),
            revoked_ms: None,
        };
        let mut tx = self.write(Op::CreateKey).await?;
        let inserted = insert(&mut tx, by, info, sealed).await;
        tx.end(inserted).await?;
        Ok((id, secret))
    }

    /// A key that may sign; None for unknown and revoked ones.
    pub async fn find_key(&self, id: &KeyId) -> Result<Option<KeyRecord>, Error> {
        let row = sqlx::query("SELECT * FROM access_keys WHERE id = $1 AND revoked_ms IS NULL")
            .bind(id.as_str())
            .fetch_optional(self.readers())
            .await?;
        let Some(row) = row else { return Ok(None) };
        let KeyInfo { id, account, label, grants, .. } = KeyInfo::from_row(&row)?;
        let secret = self.inner.master.open(id.as_str(), &row.bytes("sealed_secret")?);
        let secret = secret.ok_or_else(|| Error::SecretDamaged { id: id.to_string() })?;
        Ok(Some(KeyRecord { id, account, label, secret, grants }))
    }

    /// Every key of the account, oldest first, revoked ones included.
    pub async fn list_keys(&self, account: &AccountId) -> Result<Vec<KeyInfo>, Error> {
        let rows = sqlx::query("SELECT * FROM access_keys WHERE account = $1 ORDER BY created_n")
            .bind(account.as_str())
            .fetch_all(self.readers())
            .await?;
        rows.iter().map(KeyInfo::from_row).collect()
    }

    /// Revokes a key of `account` for ever; false if it has no such key or it was revoked before.
    pub async fn revoke_key(&self, by: &KeyId, account: &AccountId, id: &KeyId) -> Result<bool, Error> {
        let mut tx = self.write(Op::RevokeKey).await?;
        let revoked = revoke(&mut tx, by, account, id, self.now_ms()).await;
        tx.end(revoked).await
    }

    /// True if some key that is not revoked has [`Right::Admin`] on every name.
    pub async fn has_admin_key(&self) -> Result<bool, Error> {
        let rows =
            sqlx::query("SELECT grants FROM access_keys WHERE revoked_ms IS NULL").fetch_all(self.readers()).await?;
        for row in rows {
            let grants = decode_grants(&row.word("grants")?)?;
            if grants.iter().any(|grant| grant.pattern == "*" && grant.rights.contains(&Right::Admin)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl KeyInfo {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            id: KeyId::new(row.word("id")?),
            account: AccountId::new(row.word("account")?),
            label: row.text("label")?,
            grants: decode_grants(&row.word("grants")?)?,
            created_ms: row.time("created_ms")?,
            revoked_ms: row.time_or_none("revoked_ms")?,
        })
    }
}

async fn insert(connection: &mut Connection, by: &KeyId, key: KeyInfo, sealed: Vec<u8>) -> Result<(), Error> {
    let grants = encode_grants(&key.grants);
    let detail = serde_json::json!({ "account": key.account.as_str(), "label": key.label, "grants": grants });
    let n = audit::append(connection, key.created_ms, &Audit::done(by, "key.create", &key.id, detail)).await?;
    sqlx::query(
        "INSERT INTO access_keys (id, account, label, sealed_secret, grants, created_ms, created_n)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(key.id.as_str())
    .bind(key.account.as_str())
    .bind(key.label.into_bytes())
    .bind(sealed)
    .bind(grants.to_string())
    .bind(key.created_ms)
    .bind(stored(n, "audit record")?)
    .execute(connection)
    .await?;
    Ok(())
}

async fn revoke(
    connection: &mut Connection,
    by: &KeyId,
    account: &AccountId,
    id: &KeyId,
    now_ms: i64,
) -> Result<bool, Error> {
    let sql = "UPDATE access_keys SET revoked_ms = $1 WHERE id = $2 AND account = $3 AND revoked_ms IS NULL";
    let done = sqlx::query(sql).bind(now_ms).bind(id.as_str()).bind(account.as_str()).execute(&mut *connection).await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    let detail = serde_json::json!({ "account": account.as_str() });
    audit::append(connection, now_ms, &Audit::done(by, "key.revoke", id, detail)).await?;
    Ok(true)
}

/// A grant as it is stored, in JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredGrant {
    rights: Vec<String>,
    pattern: String,
}

fn encode_grants(grants: &[Grant]) -> serde_json::Value {
    let grants = grants.iter().map(|grant| {
        let rights: Vec<_> = grant.rights.iter().map(|right| right.name()).collect();
        serde_json::json!({ "rights": rights, "pattern": grant.pattern })
    });
    grants.collect()
}

fn decode_grants(text: &str) -> Result<Vec<Grant>, Error> {
    let malformed = || Error::Malformed { what: "grants" };
    let grants: Vec<StoredGrant> = serde_json::from_str(text).map_err(|_| malformed())?;
    let decode = |grant: StoredGrant| {
        let rights = grant.rights.iter().map(|name| Right::parse(name)).collect::<Option<_>>();
        Ok(Grant { rights: rights.ok_or_else(malformed)?, pattern: grant.pattern })
    };
    grants.into_iter().map(decode).collect()
}

#[cfg(test)]
mod tests;
