//! The codes of a segment's rows in the order in which its search structure has them.

use knarr_base::limit;

use super::Postings;
use crate::error::Result;
#[cfg(doc)]
use crate::index::vector::Structure;

/// Of fields with codes, two bytes of memory for each row, made from the files of both. Codes in the order of the rows cost a
/// look in memory for each row of a cell; these lie side by side.
pub(crate) struct Arranged {
    /// By column.
    fields: Vec<(usize, Box<[u16]>)>,
}

impl Arranged {
    /// Reads the codes of the first [`limit::INDEX_ARRANGED_FIELDS`]. `arrange` is [`Structure::arrange`], of the same segment.
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
            if fields.len() == limit::INDEX_ARRANGED_FIELDS {
                break;
            }
        }
        Ok(Self { fields })
    }

    /// Of a field, if it is one of these.
    pub(super) fn codes(&self, column: usize) -> Option<&[u16]> {
        self.fields.iter().find(|(of, _)| *of == column).map(|(_, codes)| &**codes)
    }
}
