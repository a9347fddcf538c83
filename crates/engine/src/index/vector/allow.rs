//! Which rows of a segment may be found.

use arrow_buffer::BooleanBuffer;
use roaring::RoaringBitmap;

#[cfg(doc)]
use super::Structure;
use super::kernel::{Kernel, LANES};
use crate::error::Result;

const WORD: u32 = u32::BITS;

/// One bit per row of a segment. Dense, because a test then is one load whatever the selectivity, and because masks,
/// filters and expiries are joined a word at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bits {
    rows: u32,
    words: Vec<u32>,
}

impl Bits {
    /// No row of `rows`.
    pub fn none(rows: u32) -> Self {
        Self { rows, words: vec![0; rows.div_ceil(WORD) as usize] }
    }

    /// Every row of `rows`.
    pub fn all(rows: u32) -> Self {
        let mut bits = Self { rows, words: vec![!0; rows.div_ceil(WORD) as usize] };
        bits.trim();
        bits
    }

    /// The rows for which `test` is true.
    pub fn of(rows: u32, mut test: impl FnMut(u32) -> bool) -> Self {
        let mut bits = Self::none(rows);
        for row in 0..rows {
            bits.words[(row / WORD) as usize] |= u32::from(test(row)) << (row % WORD);
        }
        bits
    }

    /// The rows of a bitmap, for example of a filter. Numbers from `rows` on are ignored.
    pub fn from_bitmap(rows: u32, bitmap: &RoaringBitmap) -> Self {
        let mut bits = Self::none(rows);
        bitmap.range(..rows).for_each(|row| bits.words[(row / WORD) as usize] |= 1 << (row % WORD));
        bits
    }

    /// Adds the rows of a run that begins at row `from`, bit by bit of `selected`.
    ///
    /// # Panics
    /// If the run goes beyond [`Bits::rows`].
    pub fn insert_run(&mut self, from: u32, selected: &BooleanBuffer) {
        assert!(from as usize + selected.len() <= self.rows as usize);
        let (mut word, shift) = ((from / WORD) as usize, from % WORD);
        let chunks = selected.bit_chunks();
        for chunk in chunks.iter_padded() {
            // The bits of a chunk lie across three words at most; words past the end get none.
            let spread = u128::from(chunk) << shift;
            for at in 0..3 {
                let bits = (spread >> (at * WORD)) as u32;
                if bits != 0 {
                    self.words[word + at as usize] |= bits;
                }
            }
            word += 2;
        }
    }

    /// Adds a row below [`Bits::rows`].
    pub fn insert(&mut self, row: u32) {
        assert!(row < self.rows);
        self.words[(row / WORD) as usize] |= 1 << (row % WORD);
    }

    /// Takes a row below [`Bits::rows`] away.
    pub fn clear(&mut self, row: u32) {
        assert!(row < self.rows);
        self.words[(row / WORD) as usize] &= !(1 << (row % WORD));
    }

    /// Takes the rows of a bitmap away, for example the dead ones.
    pub fn remove(&mut self, bitmap: &RoaringBitmap) {
        bitmap.range(..self.rows).for_each(|row| self.words[(row / WORD) as usize] &= !(1 << (row % WORD)));
    }

    /// Keeps the rows that both have; both are of one segment.
    pub fn intersect(&mut self, other: &Bits) {
        assert_eq!(self.rows, other.rows);
        self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a &= b);
    }

    /// Rows of the segment.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Rows that may be found.
    pub fn count(&self) -> u32 {
        Kernel::best().ones(&self.words)
    }

    /// True if `row` may be found.
    pub fn contains(&self, row: u32) -> bool {
        row < self.rows && self.words[(row / WORD) as usize] >> (row % WORD) & 1 == 1
    }

    /// The rows of a list; all are below `rows`.
    pub fn listed(rows: u32, listed: &[u32]) -> Self {
        let mut bits = Self::none(rows);
        listed.iter().for_each(|row| bits.insert(*row));
        bits
    }

    /// Which of some rows may be found, of those whose bit is set in `among`.
    pub fn lanes(&self, rows: &[u32; LANES], among: u16) -> u16 {
        Kernel::best().allowed(rows, &self.words) & among
    }

    /// The rows that may be found, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + Clone + '_ {
        self.words.iter().enumerate().flat_map(|(at, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(at as u32 * WORD + bit)
            })
        })
    }

    pub(crate) fn words(&self) -> &[u32] {
        &self.words
    }

    /// For whoever sets many bits. Bits beyond the last row must be cleared again, see [`Bits::trim`].
    pub(crate) fn words_mut(&mut self) -> &mut [u32] {
        &mut self.words
    }

    /// Clears the bits beyond the last row.
    pub(crate) fn trim(&mut self) {
        if let Some(last) = self.words.last_mut()
            && !self.rows.is_multiple_of(WORD)
        {
            *last &= (1 << (self.rows % WORD)) - 1;
        }
    }
}

/// Rows that are told one by one, because few of them are met.
pub trait Pass {
    /// Which of some rows of the segment may be found, of those whose bit is set in `among`.
    fn lanes(&self, rows: &[u32; LANES], among: u16) -> u16;

    /// True if rows can be told by where they are in the order of the cells, see [`Structure::arrange`].
    fn in_order(&self) -> bool;

    /// The same for up to 64 rows from `place` on in that order. `row` says their numbers.
    fn stretch(&self, place: usize, row: &dyn Fn(u32) -> u32, among: u64) -> u64;

    /// Asks for what [`Pass::stretch`] needs of these rows soon.
    fn ahead(&self, place: usize);

    /// All of them, for whoever comes to meet most.
    ///
    /// # Errors
    /// `Corrupt` if they cannot be told.
    fn every(&self) -> Result<&Bits>;
}

/// What can be done with the rows that may be found, beside asking for single ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Nothing.
    Asked,
    /// They are listed.
    Listed,
    /// They are told quickly in the order of the cells.
    Arranged,
}

/// The rows a search may answer with: those of a filter, less dead and expired ones, of exactly this segment.
#[derive(Clone, Copy)]
pub enum Allow<'a> {
    /// Every row of the segment.
    All,
    /// A bit for each.
    Only(&'a Bits),
    /// They are few. In any order, none twice.
    Few(&'a [u32]),
    /// See [`Pass`].
    Each(&'a dyn Pass),
}

impl Allow<'_> {
    /// For a plan.
    pub fn form(&self) -> Form {
        match self {
            Allow::Few(_) => Form::Listed,
            Allow::Each(pass) if pass.in_order() => Form::Arranged,
            Allow::All | Allow::Only(_) | Allow::Each(_) => Form::Asked,
        }
    }

    pub(crate) fn contains(&self, row: u32) -> bool {
        match self {
            Allow::All => true,
            Allow::Only(bits) => bits.contains(row),
            Allow::Few(rows) => rows.contains(&row),
            Allow::Each(pass) => pass.lanes(&[row; LANES], 1) == 1,
        }
    }
}
