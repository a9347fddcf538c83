//! The file of an index's cells. FORMAT.md, section "Cells of an index".

use std::io::Write;
use std::path::Path;

use knarr_base::limit;

use super::{Cells, Measured};
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::index::vector::{code_of, distance_of};

const MAGIC: [u8; 8] = *b"KNARRCEL";
const FORMAT: u32 = 1;
const HEADER_BYTES: usize = 64;

impl Cells {
    /// Writes them to `path`, which must not exist. The file is synced; its directory is not.
    ///
    /// # Errors
    /// `Io`, `DiskFull`.
    pub fn write(&self, disk: &dyn Disk, path: &Path) -> Result<()> {
        let what = format!("writing {}", path.display());
        let bytes = self.encode();
        let put = || {
            let mut file = disk.create_new(path)?;
            file.write_all(&bytes)?;
            file.sync()
        };
        put().map_err(|e| Error::io(what, e))
    }

    /// Reads them to the heap: a few MiB for an index of any size.
    ///
    /// # Errors
    /// `Io`; `Corrupt` or `NewerFormat` if a byte is not as written.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self> {
        let what = format!("cells {}", path.file_name().unwrap_or_default().display());
        let bytes = disk.read(path).map_err(|e| Error::io(format!("reading {}", path.display()), e))?;
        Self::decode(&what, &bytes)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![0u8; HEADER_BYTES];
        self.centroids.iter().chain(&self.radii).for_each(|x| out.extend(x.to_le_bytes()));
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        out[16..24].copy_from_slice(&self.generation.to_le_bytes());
        let number = |n: usize| u32::try_from(n).expect("limit::INDEX_CELLS and limit::VECTOR_DIM_MAX are small");
        let Measured { rows, slack, shares: [all, tenth, hundredth] } = self.measured;
        let measured = [rows, slack, all, tenth, hundredth].map(f32::to_bits);
        let words = [number(self.dim), code_of(self.distance), number(self.count())].into_iter().chain(measured);
        for (at, word) in words.enumerate() {
            out[24 + at * 4..28 + at * 4].copy_from_slice(&word.to_le_bytes());
        }
        let crc = checksum(&out);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(what: &str, bytes: &[u8]) -> Result<Self> {
        if bytes.len() < HEADER_BYTES || bytes[..8] != MAGIC {
            return Err(Error::corrupt(what, "not such a file"));
        }
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if word(12) != checksum(bytes) {
            return Err(Error::corrupt(what, "checksum"));
        }
        if word(8) != FORMAT {
            return Err(Error::NewerFormat { what: what.to_owned(), found: word(8), known: FORMAT });
        }
        let generation = u64::from(word(16)) | u64::from(word(20)) << 32;
        let (dim, count) = (word(24) as usize, word(32) as usize);
        let distance = distance_of(word(28)).ok_or_else(|| Error::corrupt(what, "distance"))?;
        // Checked before anything of these sizes is made.
        let sound = (1..=limit::VECTOR_DIM_MAX as usize).contains(&dim) && (1..=limit::INDEX_CELLS).contains(&count);
        if !sound || bytes.len() != HEADER_BYTES + count * (dim + 1) * 4 {
            return Err(Error::corrupt(what, "length"));
        }
        let float = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        let mut centroids: Vec<f32> = bytes[HEADER_BYTES..].chunks_exact(4).map(float).collect();
        let radii = centroids.split_off(count * dim);
        let measured = |at: usize| f32::from_bits(word(36 + 4 * at));
        let shares = [measured(2), measured(3), measured(4)];
        let measured = Measured { rows: measured(0), slack: measured(1), shares };
        Ok(Self::assemble(generation, distance, dim, centroids, radii, measured))
    }
}

fn checksum(file: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&file[..12]), &file[16..])
}
