//! Partial updates: the newest row of each key, with the given fields replaced.

use arc_swap::Guard;
use arrow_array::{Array, Int64Array};
use knarr_base::limit;
use std::sync::Arc;

use super::Table;
use super::commit::Change;
use super::gather::gather_column;
use super::keys::{KeyColumn, KeyRef};
use super::memtable::Memtable;
use super::record::LoggedRows;
use super::view::{Hit, Known, Lookup, View, find_in_segments};
use crate::columns;
use crate::error::{Error, Result};
use crate::rows::{self, Rows};

/// What the calls before this one in the group have done, on top of the view. Kept only for groups with updates.
pub(super) struct Pending<'a> {
    view: Guard<Arc<View>>,
    changed: Option<Memtable>,
    truncated: bool,
    _table: &'a Table,
}

impl<'a> Pending<'a> {
    pub(super) fn new(table: &'a Table, updating: bool) -> Self {
        let view = table.view.load();
        let changed = updating.then(|| Memtable::new(view.schema().key_type(), None));
        Self { view, changed, truncated: false, _table: table }
    }

    /// Takes a call of the group into account.
    pub(super) fn note(&mut self, change: &Change, seq: u64) {
        let Some(changed) = &self.changed else { return };
        let key_column = columns::key_column(self.view.schema());
        match change {
            Change::Rows(batch, _) => changed.write().put_rows(batch.clone(), key_column, seq, 0),
            Change::Delete(keys) => changed.write().put_tombstones(keys, seq),
            Change::Truncate => {
                self.truncated = true;
                self.changed = Some(Memtable::new(self.view.schema().key_type(), None));
            }
            Change::Nothing => {}
        }
    }

    fn find(&self, lookup: &Lookup<'_>, key: KeyRef<'_>) -> Result<Option<Hit>> {
        if let Some(changed) = &self.changed {
            let content = changed.read();
            if let Some(slot) = content.get(key) {
                return Ok(slot.place().map(|(batch, row)| Hit { batch: content.batch(batch).clone(), row }));
            }
        }
        if self.truncated {
            return Ok(None);
        }
        match lookup.get(key) {
            Known::Row(hit) => Ok(Some(hit)),
            Known::Deleted => Ok(None),
            Known::Nothing => find_in_segments(self.view.segments(), key, true),
        }
    }

    /// Whole rows, with their generated keys. Fails as a whole if a row is missing or grows too long.
    pub(super) fn merge(&self, update: &Rows, expiry: Option<i64>, now_ms: i64) -> Result<LoggedRows> {
        let version = &self.view.version;
        let schema = &version.schema;
        let batch = update.batch();
        let keys = KeyColumn::new(batch.column(columns::key_column(schema)));
        let lookup = Lookup::new(&self.view);
        let mut old = Vec::with_capacity(keys.len());
        for row in 0..keys.len() {
            let hit = self.find(&lookup, keys.get(row))?.filter(|hit| !hit.expired(now_ms));
            old.push(hit.ok_or_else(|| Error::RowMissing(keys.get(row).to_key()))?.widened(version));
        }
        let user_columns = version.stored.fields().len() - 2;
        let merged = (0..user_columns).map(|column| merge_column(update, column, &old)).collect::<Result<Vec<_>>>()?;
        let expiries = old.iter().map(|hit| expiry.unwrap_or_else(|| hit.expiry()));
        let rows = LoggedRows::new(merged, Int64Array::from_iter_values(expiries));
        let stored = rows.clone().into_stored(schema, 0, true)?;
        match (0..keys.len()).find(|row| rows::row_bytes(schema, &stored, *row) > limit::ROW_BYTES) {
            Some(row) => Err(Error::RowTooLong { row }),
            None => Ok(rows),
        }
    }
}

/// New values where given, old ones elsewhere. Fields that were added after the call was decoded keep the old value.
fn merge_column(update: &Rows, column: usize, old: &[Hit]) -> Result<Arc<dyn Array>> {
    let mut sources: Vec<&dyn Array> = old.iter().map(|hit| hit.batch.column(column).as_ref()).collect();
    let given = update.given().and_then(|given| given.get(column));
    let new = (column < update.batch().num_columns()).then(|| update.batch().column(column).as_ref());
    let at = sources.len();
    sources.extend(new);
    let places: Vec<_> = old
        .iter()
        .enumerate()
        .map(|(row, hit)| match (new, given) {
            (Some(_), Some(given)) if given.value(row) => (at, row),
            _ => (row, hit.row),
        })
        .collect();
    gather_column(&sources, &places)
}
