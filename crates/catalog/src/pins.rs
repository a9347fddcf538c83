//! Pins: the table states that must stay readable. A task holds one from the move that set it until it is final; there
//! is no second record of it that could be forgotten.

use knarr_base::id::TableId;

use crate::dialect::Columns;
use crate::{Catalog, Error};

impl Catalog {
    /// Table and manifest version of every pin; once for each task that holds it.
    pub async fn pins(&self) -> Result<Vec<(TableId, u64)>, Error> {
        let sql = "SELECT table_id, pin_version FROM tasks WHERE finished_ms IS NULL AND pin_version IS NOT NULL";
        let rows = sqlx::query(sql).fetch_all(self.readers()).await?;
        rows.iter().map(|row| Ok((row.parsed("table_id")?, row.number("pin_version")?))).collect()
    }
}

#[cfg(test)]
mod tests;
