//! Indexes: a name in a collection, its incarnation, and what was asked of it.
//!
//! An index goes with its collection. Whatever an index keeps on disk is the engine's; nothing here knows of it.

mod stored;

use knarr_base::id::{AccountId, IndexId, KeyId, Name, TableId};
use knarr_base::index::{IndexSpec, ShardPolicy};
use knarr_base::limit::{INDEXES_PER_ACCOUNT, INDEXES_PER_COLLECTION};

use crate::audit::{self, Audit};
use crate::dialect::{Columns, Connection, Row};
use crate::write::Op;
use crate::{Catalog, Error};

/// Which index: the account's collection of that name, and the index's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexKey<'a> {
    /// The account of the collection.
    pub account: &'a AccountId,
    /// The collection's name.
    pub collection: &'a str,
    /// The index's name.
    pub name: &'a str,
}

/// An index to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewIndex {
    /// The account of the collection.
    pub account: AccountId,
    /// The collection's name.
    pub collection: Name,
    /// The incarnation that the specification was checked against.
    pub table: TableId,
    /// Unique in the collection.
    pub name: Name,
    /// Checked.
    pub spec: IndexSpec,
}

/// An index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Its incarnation.
    pub id: IndexId,
    /// The collection's name.
    pub collection: Name,
    /// Unique in the collection.
    pub name: Name,
    /// What was asked of it.
    pub spec: IndexSpec,
    /// Unix milliseconds.
    pub created_ms: i64,
    /// Unix milliseconds.
    pub updated_ms: i64,
    /// Key of the last change.
    pub updated_by: KeyId,
}

/// What changes in an index; absent things stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexChange {
    /// The new free text.
    pub description: Option<String>,
    /// The new quota.
    pub cpu_quota: Option<u32>,
    /// The new policy.
    pub shard_policy: Option<ShardPolicy>,
    /// The new number of shards.
    pub shard_count: Option<u32>,
    /// Fields to add to the scalar index.
    pub scalars: Vec<String>,
}

impl IndexChange {
    /// `spec` with this change.
    pub fn apply(&self, spec: &mut IndexSpec) {
        let Self { description, cpu_quota, shard_policy, shard_count, scalars } = self;
        if let Some(text) = description {
            spec.description.clone_from(text);
        }
        spec.cpu_quota = cpu_quota.unwrap_or(spec.cpu_quota);
        spec.shard_policy = shard_policy.unwrap_or(spec.shard_policy);
        spec.shard_count = shard_count.unwrap_or(spec.shard_count);
        spec.add_scalars(scalars);
    }
}

impl Catalog {
    /// Makes an index. [`Error::CollectionMissing`] also if the collection is another incarnation by now;
    /// [`Error::IndexExists`], [`Error::TooManyIndexes`].
    pub async fn create_index(&self, by: &KeyId, new: NewIndex) -> Result<Index, Error> {
        let mut tx = self.write(Op::CreateIndex).await?;
        let created = create(&mut tx, by, new, self.now_ms()).await;
        tx.end(created).await
    }

    /// The indexes of a collection, by name.
    pub async fn indexes(&self, account: &AccountId, collection: &str) -> Result<Vec<Index>, Error> {
        let rows = sqlx::query("SELECT * FROM indexes WHERE account = $1 AND collection = $2")
            .bind(account.as_str())
            .bind(collection)
            .fetch_all(self.readers())
            .await?;
        let mut indexes = rows.iter().map(Index::from_row).collect::<Result<Vec<_>, _>>()?;
        // Sorted here: databases disagree about the order of text.
        indexes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(indexes)
    }

    /// Changes what may change. [`Error::IndexMissing`].
    pub async fn update_index(&self, by: &KeyId, key: IndexKey<'_>, change: &IndexChange) -> Result<Index, Error> {
        let mut tx = self.write(Op::UpdateIndex).await?;
        let updated = update(&mut tx, by, key, change, self.now_ms()).await;
        tx.end(updated).await
    }

    /// Removes an index and returns what it was. [`Error::IndexMissing`].
    pub async fn drop_index(&self, by: &KeyId, key: IndexKey<'_>) -> Result<Index, Error> {
        let mut tx = self.write(Op::DropIndex).await?;
        let dropped = remove(&mut tx, by, key, self.now_ms()).await;
        tx.end(dropped).await
    }
}

impl Index {
    fn from_row(row: &Row) -> Result<Self, Error> {
        let name =
            |column| Name::parse("name", &row.word(column)?).map_err(|_| Error::Malformed { what: "index name" });
        Ok(Self {
            id: row.parsed("id")?,
            collection: name("collection")?,
            name: name("name")?,
            spec: stored::decode(&row.bytes("spec")?)?,
            created_ms: row.time("created_ms")?,
            updated_ms: row.time("updated_ms")?,
            updated_by: KeyId::new(row.word("updated_by")?),
        })
    }
}

