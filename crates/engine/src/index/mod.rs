//! Searches: which rows of a table are nearest, greatest, or simply there, as of one instant.
//!
//! Called by the service on a compute thread; a search recruits other idle threads for itself (`spread`). It reads one
//! [`Moment`], so it sees every write that was acknowledged before it began and no part of a later one. Rows are
//! ranked block by block and scanned exactly (`exact`); where a large segment has a search structure (`vector`), that
//! answers in place of the scan of the segment's blocks (`near`) and offers its rows to the same [`top::Top`].
//!
//! It never returns a row that is dead, expired, outside the filter, or twice; a damaged segment that may hold an
//! answer is an error, never a gap.

mod aggregate;
mod exact;
mod found;
mod header;
mod near;
mod post;
pub mod postings;
mod score;
mod search;
mod sort;
mod spread;
mod top;
pub mod vector;

pub use aggregate::{Group, Groups};
pub use found::{Explain, Found};
pub use near::Planned;
pub use score::unit;
pub use sort::scores;
pub use vector::Way;
