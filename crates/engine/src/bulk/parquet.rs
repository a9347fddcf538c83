//! Parquet files.
//!
//! Scalars go through the library's Arrow writers. Vectors do not: there, nearly all time goes into computing and
//! encoding the list levels of every float, which for vectors of one dimension are the same in every page. So each page
//! is written as its fixed beginning (header and levels, made once by the library's own column writer) followed by the
//! floats as they lie in the mapped column. The same rows give the same bytes.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::Arc;

use arrow_array::{Array, ArrayRef};
use arrow_buffer::Buffer;
use arrow_schema::{Schema as ArrowSchema, SchemaRef};
use bytes::Bytes;
use knarr_base::limit;
use knarr_base::schema::{FieldType, PrimaryKey, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, Encoding};
use parquet::column::writer::{ColumnCloseResult, ColumnWriter, get_column_writer};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{ColumnChunkMetaData, OffsetIndexBuilder};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::writer::{SerializedFileWriter, SerializedPageWriter, TrackedWrite};
use parquet::schema::types::{ColumnDescPtr, ColumnPath};

use super::encode::failed;
use super::sink::Sink;
use crate::columns;
use crate::error::Error;
use crate::rows::float_bytes;

/// Fixed, so that a unit that is run again by a newer build still gives the same bytes.
const CREATED_BY: &str = "knarr version 1";

/// A file being written: row groups of whole columns.
pub(super) struct ParquetFile {
    writer: SerializedFileWriter<Sink>,
    leaves: ArrowRowGroupWriterFactory,
    schema: SchemaRef,
    vectors: Option<VectorPages>,
    /// Columns of the row group to come, as they were handed in.
    group: Vec<Vec<ArrayRef>>,
    group_rows: usize,
    group_bytes: usize,
    groups: usize,
}

impl ParquetFile {
    pub(super) fn new(schema: &Schema) -> Result<Self, Error> {
        let layout = columns::user_schema(schema);
        let writer = ArrowWriter::try_new(Sink::new(), Arc::clone(&layout), Some(properties(schema, &layout)));
        let (writer, leaves) = writer.and_then(ArrowWriter::into_serialized_writer).map_err(error)?;
        let declared = schema.vector().filter(|_| schema.made_vector().is_none());
        let vectors = declared.map(|(at, dim)| {
            // Without a made vector, columns of an export stand where they are stored.
            let column = columns::field_column(schema, at);
            let path = [schema.fields()[at].name.as_str(), "list", "element"];
            let leaf = writer.schema_descr().columns().iter().find(|leaf| leaf.path().parts() == path);
            let leaf = leaf.expect("a vector's only leaf is its elements");
            VectorPages { column, dim: dim as usize, leaf: Arc::clone(leaf), starts: HashMap::new() }
        });
        let (group, group_rows, group_bytes, groups) = (Vec::new(), 0, 0, 0);
        Ok(Self { writer, leaves, schema: layout, vectors, group, group_rows, group_bytes, groups })
    }

    /// Takes rows of the user columns. They are kept until their row group is full.
    pub(super) fn write(&mut self, mut columns: Vec<ArrayRef>) -> Result<(), Error> {
        while columns[0].len() > limit::ROW_GROUP_ROWS - self.group_rows {
            let room = limit::ROW_GROUP_ROWS - self.group_rows;
            let now = columns.iter().map(|column| column.slice(0, room)).collect();
            columns = columns.iter().map(|column| column.slice(room, column.len() - room)).collect();
            self.push(now)?;
        }
        self.push(columns)
    }

    fn push(&mut self, columns: Vec<ArrayRef>) -> Result<(), Error> {
        self.group_rows += columns[0].len();
        self.group_bytes += columns.iter().filter_map(|c| c.to_data().get_slice_memory_size().ok()).sum::<usize>();
        self.group.push(columns);
        if self.group_rows >= limit::ROW_GROUP_ROWS || self.group_bytes >= limit::ROW_GROUP_BYTES {
            self.end_group().map_err(error)?;
        }
        Ok(())
    }

    pub(super) fn sink(&mut self) -> &mut Sink {
        self.writer.inner_mut()
    }