async fn create(connection: &mut Connection, by: &KeyId, new: NewIndex, now_ms: i64) -> Result<Index, Error> {
    let NewIndex { account, collection, table, name, spec } = new;
    let key = IndexKey { account: &account, collection: collection.as_str(), name: name.as_str() };
    check_incarnation(connection, key, table).await?;
    match find(connection, key).await {
        Ok(_) => return Err(Error::IndexExists { name: name.to_string() }),
        Err(Error::IndexMissing { .. }) => {}
        Err(error) => return Err(error),
    }
    check_room(connection, key).await?;
    sqlx::query(
        "INSERT INTO indexes (id, account, collection, name, spec, created_ms, updated_ms, updated_by)
         VALUES ($1, $2, $3, $4, $5, $6, $6, $7)",
    )
    .bind(IndexId::random().to_string())
    .bind(account.as_str())
    .bind(collection.as_str())
    .bind(name.as_str())
    .bind(stored::encode(&spec))
    .bind(now_ms)
    .bind(by.as_str())
    .execute(&mut *connection)
    .await?;
    audited(connection, by, "index.create", key, now_ms).await
}

/// The specification fits the fields of one incarnation; a collection made again may have others.
async fn check_incarnation(connection: &mut Connection, key: IndexKey<'_>, table: TableId) -> Result<(), Error> {
    let row = sqlx::query("SELECT table_id FROM collections WHERE account = $1 AND name = $2")
        .bind(key.account.as_str())
        .bind(key.collection)
        .fetch_optional(connection)
        .await?;
    match row {
        Some(row) if row.parsed::<TableId>("table_id")? == table => Ok(()),
        _ => Err(Error::CollectionMissing { name: key.collection.to_owned() }),
    }
}

async fn check_room(connection: &mut Connection, key: IndexKey<'_>) -> Result<(), Error> {
    let sql = "SELECT COUNT(*) AS all_of_them, COALESCE(SUM(CASE WHEN collection = $2 THEN 1 ELSE 0 END), 0) AS here
               FROM indexes WHERE account = $1";
    let counts = sqlx::query(sql).bind(key.account.as_str()).bind(key.collection).fetch_one(connection).await?;
    if counts.number("here")? >= INDEXES_PER_COLLECTION as u64 {
        return Err(Error::TooManyIndexes { of: "collection", max: INDEXES_PER_COLLECTION });
    }
    if counts.number("all_of_them")? >= INDEXES_PER_ACCOUNT as u64 {
        return Err(Error::TooManyIndexes { of: "account", max: INDEXES_PER_ACCOUNT });
    }
    Ok(())
}

async fn find(connection: &mut Connection, key: IndexKey<'_>) -> Result<Index, Error> {
    let row = sqlx::query("SELECT * FROM indexes WHERE account = $1 AND collection = $2 AND name = $3")
        .bind(key.account.as_str())
        .bind(key.collection)
        .bind(key.name)
        .fetch_optional(connection)
        .await?;
    let row = row.ok_or_else(|| Error::IndexMissing { name: key.name.to_owned() })?;
    Index::from_row(&row)
}

async fn update(
    connection: &mut Connection,
    by: &KeyId,
    key: IndexKey<'_>,
    change: &IndexChange,
    now_ms: i64,
) -> Result<Index, Error> {
    let mut spec = find(connection, key).await?.spec;
    change.apply(&mut spec);
    sqlx::query(
        "UPDATE indexes SET spec = $1, updated_ms = $2, updated_by = $3
         WHERE account = $4 AND collection = $5 AND name = $6",
    )
    .bind(stored::encode(&spec))
    .bind(now_ms)
    .bind(by.as_str())
    .bind(key.account.as_str())
    .bind(key.collection)
    .bind(key.name)
    .execute(&mut *connection)
    .await?;
    audited(connection, by, "index.update", key, now_ms).await
}

async fn remove(connection: &mut Connection, by: &KeyId, key: IndexKey<'_>, now_ms: i64) -> Result<Index, Error> {
    let dropped = audited(connection, by, "index.drop", key, now_ms).await?;
    sqlx::query("DELETE FROM indexes WHERE id = $1").bind(dropped.id.to_string()).execute(connection).await?;
    Ok(dropped)
}

/// Reads the index as it is now in this transaction and appends the audit record.
async fn audited(
    connection: &mut Connection,
    by: &KeyId,
    action: &'static str,
    key: IndexKey<'_>,
    now_ms: i64,
) -> Result<Index, Error> {
    let index = find(connection, key).await?;
    let IndexKey { account, collection, name } = key;
    let detail =
        serde_json::json!({ "account": account.as_str(), "collection": collection, "index": index.id.to_string() });
    audit::append(connection, now_ms, &Audit::done(by, action, name, detail)).await?;
    Ok(index)
}

#[cfg(test)]
pub(crate) mod tests;
