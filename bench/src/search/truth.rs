//! The rows that are nearest, by looking at all of them.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;

use knarr_engine::index::vector::{Allow, Batches, Distance, Hit, exact};

use super::sets::{Floats, Set};
use super::{K, THREADS, batches};

/// Rows that all queries are compared with while they are in the processor's cache.
const BLOCK_ROWS: usize = 2048;

/// Per query the score that a row must reach to be among the nearest, and those rows.
pub(crate) struct Truth {
    rows: Vec<Vec<u32>>,
}

impl Truth {
    /// Computed at the first run and kept beside the data.
    pub(crate) fn cached(dir: &Path, set: Set, base: &Floats, asked: &[&[f32]]) -> io::Result<Self> {
        let path = dir.join(format!("{set}_{}_{}.truth", base.floats().len() / base.dim, asked.len()));
        if let Ok(bytes) = fs::read(&path)
            && bytes.len() == asked.len() * K * 4
        {
            let rows: Vec<u32> = bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            return Ok(Self { rows: rows.chunks_exact(K).map(<[u32]>::to_vec).collect() });
        }
        let truth = Self { rows: spread(asked, |asked, _| all(set.distance(), base, asked)) };
        let bytes: Vec<u8> = truth.rows.iter().flatten().flat_map(|row| row.to_le_bytes()).collect();
        fs::write(path, bytes)?;
        Ok(truth)
    }

    /// Under filters; `allow` by the query's place.
    pub(crate) fn compute<'b>(
        set: Set,
        base: &Floats,
        asked: &[&[f32]],
        allow: impl Fn(usize) -> Allow<'b> + Sync,
    ) -> io::Result<Self> {
        let one = |query: &[f32], allow| exact(set.distance(), query, &batches(base), allow, K);
        let rows = spread(asked, |asked, from| {
            let hits = asked.iter().enumerate().map(|(at, query)| one(query, allow(from + at)));
            hits.map(|hits| hits.iter().map(|hit| hit.row).collect()).collect()
        });
        Ok(Self { rows })
    }

    /// Share of the nearest that was found.
    pub(crate) fn recall(&self, found: &[Vec<u32>]) -> f64 {
        let wanted: usize = self.rows.iter().map(Vec::len).sum();
        let hits = self.rows.iter().zip(found);
        let hits: usize = hits.map(|(wanted, found)| found.iter().filter(|row| wanted.contains(row)).count()).sum();
        hits as f64 / wanted.max(1) as f64
    }
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
fn all(distance: Distance, base: &Floats, asked: &[&[f32]]) -> Vec<Vec<u32>> {
    let mut best: Vec<Vec<Hit>> = vec![Vec::new(); asked.len()];
    for (block, floats) in base.floats().chunks(BLOCK_ROWS * base.dim).enumerate() {
        let vectors = Batches::new(base.dim, [floats]);
        let first = (block * BLOCK_ROWS) as u32;
        for (query, best) in asked.iter().zip(&mut best) {
            let hits = exact(distance, query, &vectors, Allow::All, K);
            best.extend(hits.into_iter().map(|hit| Hit { row: hit.row + first, ..hit }));
            let sign = if distance == Distance::L2 { 1.0 } else { -1.0 };
            best.sort_by(|a, b| (sign * a.score).total_cmp(&(sign * b.score)));
            best.truncate(K);
        }
    }
    best.into_iter().map(|hits| hits.into_iter().map(|hit| hit.row).collect()).collect()
}