    /// Writes the last row group and the footer.
    pub(super) fn finish(mut self) -> Result<Sink, Error> {
        if self.group_rows > 0 {
            self.end_group().map_err(error)?;
        }
        self.writer.into_inner().map_err(error)
    }

    fn end_group(&mut self) -> ParquetResult<()> {
        let group = std::mem::take(&mut self.group);
        let mut leaves = self.leaves.create_column_writers(self.groups)?.into_iter();
        let mut row_group = self.writer.next_row_group()?;
        for (at, field) in self.schema.fields().iter().enumerate() {
            let mut chunks = group.iter().map(|columns| &columns[at]);
            if let Some(vectors) = self.vectors.as_mut().filter(|vectors| vectors.column == at) {
                leaves.next();
                let (chunk, close) = vectors.chunk(chunks, self.group_rows)?;
                row_group.append_column(&chunk, close)?;
                continue;
            }
            // A column has one leaf, a map two: its first piece tells.
            let Some(first) = chunks.next() else { continue };
            let first = compute_leaves(field, first)?;
            let mut writers: Vec<_> = leaves.by_ref().take(first.len()).collect();
            for (writer, leaf) in writers.iter_mut().zip(&first) {
                writer.write(leaf)?;
            }
            for chunk in chunks {
                for (writer, leaf) in writers.iter_mut().zip(compute_leaves(field, chunk)?) {
                    writer.write(&leaf)?;
                }
            }
            for writer in writers {
                writer.close()?.append_to_row_group(&mut row_group)?;
            }
        }
        row_group.close()?;
        (self.group_rows, self.group_bytes) = (0, 0);
        self.groups += 1;
        Ok(())
    }
}

fn properties(schema: &Schema, layout: &ArrowSchema) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_created_by(CREATED_BY.to_owned())
        // Lists are `list.element`, maps `key_value.key`, as the format's specification names them.
        .set_coerce_types(true)
        .set_compression(Compression::SNAPPY)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        // Numbers are as small without; strings that repeat are far smaller with a dictionary.
        .set_dictionary_enabled(false);
    for (at, field) in schema.fields().iter().enumerate() {
        let name = field.name.as_str();
        let path =
            |parts: &[&str]| ColumnPath::new([&[name], parts].concat().iter().map(|p| (*p).to_owned()).collect());
        match field.kind {
            FieldType::String if schema.primary_key() != PrimaryKey::Field(at) => {
                properties = properties.set_column_dictionary_enabled(path(&[]), true);
            }
            FieldType::StringList => {
                properties = properties.set_column_dictionary_enabled(path(&["list", "element"]), true);
            }
            FieldType::SparseVector => {
                properties = properties.set_column_dictionary_enabled(path(&["key_value", "key"]), true);
            }
            _ => {}
        }
    }
    debug_assert!(layout.fields().len() >= schema.shown().count());
    properties.build()
}

/// The vector column's pages.
struct VectorPages {
    column: usize,
    dim: usize,
    leaf: ColumnDescPtr,
    /// Header and levels of a page, by its rows: full pages, and the last of a row group.
    starts: HashMap<usize, Buffer>,
}

