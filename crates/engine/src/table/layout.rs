//! Names of a table's files.

use std::path::{Path, PathBuf};

use knarr_base::id::TableId;
use knarr_base::index::Distance;

/// Paths below one table's shard. Numbers are decimal, padded so that names sort as numbers do.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    shard: PathBuf,
}

/// Directory of all tables.
pub(crate) fn tables_dir(data: &Path) -> PathBuf {
    data.join("tables")
}

/// Directory of one table.
pub(crate) fn table_dir(data: &Path, table: TableId) -> PathBuf {
    tables_dir(data).join(table.to_string())
}

/// The number of a file named by [`Layout`], whatever its extension.
pub(crate) fn number_of(name: &str) -> Option<u64> {
    let digits = name.split('.').next()?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

impl Layout {
    pub(crate) fn new(data: &Path, table: TableId) -> Self {
        Self { shard: table_dir(data, table).join("shard=0000") }
    }

    pub(crate) fn shard(&self) -> &Path {
        &self.shard
    }

    /// Every directory below the shard.
    pub(crate) fn dirs(&self) -> [PathBuf; 5] {
        [self.log_dir(), self.segment_dir(), self.mask_dir(), self.manifest_dir(), self.staging_dir()]
    }

    pub(crate) fn log_dir(&self) -> PathBuf {
        self.shard.join("log")
    }

    pub(crate) fn segment_dir(&self) -> PathBuf {
        self.shard.join("seg")
    }

    pub(crate) fn segment(&self, id: u64) -> PathBuf {
        self.segment_dir().join(format!("{id:020}.arrow"))
    }

    pub(crate) fn segment_meta(&self, id: u64) -> PathBuf {
        self.segment_dir().join(format!("{id:020}.meta"))
    }

    pub(crate) fn mask_dir(&self) -> PathBuf {
        self.shard.join("mask")
    }

    pub(crate) fn mask(&self, file: u64) -> PathBuf {
        self.mask_dir().join(format!("{file:020}.mask"))
    }

    pub(crate) fn manifest_dir(&self) -> PathBuf {
        self.shard.join("manifest")
    }

    pub(crate) fn manifest(&self, version: u64) -> PathBuf {
        self.manifest_dir().join(format!("{version:020}"))
    }

    /// Directory of search structures. Made when there are any.
    pub(crate) fn near_dir(&self) -> PathBuf {
        self.shard.join("near")
    }

    /// Those of one training.
    pub(crate) fn near_generation(&self, distance: Distance, generation: u64) -> PathBuf {
        self.near_dir().join(format!("{}-{generation:020}", distance.as_str()))
    }

    pub(crate) fn near_cells(&self, distance: Distance, generation: u64) -> PathBuf {
        self.near_generation(distance, generation).join("cells")
    }

    /// The structure of a segment.
    pub(crate) fn near(&self, distance: Distance, generation: u64, segment: u64) -> PathBuf {
        self.near_generation(distance, generation).join(format!("{segment:020}.near"))
    }

    /// Directory of postings. Made when there are any.
    pub(crate) fn post_dir(&self) -> PathBuf {
        self.shard.join("post")
    }

    /// Those of one set of fields.
    pub(crate) fn post_set(&self, set: u64) -> PathBuf {
        self.post_dir().join(format!("{set:020}"))
    }

    /// The postings of a segment.
    pub(crate) fn post(&self, set: u64, segment: u64) -> PathBuf {
        self.post_set(set).join(format!("{segment:020}.post"))
    }

    pub(crate) fn staging_dir(&self) -> PathBuf {
        self.shard.join("staging")
    }
}
