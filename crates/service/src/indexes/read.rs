//! index/fetch_data: rows by key, as an index shows them.

use knarr_base::Result;
use knarr_base::value::Key;
use knarr_engine::rows::Fetched;

use super::{OpenIndex, Partition};
use crate::collections::typed_keys;

impl OpenIndex {
    /// One entry per key, in the order asked; a row outside the partitions counts as absent. Sees every acknowledged
    /// write.
    ///
    /// # Errors
    /// `Kind::Invalid` without or with too many keys, `Kind::InvalidKey`, `Kind::InvalidPartition`, `Kind::Corrupt`.
    pub fn fetch(&self, keys: Vec<Key>, partition: &Partition) -> Result<Fetched> {
        let keys = typed_keys(self.schema(), keys)?;
        let filter = self.partition(partition)?;
        Ok(self.opened.table.fetch_matching(keys, &filter)?)
    }
}
