//! Create, info, list, update, drop.
//!
//! Birth: directory and first manifest, then the catalog's row. Death: the row first, files later. A crash between
//! leaves a directory that no name refers to, which the sweep at start-up removes.

use knarr_base::id::TableId;
use knarr_base::right::Right;
use knarr_base::{Error, Kind, Result, limit};
use knarr_catalog::collections::{CollectionChange, NewCollection};

use super::open::Opened;
use super::{CollectionInfo, CollectionRef, CreateCollection, UpdateCollection};
use crate::{Principal, Service, blocking, tasks};

impl Service {
    /// Needs admin on the name. Durable on return. With `vectorize` the schema gets the vector that the model makes;
    /// its dimension is asked of the model where `vectorize` has none.
    ///
    /// # Errors
    /// `Kind::CollectionExists`, `Kind::Forbidden`, `Kind::Invalid` over a bound or for a `vectorize` that does not fit
    /// the fields, `Kind::EmbeddingFailed` or `Kind::Busy` if the model is asked and does not answer.
    pub async fn create_collection(&self, by: &Principal, new: CreateCollection) -> Result<()> {
        by.need(Right::Admin, new.name.as_str())?;
        check_texts(&new.description, &new.aliases)?;
        let inner = &self.inner;
        if inner.catalog.collection(&by.account, new.name.as_str()).await?.is_some() {
            return Err(Error::new(Kind::CollectionExists, format!("collection {} exists", new.name)));
        }
        let schema = inner.with_made_vector(new.schema, new.vectorize.as_deref()).await?;
        let id = TableId::random();
        let tables = inner.tables.clone();
        blocking(move || tables.create(id, schema)).await??;
        let row = NewCollection {
            account: by.account.clone(),
            name: new.name,
            table: id,
            project: new.project,
            description: new.description,
            aliases: new.aliases,
            vectorize: new.vectorize,
        };
        let created = inner.catalog.create_collection(&by.key, row).await;
        inner.open.forget();
        if let Err(error) = created {
            // An unknown outcome keeps the files: the row may be there. The sweep decides at the next start.
            let error = Error::from(error);
            if error.kind() != Kind::Unavailable {
                self.remove_table(id).await;
            }
            return Err(error);
        }
        Ok(())
    }

    /// Needs read.
    ///
    /// # Errors
    /// `Kind::CollectionMissing`, `Kind::AliasMissing`, `Kind::Forbidden`.
    pub async fn collection_info(&self, by: &Principal, c: &CollectionRef) -> Result<CollectionInfo> {
        let opened = self.inner.collection(by, Right::Read, c).await?;
        Ok(view(&opened))
    }

    /// Those the caller may read, by name; `project` `None` or empty means all.
    ///
    /// # Errors
    /// Those of the catalog and the engine.
    pub async fn list_collections(&self, by: &Principal, project: Option<&str>) -> Result<Vec<CollectionInfo>> {
        let project = project.filter(|p| !p.is_empty());
        let mut infos = Vec::new();
        for record in self.inner.catalog.collections(&by.account, project).await? {
            if !by.may(Right::Read, record.name.as_str()) {
                continue;
            }
            let name = record.name.clone();
            match self.inner.open_record(record).await {
                Ok(opened) => infos.push(view(&opened)),
                // Every other call on it says so; one damaged collection does not hide the others.
                Err(error) if matches!(error.kind(), Kind::Corrupt | Kind::CollectionMissing) => {
                    tracing::error!(collection = %name, error = error.chain(), "a collection cannot be listed");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(infos)
    }

    /// Needs admin. Fields are added first: a crash in between leaves them added and the texts as they were, and the
    /// same call again completes it.
    ///
    /// # Errors
    /// `Kind::CollectionMissing`, `Kind::Forbidden`, `Kind::Invalid` for a field that exists with another type.
    pub async fn update_collection(&self, by: &Principal, c: &CollectionRef, change: UpdateCollection) -> Result<()> {
        check_texts(change.description.as_deref().unwrap_or_default(), change.aliases.as_deref().unwrap_or_default())?;
        let opened = self.inner.collection(by, Right::Admin, c).await?;
        let fields_added = !change.fields.is_empty();
        if fields_added {
            let (table, fields) = (opened.table.clone(), change.fields);
            blocking(move || table.add_fields(fields)).await??;
        }
        let row = CollectionChange { description: change.description, aliases: change.aliases, fields_added };
        let name = opened.record.name.as_str();
        self.inner.catalog.update_collection(&by.key, &by.account, name, row).await?;
        self.inner.open.forget();
        Ok(())
    }

    /// Needs admin. Its unfinished tasks fail with the reason `collection not exist`.
    ///
    /// # Errors
    /// `Kind::CollectionMissing`, `Kind::Forbidden`.
    pub async fn drop_collection(&self, by: &Principal, c: &CollectionRef) -> Result<()> {
        if let CollectionRef::Name(name) = c {
            by.need(Right::Admin, name)?;
        }
        let record = self.inner.record(&by.account, c).await?;
        by.need(Right::Admin, record.name.as_str())?;
        let dropped = self.inner.catalog.drop_collection(&by.key, &by.account, record.name.as_str()).await?;
        self.inner.open.forget();
        tasks::doom_table(&self.inner, dropped.table).await;
        self.remove_table(dropped.table).await;
        Ok(())
    }

    /// Files of a table no name refers to. A failure is not the caller's: the sweep at start-up tries again.
    async fn remove_table(&self, id: TableId) {
        let tables = self.inner.tables.clone();
        let removed = blocking(move || tables.drop_table(id)).await.and_then(|r| r.map_err(Error::from));
        let forgotten = match removed {
            Ok(()) => self.inner.catalog.forget_dropped_table(id).await.map_err(Error::from),
            Err(error) => Err(error),
        };
        if let Err(error) = forgotten {
            tracing::warn!(table = %id, error = error.chain(), "files of a dropped table stay until the next start");
        }
    }
}

fn check_texts(description: &str, aliases: &[knarr_base::id::Name]) -> Result<()> {
    if description.len() > limit::DESCRIPTION_BYTES {
        return Err(Error::new(Kind::Invalid, "description is longer than 65535 bytes"));
    }
    if aliases.len() > limit::ALIASES_PER_COLLECTION {
        return Err(Error::new(Kind::Invalid, "more than 100 aliases"));
    }
    Ok(())
}

fn view(opened: &Opened) -> CollectionInfo {
    let (record, stats) = (&opened.record, opened.table.stats());
    CollectionInfo {
        name: record.name.clone(),
        aliases: record.aliases.clone(),
        description: record.description.clone(),
        project: record.project.clone(),
        schema: opened.table.schema(),
        vectorize: record.vectorize.clone(),
        indexes: opened.indexes.iter().map(|index| index.name.to_string()).collect(),
        rows: stats.rows,
        bytes: stats.bytes,
        created_ms: record.created_ms,
        updated_ms: record.updated_ms,
        updated_by: record.updated_by.to_string(),
    }
}
