//! The file of a structure: header, row numbers, coded blocks, table of cells. FORMAT.md, section "Search structure".

use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::kernel::{GROUP, LANES, STRETCH, Width, prefetch};
use super::{Cells, Distance, code_of, distance_of};
use crate::disk::{Disk, DiskFile};
use crate::error::{Error, Result};
use crate::index::header::{self, long, word};

const MAGIC: [u8; 8] = *b"KNARRVEC";
const FORMAT: u32 = 1;
/// Bytes of the header, and of the row numbers of a block.
const LINE: usize = header::BYTES;
const CELL_ENTRY_BYTES: usize = 12;
/// Bytes of the next cell that are asked for while one is read; the processor guesses the rest by itself.
const AHEAD_BYTES: usize = 1024;

/// The facts of a structure that its header names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) segment: u64,
    pub(super) generation: u64,
    pub(super) rows: u32,
    pub(super) dim: u32,
    pub(super) distance: Distance,
    pub(super) cells: u32,
    pub(super) blocks: u32,
}

impl Header {
    fn block_bytes(&self) -> usize {
        Width::Nibble.block_bytes((self.dim as usize).next_multiple_of(GROUP))
    }

    fn table_at(&self) -> usize {
        LINE + self.blocks as usize * (LINE + self.block_bytes())
    }

    fn file_bytes(&self) -> usize {
        self.table_at() + self.cells as usize * CELL_ENTRY_BYTES + 4
    }

    fn encode(&self) -> [u8; LINE] {
        let mut out = [0; LINE];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        out[16..24].copy_from_slice(&self.segment.to_le_bytes());
        out[24..32].copy_from_slice(&self.generation.to_le_bytes());
        for (at, word) in [self.rows, self.dim, code_of(self.distance), self.cells, self.blocks].into_iter().enumerate()
        {
            out[32 + at * 4..36 + at * 4].copy_from_slice(&word.to_le_bytes());
        }
        header::seal(&mut out);
        out
    }

    fn decode(what: &str, bytes: &[u8]) -> Result<Self> {
        let bytes = header::check(what, bytes, &MAGIC, FORMAT)?;
        let distance = distance_of(word(bytes, 40)).ok_or_else(|| Error::corrupt(what, "distance"))?;
        Ok(Self {
            segment: long(bytes, 16),
            generation: long(bytes, 24),
            rows: word(bytes, 32),
            dim: word(bytes, 36),
            distance,
            cells: word(bytes, 44),
            blocks: word(bytes, 48),
        })
    }
}

/// Writes a structure front to back. The row numbers of all cells are known before the first block is coded.
pub(super) struct Writer {
    file: Box<dyn DiskFile>,
    what: String,
    header: Header,
    /// Rows and checksum so far of every cell.
    cells: Vec<(u32, u32)>,
    blocks: usize,
}

impl Writer {
    /// Writes the header and the row numbers: `members` are the rows of every cell, ascending.
    pub(super) fn create(
        disk: &dyn Disk,
        path: &Path,
        cells: &Cells,
        segment: u64,
        rows: u32,
        members: &Members,
    ) -> Result<Self> {
        let what = format!("writing {}", path.display());
        let header = Header {
            segment,
            generation: cells.generation(),
            rows,
            dim: u32::try_from(cells.dim()).expect("limit::VECTOR_DIM_MAX"),
            distance: cells.distance(),
            cells: u32::try_from(cells.count()).expect("limit::INDEX_CELLS"),
            blocks: u32::try_from(members.blocks()).expect("no more blocks than rows and cells"),
        };
        let file = disk.create_new(path).map_err(|e| Error::io(&what, e))?;
        let mut writer = Self { file, what, header, cells: Vec::with_capacity(cells.count()), blocks: 0 };
        writer.put(&header.encode())?;
        for cell in 0..cells.count() {
            let rows = members.of(cell);
            let mut lines = Vec::with_capacity(rows.len().div_ceil(LANES) * LINE);
            for block in rows.chunks(LANES) {
                // Lanes without a row repeat the last one; their keys are infinite.
                let last = block[block.len() - 1];
                (0..LANES).for_each(|lane| lines.extend(block.get(lane).unwrap_or(&last).to_le_bytes()));
            }
            writer.cells.push((u32::try_from(rows.len()).expect("rows have 32 bits"), crc32c::crc32c(&lines)));
            writer.put(&lines)?;
        }
        Ok(writer)
    }

