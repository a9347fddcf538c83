//! The vectors of a segment where they lie: one slice per record batch.

use super::rotate::Random;

/// Vectors by row number. Copies nothing.
pub struct Batches<'a> {
    dim: usize,
    slices: Vec<&'a [f32]>,
    /// First row of every slice, then the number of rows.
    starts: Vec<u32>,
}

impl<'a> Batches<'a> {
    /// `slices` hold whole vectors of `dim` floats, in the order of their rows; together fewer than 2^32.
    pub fn new(dim: usize, slices: impl IntoIterator<Item = &'a [f32]>) -> Self {
        let slices: Vec<&[f32]> = slices.into_iter().collect();
        let mut starts = vec![0u32];
        for slice in &slices {
            assert_eq!(slice.len() % dim, 0, "a slice of vectors holds whole ones");
            let rows = u32::try_from(slice.len() / dim).expect("limit::BATCH_ROWS is small");
            starts.push(starts[starts.len() - 1].checked_add(rows).expect("row numbers have 32 bits"));
        }
        Self { dim, slices, starts }
    }

    /// Dimensions.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Number of rows.
    pub fn rows(&self) -> u32 {
        self.starts[self.starts.len() - 1]
    }

    /// The vector of a row below [`Batches::rows`].
    #[inline]
    pub(crate) fn get(&self, row: u32) -> &'a [f32] {
        let slice = self.starts.partition_point(|start| *start <= row) - 1;
        let at = (row - self.starts[slice]) as usize * self.dim;
        &self.slices[slice][at..at + self.dim]
    }

    /// `count` rows picked at random, one per stretch of equal length, appended to `out`: what training wants of each
    /// segment. All rows if there are no more.
    pub fn sample(&self, count: usize, seed: u64, out: &mut Vec<f32>) {
        let (rows, mut random) = (self.rows() as usize, Random::new(seed));
        let count = count.min(rows);
        for n in 0..count {
            let (from, to) = (n * rows / count, (n + 1) * rows / count);
            out.extend_from_slice(self.get((from + random.below(to - from)) as u32));
        }
    }
}