impl VectorPages {
    /// The column chunk of a row group, and what its metadata says.
    fn chunk<'a>(
        &mut self,
        pieces: impl Iterator<Item = &'a ArrayRef>,
        rows: usize,
    ) -> ParquetResult<(VectorChunk, ColumnCloseResult)> {
        let row_bytes = 4 * self.dim;
        let page_rows = (limit::PAGE_BYTES / row_bytes).max(1);
        let mut floats = Floats { pieces: pieces.map(|piece| float_bytes(piece).clone()).collect(), at: 0 };
        let mut chunk = VectorChunk::default();
        let mut pages = OffsetIndexBuilder::new();
        for first in (0..rows).step_by(page_rows) {
            let page_rows = page_rows.min(rows - first);
            let before = chunk.len;
            chunk.push(self.start(page_rows)?);
            floats.take(page_rows * row_bytes, &mut chunk);
            let size = i32::try_from(chunk.len - before).map_err(|e| ParquetError::External(e.into()))?;
            pages.append_row_count(page_rows as i64);
            pages.append_offset_and_size(before as i64, size);
        }
        let metadata = ColumnChunkMetaData::builder(Arc::clone(&self.leaf))
            .set_compression(Compression::UNCOMPRESSED)
            .set_encodings(vec![Encoding::PLAIN, Encoding::RLE])
            .set_num_values((rows * self.dim) as i64)
            .set_total_compressed_size(chunk.len as i64)
            .set_total_uncompressed_size(chunk.len as i64)
            .set_data_page_offset(0)
            .build()?;
        let close = ColumnCloseResult {
            bytes_written: chunk.len,
            rows_written: rows as u64,
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: Some(pages.build()),
        };
        Ok((chunk, close))
    }

    /// What a page of `rows` vectors begins with: the library writes such a page of zeros, and the zeros are cut off.
    fn start(&mut self, rows: usize) -> ParquetResult<Buffer> {
        if let Some(start) = self.starts.get(&rows) {
            return Ok(start.clone());
        }
        let values = rows * self.dim;
        let zeros = vec![0f32; values];
        let definition = vec![self.leaf.max_def_level(); values];
        let repetition: Vec<_> = (0..values).map(|n| i16::from(n % self.dim != 0)).collect();
        let one_page = WriterProperties::builder()
            .set_dictionary_enabled(false)
            .set_statistics_enabled(EnabledStatistics::None)
            .set_data_page_size_limit(usize::MAX)
            .set_data_page_row_count_limit(usize::MAX)
            .set_write_batch_size(values)
            .build();
        let mut out = TrackedWrite::new(Vec::new());
        let page_writer = Box::new(SerializedPageWriter::new(&mut out));
        let mut writer = get_column_writer(Arc::clone(&self.leaf), Arc::new(one_page), page_writer);
        let ColumnWriter::FloatColumnWriter(floats) = &mut writer else {
            return Err(ParquetError::General("the elements of a vector are not floats".to_owned()));
        };
        floats.write_batch(&zeros, Some(&definition), Some(&repetition))?;
        let pages = writer.close()?.offset_index.map_or(0, |pages| pages.page_locations().len());
        if pages != 1 {
            return Err(ParquetError::General(format!("expected one page of vectors, got {pages}")));
        }
        let mut start = out.into_inner()?;
        start.truncate(start.len() - 4 * values);
        let start = Buffer::from_vec(start);
        self.starts.insert(rows, start.clone());
        Ok(start)
    }
}

/// The floats that are not in a page yet.
struct Floats {
    pieces: Vec<Buffer>,
    at: usize,
}

impl Floats {
    /// Moves the next `bytes` to the chunk.
    fn take(&mut self, mut bytes: usize, chunk: &mut VectorChunk) {
        while bytes > 0 {
            let piece = &self.pieces[0];
            let now = bytes.min(piece.len() - self.at);
            chunk.push(piece.slice_with_length(self.at, now));
            bytes -= now;
            self.at += now;
            if self.at == piece.len() {
                self.pieces.remove(0);
                self.at = 0;
            }
        }
    }
}

/// A column chunk as the buffers it is made of.
#[derive(Default)]
struct VectorChunk {
    buffers: Vec<Buffer>,
    len: u64,
}

impl VectorChunk {
    fn push(&mut self, buffer: Buffer) {
        self.len += buffer.len() as u64;
        self.buffers.push(buffer);
    }
}

impl Length for VectorChunk {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for VectorChunk {
    type T = Reading;

    fn get_read(&self, start: u64) -> ParquetResult<Reading> {
        let mut reading = Reading { buffers: self.buffers.clone().into_iter(), rest: Buffer::default() };
        io::copy(&mut (&mut reading).take(start), &mut io::sink())?;
        Ok(reading)
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let mut bytes = vec![0; length];
        self.get_read(start)?.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

/// Reads one buffer after the other.
struct Reading {
    buffers: std::vec::IntoIter<Buffer>,
    rest: Buffer,
}

impl Read for Reading {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.buffers.next() {
                Some(buffer) => self.rest = buffer,
                None => return Ok(0),
            }
        }
        let now = out.len().min(self.rest.len());
        out[..now].copy_from_slice(&self.rest[..now]);
        self.rest.advance(now);
        Ok(now)
    }
}

fn error(source: ParquetError) -> Error {
    failed(Box::new(source))
}
