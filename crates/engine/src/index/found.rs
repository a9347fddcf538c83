//! What a search gives back.

use std::sync::Arc;

use arrow_array::RecordBatch;
use knarr_base::schema::Schema;
use knarr_base::search::Score;
use knarr_base::value::Key;

use super::near::Planned;
use crate::rows::Projection;

/// Ranked rows, one list per query. Holds the columns they are in, which stay as they were.
#[derive(Debug)]
pub struct Found {
    schema: Arc<Schema>,
    lists: Vec<Vec<Hit>>,
    passed: Option<u64>,
    explain: Explain,
}

/// How a search went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Explain {
    /// Batches that were scanned.
    pub blocks: usize,
    /// Rows in them, dead ones included.
    pub rows: u64,
    /// Of these, rows that live and pass the filter; a row that a newer write hides may be among them.
    pub passed: u64,
    /// Segments that were searched through their structures instead.
    pub segments: Vec<Planned>,
}

/// A row with its rank.
#[derive(Debug)]
pub(super) struct Hit {
    pub(super) key: Key,
    pub(super) score: Score,
    pub(super) batch: RecordBatch,
    pub(super) row: usize,
}

impl Found {
    pub(super) fn new(schema: &Arc<Schema>, lists: Vec<Vec<Hit>>, passed: Option<u64>, explain: Explain) -> Self {
        Self { schema: schema.clone(), lists, passed, explain }
    }

    /// The schema that projections must be made for.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Number of lists.
    pub fn lists(&self) -> usize {
        self.lists.len()
    }

    /// Rows of a list.
    pub fn len(&self, list: usize) -> usize {
        self.lists[list].len()
    }

    /// True if a list has no rows.
    pub fn is_empty(&self, list: usize) -> bool {
        self.lists[list].is_empty()
    }

    /// Key of row `at` of a list.
    pub fn key(&self, list: usize, at: usize) -> &Key {
        &self.lists[list][at].key
    }

    /// Score of row `at` of a list.
    pub fn score(&self, list: usize, at: usize) -> Score {
        self.lists[list][at].score
    }

    /// Appends the chosen fields of row `at` of a list as JSON members without braces.
    pub fn write_members(&self, list: usize, at: usize, projection: &Projection, out: &mut Vec<u8>) {
        let hit = &self.lists[list][at];
        projection.write_members(&hit.batch, hit.row, out);
    }

    /// Rows that pass the filter, as of the same moment, if that was asked.
    pub fn passed(&self) -> Option<u64> {
        self.passed
    }

    /// How the search went.
    pub fn explain(&self) -> &Explain {
        &self.explain
    }
}
