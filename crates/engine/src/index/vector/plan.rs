//! How a segment is searched: decided from counts alone, and said.

use knarr_base::limit;

use super::{Cells, Form};

/// What a search may spend: the vendor's `hnsw_sef`, times `scale_k`. The rows that are read at most grow with it in
/// proportion, from what training found right for the default; on a walk through cells more never reads fewer.
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

/// The ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The vectors of all rows that may be found are scored.
    Survivors,
    /// Of these rows, which are listed, those in the nearest cells are.
    Nearest,
    /// The structure finds candidates.
    Cells,
}

/// How many rows are searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Dead and forbidden ones included.
    pub rows: u64,
    /// Of these, rows that may be found; about.
    pub allowed: u64,
}

impl std::ops::Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { rows: self.rows + other.rows, allowed: self.allowed + other.allowed }
    }
}

/// A decision with its reason, for whoever asks to have a search explained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Of the segment.
    pub here: Counts,
    /// Of all segments whose best rows are wanted together: the nearest of many lie nearer, in each of them.
    pub all: Counts,
    /// Rows wanted.
    pub k: usize,
    /// What may be spent on the way through the cells.
    pub effort: Effort,
    /// What is done.
    pub way: Way,
    /// Why, as a sentence without its end.
    pub why: &'static str,
}

/// What a decision depends on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Facts {
    /// Rows of the segment that may be found.
    pub(super) allowed: u64,
    /// Rows wanted.
    pub(super) k: usize,
    /// Dimensions.
    pub(super) dim: usize,
    /// Cells that the structure would read.
    pub(super) cells: f32,
    /// Rows of them.
    pub(super) walked: f32,
    /// Of these, rows that may be found.
    pub(super) read: f32,
    /// Of the rows that may be found.
    pub(super) form: Form,
}

/// Nanoseconds, about: reading a vector somewhere in memory and scoring it, per row and per dimension; opening a cell
/// and asking which of its rows may be found; the same where they are told in the order of the cells, per cell and per row;
/// reading a code, per row and per dimension; finding the cell of a listed row and putting the rows in order. Only their
/// proportions matter.
const VECTOR: (f32, f32) = (30.0, 0.4);
const CELL: f32 = 250.0;
const TOLD: (f32, f32) = (25.0, 0.15);
const CODE: (f32, f32) = (4.0, 0.03);
const ORDER: f32 = 8.0;

/// Up to one of so many rows it pays to list those that may be found, and to look at those in the nearest cells.
const LISTED: u32 = 80;

/// Decides, and says why.
pub(super) fn plan(facts: Facts) -> (Way, &'static str) {
    let Facts { allowed, k, dim, cells, walked, read, form } = facts;
    let listed = form == Form::Listed;
    let vector = VECTOR.0 + VECTOR.1 * dim as f32;
    let survivors = allowed as f32 * vector;
    let nearest = if listed { allowed as f32 * ORDER + read * vector } else { f32::INFINITY };
    let through_cells = if form == Form::Arranged {
        cells * TOLD.0 + walked * TOLD.1 + read * vector
    } else {
        cells * CELL + read * (CODE.0 + CODE.1 * dim as f32)
    };
    if survivors <= through_cells.min(nearest) {
        (Way::Survivors, "so few rows may be found that scoring each is quickest")
    } else if k >= allowed as usize / 4 {
        (Way::Survivors, "a large part of the rows that may be found is wanted")
    } else if listed {
        (Way::Nearest, "few rows may be found, and scoring those in the nearest cells is quickest")
    } else {
        (Way::Cells, "reading the codes of the nearest cells is quicker than scoring every row")
    }
}

impl Cells {
    /// What walking so many rows of a segment by their codes costs, in vectors that could be scored instead.
    pub(super) fn codes_in_vectors(&self, here: Counts, walk: f32) -> f32 {
        let cells = walk / here.rows.max(1) as f32 * self.count() as f32;
        let dim = self.dim() as f32;
        (cells * CELL + walk * (CODE.0 + CODE.1 * dim)) / (VECTOR.0 + VECTOR.1 * dim)
    }

    /// So many rows of a segment of `rows` should be listed if no more may be found.
    pub fn few(rows: u32) -> u32 {
        rows / LISTED
    }

    /// True if a search of some rows alone reads a markedly greater share of them than one of all does.
    pub(crate) fn looks_farther(&self, some: Counts, all: Counts, k: usize) -> bool {
        let share = |counts: Counts| self.measured.share(counts.allowed as f32, k);
        share(some) > 1.25 * share(all)
    }

    /// Decides for one of the segments whose best `k` rows together are wanted.
    pub fn plan(&self, here: Counts, all: Counts, form: Form, k: usize, effort: Effort) -> Plan {
        let share = (self.measured.share(all.allowed as f32, k) * effort.times()).min(1.0);
        let cells = share * (self.count() as u64).min(here.rows) as f32;
        let (walked, read) = (share * here.rows as f32, share * here.allowed as f32);
        let (way, why) = plan(Facts { allowed: here.allowed, k, dim: self.dim(), cells, walked, read, form });
        Plan { here, all, k, effort, way, why }
    }
}
