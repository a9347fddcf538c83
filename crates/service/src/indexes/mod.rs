//! Indexes: serving views of a collection, and what they answer.
//!
//! `manage` makes, changes and drops them; `open` resolves a name to an [`OpenIndex`], on which `read` fetches and
//! `search` searches, counts and sorts. Every acknowledged row is answered at once; search structures that the table
//! makes in the background only make it quicker.

mod manage;
mod open;
mod read;
mod search;

use knarr_base::filter::Filter;
use knarr_base::id::Name;
use knarr_base::index::{IndexSpec, ShardPolicy};
use knarr_base::search::{Post, Sparse};
use knarr_base::value::Key;

pub use knarr_catalog::indexes::IndexChange;
pub use knarr_engine::index::{Explain, Found, Group, Groups, Planned, Way};
pub use knarr_engine::rows::{Fetched, Projection};
pub use knarr_engine::table::Progress;
pub use open::OpenIndex;

use crate::collections::CollectionRef;

/// How a request names an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexRef {
    /// Its collection.
    pub collection: CollectionRef,
    /// `None`: the only index there is, which one documented call relies on.
    pub name: Option<String>,
}

/// create
#[derive(Debug, Clone)]
pub struct CreateIndex {
    /// Unique in the collection.
    pub name: Name,
    /// Checked against the collection's fields when it is made.
    pub spec: IndexSpec,
}

/// update
#[derive(Debug, Clone, Default)]
pub struct UpdateIndex {
    /// New text, if given.
    pub description: Option<String>,
    /// New quota, if given.
    pub cpu_quota: Option<u32>,
    /// New policy, if given.
    pub shard_policy: Option<ShardPolicy>,
    /// New number, if given.
    pub shard_count: Option<u32>,
    /// Fields to add to the scalar index; may be empty.
    pub scalars: Vec<String>,
}

/// What an index is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Its search structures are made for the first time; searches are answered by scans meanwhile.
    Init,
    /// It was changed, and filters on its new fields scan until they have their postings.
    Changing,
    /// Searches and fetches are answered.
    Ready,
}

/// info
#[derive(Debug, Clone)]
pub struct IndexInfo {
    /// Its collection's name.
    pub collection: Name,
    /// Its name.
    pub name: Name,
    /// What was asked of it.
    pub spec: IndexSpec,
    /// Partitions that have rows, ascending; only in info, and `None` where there are none or too many to name.
    pub partitions: Option<Vec<String>>,
    /// Fields that ranges may name.
    pub range_index: Vec<String>,
    /// Fields that lists of values may name.
    pub enum_index: Vec<String>,
    /// What it is doing.
    pub status: Status,
    /// Its search structures; `None` if it is exact.
    pub structures: Option<Progress>,
    /// Live rows, an estimate while writes are in memory.
    pub rows: u64,
    /// Bytes of the rows it serves, on disk and in memory.
    pub bytes: u64,
    /// Acknowledged writes that it does not answer yet.
    pub lag_writes: u64,
    /// Unix milliseconds.
    pub created_ms: i64,
    /// Unix milliseconds.
    pub updated_ms: i64,
    /// Key of the last change.
    pub updated_by: String,
}

/// Which partitions a call means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Partition {
    /// Every one.
    All,
    /// `default`.
    Default,
    /// Values of a string field; may be texts of numbers.
    Texts(Vec<String>),
    /// Values of an integer field.
    Ints(Vec<i64>),
}

/// What comes first in a search.
#[derive(Debug, Clone)]
pub enum OrderBy {
    /// Nearness to vectors, which [`OpenIndex::query_vector`] has read.
    Vectors {
        /// One per query.
        dense: Vec<Vec<f32>>,
        /// Empty, or one per query; hybrid indexes only.
        sparse: Vec<Sparse>,
        /// Share of the dense score in a hybrid one.
        dense_weight: f32,
    },
    /// Nearness to rows that are there.
    Keys(Vec<Key>),
    /// The value of a field in the range index.
    Scalar {
        /// Its name.
        field: String,
        /// Greatest first.
        descending: bool,
    },
    /// Chance.
    Random,
}

/// search
#[derive(Debug, Clone)]
pub struct SearchRequest {
    /// What comes first.
    pub order: OrderBy,
    /// Which rows; its fields must be in the scalar index.
    pub filter: Filter,
    /// In which partitions.
    pub partition: Partition,
    /// Only these keys, unless empty.
    pub keys_in: Vec<Key>,
    /// None of these keys.
    pub keys_not_in: Vec<Key>,
    /// Rows of each list.
    pub limit: usize,
    /// Rows left out at the beginning of each list.
    pub offset: usize,
    /// Operations on the ranked rows.
    pub post: Post,
    /// Factor on the index's candidates.
    pub scale: f64,
    /// At most this many rows pass the filter: scan them exactly.
    pub exact_up_to: Option<u64>,
    /// At most this share passes the filter: scan them exactly.
    pub exact_up_to_ratio: Option<f64>,
    /// Count the rows that pass the filter.
    pub count: bool,
}

/// Which rows an aggregation counts, and how.
#[derive(Debug, Clone)]
pub struct AggregateRequest {
    /// Which rows; its fields must be in the scalar index.
    pub filter: Filter,
    /// In which partitions.
    pub partition: Partition,
    /// A field in the scalar index.
    pub group_by: Option<String>,
    /// Only groups with more rows are shown.
    pub more_than: Option<knarr_base::value::Number>,
}

/// The answer of index/sort.
#[derive(Debug, Clone, PartialEq)]
pub struct Sorted {
    /// Keys with their scores, best first.
    pub rows: Vec<(Key, f32)>,
    /// Keys without a row, as asked.
    pub missing: Vec<Key>,
}

/// Which fields an answer shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown<'a> {
    /// Every scalar field but the key, no vectors.
    Scalars,
    /// Every scalar field, no vectors.
    ScalarsAndKey,
    /// These; none means that there are no fields at all.
    Fields(&'a [String]),
}
