//! Reads by key.

use knarr_base::filter::Filter;
use knarr_base::value::Key;

use super::Table;
use super::keys::key_ref;
use super::view::{Hit, Known, find_in_segments, look_up};
use crate::error::Result;
use crate::filter::Predicate;
use crate::rows::Fetched;

impl Table {
    /// The rows of `keys`, in that order. All keys are looked up at one instant: a write is seen whole or not at all.
    ///
    /// # Errors
    /// `Corrupt` when a damaged segment may hold one of them.
    pub fn fetch(&self, keys: Vec<Key>) -> Result<Fetched> {
        self.fetch_matching(keys, &Filter::All)
    }

    /// As [`Table::fetch`]; rows that do not pass the filter count as absent.
    ///
    /// # Errors
    /// As [`Table::fetch`]; `Filter`.
    pub fn fetch_matching(&self, keys: Vec<Key>, filter: &Filter) -> Result<Fetched> {
        let now_ms = self.clock.now_ms();
        let (view, known) = look_up(&self.view, keys.iter().map(key_ref));
        let predicate = Predicate::compile(filter, view.schema())?;
        // One row of a large batch: a slice of it costs nothing, and nothing else is looked at.
        let passes = |hit: &Hit| predicate.is_all() || predicate.evaluate(&hit.batch.slice(hit.row, 1), None).value(0);
        let mut hits = Vec::with_capacity(keys.len());
        for (key, known) in keys.iter().zip(known) {
            let hit = match known {
                Known::Row(hit) => Some(hit),
                Known::Deleted => None,
                Known::Nothing => find_in_segments(view.segments(), key_ref(key), true)?,
            };
            // The newest version decides: an expired one hides whatever is older.
            let hit = hit.filter(|hit| !hit.expired(now_ms)).map(|hit| hit.widened(&view.version)).filter(passes);
            hits.push(hit.map(|Hit { batch, row }| (batch, u32::try_from(row).expect("rows of a batch fit 32 bits"))));
        }
        Ok(Fetched::new(view.schema(), keys, hits))
    }
}
