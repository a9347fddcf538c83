//! The file of a segment's postings: header, a section per field, table of the fields. FORMAT.md, section "Postings".

use std::io::Write;
use std::path::Path;

use bytes::Bytes;
use knarr_base::limit;
use knarr_base::schema::FieldType;
use serde::{Deserialize, Serialize};

use super::field::Field;
use super::keys::Salt;
use crate::disk::{Disk, DiskFile};
use crate::error::{Error, Result};
use crate::index::header::{self, long, word};

const MAGIC: [u8; 8] = *b"KNARRPST";
const FORMAT: u32 = 1;
/// Bytes of the header; sections begin at multiples of it.
const LINE: usize = header::BYTES;
/// Length and checksum of the table, at the very end.
const TAIL_BYTES: usize = 8;

/// The facts that the header names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) segment: u64,
    pub(super) rows: u32,
    /// User columns that the segment has.
    pub(super) columns: u32,
    pub(super) salt: Salt,
}

impl Header {
    fn encode(&self) -> [u8; LINE] {
        let mut out = [0; LINE];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        out[16..24].copy_from_slice(&self.segment.to_le_bytes());
        out[24..28].copy_from_slice(&self.rows.to_le_bytes());
        out[28..32].copy_from_slice(&self.columns.to_le_bytes());
        out[32..48].copy_from_slice(&self.salt.0);
        header::seal(&mut out);
        out
    }

    fn decode(what: &str, bytes: &[u8]) -> Result<Self> {
        let bytes = header::check(what, bytes, &MAGIC, FORMAT)?;
        let mut salt = [0; 16];
        salt.copy_from_slice(&bytes[32..48]);
        Ok(Self { segment: long(bytes, 16), rows: word(bytes, 24), columns: word(bytes, 28), salt: Salt(salt) })
    }
}

/// The table, as JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TableDisk {
    fields: Vec<FieldDisk>,
}

/// What the table says of a field; its section's length follows from the counts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FieldDisk {
    pub(super) name: String,
    /// The vendor's name of the type.
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// Place among the user columns.
    pub(super) column: u32,
    /// Distinct values.
    pub(super) values: u32,
    /// Rows in all lists.
    pub(super) listed: u32,
    /// Values that share a code of a row; 0: no codes are kept.
    pub(super) codes: u32,
    /// Values below each of which a bitmap has the rows.
    pub(super) marks: Vec<u32>,
    /// Values with a bitmap in place of a list, with their rows.
    pub(super) dense: Vec<[u32; 2]>,
    /// Checksum of every block of the section.
    pub(super) crcs: Vec<u32>,
}

/// Writes a file front to back.
pub(super) struct Writer {
    file: Box<dyn DiskFile>,
    what: String,
    /// What is not written yet of the current block, checksums and bytes of the current section.
    block: Vec<u8>,
    crcs: Vec<u32>,
    bytes: usize,
    fields: Vec<FieldDisk>,
}

impl Writer {
    pub(super) fn create(disk: &dyn Disk, path: &Path, header: &Header) -> Result<Self> {
        let what = format!("writing {}", path.display());
        let file = disk.create_new(path).map_err(|e| Error::io(&what, e))?;
        let (block, crcs, fields) = (Vec::with_capacity(limit::POSTINGS_BLOCK_BYTES), Vec::new(), Vec::new());
        let mut writer = Self { file, what, block, crcs, bytes: 0, fields };
        writer.write(&header.encode())?;
        Ok(writer)
    }

