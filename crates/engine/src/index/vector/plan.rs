//! How a segment is searched: decided from counts alone, and said.

use knarr_base::limit;

use super::Cells;

/// What a search may spend: the vendor's `hnsw_sef`, times `scale_k`. The rows that are read at most grow with it in
/// proportion, from what training found right for the default; more never reads fewer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort(f32);

impl Effort {
    /// `sef * scale_k`; what is not a positive number counts as the default.
    pub fn new(sef: f32, scale_k: f32) -> Self {
        let effort = sef * scale_k;
        if effort.is_finite() && effort > 0.0 { Self(effort) } else { Self::default() }
    }

    /// Times what the default effort reads.
    pub(super) fn times(self) -> f32 {
        self.0 / limit::INDEX_SEF_DEFAULT
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
    /// The structure finds candidates.
    Cells,
}

/// A decision with its reason, for whoever asks to have a search explained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Rows of the segment that may be found.
    pub allowed: u32,
    /// Rows wanted.
    pub k: usize,
    /// What may be spent on the way through the cells.
    pub effort: Effort,
    /// What is done.
    pub path: Path,
    /// Why, as a sentence without its end.
    pub why: &'static str,
}

/// What a decision depends on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Facts {
    /// Rows of the segment that may be found.
    pub(super) allowed: u32,
    /// Rows wanted.
    pub(super) k: usize,
    /// Dimensions.
    pub(super) dim: usize,
    /// Cells that the structure would read.
    pub(super) cells: f32,
    /// Rows of them that may be found.
    pub(super) read: f32,
}

/// Nanoseconds, about: reading a vector somewhere in memory and scoring it, per row and per dimension; opening a cell
/// and asking which of its rows may be found; reading a code, per row and per dimension. Only their proportions matter.
const VECTOR: (f32, f32) = (20.0, 0.2);
const CELL: f32 = 250.0;
const CODE: (f32, f32) = (4.0, 0.03);

/// Decides, and says why.
pub(super) fn plan(facts: Facts) -> (Path, &'static str) {
    let Facts { allowed, k, dim, cells, read } = facts;
    let dim = dim as f32;
    let survivors = allowed as f32 * (VECTOR.0 + VECTOR.1 * dim);
    let through_cells = cells * CELL + read * (CODE.0 + CODE.1 * dim);
    if survivors <= through_cells {
        (Path::Survivors, "so few rows may be found that scoring each is quickest")
    } else if k >= allowed as usize / 4 {
        (Path::Survivors, "a large part of the rows that may be found is wanted")
    } else {
        (Path::Cells, "reading the codes of the nearest cells is quicker than scoring every row")
    }
}

impl Cells {
    /// Decides for a segment of `rows` rows of which `allowed` may be found, when the best `k` are wanted.
    pub fn plan(&self, rows: u32, allowed: u32, k: usize, effort: Effort) -> Plan {
        let share = (self.measured.share(allowed as f32, k) * effort.times()).min(1.0);
        let (cells, read) = (share * self.count().min(rows as usize) as f32, share * allowed as f32);
        let (path, why) = plan(Facts { allowed, k, dim: self.dim(), cells, read });
        Plan { allowed, k, effort, path, why }
    }
}
