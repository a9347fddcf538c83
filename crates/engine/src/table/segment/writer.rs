//! Writing segments: sorted batches in, synced files and a manifest entry out.

use std::io::{BufWriter, Write};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_ipc::MetadataVersion;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions};
use arrow_schema::{ArrowError, SchemaRef};
use knarr_base::limit;
use knarr_base::schema::Schema;

use super::meta::{BatchDisk, META, MetaDisk, widen_bounds};
use crate::columns;
use crate::disk::{Disk, DiskFile};
use crate::error::{Error, Result};
use crate::table::keys::KeyColumn;
use crate::table::layout::Layout;
use crate::table::manifest::SegmentDisk;

/// Bytes of small buffers that are joined to one write.
const WRITE_BUFFER_BYTES: usize = 256 * 1024;

/// One segment in the making. Dropped before [`SegmentWriter::finish`] it leaves garbage for the collector.
pub(crate) struct SegmentWriter {
    disk: Arc<dyn Disk>,
    layout: Layout,
    id: u64,
    schema: SchemaRef,
    key_column: usize,
    out: FileWriter<BufWriter<Box<dyn DiskFile>>>,
    bytes: u64,
    meta: MetaDisk,
}

/// Errors of arrow's writer are errors of the file below it, as the batches are well formed.
fn arrow_error(what: String, error: ArrowError) -> Error {
    match error {
        ArrowError::IoError(_, source) => Error::io(what, source),
        other => Error::corrupt(what, other),
    }
}

impl SegmentWriter {
    pub(crate) fn create(disk: Arc<dyn Disk>, layout: Layout, id: u64, schema: &Schema) -> Result<Self> {
        let what = format!("creating segment {id}");
        let stored = columns::stored_schema(schema);
        let file = disk.create_new(&layout.segment(id)).map_err(|e| Error::io(&what, e))?;
        let file = BufWriter::with_capacity(WRITE_BUFFER_BYTES, file);
        let options =
            IpcWriteOptions::try_new(64, false, MetadataVersion::V5).map_err(|e| arrow_error(what.clone(), e))?;
        let out = FileWriter::try_new_with_options(file, &stored, options).map_err(|e| arrow_error(what, e))?;
        let meta = MetaDisk {
            id,
            rows: 0,
            fields: u32::try_from(schema.fields().len()).expect("limit::FIELDS is small"),
            frame_crc: 0,
            batches: Vec::new(),
            columns: Vec::new(),
            expiring: 0,
            first_expiry: 0,
        };
        let key_column = columns::key_column(schema);
        Ok(Self { disk, layout, id, schema: stored, key_column, out, bytes: 0, meta })
    }

    fn what(&self) -> String {
        format!("writing segment {}", self.id)
    }

    /// Adds a batch that continues the order. Not empty, stored schema.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.out.write(batch).map_err(|e| arrow_error(self.what(), e))?;
        let keys = KeyColumn::new(batch.column(self.key_column));
        let rows = u32::try_from(batch.num_rows()).expect("limit::BATCH_ROWS is small");
        self.meta.rows += rows;
        self.meta.batches.push(BatchDisk {
            rows,
            offset: 0,
            head_bytes: 0,
            body_bytes: 0,
            head_crc: 0,
            min_key: keys.get(0).to_key().into(),
            max_key: keys.get(keys.len() - 1).to_key().into(),
            columns: Vec::new(),
        });
        widen_bounds(&mut self.meta.columns, batch);
        let expiries = batch.column(batch.num_columns() - 1).as_primitive::<Int64Type>();
        for expiry in expiries.values().iter().filter(|at| **at != 0) {
            let first = &mut self.meta.first_expiry;
            *first = if self.meta.expiring == 0 { *expiry } else { (*first).min(*expiry) };
            self.meta.expiring += 1;
        }
        self.bytes += batch.get_array_memory_size() as u64;
        Ok(())
    }

    /// True if another batch of the largest size might not fit.
    pub(crate) fn full(&self) -> bool {
        self.bytes + limit::BATCH_BYTES as u64 > limit::SEGMENT_BYTES
    }

    /// Syncs both files and describes them. Their names are durable once the caller synced the directory.
    pub(crate) fn finish(mut self) -> Result<SegmentDisk> {
        let what = self.what();
        self.out.finish().map_err(|e| arrow_error(what.clone(), e))?;
        let buffered = self.out.into_inner().map_err(|e| arrow_error(what.clone(), e))?;
        let mut file = buffered.into_inner().map_err(|e| Error::io(&what, e.into_error()))?;
        fail::fail_point!("table::segment::before_sync");
        file.sync().map_err(|e| Error::io(&what, e))?;
        let map = self.disk.map(&self.layout.segment(self.id)).map_err(|e| Error::io(&what, e))?;
        self.meta.describe(&map, &self.schema).map_err(|why| Error::corrupt(&what, why))?;
        let meta_file = META.encode(&self.meta);
        fail::fail_point!("table::segment::before_meta");
        let write_meta = || {
            let mut out = self.disk.create_new(&self.layout.segment_meta(self.id))?;
            out.write_all(&meta_file)?;
            out.sync()
        };
        write_meta().map_err(|e| Error::io(&what, e))?;
        let (Some(first), Some(last)) = (self.meta.batches.first(), self.meta.batches.last()) else {
            return Err(Error::corrupt(what, "has no rows"));
        };
        Ok(SegmentDisk {
            id: self.id,
            rows: self.meta.rows,
            bytes: map.len() as u64,
            min_key: first.min_key.clone(),
            max_key: last.max_key.clone(),
            meta_bytes: meta_file.len() as u64,
            meta_crc: crc32c::crc32c(&meta_file),
            mask: None,
            damaged: false,
            restorable: Vec::new(),
        })
    }
}