    /// Adds the coded blocks of the next cells.
    pub(super) fn blocks(&mut self, cells: std::ops::Range<usize>, coded: &[u8]) -> Result<()> {
        let mut rest = coded;
        for (rows, crc) in &mut self.cells[cells] {
            let blocks = (*rows as usize).div_ceil(LANES);
            let (mine, others) = rest.split_at(blocks * self.header.block_bytes());
            *crc = crc32c::crc32c_append(*crc, mine);
            self.blocks += blocks;
            rest = others;
        }
        debug_assert!(rest.is_empty());
        self.put(coded)
    }

    /// Writes the table and syncs; the name is durable once the caller synced the directory.
    pub(super) fn finish(mut self) -> Result<()> {
        assert_eq!(self.blocks, self.header.blocks as usize, "every cell was written");
        let (mut table, mut first) = (Vec::new(), 0u32);
        for (rows, crc) in &self.cells {
            [first, *rows, *crc].iter().for_each(|word| table.extend(word.to_le_bytes()));
            first += rows.div_ceil(LANES as u32);
        }
        table.extend(crc32c::crc32c(&table).to_le_bytes());
        self.put(&table)?;
        self.file.sync().map_err(|e| Error::io(&self.what, e))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::io(&self.what, e))
    }
}

/// The rows of every cell.
pub(super) struct Members {
    /// Where each cell begins in `rows`, then where the last one ends.
    starts: Vec<usize>,
    rows: Vec<u32>,
}

impl Members {
    /// From the cell of every row; rows of a cell stay in their order. `None` leaves a row out.
    pub(super) fn sort(cells: usize, owners: &[u32]) -> Self {
        let mut starts = vec![0usize; cells + 1];
        owners.iter().for_each(|owner| starts[*owner as usize + 1] += 1);
        (0..cells).for_each(|cell| starts[cell + 1] += starts[cell]);
        let (mut next, mut rows) = (starts.clone(), vec![0u32; owners.len()]);
        for (row, owner) in owners.iter().enumerate() {
            let at = &mut next[*owner as usize];
            rows[*at] = u32::try_from(row).expect("rows have 32 bits");
            *at += 1;
        }
        Self { starts, rows }
    }

    pub(super) fn of(&self, cell: usize) -> &[u32] {
        &self.rows[self.starts[cell]..self.starts[cell + 1]]
    }

    pub(super) fn cells(&self) -> usize {
        self.starts.len() - 1
    }

    pub(super) fn blocks(&self) -> usize {
        (0..self.cells()).map(|cell| self.of(cell).len().div_ceil(LANES)).sum()
    }
}

/// The mapped structure of one segment. Opening checks header and table; a cell is checked when it is first read.
pub struct Structure {
    what: String,
    map: Bytes,
    header: Header,
    verified: Vec<AtomicBool>,
    /// See [`Structure::owners`].
    owners: OnceLock<Owners>,
}

/// Which cell a row is in, and how many each has: what the file says, the other way round.
pub(super) struct Owners {
    /// By row.
    pub(super) cells: Vec<u16>,
    /// By cell.
    pub(super) rows: Vec<u32>,
}

/// The coded rows of one cell.
pub(super) struct CellView<'a> {
    /// Place of its first row in [`Structure::arrange`].
    pub(super) place: usize,
    /// Rows without the padding of the last block.
    pub(super) rows: usize,
    lines: &'a [u8],
    pub(super) blocks: &'a [u8],
}

