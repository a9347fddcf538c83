//! One immutable, sorted, mapped file of rows.
//!
//! Opening maps the file and reads its metadata; a batch is verified and decoded at its first touch, its dense vectors
//! when they are first read, so filters and key look-ups never page vectors in. A segment whose bytes fail a checksum
//! is quarantined: from then on every access answers `Error::Corrupt`, and nothing of it is served.

pub(crate) mod meta;
pub(crate) mod writer;

use std::cell::RefCell;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::FileDecoder;
use arrow_ipc::{Block, MetadataVersion};
use arrow_schema::SchemaRef;
use bytes::Bytes;
use knarr_base::schema::{PrimaryKey, Schema};
use knarr_base::value::{Key, Number};

use super::keys::{KeyColumn, KeyList, KeyRef, key_ref};
use super::layout::Layout;
use super::manifest::SegmentDisk;
use super::structures::Nears;
use crate::columns;
use crate::disk::Disk;
use crate::error::{Error, Result};
use meta::{META, MetaDisk};

/// Bytes that a scrub holds at once.
const SCRUB_CHUNK_BYTES: usize = 1024 * 1024;

/// See the module.
pub(crate) struct Segment {
    id: u64,
    rows: u32,
    file_bytes: u64,
    min_key: Key,
    max_key: Key,
    /// What the manifest says about it, without the mask.
    entry: SegmentDisk,
    content: std::result::Result<Content, Error>,
    damage: OnceLock<String>,
    nears: Nears,
}

struct Content {
    map: Bytes,
    meta: MetaDisk,
    key_column: usize,
    vector_column: Option<usize>,
    decoder: FileDecoder,
    starts: Vec<u32>,
    min_keys: KeyList,
    batches: Vec<BatchCell>,
}

/// One batch: decoded when its scalars were verified, `vectors` set when those were too.
#[derive(Default)]
struct BatchCell {
    decoded: OnceLock<RecordBatch>,
    vectors: OnceLock<()>,
}

/// The Arrow schema of a segment that was written when the table had `fields` fields.
pub(crate) fn stored_schema_of(schema: &Schema, fields: usize) -> SchemaRef {
    let full = columns::stored_schema(schema);
    let kept = fields + usize::from(schema.primary_key() == PrimaryKey::Auto);
    let hidden = full.fields().len() - 2;
    if kept >= hidden {
        return full;
    }
    let fields: Vec<_> = full.fields()[..kept].iter().chain(&full.fields()[hidden..]).cloned().collect();
    Arc::new(arrow_schema::Schema::new(fields))
}

impl Segment {
    /// Maps the file. Never fails: a segment that cannot be opened is quarantined.
    pub(crate) fn open(disk: &dyn Disk, layout: &Layout, entry: &SegmentDisk, schema: &Schema) -> Arc<Self> {
        let content = open_content(disk, layout, entry, schema);
        if let Err(error) = &content {
            tracing::error!(segment = entry.id, %error, "a segment is quarantined");
        }
        Arc::new(Self {
            id: entry.id,
            rows: entry.rows,
            file_bytes: entry.bytes,
            min_key: entry.min_key.clone().into(),
            max_key: entry.max_key.clone().into(),
            entry: SegmentDisk { mask: None, damaged: false, restorable: Vec::new(), ..entry.clone() },
            content,
            damage: OnceLock::new(),
            nears: Nears::default(),
        })
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn rows(&self) -> u32 {
        self.rows
    }

    /// Bytes of its file.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    pub(crate) fn entry(&self) -> &SegmentDisk {
        &self.entry
    }

    /// Its search structures.
    pub(crate) fn nears(&self) -> &Nears {
        &self.nears
    }

    fn what(&self) -> String {
        format!("segment {}", self.id)
    }

    /// Its mapped content.
    fn content(&self) -> Result<&Content> {
        if let Some(why) = self.damage.get() {
            return Err(Error::corrupt(self.what(), why));
        }
        self.content.as_ref().map_err(|error| Error::corrupt(self.what(), error))
    }

    /// True if nothing of it may be served.
    pub(crate) fn quarantined(&self) -> bool {
        self.content().is_err()
    }

    fn quarantine(&self, why: String) -> Error {
        tracing::error!(segment = self.id, why, "a segment is quarantined");
        let error = Error::corrupt(self.what(), &why);
        // The first damage found is kept; a second one changes nothing.
        let _ = self.damage.set(why);
        error
    }

