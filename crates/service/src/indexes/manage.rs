//! Create, info, list, update, drop.

use knarr_base::index::{IndexSpec, ScalarIndex};
use knarr_base::right::Right;
use knarr_base::schema::{FieldType, Schema};
use knarr_base::{Error, Kind, Result};
use knarr_catalog::indexes::{Index, IndexChange, IndexKey, NewIndex};

use super::{CreateIndex, IndexInfo, IndexRef, Status, UpdateIndex};
use crate::collections::{CollectionRef, Opened, wanted};
use crate::{Principal, Service, blocking};

impl Service {
    /// Needs admin on the collection. Durable on return, and ready.
    ///
    /// # Errors
    /// `Kind::IndexExists`, `Kind::CollectionMissing`, `Kind::Forbidden`, `Kind::Invalid` for what does not fit the
    /// collection's fields, `Kind::Refused` at the bound of the collection or the account.
    pub async fn create_index(&self, by: &Principal, c: &CollectionRef, new: CreateIndex) -> Result<()> {
        let opened = self.inner.collection(by, Right::Admin, c).await?;
        new.spec.check(&opened.table.schema())?;
        let row = NewIndex {
            account: by.account.clone(),
            collection: opened.record.name.clone(),
            table: opened.record.table,
            name: new.name,
            spec: new.spec,
        };
        let created = self.inner.catalog.create_index(&by.key, row).await;
        // Also after an unknown outcome: the row may be there.
        self.inner.open.forget();
        created?;
        // Resolved anew, the table learns what its indexes want.
        self.inner.collection(by, Right::Admin, c).await?;
        Ok(())
    }

    /// Needs read on the collection.
    ///
    /// # Errors
    /// `Kind::IndexMissing`, `Kind::CollectionMissing`, `Kind::Forbidden`.
    pub async fn index_info(&self, by: &Principal, index: &IndexRef) -> Result<IndexInfo> {
        let open = self.open_index(by, index).await?;
        Ok(IndexInfo { partitions: open.partitions().await?, ..view(&open.opened, &open.index) })
    }

    /// The indexes of a collection by name. Needs read on it.
    ///
    /// # Errors
    /// `Kind::CollectionMissing`, `Kind::Forbidden`.
    pub async fn list_indexes(&self, by: &Principal, c: &CollectionRef) -> Result<Vec<IndexInfo>> {
        let opened = self.inner.collection(by, Right::Read, c).await?;
        Ok(opened.indexes.iter().map(|index| view(&opened, index)).collect())
    }

    /// Needs admin on the collection. Fields are only ever added to the scalar index.
    ///
    /// # Errors
    /// `Kind::IndexMissing`, `Kind::CollectionMissing`, `Kind::Forbidden`, `Kind::Invalid`.
    pub async fn update_index(&self, by: &Principal, index: &IndexRef, change: UpdateIndex) -> Result<()> {
        let opened = self.inner.collection(by, Right::Admin, &index.collection).await?;
        let name = required_name(index)?;
        let UpdateIndex { description, cpu_quota, shard_policy, shard_count, scalars } = change;
        let change = IndexChange { description, cpu_quota, shard_policy, shard_count, scalars };
        let (schema, mut spec) = (opened.table.schema(), opened.index(name)?.spec.clone());
        // The added names by themselves: an index of every field would take note of none of them.
        IndexSpec { scalar_index: ScalarIndex::Fields(change.scalars.clone()), ..spec.clone() }.check(&schema)?;
        change.apply(&mut spec);
        spec.check(&schema)?;
        let key = IndexKey { account: &by.account, collection: opened.record.name.as_str(), name };
        let updated = self.inner.catalog.update_index(&by.key, key, &change).await;
        self.inner.open.forget();
        updated?;
        // Resolved anew, the table learns what its indexes want.
        self.inner.collection(by, Right::Admin, &index.collection).await?;
        Ok(())
    }

    /// Needs admin on the collection.
    ///
    /// # Errors
    /// `Kind::IndexMissing`, `Kind::CollectionMissing`, `Kind::Forbidden`.
    pub async fn drop_index(&self, by: &Principal, index: &IndexRef) -> Result<()> {
        let opened = self.inner.collection(by, Right::Admin, &index.collection).await?;
        let name = required_name(index)?;
        let key = IndexKey { account: &by.account, collection: opened.record.name.as_str(), name };
        let dropped = self.inner.catalog.drop_index(&by.key, key).await;
        self.inner.open.forget();
        dropped?;
        let left = self.inner.catalog.indexes(&by.account, opened.record.name.as_str()).await?;
        let (table, wanted) = (opened.table.clone(), wanted(&left, &opened.table.schema()));
        blocking(move || table.keep_structures(&wanted)).await
    }
}

/// A change names what it changes.
fn required_name(index: &IndexRef) -> Result<&str> {
    index.name.as_deref().ok_or_else(|| Error::new(Kind::Invalid, "index_name is required"))
}

fn view(opened: &Opened, index: &Index) -> IndexInfo {
    let (schema, stats) = (opened.table.schema(), opened.table.stats());
    let structures = index.spec.structured().map(|distance| opened.table.structure_progress(distance));
    let filters = opened.table.filters_ready(&index.spec.filtered(&schema));
    let status = match structures.is_none_or(|progress| progress.ready) {
        true if filters => Status::Ready,
        true if index.updated_ms > index.created_ms => Status::Changing,
        _ => Status::Init,
    };
    let indexed = |wanted: fn(FieldType) -> bool| fields(&schema, index, wanted);
    IndexInfo {
        collection: index.collection.clone(),
        name: index.name.clone(),
        spec: index.spec.clone(),
        partitions: None,
        range_index: indexed(|kind| matches!(kind, FieldType::Int64 | FieldType::Float32)),
        enum_index: indexed(|kind| kind.scalar() && kind != FieldType::Float32),
        status,
        structures,
        rows: stats.rows,
        bytes: stats.bytes + structures.map_or(0, |progress| progress.bytes),
        lag_writes: 0,
        created_ms: index.created_ms,
        updated_ms: index.updated_ms,
        updated_by: index.updated_by.to_string(),
    }
}

/// Fields of the scalar index whose type is `wanted`, in the schema's order.
fn fields(schema: &Schema, index: &Index, wanted: fn(FieldType) -> bool) -> Vec<String> {
    let indexed = schema.fields().iter().filter(|field| index.spec.indexes(schema, field.name.as_str()));
    indexed.filter(|field| wanted(field.kind)).map(|field| field.name.to_string()).collect()
}
