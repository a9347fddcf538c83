//! Nearest rows of a large segment without looking at all of them.
//!
//! Space is cut into [`Cells`], once per index. A [`Structure`] sorts the rows of one segment into them and keeps four
//! bits per dimension of each row, cell by cell, in an immutable file that is mapped. A search ranks the cells for its
//! query ([`Cells::ask`]), reads codes in that order until no cell can hold a better row, and scores the best
//! candidates with the vectors of the segment, so scores are exact and only the choice of candidates is approximate.
//! `docs/decisions/0004-search-structure.md` says why; FORMAT.md has the bytes.
//!
//! Everything here is computing in the caller's thread; training and building share a [`Crew`]. Nothing knows tables,
//! masks or filters: callers bring the vectors ([`Batches`]) and which rows may be found ([`Allow`]).

mod allow;
mod batches;
mod build;
mod cells;
mod code;
mod crew;
mod file;
mod kernel;
mod merge;
mod plan;
mod rotate;
mod search;
mod train;

#[cfg(test)]
mod tests;

pub use allow::{Allow, Bits};
pub use batches::Batches;
pub use build::build;
pub use cells::{Cells, Query};
pub use crew::Crew;
pub use file::Structure;
pub use merge::{Part, merge};
pub use plan::{Effort, Path, Plan};
pub use search::{Hit, Looked, exact};
pub use train::cells_for;

/// What near means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distance {
    /// Inner product: greater is nearer.
    Ip,
    /// Squared euclidean distance: smaller is nearer.
    L2,
    /// Cosine of the angle: greater is nearer. Vectors without a length have cosine 0 with everything.
    Cosine,
}

impl Distance {
    /// As files name it.
    fn code(self) -> u32 {
        match self {
            Distance::Ip => 1,
            Distance::L2 => 2,
            Distance::Cosine => 3,
        }
    }

    fn from_code(code: u32) -> Option<Self> {
        [Distance::Ip, Distance::L2, Distance::Cosine].into_iter().find(|distance| distance.code() == code)
    }

    /// The score of a key, and the key of a score: keys are smaller for nearer rows.
    fn flip(self, value: f32) -> f32 {
        match self {
            Distance::L2 => value,
            Distance::Ip | Distance::Cosine => -value,
        }
    }
}