    /// Metadata.
    ///
    /// # Errors
    /// `Error::Corrupt` if the segment is quarantined.
    pub(crate) fn meta(&self) -> Result<&MetaDisk> {
        Ok(&self.content()?.meta)
    }

    /// First row of every batch.
    pub(crate) fn starts(&self) -> Result<&[u32]> {
        Ok(&self.content()?.starts)
    }

    /// A batch whose dense vector bytes may be unverified; the caller must not look at them.
    pub(crate) fn scalars(&self, index: usize) -> Result<&RecordBatch> {
        let content = self.content()?;
        let cell = content.batches.get(index).ok_or(Error::SegmentMissing(self.id))?;
        if let Some(batch) = cell.decoded.get() {
            return Ok(batch);
        }
        let batch = content.decode(index).map_err(|why| self.quarantine(why))?;
        Ok(cell.decoded.get_or_init(|| batch))
    }

    /// A batch, verified as a whole.
    pub(crate) fn batch(&self, index: usize) -> Result<&RecordBatch> {
        let batch = self.scalars(index)?;
        let content = self.content()?;
        let cell = &content.batches[index];
        if let Some(column) = content.vector_column
            && cell.vectors.get().is_none()
        {
            content.verify_column(index, column).map_err(|why| self.quarantine(why))?;
            cell.vectors.get_or_init(|| ());
        }
        Ok(batch)
    }

    /// True if `key` is within the range of keys. Known even in quarantine.
    pub(crate) fn covers(&self, key: KeyRef<'_>) -> bool {
        key_ref(&self.min_key) <= key && key <= key_ref(&self.max_key)
    }

    /// The range of `wanted`, ascending, that can be here. Known even in quarantine.
    pub(crate) fn overlap(&self, wanted: &KeyList) -> Range<usize> {
        let from = wanted.lower_bound(key_ref(&self.min_key));
        from..wanted.upper_bound(key_ref(&self.max_key)).max(from)
    }

    /// Where the row with this key is: (batch, row in the batch).
    pub(crate) fn find(&self, key: KeyRef<'_>) -> Result<Option<(usize, usize)>> {
        if !self.covers(key) {
            return Ok(None);
        }
        let content = self.content()?;
        let Some(index) = content.min_keys.upper_bound(key).checked_sub(1) else { return Ok(None) };
        let batch = self.scalars(index)?;
        Ok(KeyColumn::new(batch.column(content.key_column)).find(key).map(|row| (index, row)))
    }

    /// Calls `hit(index in wanted, row of the segment)` for each of the ascending `wanted` keys that is here.
    pub(crate) fn intersect(&self, wanted: &KeyList, mut hit: impl FnMut(usize, u32)) -> Result<()> {
        let all = self.overlap(wanted);
        if all.is_empty() {
            return Ok(());
        }
        let content = self.content()?;
        let mut from = all.start;
        for (index, start) in content.starts.iter().enumerate() {
            let last = index + 1 == content.starts.len();
            let to = if last { all.end } else { wanted.lower_bound(content.min_keys.get(index + 1)).min(all.end) };
            if from < to {
                let batch = self.scalars(index)?;
                let keys = KeyColumn::new(batch.column(content.key_column));
                // A batch has at most 2^16 rows.
                keys.intersect(wanted, from, to, |at, row| hit(at, start + row as u32));
                from = to;
            }
        }
        Ok(())
    }

    /// The batch that holds a row of the segment, and the row in it.
    pub(crate) fn place(&self, row: u32) -> Result<(usize, usize)> {
        let starts = self.starts()?;
        let index = starts.partition_point(|start| *start <= row).saturating_sub(1);
        Ok((index, (row - starts.get(index).copied().unwrap_or(0)) as usize))
    }

    /// Column of the key in its batches.
    pub(crate) fn key_column(&self) -> Result<usize> {
        Ok(self.content()?.key_column)
    }

    /// Least and greatest value of a numeric column, as stored (the last two columns are `_seq` and `_expiry`).
    pub(crate) fn bounds(&self, column: usize) -> Option<(Number, Number)> {
        self.content().ok()?.meta.columns.get(column)?.as_ref().map(meta::BoundsDisk::numbers)
    }

