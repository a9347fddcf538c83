//! Collections: a name in an account, the incarnation of its table, its aliases and labels.
//!
//! The fields of a collection are the table's truth, in its manifest; nothing here repeats them.

use std::collections::HashSet;

use knarr_base::id::{AccountId, KeyId, Name, TableId};
use knarr_base::limit::{ALIASES_PER_COLLECTION, COLLECTIONS_PER_ACCOUNT};

use crate::audit::{self, Audit};
use crate::dialect::{Columns, Connection, Row};
use crate::write::Op;
use crate::{Catalog, Error};

/// One row per alias, or one without; read whole by [`gather`].
macro_rules! select {
    ($where:literal) => {
        concat!(
            "SELECT c.*, a.alias FROM collections c
             LEFT JOIN aliases a ON a.account = c.account AND a.name = c.name ",
            $where
        )
    };
}

/// A collection to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCollection {
    /// The account it will belong to.
    pub account: AccountId,
    /// Unique in the account.
    pub name: Name,
    /// Its table, which exists already.
    pub table: TableId,
    /// A label.
    pub project: String,
    /// Free text.
    pub description: String,
    /// Other names; one mapped elsewhere in the account is moved here.
    pub aliases: Vec<Name>,
    /// JSON text, echoed.
    pub vectorize: Option<String>,
}

/// A collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// The account it belongs to.
    pub account: AccountId,
    /// Unique in the account.
    pub name: Name,
    /// Its incarnation: dropped and made again, it has another one.
    pub table: TableId,
    /// A label.
    pub project: String,
    /// Free text.
    pub description: String,
    /// Other names, sorted.
    pub aliases: Vec<Name>,
    /// JSON text as given.
    pub vectorize: Option<String>,
    /// Unix milliseconds.
    pub created_ms: i64,
    /// Unix milliseconds.
    pub updated_ms: i64,
    /// Key of the last change.
    pub updated_by: KeyId,
}

/// What changes in a collection; absent things stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CollectionChange {
    /// The new free text.
    pub description: Option<String>,
    /// Aliases to add; one mapped elsewhere in the account is moved here.
    pub aliases: Option<Vec<Name>>,
    /// True if the table got new fields; for the audit.
    pub fields_added: bool,
}

impl Catalog {
    /// Makes a collection. [`Error::CollectionExists`], [`Error::TooManyCollections`], [`Error::TooManyAliases`].
    pub async fn create_collection(&self, by: &KeyId, new: NewCollection) -> Result<Collection, Error> {
        let mut tx = self.write(Op::CreateCollection).await?;
        let created = create(&mut tx, by, new, self.now_ms()).await;
        tx.end(created).await
    }

    /// The collection of that name; a name against the rule simply does not exist.
    pub async fn collection(&self, account: &AccountId, name: &str) -> Result<Option<Collection>, Error> {
        let rows = sqlx::query(BY_NAME).bind(account.as_str()).bind(name).fetch_all(self.readers()).await?;
        Ok(gather(&rows)?.pop())
    }

    /// The collection with that alias.
    pub async fn collection_by_alias(&self, account: &AccountId, alias: &str) -> Result<Option<Collection>, Error> {
        let rows = sqlx::query(select!(
            "WHERE c.account = $1 AND c.name = (SELECT name FROM aliases WHERE account = $1 AND alias = $2)"
        ))
        .bind(account.as_str())
        .bind(alias)
        .fetch_all(self.readers())
        .await?;
        Ok(gather(&rows)?.pop())
    }

    /// The account's collections by name; only those labelled `project`, if given.
    pub async fn collections(&self, account: &AccountId, project: Option<&str>) -> Result<Vec<Collection>, Error> {
        let rows = sqlx::query(select!("WHERE c.account = $1 AND ($2 IS NULL OR c.project = $2)"))
            .bind(account.as_str())
            .bind(project.map(str::as_bytes))
            .fetch_all(self.readers())
            .await?;
        gather(&rows)
    }

