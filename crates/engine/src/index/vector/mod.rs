//! Nearest rows of a large segment without looking at all of them.
//!
//! Space is cut into [`Cells`], once per index. A [`Structure`] sorts the rows of one segment into them and keeps four
//! bits per dimension of each row, cell by cell, in an immutable file that is mapped. A search ranks the cells for its
//! query ([`Cells::ask`]), reads codes in that order until no cell can hold a better row, and scores the best
//! candidates with the vectors of the segment, so scores are exact and only the choice of candidates is approximate. Of few
//! rows that may be found those in the nearest cells are scored without their codes.
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
mod enough;
mod file;
pub(super) mod kernel;
mod merge;
mod plan;
mod rotate;
mod search;
mod sift;
mod train;
mod walk;

#[cfg(test)]
mod tests;

pub use allow::{Allow, Bits, Form, Pass};
pub use batches::Batches;
pub use build::build;
pub use cells::{Cells, Query};
pub use crew::Crew;
pub use file::Structure;
pub use kernel::LANES;
pub use knarr_base::index::Distance;
pub use merge::{Part, merge};
pub use plan::{Counts, Effort, Plan, Way};
#[cfg(test)]
pub(crate) use rotate::Random;
pub use search::{Hit, Looked, exact};
pub use train::cells_for;

/// A distance as files name it.
fn code_of(distance: Distance) -> u32 {
    match distance {
        Distance::Ip => 1,
        Distance::L2 => 2,
        Distance::Cosine => 3,
    }
}

fn distance_of(code: u32) -> Option<Distance> {
    Distance::ALL.iter().copied().find(|distance| code_of(*distance) == code)
}

/// The score of a key, and the key of a score: keys are smaller for nearer rows. Scores of `L2` are squares here, and
/// vectors without a length have cosine 0 with everything.
fn flip(distance: Distance, value: f32) -> f32 {
    match distance {
        Distance::L2 => value,
        Distance::Ip | Distance::Cosine => -value,
    }
}
