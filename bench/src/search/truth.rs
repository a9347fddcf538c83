//! The rows that are nearest, by looking at all of them.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;

use knarr_engine::index::vector::{Allow, Batches, Bits, Distance, Hit, exact};

use super::sets::{Floats, Set};
use super::{K, THREADS, batches};
use crate::progress::Progress;

/// Rows that all queries are compared with while they are in the processor's cache.
const BLOCK_ROWS: usize = 2048;

/// Stands for a row where a filter lets fewer than wanted through.
const NONE: u32 = u32::MAX;

/// Per query the rows that are nearest.
pub(crate) struct Truth {
    rows: Vec<Vec<u32>>,
}

impl Truth {
    /// What was computed elsewhere.
    pub(crate) fn of(rows: Vec<Vec<u32>>) -> Self {
        Self { rows }
    }

    /// Among all rows; computed at the first run and kept beside the data.
    pub(crate) fn cached(dir: &Path, set: Set, base: &Floats, asked: &[&[f32]]) -> io::Result<Self> {
        let name = format!("{set}_{}_{}.truth", base.rows(), asked.len());
        Self::kept(&dir.join(name), asked.len(), || Self::of_all(set, base, asked))
    }

    /// What is in a file, or made now and put there.
    pub(crate) fn kept(path: &Path, queries: usize, make: impl FnOnce() -> Self) -> io::Result<Self> {
        if let Ok(bytes) = fs::read(path)
            && bytes.len() == queries * K * 4
        {
            let rows: Vec<u32> = bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            let present = |rows: &[u32]| rows.iter().copied().filter(|row| *row != NONE).collect();
            return Ok(Self { rows: rows.chunks_exact(K).map(present).collect() });
        }
        let truth = make();
        let padded = truth.rows.iter().flat_map(|rows| rows.iter().copied().chain(std::iter::repeat(NONE)).take(K));
        fs::write(path, padded.flat_map(u32::to_le_bytes).collect::<Vec<u8>>())?;
        Ok(truth)
    }

    /// Among all rows.
    pub(crate) fn of_all(set: Set, base: &Floats, asked: &[&[f32]]) -> Self {
        let blocks = base.floats().len().div_ceil(BLOCK_ROWS * base.dim) * threads_for(asked.len());
        let progress =
            Progress::new(format!("exact neighbours, {set}, of {} queries: blocks", asked.len()), blocks as u64);
        Self { rows: spread(asked, |asked, _| all(set.distance(), base, asked, &progress)) }
    }

    /// Among the rows of a filter of its own for each query; `filter` by the query's place.
    pub(crate) fn among(set: Set, base: &Floats, asked: &[&[f32]], filter: impl Fn(usize) -> Bits + Sync) -> Self {
        let progress = Progress::new(format!("exact neighbours, {set}, filtered: queries"), asked.len() as u64);
        let one = |at: usize, query: &[f32]| {
            let hits =
                exact(set.distance(), query, &batches(base), Allow::Only(&filter(at)), K).expect("bits are at hand");
            progress.add(1);
            hits.iter().map(|hit| hit.row).collect()
        };
        let part =
            |asked: &[&[f32]], from: usize| asked.iter().enumerate().map(|(at, query)| one(from + at, query)).collect();
        Self { rows: spread(asked, part) }
    }

    /// Under filters; `allow` by the query's place.
    pub(crate) fn compute<'b>(
        set: Set,
        base: &Floats,
        asked: &[&[f32]],
        allow: impl Fn(usize) -> Allow<'b> + Sync,
    ) -> io::Result<Self> {
        let one =
            |query: &[f32], allow| exact(set.distance(), query, &batches(base), allow, K).expect("bits are at hand");
        let rows = spread(asked, |asked, from| {
            let hits = asked.iter().enumerate().map(|(at, query)| one(query, allow(from + at)));
            hits.map(|hits| hits.iter().map(|hit| hit.row).collect()).collect()
        });
        Ok(Self { rows })
    }

    /// The nearest rows of each query, nearest first.
    pub(crate) fn rows(&self) -> &[Vec<u32>] {
        &self.rows
    }

    /// Share of the nearest that was found.
    pub(crate) fn recall(&self, found: &[Vec<u32>]) -> f64 {
        let wanted: usize = self.rows.iter().map(Vec::len).sum();
        let hits = self.rows.iter().zip(found);
        let hits: usize = hits.map(|(wanted, found)| found.iter().filter(|row| wanted.contains(row)).count()).sum();
        hits as f64 / wanted.max(1) as f64
    }
}

/// Threads that [`spread`] uses.
fn threads_for(queries: usize) -> usize {
    queries.div_ceil(queries.div_ceil(THREADS).max(1))
}

/// Half of the queries to each thread; `work` gets them and the place of the first.
fn spread(asked: &[&[f32]], work: impl Fn(&[&[f32]], usize) -> Vec<Vec<u32>> + Sync) -> Vec<Vec<u32>> {
    let size = asked.len().div_ceil(THREADS).max(1);
    thread::scope(|scope| {
        let work = &work;
        let parts = asked.chunks(size).enumerate();
        let threads: Vec<_> = parts.map(|(n, part)| scope.spawn(move || work(part, n * size))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("brute force does not panic")).collect()
    })
}

/// All rows for all queries, a block of rows at a time.
fn all(distance: Distance, base: &Floats, asked: &[&[f32]], progress: &Progress) -> Vec<Vec<u32>> {
    let mut best: Vec<Vec<Hit>> = vec![Vec::new(); asked.len()];
    for (block, floats) in base.floats().chunks(BLOCK_ROWS * base.dim).enumerate() {
        let vectors = Batches::new(base.dim, [floats]);
        let first = (block * BLOCK_ROWS) as u32;
        for (query, best) in asked.iter().zip(&mut best) {
            let hits = exact(distance, query, &vectors, Allow::All, K).expect("every row may be found");
            best.extend(hits.into_iter().map(|hit| Hit { row: hit.row + first, ..hit }));
            let sign = if distance == Distance::L2 { 1.0 } else { -1.0 };
            best.sort_by(|a, b| (sign * a.score).total_cmp(&(sign * b.score)));
            best.truncate(K);
        }
        progress.add(1);
    }
    best.into_iter().map(|hits| hits.into_iter().map(|hit| hit.row).collect()).collect()
}
