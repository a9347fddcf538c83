//! Small files that are read whole: a header with a checksum, then JSON. Manifests and segment metadata.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

const HEADER_BYTES: usize = 24;

/// One kind of such a file.
pub(crate) struct Framed {
    /// First eight bytes.
    pub(crate) magic: [u8; 8],
    /// Newest format this build writes and reads.
    pub(crate) format: u32,
}

impl Framed {
    /// Header and body: magic, format, body length, CRC32C of everything but itself, four zero bytes, JSON.
    pub(crate) fn encode(&self, body: &impl Serialize) -> Vec<u8> {
        let mut out = vec![0; HEADER_BYTES];
        serde_json::to_writer(&mut out, body).expect("disk structs have string keys and a Vec never fails");
        let length = u32::try_from(out.len() - HEADER_BYTES).expect("metadata is far below 4 GiB");
        out[..8].copy_from_slice(&self.magic);
        out[8..12].copy_from_slice(&self.format.to_le_bytes());
        out[12..16].copy_from_slice(&length.to_le_bytes());
        let crc = checksum(&out);
        out[16..20].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The body, every byte of the file accounted for.
    pub(crate) fn decode<T: DeserializeOwned>(&self, what: &str, file: &[u8]) -> Result<T> {
        if file.len() < HEADER_BYTES || file[..8] != self.magic {
            return Err(Error::corrupt(what, "not such a file"));
        }
        let word = |at: usize| u32::from_le_bytes([file[at], file[at + 1], file[at + 2], file[at + 3]]);
        if word(12) as usize != file.len() - HEADER_BYTES {
            return Err(Error::corrupt(what, "length"));
        }
        if word(16) != checksum(file) || word(20) != 0 {
            return Err(Error::corrupt(what, "checksum"));
        }
        if word(8) > self.format {
            return Err(Error::NewerFormat { what: what.to_owned(), found: word(8), known: self.format });
        }
        serde_json::from_slice(&file[HEADER_BYTES..]).map_err(|e| Error::corrupt(what, e))
    }
}

fn checksum(file: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&file[..16]), &file[HEADER_BYTES..])
}