    /// Adds to the section of the current field.
    pub(super) fn put(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.bytes += bytes.len();
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(limit::POSTINGS_BLOCK_BYTES - self.block.len()));
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == limit::POSTINGS_BLOCK_BYTES {
                self.end_block()?;
            }
        }
        Ok(())
    }

    /// The same for bytes that are collected, once there are enough of them; they are then gone from `bytes`.
    pub(super) fn put_when_long(&mut self, bytes: &mut Vec<u8>) -> Result<()> {
        if bytes.len() >= limit::POSTINGS_BLOCK_BYTES {
            self.put(bytes)?;
            bytes.clear();
        }
        Ok(())
    }

    /// Ends the section of a field. Its checksums are filled in here.
    pub(super) fn end_field(&mut self, field: FieldDisk) -> Result<()> {
        self.put(&vec![0; self.bytes.next_multiple_of(LINE) - self.bytes])?;
        if !self.block.is_empty() {
            self.end_block()?;
        }
        self.bytes = 0;
        let crcs = std::mem::take(&mut self.crcs);
        self.fields.push(FieldDisk { crcs, ..field });
        Ok(())
    }

    /// Writes the table and syncs; the name is durable once the caller synced the directory.
    pub(super) fn finish(mut self) -> Result<()> {
        let fields = std::mem::take(&mut self.fields);
        let mut table = serde_json::to_vec(&TableDisk { fields }).expect("strings and numbers, and a Vec never fails");
        table.extend(u32::try_from(table.len()).expect("limit::FIELDS times some kilobytes").to_le_bytes());
        table.extend(crc32c::crc32c(&table).to_le_bytes());
        self.write(&table)?;
        self.file.sync().map_err(|e| Error::io(&self.what, e))
    }

    fn end_block(&mut self) -> Result<()> {
        let block = std::mem::take(&mut self.block);
        self.crcs.push(crc32c::crc32c(&block));
        self.write(&block)?;
        self.block = block;
        self.block.clear();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::io(&self.what, e))
    }
}

/// The mapped postings of one segment. Opening checks header and table; the rest is checked block by block when it is
/// first read.
pub struct Postings {
    header: Header,
    fields: Vec<Field>,
    bytes: u64,
}

impl Postings {
    /// Maps a file that [`build`](super::build) wrote.
    ///
    /// # Errors
    /// `Io`; `Corrupt` or `NewerFormat` if header or table are not as written.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self> {
        let what = format!("postings {}", path.file_name().unwrap_or_default().display());
        let map = disk.map(path).map_err(|e| Error::io(format!("mapping {}", path.display()), e))?;
        let header = Header::decode(&what, &map)?;
        let (table, sections) = table(&what, &map)?;
        let (mut fields, mut at) = (Vec::with_capacity(table.fields.len()), LINE);
        for disk in table.fields {
            let what = format!("{what}, field {}", disk.name);
            let field = Field::open(what, disk, header.rows, &map.slice(at..sections))?;
            at += field.bytes();
            fields.push(field);
        }
        if at != sections {
            return Err(Error::corrupt(what, "file length"));
        }
        Ok(Self { header, fields, bytes: map.len() as u64 })
    }

    /// The segment it was built for; postings of another one must not be used.
    pub fn segment(&self) -> u64 {
        self.header.segment
    }

    /// Rows of the segment.
    pub fn rows(&self) -> u32 {
        self.header.rows
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The fields that have postings: name, type and bytes.
    pub fn fields(&self) -> impl Iterator<Item = (&str, FieldType, u64)> {
        self.fields.iter().map(|field| (field.name(), field.kind(), field.bytes() as u64))
    }

    /// Checks every block, as a scrub does; otherwise each is checked at its first use.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn verify(&self) -> Result<()> {
        self.fields.iter().try_for_each(Field::verify)
    }

    /// User columns that the segment has; later ones were added after it was written.
    pub(super) fn columns(&self) -> usize {
        self.header.columns as usize
    }

    pub(super) fn salt(&self) -> Salt {
        self.header.salt
    }

    /// Checks the codes of all fields.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn prepare(&self) -> Result<()> {
        self.fields.iter().try_for_each(|field| field.codes().map(|_| ()))
    }

    pub(super) fn all(&self) -> &[Field] {
        &self.fields
    }

    /// The postings of a column, if it has any.
    pub(super) fn field(&self, column: usize) -> Option<&Field> {
        self.fields.iter().find(|field| field.column() == column)
    }
}

/// The table, and where it begins.
fn table(what: &str, map: &Bytes) -> Result<(TableDisk, usize)> {
    let Some(tail) = map.len().checked_sub(TAIL_BYTES).filter(|tail| *tail >= LINE) else {
        return Err(Error::corrupt(what, "shorter than its header"));
    };
    let start = tail.checked_sub(word(map, tail) as usize).filter(|start| *start >= LINE);
    let start = start.ok_or_else(|| Error::corrupt(what, "length of the table"))?;
    if crc32c::crc32c(&map[start..tail + 4]) != word(map, tail + 4) {
        return Err(Error::corrupt(what, "checksum of the table"));
    }
    let table = serde_json::from_slice(&map[start..tail]).map_err(|e| Error::corrupt(what, e))?;
    Ok((table, start))
}
