//! How a segment is searched: decided from counts alone, and said.

use knarr_base::limit;

/// What a search may spend: the vendor's `hnsw_sef`, times `scale_k`. It moves how far towards the query rows are
/// believed to reach out of their cells; more never looks at fewer cells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort(f32);

impl Effort {
    /// `sef * scale_k`; what is not a positive number counts as the default.
    pub fn new(sef: f32, scale_k: f32) -> Self {
        let effort = sef * scale_k;
        if effort.is_finite() && effort > 0.0 { Self(effort) } else { Self::default() }
    }

    /// Times the reach that was measured at training. The fourth root keeps a range of 1 to 100,000 within reason.
    pub(super) fn times_reach(self) -> f32 {
        (self.0 / limit::INDEX_SEF_DEFAULT).powf(0.25)
    }
}

impl Default for Effort {
    fn default() -> Self {
        Self(limit::INDEX_SEF_DEFAULT)
    }
}

/// The two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// The vectors of all rows that may be found are scored.
    Survivors,
    /// The structure finds candidates. `test_first`: whether a row may be found is asked before its code is read.
    Cells {
        /// Pays when most rows may not.
        test_first: bool,
    },
}

/// A decision with its reason, for whoever asks to have a search explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// What is done.
    pub path: Path,
    /// Why, as a sentence without its end.
    pub why: &'static str,
}

/// Decides for a segment of `rows` rows of which `allowed` may be found, when the best `k` are wanted.
pub fn plan(rows: u32, allowed: u32, k: usize) -> Plan {
    if allowed as usize <= limit::INDEX_SURVIVORS.max(k) {
        return Plan { path: Path::Survivors, why: "so few rows may be found that scoring each is quickest" };
    }
    if k >= allowed as usize / 4 {
        return Plan { path: Path::Survivors, why: "a large part of the rows that may be found is wanted" };
    }
    if allowed < rows / 4 {
        return Plan {
            path: Path::Cells { test_first: true },
            why: "the structure is asked, and only for rows that may be found, as most may not",
        };
    }
    let why = if allowed == rows { "every row may be found" } else { "most rows may be found, so codes are read first" };
    Plan { path: Path::Cells { test_first: false }, why }
}
