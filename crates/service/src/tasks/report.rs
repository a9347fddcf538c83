//! What a task has found and done so far, as the catalog stores it: the task's report and each unit's spec and report.
//!
//! Clients see only what is stored here, so progress they saw cannot go back after a restart.

use knarr_base::{Error, Kind, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The task's own report. A field that is absent in an older record reads its default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Report {
    /// Rows of the collection when the snapshot was taken, and rows looked at by the scan so far.
    pub(crate) total: u64,
    pub(crate) scanned: u64,
    /// Rows the scan matched; final once the units are planned.
    pub(crate) matched: u64,
    /// JSON array text of the sampled rows.
    pub(crate) sample: String,
    /// A human said yes.
    pub(crate) confirmed: bool,
    /// Wall time when it last began to run, for the estimate of the rest; 0 before.
    pub(crate) running_since_ms: i64,
    /// Outcome of a delete.
    pub(crate) deleted: u64,
    pub(crate) changed: u64,
    pub(crate) missing: u64,
    /// Unix milliseconds until which it can be undone; 0: not at all.
    pub(crate) undo_until_ms: i64,
    /// Milliseconds from the acceptance of the request that set it going (create, or confirm) to its end, by the
    /// server's monotonic clock; 0 until then.
    pub(crate) elapsed_ms: u64,
}

/// One resumable piece.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "unit", rename_all = "snake_case")]
pub(crate) enum UnitWork {
    /// Write one file: `(segment, first row, end row)` of the snapshot.
    File { ranges: Vec<(u64, u32, u32)>, matched: u64 },
    /// Write `_manifest.json` and `_SUCCESS` after all files.
    Seal,
    /// Delete what matches and was not written since.
    Delete,
}

/// What a file unit left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileDone {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// Hex.
    pub(crate) sha256: String,
    /// Hex of the 128-bit sum.
    pub(crate) digest: String,
}

/// What an undo did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UndoReport {
    pub(crate) restored: u64,
    pub(crate) changed_since: u64,
    pub(crate) expired: u64,
}

/// Text for the catalog.
pub(crate) fn to_text(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string(value);
    text.map_err(|e| Error::new(Kind::Internal, "a report could not be written down").with_source(e))
}

/// Back from the catalog.
///
/// # Errors
/// `Kind::Corrupt`.
pub(crate) fn from_text<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|e| Error::new(Kind::Corrupt, "a stored report is not readable by this version").with_source(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_start_empty_and_round_trip() {
        assert_eq!(from_text::<Report>("{}").expect("reads"), Report::default());
        let report = Report { matched: 3, sample: "[{\"a\":1}]".into(), confirmed: true, ..Report::default() };
        assert_eq!(from_text::<Report>(&to_text(&report).expect("text")).expect("reads"), report);
        for work in [UnitWork::File { ranges: vec![(1, 0, 9)], matched: 2 }, UnitWork::Seal, UnitWork::Delete] {
            assert_eq!(from_text::<UnitWork>(&to_text(&work).expect("text")).expect("reads"), work);
        }
        assert_eq!(from_text::<UnitWork>("{}").map_err(|e| e.kind()), Err(Kind::Corrupt));
    }
}