    /// Changes description and aliases. [`Error::CollectionMissing`], [`Error::TooManyAliases`].
    pub async fn update_collection(
        &self,
        by: &KeyId,
        account: &AccountId,
        name: &str,
        change: CollectionChange,
    ) -> Result<Collection, Error> {
        let mut tx = self.write(Op::UpdateCollection).await?;
        let updated = update(&mut tx, by, account, name, change, self.now_ms()).await;
        tx.end(updated).await
    }

    /// Removes the collection and its aliases, and returns what it was. Files of its table go later.
    pub async fn drop_collection(&self, by: &KeyId, account: &AccountId, name: &str) -> Result<Collection, Error> {
        let mut tx = self.write(Op::DropCollection).await?;
        let dropped = remove(&mut tx, by, account, name, self.now_ms()).await;
        tx.end(dropped).await
    }

    /// The table of every collection of every account.
    pub async fn table_ids(&self) -> Result<HashSet<TableId>, Error> {
        let rows = sqlx::query("SELECT table_id FROM collections").fetch_all(self.readers()).await?;
        rows.iter().map(|row| row.parsed("table_id")).collect()
    }
}

impl Catalog {
    /// Tables whose collection was dropped and whose files may still be there. No other table may ever be removed: a
    /// table that is in neither list belongs to a catalog that was lost.
    pub async fn dropped_tables(&self) -> Result<HashSet<TableId>, Error> {
        let rows = sqlx::query("SELECT table_id FROM dropped_tables").fetch_all(self.readers()).await?;
        rows.iter().map(|row| row.parsed("table_id")).collect()
    }

    /// The files of a dropped table are gone.
    pub async fn forget_dropped_table(&self, table: TableId) -> Result<(), Error> {
        let mut tx = self.write(Op::ForgetDroppedTable).await?;
        let forgotten = sqlx::query("DELETE FROM dropped_tables WHERE table_id = $1")
            .bind(table.to_string())
            .execute(&mut *tx)
            .await;
        tx.end(forgotten.map(drop).map_err(Error::from)).await
    }
}

const BY_NAME: &str = select!("WHERE c.account = $1 AND c.name = $2");

/// Collections by name, aliases sorted. Sorted here: databases disagree about the order of text.
fn gather(rows: &[Row]) -> Result<Vec<Collection>, Error> {
    let mut collections = std::collections::BTreeMap::new();
    for row in rows {
        let collection = match collections.entry(row.word("name")?) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Collection::from_row(row)?),
        };
        if let Some(alias) = row.word_or_none("alias")? {
            collection.aliases.push(checked(&alias)?);
        }
    }
    let sorted = |mut collection: Collection| {
        collection.aliases.sort();
        collection
    };
    Ok(collections.into_values().map(sorted).collect())
}

fn checked(name: &str) -> Result<Name, Error> {
    Name::parse("name", name).map_err(|_| Error::Malformed { what: "collection name" })
}

impl Collection {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            account: AccountId::new(row.word("account")?),
            name: checked(&row.word("name")?)?,
            table: row.parsed("table_id")?,
            project: row.text("project")?,
            description: row.text("description")?,
            aliases: Vec::new(),
            vectorize: row.text_or_none("vectorize")?,
            created_ms: row.time("created_ms")?,
            updated_ms: row.time("updated_ms")?,
            updated_by: KeyId::new(row.word("updated_by")?),
        })
    }
}

async fn find(connection: &mut Connection, account: &AccountId, name: &str) -> Result<Collection, Error> {
    let rows = sqlx::query(BY_NAME).bind(account.as_str()).bind(name).fetch_all(connection).await?;
    gather(&rows)?.pop().ok_or_else(|| Error::CollectionMissing { name: name.to_owned() })
}

