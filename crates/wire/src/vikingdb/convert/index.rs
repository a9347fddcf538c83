//! Indexes: what is asked of them, and what they say of themselves (docs/wire/vikingdb.md section 2.5).

use knarr_base::clock::rfc3339;
use knarr_base::id::Name;
use knarr_base::index::{Distance, IndexSpec, Quant, ScalarIndex, ShardPolicy, VectorIndex};
use knarr_base::{Result, limit};
use knarr_service::indexes::{CreateIndex, IndexInfo, IndexRef, Progress, Status, UpdateIndex};

use super::collection;
use crate::http::request::{Args, required};
use crate::json::{self, Members, Value, invalid};
use crate::vikingdb::model;

/// What the vendor's clients always send.
const CPU_QUOTA: u32 = 2;
const SHARDS: u32 = 1;
/// The kind of an index whose `vector_index` names none.
const DEFAULT_KIND: &str = "hnsw";

/// `collection_name` (or alias) and `index_name`, which must be there.
pub(crate) fn reference(args: &Args<'_>) -> Result<IndexRef> {
    let found = lenient_reference(args)?;
    required("index_name", found.name.as_ref())?;
    Ok(found)
}

/// The same for the one call whose documented example omits `index_name`.
pub(crate) fn lenient_reference(args: &Args<'_>) -> Result<IndexRef> {
    let name = args.text("index_name")?.filter(|name| !name.is_empty());
    Ok(IndexRef { collection: collection::reference(args)?, name })
}

/// index/create.
pub(crate) fn create(args: &Args<'_>) -> Result<CreateIndex> {
    let name = Name::parse("index_name", &required("index_name", args.text("index_name")?)?)?;
    let spec = IndexSpec {
        description: args.text("description")?.unwrap_or_default(),
        cpu_quota: count(args, "cpu_quota")?.unwrap_or(CPU_QUOTA),
        shard_policy: shard_policy(args)?.unwrap_or(ShardPolicy::Unset),
        shard_count: count(args, "shard_count")?.unwrap_or(SHARDS),
        partition_by: args.text("partition_by")?.filter(|field| !field.is_empty()),
        scalar_index: scalar_index(args)?.map_or(ScalarIndex::All, ScalarIndex::Fields),
        vector: args.value("vector_index")?.map(vector_index).transpose()?,
    };
    Ok(CreateIndex { name, spec })
}

/// index/update.
pub(crate) fn update(args: &Args<'_>) -> Result<UpdateIndex> {
    Ok(UpdateIndex {
        description: args.text("description")?,
        cpu_quota: count(args, "cpu_quota")?,
        shard_policy: shard_policy(args)?,
        shard_count: count(args, "shard_count")?,
        scalars: scalar_index(args)?.unwrap_or_default(),
    })
}

/// Absent and `null` mean every scalar field.
fn scalar_index(args: &Args<'_>) -> Result<Option<Vec<String>>> {
    args.value("scalar_index")?.map(|value| texts("scalar_index", value, limit::FIELDS)).transpose()
}

/// A list of names; one text, as a query string gives it, stands for a list of it.
pub(crate) fn texts(name: &str, value: Value, most: usize) -> Result<Vec<String>> {
    let wrong = || invalid(format!("{name} must be a list of at most {most} strings"));
    let list = match value {
        Value::List(list) if list.len() <= most => list,
        text @ Value::Text(_) => vec![text],
        _ => return Err(wrong()),
    };
    list.into_iter().map(|value| if let Value::Text(text) = value { Ok(text) } else { Err(wrong()) }).collect()
}

fn count(args: &Args<'_>, name: &str) -> Result<Option<u32>> {
    args.int(name)?.map(|n| narrow(name, n)).transpose()
}

fn narrow(name: &str, n: i64) -> Result<u32> {
    u32::try_from(n).map_err(|_| invalid(format!("{name} is out of range")))
}

fn shard_policy(args: &Args<'_>) -> Result<Option<ShardPolicy>> {
    match args.text("shard_policy")?.as_deref() {
        None => Ok(None),
        Some("") => Ok(Some(ShardPolicy::Unset)),
        Some("auto") => Ok(Some(ShardPolicy::Auto)),
        Some("custom") => Ok(Some(ShardPolicy::Custom)),
        Some(_) => Err(invalid("shard_policy must be auto or custom")),
    }
}

fn vector_index(value: Value) -> Result<VectorIndex> {
    let Value::Map(mut members) = value else {
        return Err(invalid("vector_index must be an object"));
    };
    let mut word = |name: &str| -> Result<Option<String>> {
        Ok(json::text(name, members.take(name))?.filter(|text| !text.is_empty()))
    };
    let kind = word("index_type")?;
    let distance = word("distance")?.map(|text| Distance::parse(&text)).transpose()?;
    let quant = word("quant")?.map(|text| Quant::parse(&text)).transpose()?;
    let mut vector = VectorIndex::new(kind.as_deref().unwrap_or(DEFAULT_KIND), distance, quant)?;
    vector.hnsw_m = graph(&mut members, "hnsw_m", vector.hnsw_m)?;
    vector.hnsw_cef = graph(&mut members, "hnsw_cef", vector.hnsw_cef)?;
    vector.hnsw_sef = graph(&mut members, "hnsw_sef", vector.hnsw_sef)?;
    match members.0.first() {
        None => Ok(vector),
        Some((name, _)) => Err(invalid(format!("vector_index does not know {name:?}"))),
    }
}

fn graph(members: &mut Members, name: &str, default: u32) -> Result<u32> {
    json::int(name, members.take(name))?.map_or(Ok(default), |n| narrow(name, n))
}

/// index/info, and an element of index/list.
pub(crate) fn view(info: &IndexInfo) -> model::Index<'_> {
    let IndexInfo {
        collection,
        name,
        spec,
        partitions,
        range_index,
        enum_index,
        status,
        structures,
        rows,
        bytes,
        lag_writes,
        created_ms,
        updated_ms,
        updated_by,
    } = info;
    model::Index {
        collection_name: collection.as_str(),
        index_name: name.as_str(),
        description: &spec.description,
        cpu_quota: spec.cpu_quota,
        shard_policy: match spec.shard_policy {
            ShardPolicy::Unset => "",
            ShardPolicy::Auto => "auto",
            ShardPolicy::Custom => "custom",
        },
        shard_count: spec.shard_count,
        partition_by: spec.partition_by.as_deref().unwrap_or_default(),
        partitions: partitions.as_deref(),
        vector_index: spec.vector.as_ref().map(|vector| model::VectorIndex {
            index_type: &vector.spelling,
            distance: vector.distance.as_str(),
            quant: vector.quant.as_str(),
            hnsw_m: vector.hnsw_m,
            hnsw_cef: vector.hnsw_cef,
            hnsw_sef: vector.hnsw_sef,
        }),
        range_index,
        enum_index,
        status: match status {
            Status::Init => "INIT",
            Status::Changing => "CHANGING",
            Status::Ready => "READY",
        },
        index_cost: model::IndexCost { cpu_core: spec.cpu_quota, mem_gb: bytes.div_ceil(1 << 30) },
        create_time: rfc3339(*created_ms),
        update_time: rfc3339(*updated_ms),
        update_person: updated_by,
        data_number: *rows,
        data_storage: *bytes,
        lag_writes: *lag_writes,
        search_structure: structures.map(|Progress { rows, built, bytes, .. }| model::SearchStructure {
            rows,
            rows_built: built,
            bytes,
        }),
    }
}

#[cfg(test)]
mod tests;
