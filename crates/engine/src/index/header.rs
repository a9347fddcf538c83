//! The first 64 bytes of the files that indexes map: magic, format, checksum of the header, then what the file says of
//! itself (FORMAT.md, sections "Search structure" and "Postings").

use crate::error::{Error, Result};

/// Bytes of a header: a cache line, so that what follows is aligned to one.
pub(super) const BYTES: usize = 64;

/// A header whose other bytes are set, with its checksum.
pub(super) fn seal(header: &mut [u8; BYTES]) {
    let crc = checksum(header);
    header[12..16].copy_from_slice(&crc.to_le_bytes());
}

/// The header of a file.
///
/// # Errors
/// `Corrupt` unless it is one with this magic, as it was written; `NewerFormat` for another format.
pub(super) fn check<'a>(what: &str, file: &'a [u8], magic: &[u8; 8], format: u32) -> Result<&'a [u8; BYTES]> {
    let header = file.first_chunk::<BYTES>().ok_or_else(|| Error::corrupt(what, "shorter than its header"))?;
    if header[..8] != *magic {
        return Err(Error::corrupt(what, "not such a file"));
    }
    if word(header, 12) != checksum(header) {
        return Err(Error::corrupt(what, "checksum of the header"));
    }
    if word(header, 8) != format {
        return Err(Error::NewerFormat { what: what.to_owned(), found: word(header, 8), known: format });
    }
    Ok(header)
}

fn checksum(header: &[u8; BYTES]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[..12]), &header[16..])
}

/// The u32 at a place.
pub(super) fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The u64 at a place.
pub(super) fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from(word(bytes, at)) | u64::from(word(bytes, at + 4)) << 32
}