async fn create(connection: &mut Connection, by: &KeyId, new: NewCollection, now_ms: i64) -> Result<Collection, Error> {
    match find(connection, &new.account, new.name.as_str()).await {
        Ok(_) => return Err(Error::CollectionExists { name: new.name.to_string() }),
        Err(Error::CollectionMissing { .. }) => {}
        Err(error) => return Err(error),
    }
    let count = sqlx::query("SELECT COUNT(*) AS count FROM collections WHERE account = $1")
        .bind(new.account.as_str())
        .fetch_one(&mut *connection)
        .await?;
    if count.number("count")? >= COLLECTIONS_PER_ACCOUNT as u64 {
        return Err(Error::TooManyCollections { max: COLLECTIONS_PER_ACCOUNT });
    }
    sqlx::query(
        "INSERT INTO collections
         (account, name, table_id, project, description, vectorize, created_ms, updated_ms, updated_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8)",
    )
    .bind(new.account.as_str())
    .bind(new.name.as_str())
    .bind(new.table.to_string())
    .bind(new.project.as_bytes())
    .bind(new.description.as_bytes())
    .bind(new.vectorize.as_deref().map(str::as_bytes))
    .bind(now_ms)
    .bind(by.as_str())
    .execute(&mut *connection)
    .await?;
    map_aliases(connection, &new.account, new.name.as_str(), &new.aliases).await?;
    audited(connection, by, "collection.create", &new.account, new.name.as_str(), &[], now_ms).await
}

async fn update(
    connection: &mut Connection,
    by: &KeyId,
    account: &AccountId,
    name: &str,
    change: CollectionChange,
    now_ms: i64,
) -> Result<Collection, Error> {
    let CollectionChange { description, aliases, fields_added } = change;
    let sql = "UPDATE collections SET description = COALESCE($1, description), updated_ms = $2, updated_by = $3
               WHERE account = $4 AND name = $5";
    let done = sqlx::query(sql)
        .bind(description.as_deref().map(str::as_bytes))
        .bind(now_ms)
        .bind(by.as_str())
        .bind(account.as_str())
        .bind(name)
        .execute(&mut *connection)
        .await?;
    if done.rows_affected() == 0 {
        return Err(Error::CollectionMissing { name: name.to_owned() });
    }
    map_aliases(connection, account, name, aliases.as_deref().unwrap_or_default()).await?;
    let changed = [("description", description.is_some()), ("aliases", aliases.is_some()), ("fields", fields_added)];
    let changed: Vec<_> = changed.into_iter().filter(|(_, is)| *is).map(|(what, _)| what).collect();
    audited(connection, by, "collection.update", account, name, &changed, now_ms).await
}

async fn remove(
    connection: &mut Connection,
    by: &KeyId,
    account: &AccountId,
    name: &str,
    now_ms: i64,
) -> Result<Collection, Error> {
    let dropped = audited(connection, by, "collection.drop", account, name, &[], now_ms).await?;
    sqlx::query("DELETE FROM collections WHERE account = $1 AND name = $2")
        .bind(account.as_str())
        .bind(name)
        .execute(&mut *connection)
        .await?;
    sqlx::query("INSERT INTO dropped_tables (table_id, dropped_ms) VALUES ($1, $2)")
        .bind(dropped.table.to_string())
        .bind(now_ms)
        .execute(connection)
        .await?;
    Ok(dropped)
}

async fn map_aliases(
    connection: &mut Connection,
    account: &AccountId,
    name: &str,
    aliases: &[Name],
) -> Result<(), Error> {
    for alias in aliases {
        sqlx::query(
            "INSERT INTO aliases (account, alias, name) VALUES ($1, $2, $3)
             ON CONFLICT (account, alias) DO UPDATE SET name = excluded.name",
        )
        .bind(account.as_str())
        .bind(alias.as_str())
        .bind(name)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Reads the collection as it is now in this transaction, checks its bounds and appends the audit record.
async fn audited(
    connection: &mut Connection,
    by: &KeyId,
    action: &'static str,
    account: &AccountId,
    name: &str,
    changed: &[&str],
    now_ms: i64,
) -> Result<Collection, Error> {
    let collection = find(connection, account, name).await?;
    if collection.aliases.len() > ALIASES_PER_COLLECTION {
        return Err(Error::TooManyAliases { max: ALIASES_PER_COLLECTION });
    }
    let mut detail = serde_json::json!({ "account": account.as_str(), "table": collection.table.to_string() });
    if !changed.is_empty() {
        detail["changed"] = changed.into();
    }
    audit::append(connection, now_ms, &Audit::done(by, action, name, detail)).await?;
    Ok(collection)
}

#[cfg(test)]
mod tests;
