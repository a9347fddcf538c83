//! What is left of a predicate when something else has decided a part of it.

use arrow_array::RecordBatch;
use arrow_buffer::BooleanBuffer;

use super::{Node, evaluate};

/// Conditions of a predicate that all have to hold.
#[derive(Debug, Default)]
pub(crate) struct Residual<'a> {
    parts: Vec<&'a Node>,
}

impl<'a> Residual<'a> {
    /// Nothing is left: every row passes.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// One condition is left.
    pub(crate) fn of(node: &'a Node) -> Self {
        Self { parts: vec![node] }
    }

    /// Both are left.
    pub(crate) fn add(&mut self, other: Residual<'a>) {
        self.parts.extend(other.parts);
    }

    /// True if nothing has to be evaluated.
    pub(crate) fn is_none(&self) -> bool {
        self.parts.is_empty()
    }

    /// The rows of a stored batch among `candidates` that pass.
    pub(crate) fn evaluate(&self, batch: &RecordBatch, candidates: &BooleanBuffer) -> BooleanBuffer {
        evaluate::all_of(self.parts.iter().copied(), batch, Some(candidates))
    }
}
