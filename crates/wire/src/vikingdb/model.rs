//! Answers in the vendor's shape: names, order and absence as docs/wire/vikingdb.md has them.

use serde::Serialize;
use serde_json::value::RawValue;

/// collection/info, and an element of collection/list.
#[derive(Serialize)]
pub(crate) struct Collection<'a> {
    pub(crate) collection_name: &'a str,
    pub(crate) description: &'a str,
    pub(crate) collection_aliases: Vec<&'a str>,
    pub(crate) primary_key: &'a str,
    pub(crate) project: &'a str,
    pub(crate) fields: Vec<Field<'a>>,
    /// A list as given at creation; never null.
    pub(crate) vectorize: &'a RawValue,
    /// Names only.
    pub(crate) indexes: &'a [String],
    pub(crate) stat: Stat,
    pub(crate) create_time: String,
    pub(crate) update_time: String,
    pub(crate) update_person: &'a str,
}

/// A field of a collection. What does not apply is left out.
#[derive(Serialize)]
pub(crate) struct Field<'a> {
    pub(crate) field_name: &'a str,
    pub(crate) field_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) default_val: Option<Default>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dim: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pipeline_name: Option<&'a str>,
}

/// A field's default, in the field's own type.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Default {
    Int(i64),
    Float(f32),
    Text(String),
    Bool(bool),
    Ints(Vec<i64>),
    Texts(Vec<String>),
}

/// Estimates.
#[derive(Serialize)]
pub(crate) struct Stat {
    pub(crate) data_number: u64,
    /// Bytes.
    pub(crate) data_storage: u64,
}

/// index/info, and an element of index/list. The last three are ours.
#[derive(Serialize)]
pub(crate) struct Index<'a> {
    pub(crate) collection_name: &'a str,
    pub(crate) index_name: &'a str,
    pub(crate) description: &'a str,
    pub(crate) cpu_quota: u32,
    pub(crate) shard_policy: &'static str,
    pub(crate) shard_count: u32,
    /// Empty without partitions.
    pub(crate) partition_by: &'a str,
    /// Only in info, and where there are partitions to list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) partitions: Option<&'a [String]>,
    /// Never null: clients take it for an object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) vector_index: Option<VectorIndex<'a>>,
    pub(crate) range_index: &'a [String],
    pub(crate) enum_index: &'a [String],
    pub(crate) status: &'static str,
    pub(crate) index_cost: IndexCost,
    pub(crate) create_time: String,
    pub(crate) update_time: String,
    pub(crate) update_person: &'a str,
    /// An estimate.
    pub(crate) data_number: u64,
    /// Bytes.
    pub(crate) data_storage: u64,
    /// Acknowledged writes that searches do not see yet.
    pub(crate) lag_writes: u64,
    /// Absent for exact indexes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) search_structure: Option<SearchStructure>,
}

/// Ours: how far the structures of an index are.
#[derive(Serialize)]
pub(crate) struct SearchStructure {
    /// Rows of segments that are large enough for one.
    pub(crate) rows: u64,
    /// Of these, rows that are in one; the others are scanned.
    pub(crate) rows_built: u64,
    pub(crate) bytes: u64,
}

/// Ours: how a search went.
#[derive(Serialize)]
pub(crate) struct Explained {
    pub(crate) plan: &'static str,
    pub(crate) reason: &'static str,
    /// Batches that were scanned, and rows in them.
    pub(crate) blocks: usize,
    pub(crate) rows_scanned: u64,
    /// Rows that pass the filter, wherever they are.
    pub(crate) rows_passed: u64,
    /// Those that were searched through their structures.
    pub(crate) segments: Vec<ExplainedSegment>,
}

/// One of them.
#[derive(Serialize)]
pub(crate) struct ExplainedSegment {
    pub(crate) plan: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) rows: u64,
    pub(crate) rows_passed: u64,
    pub(crate) cells_read: u32,
    pub(crate) vectors_read: u32,
}

/// What was asked for, in the vendor's words.
#[derive(Serialize)]
pub(crate) struct VectorIndex<'a> {
    pub(crate) index_type: &'a str,
    pub(crate) distance: &'static str,
    pub(crate) quant: &'static str,
    pub(crate) hnsw_m: u32,
    pub(crate) hnsw_cef: u32,
    pub(crate) hnsw_sef: u32,
}

/// Whole cores and whole GiB.
#[derive(Serialize)]
pub(crate) struct IndexCost {
    pub(crate) cpu_core: u32,
    pub(crate) mem_gb: u64,
}

/// task/create.
#[derive(Serialize)]
pub(crate) struct Created {
    pub(crate) task_id: String,
}

/// task/info, and an element of task/list.
#[derive(Serialize)]
pub(crate) struct Task<'a> {
    pub(crate) task_id: String,
    pub(crate) task_type: &'a str,
    pub(crate) task_status: &'static str,
    pub(crate) collection_name: &'a str,
    pub(crate) update_person: &'a str,
    pub(crate) update_time: String,
    pub(crate) create_time: String,
    pub(crate) process_info: Process<'a>,
    /// As given.
    pub(crate) task_params: &'a RawValue,
}

/// process_info: the vendor's keys first (section 5.3), then ours.
#[derive(Serialize)]
pub(crate) struct Process<'a> {
    pub(crate) sampled_data: &'a RawValue,
    /// Unix milliseconds; 0 before the scan.
    pub(crate) sampled_timestamp: i64,
    pub(crate) err_msg: &'a str,
    /// filter_delete only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) process_step: Option<&'static str>,
    /// `"50%"`
    pub(crate) task_progress: String,
    pub(crate) total_data_count: u64,
    /// filter_delete only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) total_deleted_count: Option<u64>,
    pub(crate) total_filter_count: u64,
    pub(crate) scan_data_count: u64,
    pub(crate) rows_per_second: u64,
    /// Absent while it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) eta_seconds: Option<u64>,
    /// filter_delete only: rows that were rewritten since the sample, and survived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) changed_count: Option<u64>,
    /// `bucket/key` of each file written.
    pub(crate) files: &'a [String],
    /// Bytes of these files.
    pub(crate) bytes: u64,
    /// Absent until the task is final.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) elapsed_ms: Option<u64>,
    /// filter_delete only: until when it can be undone; absent if it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) undo_until: Option<String>,
    /// filter_delete only: what undoing it did; absent if it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) undone: Option<Undone>,
}

/// Our extension: the counts add up to `total_deleted_count`.
#[derive(Serialize)]
pub(crate) struct Undone {
    pub(crate) undo_time: String,
    pub(crate) restored_count: u64,
    /// Rows whose key was written since.
    pub(crate) changed_count: u64,
    pub(crate) expired_count: u64,
}
