//! Where an encoder's bytes go: cut into parts, counted and checksummed on the way.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use knarr_base::limit;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::objects::ALIGN;

/// Room of a part: a row of text may begin before its end.
const ROOM: usize = limit::PART_BYTES + limit::PART_BYTES / 8;

/// Collects bytes. Full parts wait in `ready` until somebody takes them away.
pub(super) struct Sink {
    part: Part,
    spare: Spare,
    ready: Vec<Bytes>,
    bytes: u64,
    sha256: Sha256,
}

/// Buffers of parts that were sent. Memory fresh from the system is zeroed first, which costs a twentieth of an export.
type Spare = Arc<Mutex<Vec<Vec<u8>>>>;

/// Bytes that begin where a disk wants them: `buffer` without its first `skip` bytes.
struct Part {
    buffer: Vec<u8>,
    skip: usize,
}

/// A part on its way; its buffer is used again afterwards.
struct Sent {
    part: Part,
    spare: Spare,
}

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        self.part.bytes()
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        let mut spare = self.spare.lock();
        if spare.len() < limit::PARTS_IN_FLIGHT {
            spare.push(std::mem::take(&mut self.part.buffer));
        }
    }
}

impl Part {
    fn new(spare: &Spare) -> Self {
        let mut buffer = spare.lock().pop().unwrap_or_else(|| Vec::with_capacity(ROOM + ALIGN));
        buffer.clear();
        let skip = buffer.as_ptr().align_offset(ALIGN);
        buffer.resize(skip, 0);
        Self { buffer, skip }
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[self.skip..]
    }
}

impl Sink {
    pub(super) fn new() -> Self {
        let spare = Spare::default();
        Self { part: Part::new(&spare), spare, ready: Vec::new(), bytes: 0, sha256: Sha256::new() }
    }

    /// Lets `write` append to the part at hand, which may grow beyond its size for as long.
    pub(super) fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.part.buffer);
        while self.part.bytes().len() >= limit::PART_BYTES {
            let mut next = Part::new(&self.spare);
            next.buffer.extend_from_slice(&self.part.bytes()[limit::PART_BYTES..]);
            self.part.buffer.truncate(self.part.skip + limit::PART_BYTES);
            self.cut(next);
        }
    }

    /// The full parts so far.
    pub(super) fn take_ready(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.ready)
    }

    /// The rest, the total size, the checksum.
    pub(super) fn finish(mut self) -> (Vec<Bytes>, u64, [u8; 32]) {
        if !self.part.bytes().is_empty() {
            self.cut(Part { buffer: Vec::new(), skip: 0 });
        }
        (self.ready, self.bytes, self.sha256.finalize().into())
    }

    fn cut(&mut self, next: Part) {
        let part = std::mem::replace(&mut self.part, next);
        self.bytes += part.bytes().len() as u64;
        self.sha256.update(part.bytes());
        self.ready.push(Bytes::from_owner(Sent { part, spare: Arc::clone(&self.spare) }));
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let now = bytes.len().min(limit::PART_BYTES - self.part.bytes().len());
        self.append(|part| part.extend_from_slice(&bytes[..now]));
        Ok(now)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