    /// Number of columns in its batches, hidden ones included.
    pub(crate) fn width(&self) -> Result<usize> {
        Ok(self.content()?.meta.columns.len())
    }

    /// Reads every byte again from the disk, past the map.
    pub(crate) fn scrub(&self, disk: &dyn Disk, layout: &Layout) -> Result<()> {
        let content = self.content()?;
        let path = layout.segment(self.id);
        let chunk = RefCell::new(vec![0; SCRUB_CHUNK_BYTES]);
        let crc_of = |mut crc: u32, range: Range<usize>| {
            let mut chunk = chunk.borrow_mut();
            for start in range.clone().step_by(SCRUB_CHUNK_BYTES) {
                let bytes = &mut chunk[..SCRUB_CHUNK_BYTES.min(range.end - start)];
                disk.read_at(&path, start as u64, bytes)?;
                crc = crc32c::crc32c_append(crc, bytes);
            }
            Ok(crc)
        };
        match content.meta.verify_all(self.file_bytes, crc_of) {
            Ok(()) => Ok(()),
            Err(meta::Unverified::Unreadable(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(self.quarantine("file length".to_owned()))
            }
            Err(meta::Unverified::Unreadable(error)) => Err(Error::io(format!("reading {}", path.display()), error)),
            Err(meta::Unverified::Damaged(why)) => Err(self.quarantine(why)),
        }
    }
}

fn open_content(disk: &dyn Disk, layout: &Layout, entry: &SegmentDisk, schema: &Schema) -> Result<Content> {
    let what = format!("segment {}", entry.id);
    if entry.damaged {
        return Err(Error::corrupt(what, "its manifest entry says so"));
    }
    let path = layout.segment_meta(entry.id);
    let bytes = disk.read(&path).map_err(|e| Error::io(format!("reading {}", path.display()), e))?;
    if bytes.len() as u64 != entry.meta_bytes || crc32c::crc32c(&bytes) != entry.meta_crc {
        return Err(Error::corrupt(format!("{what} metadata"), "checksum"));
    }
    let meta: MetaDisk = META.decode(&format!("{what} metadata"), &bytes)?;
    meta.check(entry).map_err(|why| Error::corrupt(format!("{what} metadata"), why))?;
    let path = layout.segment(entry.id);
    let map = disk.map(&path).map_err(|e| Error::io(format!("mapping {}", path.display()), e))?;
    if map.len() as u64 != entry.bytes {
        return Err(Error::corrupt(what, "file length"));
    }
    meta.verify_frame(&map).map_err(|why| Error::corrupt(what, why))?;
    let stored = stored_schema_of(schema, meta.fields as usize);
    let starts = meta.starts();
    let min_keys = KeyList::from_keys(
        schema.key_type(),
        meta.batches.iter().map(|batch| match &batch.min_key {
            super::manifest::KeyDisk::Int(n) => KeyRef::Int(*n),
            super::manifest::KeyDisk::Str(s) => KeyRef::Str(s),
        }),
    );
    Ok(Content {
        key_column: columns::key_column(schema),
        vector_column: schema.vector().map(|(at, _)| columns::field_column(schema, at)),
        decoder: FileDecoder::new(stored, MetadataVersion::V5).with_require_alignment(true),
        starts,
        min_keys,
        batches: meta.batches.iter().map(|_| BatchCell::default()).collect(),
        map,
        meta,
    })
}

impl Content {
    /// Verifies all columns but the dense vectors, then decodes.
    fn decode(&self, index: usize) -> std::result::Result<RecordBatch, String> {
        let batch = &self.meta.batches[index];
        batch.verify_head(&self.map, index)?;
        for column in (0..batch.columns.len()).filter(|column| Some(*column) != self.vector_column) {
            self.verify_column(index, column)?;
        }
        let block =
            Block::new(batch.offset.cast_signed(), batch.head_bytes.cast_signed(), batch.body_bytes.cast_signed());
        let bytes = Buffer::from(self.map.slice(batch.range()));
        let decoded = self.decoder.read_record_batch(&block, &bytes).map_err(|e| format!("batch {index}: {e}"))?;
        decoded.ok_or_else(|| format!("batch {index}: no record batch"))
    }

    fn verify_column(&self, index: usize, column: usize) -> std::result::Result<(), String> {
        self.meta.batches[index].verify_column(&self.map, index, column)
    }
}
