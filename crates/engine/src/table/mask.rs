//! Dead rows: one file per publication with the full bitmaps of the segments it changed.

use std::io::Write;
use std::sync::{Arc, OnceLock};

use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder, Buffer};
use roaring::RoaringBitmap;

use super::layout::Layout;
use super::manifest::MaskDisk;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::index::vector::Bits;

const HEADER: [u8; 16] = *b"KNARRMSK\x01\0\0\0\0\0\0\0";

/// The dead rows of a segment, and where they are stored.
#[derive(Debug, Clone)]
pub(crate) struct Mask {
    pub(crate) rows: Arc<RoaringBitmap>,
    pub(crate) place: MaskDisk,
    /// The others, for searches, once one asked.
    live: Arc<OnceLock<Bits>>,
}

impl Mask {
    fn new(rows: RoaringBitmap, place: MaskDisk) -> Self {
        Self { rows: Arc::new(rows), place, live: Arc::default() }
    }

    /// The rows of a segment of `rows` rows that are not dead.
    pub(crate) fn live(&self, rows: u32) -> &Bits {
        self.live.get_or_init(|| {
            let mut live = Bits::all(rows);
            live.remove(&self.rows);
            live
        })
    }
}

/// Writes `bitmaps` to a new file, synced; the name is durable once the caller synced the directory.
pub(crate) fn write(disk: &dyn Disk, layout: &Layout, file: u64, bitmaps: Vec<RoaringBitmap>) -> Result<Vec<Mask>> {
    let mut bytes = HEADER.to_vec();
    let mut masks = Vec::with_capacity(bitmaps.len());
    for mut bitmap in bitmaps {
        bitmap.optimize();
        let offset = bytes.len();
        bitmap.serialize_into(&mut bytes).expect("writing to a Vec cannot fail");
        let place = MaskDisk {
            file,
            offset: offset as u64,
            bytes: (bytes.len() - offset) as u64,
            crc: crc32c::crc32c(&bytes[offset..]),
            dead: bitmap.len(),
        };
        masks.push(Mask::new(bitmap, place));
    }
    let path = layout.mask(file);
    let write = || {
        let mut out = disk.create_new(&path)?;
        out.write_all(&bytes)?;
        fail::fail_point!("table::mask::before_sync");
        out.sync()
    };
    write().map_err(|e| Error::io(format!("writing {}", path.display()), e))?;
    Ok(masks)
}

/// Reads one bitmap back.
pub(crate) fn read(disk: &dyn Disk, layout: &Layout, place: MaskDisk, rows: u32) -> Result<Mask> {
    let path = layout.mask(place.file);
    let what = || format!("mask file {}", place.file);
    let bad = |why: &str| Error::corrupt(what(), why);
    let mut header = [0; HEADER.len()];
    let mut bytes = vec![0; usize::try_from(place.bytes).map_err(|_| bad("length"))?];
    let read = disk.read_at(&path, 0, &mut header).and_then(|()| disk.read_at(&path, place.offset, &mut bytes));
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Err(bad("too short")),
        Err(error) => return Err(Error::io(format!("reading {}", path.display()), error)),
        Ok(()) if header != HEADER => return Err(bad("header")),
        Ok(()) if crc32c::crc32c(&bytes) != place.crc => return Err(bad("checksum")),
        Ok(()) => {}
    }
    let bitmap = RoaringBitmap::deserialize_from(&bytes[..]).map_err(|e| Error::corrupt(what(), e))?;
    if bitmap.len() != place.dead || bitmap.max().is_some_and(|row| row >= rows) {
        return Err(bad("row numbers"));
    }
    Ok(Mask::new(bitmap, place))
}

/// Rows `first..first + rows` that are not in `dead`. `None`: all of them.
pub(crate) fn live_rows(dead: &RoaringBitmap, first: u32, rows: usize) -> Option<BooleanBuffer> {
    let end = first + u32::try_from(rows).ok()?;
    let mut gone = dead.range(first..end);
    gone.len().checked_sub(1)?;
    let mut bytes = vec![0xff; rows.div_ceil(8)];
    while let Some(range) = gone.next_range() {
        clear_bits(&mut bytes, (range.start() - first) as usize, (range.end() - first) as usize + 1);
    }
    Some(BooleanBuffer::new(Buffer::from_vec(bytes), 0, rows))
}

fn clear_bits(bytes: &mut [u8], from: usize, to: usize) {
    let (first, last) = (from.div_ceil(8), to / 8);
    if first > last {
        (from..to).for_each(|bit| bytes[bit / 8] &= !(1 << (bit % 8)));
        return;
    }
    (from..first * 8).for_each(|bit| bytes[bit / 8] &= !(1 << (bit % 8)));
    bytes[first..last].fill(0);
    (last * 8..to).for_each(|bit| bytes[bit / 8] &= !(1 << (bit % 8)));
}

/// Set bits of `selected`, counted from `first`.
pub(crate) fn bitmap_of(selected: &BooleanBuffer, first: u32) -> RoaringBitmap {
    if selected.offset() == 0 {
        let whole = selected.len() / 8;
        let bytes = selected.values();
        let mut out = RoaringBitmap::from_lsb0_bytes(first, &bytes[..whole]);
        (whole * 8..selected.len()).filter(|row| selected.value(*row)).for_each(|row| {
            out.insert(first + u32::try_from(row).expect("a batch has at most 2^16 rows"));
        });
        return out;
    }
    let mut aligned = BooleanBufferBuilder::new(selected.len());
    aligned.append_buffer(selected);
    bitmap_of(&aligned.finish(), first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bitmaps_and_buffers_agree(dead in proptest::collection::btree_set(0u32..400, 0..200),
                                     first in 0u32..5, rows in 1usize..200, offset in 0usize..9) {
            let first = first * 64;
            let bitmap: RoaringBitmap = dead.iter().copied().collect();
            let live = live_rows(&bitmap, first, rows);
            for row in 0..rows {
                let expected = !dead.contains(&(first + row as u32));
                prop_assert_eq!(live.as_ref().is_none_or(|l| l.value(row)), expected);
            }
            let live = live.unwrap_or_else(|| BooleanBuffer::new_set(rows));
            let back = bitmap_of(&live.slice(offset.min(rows), rows - offset.min(rows)), first);
            let expected: RoaringBitmap = (offset.min(rows)..rows)
                .filter(|r| !dead.contains(&(first + *r as u32)))
                .map(|r| first + (r - offset.min(rows)) as u32)
                .collect();
            prop_assert_eq!(back, expected);
        }
    }
}