impl CellView<'_> {
    /// The lanes of a block that have a row.
    pub(super) fn lanes(&self, block: usize) -> u16 {
        u16::MAX >> (LANES * (block + 1)).saturating_sub(self.rows)
    }

    /// The rows of up to 64 from number `at` on.
    pub(super) fn stretch(&self, at: usize) -> u64 {
        u64::MAX >> STRETCH.saturating_sub(self.rows - at)
    }

    /// A row number.
    pub(super) fn row(&self, at: usize) -> u32 {
        word(self.lines, at * 4)
    }

    /// The row numbers of a block; lanes from [`CellView::rows`] on repeat the last row.
    pub(super) fn numbers(&self, block: usize) -> [u32; LANES] {
        let line = &self.lines[block * LINE..(block + 1) * LINE];
        std::array::from_fn(|lane| word(line, lane * 4))
    }
}

impl Structure {
    /// Maps a file that [`build`](super::build) or [`merge`](super::merge) wrote.
    ///
    /// # Errors
    /// `Io`; `Corrupt` or `NewerFormat` if header or table are not as written.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self> {
        let what = format!("search structure {}", path.file_name().unwrap_or_default().display());
        let map = disk.map(path).map_err(|e| Error::io(format!("mapping {}", path.display()), e))?;
        let header = Header::decode(&what, &map)?;
        if map.len() != header.file_bytes() {
            return Err(Error::corrupt(what, "file length"));
        }
        let table = &map[header.table_at()..];
        let (entries, crc) = table.split_at(table.len() - 4);
        if word(crc, 0) != crc32c::crc32c(entries) {
            return Err(Error::corrupt(what, "checksum of the table"));
        }
        let (mut blocks, mut rows) = (0u64, 0u64);
        for entry in entries.chunks_exact(CELL_ENTRY_BYTES) {
            if u64::from(word(entry, 0)) != blocks {
                return Err(Error::corrupt(what, "order of the cells"));
            }
            rows += u64::from(word(entry, 4));
            blocks += u64::from(word(entry, 4).div_ceil(LANES as u32));
        }
        if (blocks, rows) != (u64::from(header.blocks), u64::from(header.rows)) {
            return Err(Error::corrupt(what, "number of rows"));
        }
        let verified = (0..header.cells).map(|_| AtomicBool::new(false)).collect();
        Ok(Self { what, map, header, verified, owners: OnceLock::new() })
    }

    /// The segment it was built for.
    pub fn segment(&self) -> u64 {
        self.header.segment
    }

    /// The cells it was built with; a search with others is refused.
    pub fn generation(&self) -> u64 {
        self.header.generation
    }

    /// Rows of the segment.
    pub fn rows(&self) -> u32 {
        self.header.rows
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.map.len() as u64
    }

    /// Checks every cell, as a scrub does; otherwise each is checked at its first use.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn verify(&self) -> Result<()> {
        (0..self.header.cells as usize).try_for_each(|cell| self.cell(cell).map(|_| ()))
    }

    /// An error unless it is the structure of this segment, built with these cells.
    pub(crate) fn check(&self, cells: &Cells, segment: u64, rows: u32) -> Result<()> {
        self.check_cells(cells, cells.generation())?;
        let same = (self.header.segment, self.header.rows) == (segment, rows);
        if same { Ok(()) } else { Err(Error::corrupt(&self.what, "it belongs to another segment")) }
    }

    /// An error if it was built with other cells, or the query was ranked with others.
    pub(super) fn check_cells(&self, cells: &Cells, generation: u64) -> Result<()> {
        let h = &self.header;
        let same = generation == h.generation
            && (h.generation, h.dim as usize, h.distance, h.cells as usize)
                == (cells.generation(), cells.dim(), cells.distance(), cells.count());
        if same { Ok(()) } else { Err(Error::corrupt(&self.what, "it belongs to other cells")) }
    }

    /// Asks for the first bytes of a cell that is read soon: codes, or row numbers.
    pub(super) fn ahead(&self, cell: usize, codes: bool) {
        let start = if codes { self.blocks_of(cell) } else { self.lines_of(cell) };
        prefetch(&start[..AHEAD_BYTES.min(start.len())]);
    }

    /// True if [`Allow::Few`](super::Allow::Few) costs no more than it says: [`Structure::prepare`] was called.
    pub(crate) fn may_be_listed(&self) -> bool {
        self.owners.get().is_some()
    }

    /// Reads what listed rows need: every cell, so not while somebody waits.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn prepare(&self) -> Result<()> {
        self.owners().map(|_| ())
    }

    /// A number of each row in the order of the cells, for whoever reads cells: where a [`Pass`](super::Pass) finds them.
    /// Cells begin at multiples of 16; after the last one there is room for 64 to be read.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn arrange(&self, number_of: impl Fn(u32) -> u16) -> Result<Box<[u16]>> {
        let mut arranged = vec![0; self.header.blocks as usize * LANES + STRETCH].into_boxed_slice();
        for cell in 0..self.header.cells as usize {
            let view = self.cell(cell)?;
            for at in 0..view.rows {
                arranged[view.place + at] = number_of(view.row(at));
            }
        }
        Ok(arranged)
    }

    /// The row at a place of it; its cell was read.
    pub(super) fn row_at(&self, place: usize) -> u32 {
        word(&self.map, LINE + place * size_of::<u32>())
    }

    /// Asks for that.
    pub(super) fn row_ahead(&self, place: usize) {
        prefetch(&self.map[LINE + place * size_of::<u32>()..][..1]);
    }

    /// Asks for where a cell is.
    pub(super) fn table_ahead(&self, cell: usize) {
        prefetch(&self.map[self.header.table_at() + cell * CELL_ENTRY_BYTES..][..1]);
    }

    /// Where the rows of a cell are in it.
    pub(super) fn place(&self, cell: usize) -> usize {
        self.entry(cell).0 * LANES
    }

    /// The cell of every row, in two bytes of memory for each. Read from the file when it is first asked for.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(super) fn owners(&self) -> Result<&Owners> {
        if let Some(owners) = self.owners.get() {
            return Ok(owners);
        }
        let mut owners = Owners { cells: vec![0; self.header.rows as usize], rows: Vec::new() };
        for cell in 0..self.header.cells as usize {
            let view = self.cell(cell)?;
            let number = u16::try_from(cell).map_err(|_| Error::corrupt(&self.what, "number of cells"))?;
            for block in 0..view.rows.div_ceil(LANES) {
                view.numbers(block).iter().for_each(|row| owners.cells[*row as usize] = number);
            }
            owners.rows.push(view.rows as u32);
        }
        Ok(self.owners.get_or_init(|| owners))
    }

    fn entry(&self, cell: usize) -> (usize, usize, u32) {
        let entry = &self.map[self.header.table_at() + cell * CELL_ENTRY_BYTES..][..CELL_ENTRY_BYTES];
        (word(entry, 0) as usize, word(entry, 4) as usize, word(entry, 8))
    }

    /// The row numbers of a cell, not verified.
    fn lines_of(&self, cell: usize) -> &[u8] {
        let (first, rows, _) = self.entry(cell);
        &self.map[LINE + first * LINE..][..rows.div_ceil(LANES) * LINE]
    }

    /// The coded blocks of a cell, not verified.
    fn blocks_of(&self, cell: usize) -> &[u8] {
        let (first, rows, _) = self.entry(cell);
        let (h, bytes) = (&self.header, self.header.block_bytes());
        &self.map[LINE + h.blocks as usize * LINE + first * bytes..][..rows.div_ceil(LANES) * bytes]
    }

    pub(super) fn cell(&self, cell: usize) -> Result<CellView<'_>> {
        let (first, rows, crc) = self.entry(cell);
        let (lines, blocks) = (self.lines_of(cell), self.blocks_of(cell));
        let view = CellView { place: first * LANES, rows, lines, blocks };
        // Whoever found the owners of all rows checked every cell.
        if self.owners.get().is_none() && !self.verified[cell].load(Ordering::Relaxed) {
            if crc32c::crc32c_append(crc32c::crc32c(lines), blocks) != crc {
                return Err(Error::corrupt(&self.what, format!("checksum of cell {cell}")));
            }
            let mut blocks = 0..rows.div_ceil(LANES);
            if blocks.any(|block| view.numbers(block).iter().any(|row| *row >= self.header.rows)) {
                return Err(Error::corrupt(&self.what, format!("row numbers of cell {cell}")));
            }
            self.verified[cell].store(true, Ordering::Relaxed);
        }
        Ok(view)
    }
}
