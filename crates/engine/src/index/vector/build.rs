//! Building the structure of one segment: every row finds its cell, then the cells are coded one after another.

use std::path::Path;

use super::cells::{Assigner, Centres};
use super::code::{Coder, Metric};
use super::crew::Crew;
use super::file::{Members, Writer};
use super::kernel::{LANES, Width};
use super::{Batches, Cells};
use crate::disk::Disk;
use crate::error::Result;

/// Rows assigned by one job: some ten milliseconds of work.
const ASSIGN_ROWS: usize = 4 * 1024;
/// Rows coded by one job; bounds what waits for its turn to be written.
const CODE_ROWS: usize = 8 * 1024;

/// Writes the structure of a segment to `path`, which must not exist. The file is synced; its directory is not.
/// Vectors are read twice, the second time in the order of the cells.
///
/// # Errors
/// `Cancelled`, `Io`, `DiskFull`. The file is then garbage.
///
/// # Panics
/// If the vectors have another dimension than the cells.
pub fn build(
    cells: &Cells,
    segment: u64,
    vectors: &Batches<'_>,
    disk: &dyn Disk,
    path: &Path,
    crew: &Crew,
) -> Result<()> {
    assert_eq!(vectors.dim(), cells.dim());
    let members = Members::sort(cells.count(), &assign(cells, vectors, crew)?);
    let mut writer = Writer::create(disk, path, cells, segment, vectors.rows(), &members)?;
    let jobs = code_jobs(&members);
    // A few jobs at a time, so that little waits for the disk.
    for wave in jobs.chunks(crew.threads() * 2) {
        let coded = crew.each(wave.len(), |job| Ok(code(cells, vectors, &members, wave[job].clone())))?;
        wave.iter().zip(coded).try_for_each(|(range, coded)| writer.blocks(range.clone(), &coded))?;
    }
    writer.finish()
}

/// The cell of every row.
fn assign(cells: &Cells, vectors: &Batches<'_>, crew: &Crew) -> Result<Vec<u32>> {
    let centres = Centres::new(Metric::L2, cells.dim(), &cells.centroids);
    let rows = vectors.rows() as usize;
    let owners = crew.each(rows.div_ceil(ASSIGN_ROWS), |job| {
        let (mut assigner, mut turned) = (Assigner::new(&centres), Vec::with_capacity(cells.dim()));
        let range = job * ASSIGN_ROWS..((job + 1) * ASSIGN_ROWS).min(rows);
        let owner = |row| {
            cells.turn(vectors.get(row as u32), &mut turned);
            assigner.assign(&turned)
        };
        Ok(range.map(owner).collect::<Vec<u32>>())
    })?;
    Ok(owners.concat())
}

/// Runs of cells with about [`CODE_ROWS`] rows.
fn code_jobs(members: &Members) -> Vec<std::ops::Range<usize>> {
    let (mut jobs, mut from, mut rows) = (Vec::new(), 0, 0);
    for cell in 0..members.cells() {
        rows += members.of(cell).len();
        if rows >= CODE_ROWS || cell + 1 == members.cells() {
            jobs.push(from..cell + 1);
            (from, rows) = (cell + 1, 0);
        }
    }
    jobs
}

fn code(cells: &Cells, vectors: &Batches<'_>, members: &Members, range: std::ops::Range<usize>) -> Vec<u8> {
    let mut coder = Coder::new(Width::Nibble, cells.distance().into(), cells.dim());
    let block_bytes = coder.block_bytes();
    let blocks: usize = range.clone().map(|cell| members.of(cell).len().div_ceil(LANES)).sum();
    let (mut out, mut turned) = (vec![0u8; blocks * block_bytes], Vec::with_capacity(cells.dim()));
    let mut rest = out.chunks_exact_mut(block_bytes);
    for cell in range {
        for (rows, block) in members.of(cell).chunks(LANES).zip(&mut rest) {
            coder.clear(block);
            for (lane, row) in rows.iter().enumerate() {
                cells.turn(vectors.get(*row), &mut turned);
                coder.put(block, lane, &turned, cells.centroid(cell));
            }
        }
    }
    out
}
