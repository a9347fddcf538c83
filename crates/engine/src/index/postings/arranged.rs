//! The codes of a segment's rows in the order in which its search structure has them.

use super::Postings;
use crate::error::Result;
#[cfg(doc)]
use crate::index::vector::Structure;

/// Of every field with codes, two bytes of memory for each row, made from the files of both. Codes in the order of the rows
/// cost a look in memory for each row of a cell; these lie side by side.
pub(crate) struct Arranged {
    /// By column.
    fields: Vec<(usize, Box<[u16]>)>,
}

impl Arranged {
    /// Reads all codes. `arrange` is [`Structure::arrange`], of the same segment.
    ///
    /// # Errors
    /// `Corrupt`, of codes or what `arrange` says; see [`Postings::prepare`].
    pub(crate) fn new(
        postings: &Postings,
        arrange: impl Fn(&dyn Fn(u32) -> u16) -> Result<Box<[u16]>>,
    ) -> Result<Self> {
        let mut fields = Vec::new();
        for field in postings.all() {
            if let Some(codes) = field.codes()? {
                let (codes, _) = codes.as_flattened().as_chunks();
                let arranged = arrange(&|row| u16::from_le_bytes(codes[row as usize]))?;
                fields.push((field.column(), arranged));
            }
        }
        Ok(Self { fields })
    }

    /// Of a field with codes.
    pub(super) fn codes(&self, column: usize) -> &[u16] {
        let found = self.fields.iter().find(|(of, _)| *of == column);
        &found.expect("all fields with codes are arranged").1
    }
}
