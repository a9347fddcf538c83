//! Joining structures when segments are joined: coded rows are copied, nothing is computed again.

use std::path::Path;

use super::Cells;
use super::code::Coder;
use super::crew::Crew;
use super::file::{Members, Structure, Writer};
use super::kernel::{LANES, Width};
use crate::disk::Disk;
use crate::error::{Error, Result};

/// One of the structures to join.
pub struct Part<'a> {
    /// Built with the cells of the merge.
    pub structure: &'a Structure,
    /// The row that each of its rows becomes; [`Part::GONE`] if it is not in the new segment.
    pub rows: &'a [u32],
}

impl Part<'_> {
    /// For rows that are dropped.
    pub const GONE: u32 = u32::MAX;
}

/// Where a row of the new segment comes from.
#[derive(Clone, Copy)]
struct Origin {
    part: u32,
    cell: u32,
    /// Place among the rows of its old cell.
    place: u32,
}

/// Writes the structure of a segment of `rows` rows, each of which is in exactly one part, to `path`. The outcome is
/// the same file that [`build`](super::build) would have written from the vectors.
///
/// # Errors
/// `Corrupt` if a part is damaged, belongs to other cells, or the parts do not cover the rows; `Cancelled`, `Io`,
/// `DiskFull`.
pub fn merge(
    cells: &Cells,
    segment: u64,
    rows: u32,
    parts: &[Part<'_>],
    disk: &dyn Disk,
    path: &Path,
    crew: &Crew,
) -> Result<()> {
    let origins = origins(cells, rows, parts)?;
    let owners: Vec<u32> = origins.iter().map(|origin| origin.cell).collect();
    let members = Members::sort(cells.count(), &owners);
    let mut writer = Writer::create(disk, path, cells, segment, rows, &members)?;
    let coder = Coder::new(Width::Nibble, cells.distance().into(), cells.dim());
    for from in (0..members.cells()).step_by(WAVE_CELLS) {
        let wave = from..(from + WAVE_CELLS).min(members.cells());
        let start = wave.start;
        let copied = crew.each(wave.len(), |at| copy(&coder, start + at, &members, &origins, parts))?;
        wave.zip(copied).try_for_each(|(cell, blocks)| writer.blocks(cell..cell + 1, &blocks))?;
    }
    writer.finish()
}

/// Cells copied between two writes.
const WAVE_CELLS: usize = 64;

fn origins(cells: &Cells, rows: u32, parts: &[Part<'_>]) -> Result<Vec<Origin>> {
    let wrong = |why: &str| Error::corrupt("the rows of a merge", why);
    let nobody = Origin { part: u32::MAX, cell: 0, place: 0 };
    let (mut origins, mut found) = (vec![nobody; rows as usize], 0u32);
    for (number, part) in (0u32..).zip(parts) {
        part.structure.check_cells(cells, cells.generation())?;
        if part.rows.len() != part.structure.rows() as usize {
            return Err(wrong("a part has another number of rows"));
        }
        for cell in 0..cells.count() {
            let view = part.structure.cell(cell)?;
            for place in 0..view.rows {
                let row = part.rows[view.numbers(place / LANES)[place % LANES] as usize];
                if row == Part::GONE {
                    continue;
                }
                let origin = origins.get_mut(row as usize).ok_or_else(|| wrong("a row is out of range"))?;
                if origin.part != u32::MAX {
                    return Err(wrong("a row comes twice"));
                }
                *origin = Origin { part: number, cell: cell as u32, place: place as u32 };
                found += 1;
            }
        }
    }
    if found == rows { Ok(origins) } else { Err(wrong("a row is missing")) }
}

fn copy(coder: &Coder, cell: usize, members: &Members, origins: &[Origin], parts: &[Part<'_>]) -> Result<Vec<u8>> {
    let block_bytes = coder.block_bytes();
    let views = parts.iter().map(|part| part.structure.cell(cell)).collect::<Result<Vec<_>>>()?;
    let rows = members.of(cell);
    let mut out = vec![0u8; rows.len().div_ceil(LANES) * block_bytes];
    for (rows, block) in rows.chunks(LANES).zip(out.chunks_exact_mut(block_bytes)) {
        coder.clear(block);
        for (lane, row) in rows.iter().enumerate() {
            let Origin { part, place, .. } = origins[*row as usize];
            let (from, place) = (views[part as usize].blocks, place as usize);
            coder.copy(&from[place / LANES * block_bytes..][..block_bytes], place % LANES, block, lane);
        }
    }
    Ok(out)
}
