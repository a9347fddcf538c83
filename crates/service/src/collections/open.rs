//! From a name in a request to the table behind it.

use std::sync::Arc;

use knarr_base::id::{AccountId, TableId};
use knarr_base::right::Right;
use knarr_base::schema::Schema;
use knarr_base::{Error, Kind, Result, limit};
use knarr_catalog::collections::Collection;
use knarr_catalog::indexes::Index;
use knarr_engine::table::{Table, Wanted};

use crate::cache::Cache;
use crate::collections::CollectionRef;
use crate::{Inner, Principal, blocking};

/// A collection whose name was resolved: the catalog's records and the table of its incarnation.
#[derive(Clone)]
pub(crate) struct Opened {
    pub(crate) record: Arc<Collection>,
    pub(crate) table: Arc<Table>,
    /// By name.
    pub(crate) indexes: Arc<Vec<Index>>,
}

/// Names resolved since the last change of any name.
pub(crate) struct Open(Cache<(AccountId, String), Opened>);

impl Default for Open {
    fn default() -> Self {
        Self(Cache::new(limit::COLLECTIONS_CACHED))
    }
}

impl Open {
    /// After a create, update or drop of a collection or an index is durable.
    pub(crate) fn forget(&self) {
        self.0.clear();
    }
}

/// What the indexes of a table want to be quick.
pub(crate) fn wanted(indexes: &[Index], schema: &Schema) -> Wanted {
    Wanted {
        distances: indexes.iter().filter_map(|index| index.spec.structured()).collect(),
        fields: indexes.iter().flat_map(|index| index.spec.filtered(schema)).collect(),
    }
}

impl Inner {
    /// The record behind a name or alias.
    ///
    /// # Errors
    /// `Kind::CollectionMissing`, `Kind::AliasMissing`.
    pub(crate) async fn record(&self, account: &AccountId, c: &CollectionRef) -> Result<Collection> {
        let (found, kind, text) = match c {
            CollectionRef::Name(name) => {
                (self.catalog.collection(account, name).await?, Kind::CollectionMissing, "collection not exist")
            }
            CollectionRef::Alias(alias) => {
                let found = self.catalog.collection_by_alias(account, alias).await?;
                (found, Kind::AliasMissing, "collection alias not exist")
            }
        };
        found.ok_or_else(|| Error::new(kind, text))
    }

    /// Resolves, opens, and checks a right on the collection's name. The right is checked first for plain names, so
    /// that a key cannot probe which foreign names exist.
    pub(crate) async fn collection(&self, by: &Principal, right: Right, c: &CollectionRef) -> Result<Opened> {
        match c {
            CollectionRef::Name(name) => {
                by.need(right, name)?;
                let key = (by.account.clone(), name.clone());
                let opened = self.open.0.get(&key, || self.load(&by.account, c)).await?;
                opened.ok_or_else(|| Error::new(Kind::CollectionMissing, "collection not exist"))
            }
            CollectionRef::Alias(_) => {
                let record = self.record(&by.account, c).await?;
                by.need(right, record.name.as_str())?;
                self.open_record(record).await
            }
        }
    }

    async fn load(&self, account: &AccountId, c: &CollectionRef) -> Result<Option<Opened>> {
        match self.record(account, c).await {
            Ok(record) => self.open_record(record).await.map(Some),
            Err(error) if error.kind() == Kind::CollectionMissing => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn open_record(&self, record: Collection) -> Result<Opened> {
        let table = self.table(record.table).await?;
        let indexes = Arc::new(self.catalog.indexes(&record.account, record.name.as_str()).await?);
        let (opened, known) = (table.clone(), indexes.clone());
        // Maps search structures.
        blocking(move || opened.want_structures(&wanted(&known, &opened.schema()))).await?;
        Ok(Opened { record: Arc::new(record), table, indexes })
    }

    /// The table of a collection. The first use replays the log.
    ///
    /// # Errors
    /// `Kind::CollectionMissing` once the collection is dropped, `Kind::Corrupt` where its files are damaged or gone.
    pub(crate) async fn table(&self, id: TableId) -> Result<Arc<Table>> {
        let tables = self.tables.clone();
        let missing = match blocking(move || tables.table(id)).await? {
            Err(missing @ knarr_engine::Error::TableMissing(_)) => missing,
            opened => return Ok(opened?),
        };
        // A drop removes the name before the files: files that are gone under a name were not dropped.
        if self.catalog.table_ids().await?.contains(&id) {
            return Err(Error::new(Kind::Corrupt, "stored data is missing").with_source(missing));
        }
        Err(missing.into())
    }
}
