//! Where an encoder's bytes go: cut into parts, counted and checksummed on the way.

use std::io::{self, Write};

use bytes::Bytes;
use knarr_base::limit;
use sha2::{Digest, Sha256};

/// Collects bytes. Full parts wait in `ready` until somebody takes them away.
pub(super) struct Sink {
    part: Vec<u8>,
    ready: Vec<Bytes>,
    bytes: u64,
    sha256: Sha256,
}

impl Sink {
    pub(super) fn new() -> Self {
        Self { part: Vec::new(), ready: Vec::new(), bytes: 0, sha256: Sha256::new() }
    }

    /// Lets `write` append to the part at hand, which may grow beyond its size for as long.
    pub(super) fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.part);
        while self.part.len() >= limit::PART_BYTES {
            let rest = self.part.split_off(limit::PART_BYTES);
            self.cut(rest);
        }
    }

    /// The full parts so far.
    pub(super) fn take_ready(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.ready)
    }

    /// The rest, the total size, the checksum.
    pub(super) fn finish(mut self) -> (Vec<Bytes>, u64, [u8; 32]) {
        if !self.part.is_empty() {
            self.cut(Vec::new());
        }
        (self.ready, self.bytes, self.sha256.finalize().into())
    }

    fn cut(&mut self, next: Vec<u8>) {
        let part = std::mem::replace(&mut self.part, next);
        self.part.reserve_exact(limit::PART_BYTES);
        self.bytes += part.len() as u64;
        self.sha256.update(&part);
        self.ready.push(part.into());
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = limit::PART_BYTES - self.part.len();
        let (now, later) = bytes.split_at(room.min(bytes.len()));
        self.append(|part| part.extend_from_slice(now));
        if !later.is_empty() {
            self.write_all(later)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
