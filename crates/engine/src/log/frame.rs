//! Bytes of log files: header, frames, groups.

use std::hash::{BuildHasher, Hasher, RandomState};

use knarr_base::limit;

pub(super) const FILE_MAGIC: [u8; 8] = *b"KNARRLOG";
pub(super) const FILE_FORMAT: u32 = 1;
/// Bytes of a file without a frame.
pub(crate) const FILE_HEADER_BYTES: usize = 40;
const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"kfrm");
pub(super) const FRAME_HEADER_BYTES: usize = 32;
/// Frames start at multiples of this, so that the columns in a payload are aligned.
pub(super) const FRAME_ALIGN: usize = 8;

/// What a record does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RecordKind {
    /// Puts rows.
    Rows = 1,
    /// Removes keys.
    Delete = 2,
    /// Removes everything before it.
    Truncate = 3,
    /// Takes sequence numbers out of circulation for rows that do not come through the log.
    Reserve = 4,
    /// Puts rows that carry their generated keys.
    KeyedRows = 5,
}

impl RecordKind {
    fn from_u8(byte: u8) -> Option<Self> {
        [Self::Rows, Self::Delete, Self::Truncate, Self::Reserve, Self::KeyedRows]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// One frame inside a buffer that holds a whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: RecordKind,
    pub(super) fields: u16,
    pub(super) seq: u64,
    /// Offset of the first frame of its group, which was written and synced with it.
    pub(super) group: u64,
    pub(super) payload: std::ops::Range<usize>,
    pub(super) end: usize,
}

/// Records that are written and synced together.
pub(crate) struct Group {
    seed: u32,
    start: u64,
    bytes: Vec<u8>,
    last_seq: u64,
}

/// Checksums of a file start from a random number, so bytes that a user stored can never pass for a frame.
pub(super) fn random_salt() -> u64 {
    RandomState::new().build_hasher().finish()
}

pub(super) fn seed(salt: u64) -> u32 {
    crc32c::crc32c(&salt.to_le_bytes())
}

pub(super) fn file_header(number: u64, supersedes: u64, salt: u64) -> [u8; FILE_HEADER_BYTES] {
    let mut out = [0; FILE_HEADER_BYTES];
    out[..8].copy_from_slice(&FILE_MAGIC);
    out[8..12].copy_from_slice(&FILE_FORMAT.to_le_bytes());
    out[16..24].copy_from_slice(&number.to_le_bytes());
    out[24..32].copy_from_slice(&supersedes.to_le_bytes());
    out[32..40].copy_from_slice(&salt.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out[..12]), &out[16..]);
    out[12..16].copy_from_slice(&crc.to_le_bytes());
    out
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

impl Group {
    pub(super) fn new(salt: u64, start: u64) -> Self {
        Self { seed: seed(salt), start, bytes: Vec::new(), last_seq: 0 }
    }

    /// Adds a record. `fields`: how many fields the schema had, which names the schema because fields are only added.
    pub(crate) fn push(&mut self, kind: RecordKind, fields: u16, seq: u64, payload: &[u8]) {
        let at = self.bytes.len();
        let length = u32::try_from(payload.len()).expect("a call's payload is bounded by limit::LOG_RECORD_BYTES");
        self.bytes.reserve(FRAME_HEADER_BYTES + payload.len() + FRAME_ALIGN);
        self.bytes.extend_from_slice(&FRAME_MAGIC.to_le_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(&[kind as u8, 0]);
        self.bytes.extend_from_slice(&fields.to_le_bytes());
        self.bytes.extend_from_slice(&seq.to_le_bytes());
        self.bytes.extend_from_slice(&self.start.to_le_bytes());
        self.bytes.extend_from_slice(payload);
        self.bytes.resize(self.bytes.len().next_multiple_of(FRAME_ALIGN), 0);
        let crc = crc32c::crc32c_append(self.seed, &self.bytes[at + 8..]);
        self.bytes[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
        self.last_seq = seq;
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// `_seq` of the newest record, 0 without one.
    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq
    }
}

/// The frame at `at`, if it is whole.
pub(super) fn parse(file: &[u8], at: usize, seed: u32) -> Option<Frame> {
    if u32_at(file, at)? != FRAME_MAGIC {
        return None;
    }
    let length = u32_at(file, at + 8)? as usize;
    if length > limit::LOG_RECORD_BYTES {
        return None;
    }
    let payload = at + FRAME_HEADER_BYTES..at + FRAME_HEADER_BYTES + length;
    let end = payload.end.next_multiple_of(FRAME_ALIGN);
    let checked = file.get(at + 8..end)?;
    if crc32c::crc32c_append(seed, checked) != u32_at(file, at + 4)? {
        return None;
    }
    Some(Frame {
        kind: RecordKind::from_u8(file[at + 12])?,
        fields: u16::from_le_bytes([file[at + 14], file[at + 15]]),
        seq: u64_at(file, at + 16)?,
        group: u64_at(file, at + 24)?,
        payload,
        end,
    })
}
