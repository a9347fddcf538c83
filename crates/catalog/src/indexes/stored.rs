//! An index's specification as it is stored: JSON with a format number. Field names here are a format.

use knarr_base::index::{Distance, IndexKind, IndexSpec, Quant, ScalarIndex, ShardPolicy, VectorIndex};
use serde::{Deserialize, Serialize};

use crate::Error;

const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SpecDisk {
    format: u32,
    description: String,
    cpu_quota: u32,
    shard_policy: String,
    shard_count: u32,
    partition_by: Option<String>,
    /// Absent: every scalar field.
    scalar_index: Option<Vec<String>>,
    vector: Option<VectorDisk>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VectorDisk {
    /// As its owner spelt it.
    kind: String,
    distance: String,
    quant: String,
    hnsw_m: u32,
    hnsw_cef: u32,
    hnsw_sef: u32,
}

pub(super) fn encode(spec: &IndexSpec) -> Vec<u8> {
    let IndexSpec { description, cpu_quota, shard_policy, shard_count, partition_by, scalar_index, vector } = spec;
    let disk = SpecDisk {
        format: FORMAT,
        description: description.clone(),
        cpu_quota: *cpu_quota,
        shard_policy: policy_word(*shard_policy).to_owned(),
        shard_count: *shard_count,
        partition_by: partition_by.clone(),
        scalar_index: match scalar_index {
            ScalarIndex::All => None,
            ScalarIndex::Fields(fields) => Some(fields.clone()),
        },
        vector: vector.as_ref().map(|vector| {
            // The kind is what its spelling says.
            let VectorIndex { kind: _, spelling, distance, quant, hnsw_m, hnsw_cef, hnsw_sef } = vector;
            VectorDisk {
                kind: spelling.clone(),
                distance: distance.as_str().to_owned(),
                quant: quant.as_str().to_owned(),
                hnsw_m: *hnsw_m,
                hnsw_cef: *hnsw_cef,
                hnsw_sef: *hnsw_sef,
            }
        }),
    };
    serde_json::to_vec(&disk).expect("plain data")
}

pub(super) fn decode(bytes: &[u8]) -> Result<IndexSpec, Error> {
    let malformed = || Error::Malformed { what: "index specification" };
    let disk: SpecDisk = serde_json::from_slice(bytes).map_err(|_| malformed())?;
    let SpecDisk { format, description, cpu_quota, shard_policy, shard_count, partition_by, scalar_index, vector } =
        disk;
    if format != FORMAT {
        return Err(malformed());
    }
    Ok(IndexSpec {
        description,
        cpu_quota,
        shard_policy: policy(&shard_policy).ok_or_else(malformed)?,
        shard_count,
        partition_by,
        scalar_index: scalar_index.map_or(ScalarIndex::All, ScalarIndex::Fields),
        vector: vector.map(decode_vector).transpose().map_err(|_| malformed())?,
    })
}

fn decode_vector(disk: VectorDisk) -> knarr_base::Result<VectorIndex> {
    let VectorDisk { kind, distance, quant, hnsw_m, hnsw_cef, hnsw_sef } = disk;
    Ok(VectorIndex {
        kind: IndexKind::parse(&kind)?,
        spelling: kind,
        distance: Distance::parse(&distance)?,
        quant: Quant::parse(&quant)?,
        hnsw_m,
        hnsw_cef,
        hnsw_sef,
    })
}

fn policy_word(policy: ShardPolicy) -> &'static str {
    match policy {
        ShardPolicy::Unset => "",
        ShardPolicy::Auto => "auto",
        ShardPolicy::Custom => "custom",
    }
}

fn policy(word: &str) -> Option<ShardPolicy> {
    [ShardPolicy::Unset, ShardPolicy::Auto, ShardPolicy::Custom].into_iter().find(|one| policy_word(*one) == word)
}
