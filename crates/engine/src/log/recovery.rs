//! Reading a log back: what survived, what was torn, what is damaged.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::frame::{self, FILE_FORMAT, FILE_HEADER_BYTES, FILE_MAGIC, FRAME_ALIGN, Frame, Group, RecordKind};
use super::{ClosedFile, Log, Tail, file_path};
use crate::disk::Disk;
use crate::error::{Error, Result};

/// A record that no segment covers.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) kind: RecordKind,
    pub(crate) fields: u16,
    pub(crate) seq: u64,
    pub(crate) payload: Bytes,
}

/// Bytes at the end of the newest file that never were a synced group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TornTail {
    /// Number of the file.
    pub(crate) file: u64,
    /// Where it was cut.
    pub(crate) offset: u64,
    /// Bytes cut.
    pub(crate) bytes: u64,
}

/// A log that was read back.
pub(crate) struct Recovered {
    /// Ready for [`Log::begin`].
    pub(crate) log: Log,
    /// In ascending `_seq`.
    pub(crate) records: Vec<Record>,
    /// Greatest `_seq` seen, also in records that a segment covers; 0 without any.
    pub(crate) last_seq: u64,
    /// What was cut.
    pub(crate) torn: Option<TornTail>,
}

struct LogFile {
    number: u64,
    supersedes: u64,
    seed: u32,
    bytes: Bytes,
}

/// Reads all files and returns the records after `flushed_seq`. Bytes of the newest file may never have been synced, so
/// the first [`Log::begin`] copies its records to a synced file.
///
/// # Errors
/// `Error::Corrupt` for a bad frame that is followed by a later group, or is in an older file.
pub(crate) fn recover(disk: Arc<dyn Disk>, dir: &Path, flushed_seq: u64) -> Result<Recovered> {
    let files = read_files(&*disk, dir)?;
    let mut log = Log::new(disk, dir.to_owned());
    let mut out = Vec::new();
    let (mut last_seq, mut torn) = (0, None);
    let newest = files.last().map(|file| file.number);
    for file in files.iter() {
        log.next_number = file.number + 1;
        if files.iter().any(|other| (other.supersedes..other.number).contains(&file.number)) {
            log.superseded.push(file.number);
            continue;
        }
        let (frames, end) = read_frames(file, newest == Some(file.number))?;
        if end < file.bytes.len() {
            let tail = TornTail { file: file.number, offset: end as u64, bytes: (file.bytes.len() - end) as u64 };
            torn = Some(tail);
        }
        let mut file_last = 0;
        for frame in frames {
            if frame.seq <= last_seq {
                return Err(Error::corrupt(describe(file, frame.payload.start), "sequence numbers do not ascend"));
            }
            last_seq = frame.seq;
            file_last = frame.seq;
            if frame.seq > flushed_seq {
                let payload = file.bytes.slice(frame.payload.clone());
                out.push(Record { kind: frame.kind, fields: frame.fields, seq: frame.seq, payload });
            }
        }
        if newest == Some(file.number) && file_last > flushed_seq {
            log.tail = Tail::Broken { number: file.number, acked: end as u64 };
        } else if newest == Some(file.number) && end < file.bytes.len() {
            // Nothing in it is needed, but it must not become an older file with a bad frame.
            log.abandoned = Some(file.number);
        } else {
            log.closed.push(ClosedFile { number: file.number, last_seq: file_last });
        }
    }
    Ok(Recovered { log, records: out, last_seq, torn })
}

/// Copies the acknowledged records of a file that is given up into `carried`.
pub(super) fn carry_over(
    disk: &dyn Disk,
    dir: &Path,
    number: u64,
    acked: u64,
    flushed_seq: u64,
    carried: &mut Group,
) -> Result<()> {
    let mut file = read_file(disk, dir, number)?;
    let acked = usize::try_from(acked).unwrap_or(usize::MAX);
    if file.bytes.len() < acked {
        return Err(Error::corrupt(describe(&file, file.bytes.len()), "acknowledged bytes are missing"));
    }
    file.bytes.truncate(acked);
    let (frames, end) = read_frames(&file, false)?;
    debug_assert_eq!(end, acked);
    for frame in frames.iter().filter(|frame| frame.seq > flushed_seq) {
        carried.push(frame.kind, frame.fields, frame.seq, &file.bytes[frame.payload.clone()]);
    }
    Ok(())
}

fn describe(file: &LogFile, offset: usize) -> String {
    format!("log file {} at byte {offset}", file.number)
}

fn read_files(disk: &dyn Disk, dir: &Path) -> Result<Vec<LogFile>> {
    let mut files = Vec::new();
    for name in disk.list(dir).map_err(|e| Error::io(format!("listing {}", dir.display()), e))? {
        if name.ends_with(".tmp") {
            // Made by an attempt that never finished.
            disk.remove(&dir.join(&name)).map_err(|e| Error::io(format!("removing {name}"), e))?;
        } else if let Some(number) = name.strip_suffix(".log").and_then(|n| n.parse().ok()) {
            files.push(read_file(disk, dir, number)?);
        }
    }
    Ok(files)
}

fn read_file(disk: &dyn Disk, dir: &Path, number: u64) -> Result<LogFile> {
    let path = file_path(dir, number);
    let bytes = Bytes::from(disk.read(&path).map_err(|e| Error::io(format!("reading {}", path.display()), e))?);
    let what = || format!("log file {number} header");
    if bytes.len() < FILE_HEADER_BYTES || bytes[..8] != FILE_MAGIC {
        return Err(Error::corrupt(what(), "not a log file"));
    }
    let (supersedes, salt) = (frame::u64_at(&bytes, 24), frame::u64_at(&bytes, 32));
    let (Some(supersedes), Some(salt)) = (supersedes, salt) else {
        return Err(Error::corrupt(what(), "too short"));
    };
    let format = frame::u32_at(&bytes, 8).unwrap_or_default();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..FILE_HEADER_BYTES]);
    if frame::u32_at(&bytes, 12) != Some(crc) || frame::u64_at(&bytes, 16) != Some(number) {
        return Err(Error::corrupt(what(), "checksum"));
    }
    if format != FILE_FORMAT {
        return Err(Error::NewerFormat { what: what(), found: format, known: FILE_FORMAT });
    }
    Ok(LogFile { number, supersedes, seed: frame::seed(salt), bytes })
}

/// All frames, and where they end. Only in the newest file may that be before the end of the file.
fn read_frames(file: &LogFile, newest: bool) -> Result<(Vec<Frame>, usize)> {
    let mut frames = Vec::new();
    let mut at = FILE_HEADER_BYTES;
    while at < file.bytes.len() {
        let Some(frame) = frame::parse(&file.bytes, at, file.seed) else { break };
        at = frame.end;
        frames.push(frame);
    }
    if at < file.bytes.len() {
        if !newest {
            return Err(Error::corrupt(describe(file, at), "bad frame in a complete file"));
        }
        // A group is written at once and its pages may reach the disk in any order, so a valid frame behind a bad one
        // is damage only if it belongs to a later group, which was started after this one had been synced.
        let later = (at..file.bytes.len()).step_by(FRAME_ALIGN).find_map(|o| {
            let frame = frame::parse(&file.bytes, o, file.seed)?;
            (frame.group > at as u64).then_some(o)
        });
        if let Some(offset) = later {
            return Err(Error::corrupt(describe(file, at), format!("bad frame before a valid one at byte {offset}")));
        }
        // Frames of the torn group that come before the tear were never acknowledged either, but they are whole calls.
    }
    Ok((frames, at))
}
