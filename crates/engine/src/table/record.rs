//! Log payloads: rows and keys as bytes, and the stored batches that come out of them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, UInt64Array};
use arrow_buffer::Buffer;
use arrow_ipc::MetadataVersion;
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions, write_message};
use arrow_schema::{Field as ArrowField, Schema as ArrowSchema, SchemaRef};
use bytes::Bytes;
use knarr_base::limit;
use knarr_base::schema::{PrimaryKey, Schema};
use knarr_base::value::KeyType;

use super::keys::KeyList;
use super::segment::stored_schema_of;
use crate::columns::EXPIRY;
use crate::error::{Error, Result};

/// Bits of a generated key that count rows of a call.
const AUTO_ROW_BITS: u32 = 7;

/// The generated key of a row of a call.
fn auto_key(seq: u64, row: usize) -> i64 {
    // `_seq` would need 2^56 calls to overflow this.
    (seq << AUTO_ROW_BITS | row as u64).cast_signed()
}

/// Rows as a log record carries them: user columns (without a generated key unless the record says so) and expiry.
#[derive(Debug, Clone)]
pub(crate) struct LoggedRows {
    columns: Vec<ArrayRef>,
    expiry: Int64Array,
}

fn options() -> IpcWriteOptions {
    IpcWriteOptions::try_new(8, false, MetadataVersion::V5).expect("8 is one of the alignments")
}

/// Columns of a rows record: of `fields` fields, `keyed` if generated keys are given.
fn logged_schema(schema: &Schema, fields: usize, keyed: bool) -> SchemaRef {
    let stored = stored_schema_of(schema, fields);
    let hidden = stored.fields().len() - 2;
    let skip = usize::from(schema.primary_key() == PrimaryKey::Auto && !keyed);
    let mut fields: Vec<_> = stored.fields()[skip..hidden].to_vec();
    fields.push(Arc::new(ArrowField::new(EXPIRY, arrow_schema::DataType::Int64, false)));
    Arc::new(ArrowSchema::new(fields))
}

impl LoggedRows {
    pub(crate) fn new(columns: Vec<ArrayRef>, expiry: Int64Array) -> Self {
        Self { columns, expiry }
    }

    /// All rows with one expiry (0 = never).
    pub(crate) fn with_expiry(batch: &RecordBatch, expiry: i64) -> Self {
        Self::new(batch.columns().to_vec(), Int64Array::from_value(expiry, batch.num_rows()))
    }

    /// One encapsulated IPC message.
    ///
    /// # Errors
    /// `CallTooLarge`: empty strings in lists cost no bytes of a row, but their offsets do here.
    pub(crate) fn encode(&self, schema: &Schema, keyed: bool) -> Result<Vec<u8>> {
        let bad = |e: arrow_schema::ArrowError| Error::corrupt("rows of a call", e);
        let fields = self.columns.len() - usize::from(keyed && schema.primary_key() == PrimaryKey::Auto);
        let mut columns = self.columns.clone();
        columns.push(Arc::new(self.expiry.clone()));
        let batch = RecordBatch::try_new(logged_schema(schema, fields, keyed), columns).map_err(bad)?;
        let (options, mut tracker) = (options(), DictionaryTracker::new(false));
        let (_, message) = IpcDataGenerator::default()
            .encode(&batch, &mut tracker, &options, &mut IpcWriteContext::default())
            .map_err(bad)?;
        let mut out = Vec::with_capacity(message.ipc_message.len() + message.arrow_data.len() + 64);
        write_message(&mut out, message, &options).map_err(bad)?;
        if out.len() > limit::LOG_RECORD_BYTES {
            return Err(Error::CallTooLarge { bytes: out.len(), limit: limit::LOG_RECORD_BYTES });
        }
        Ok(out)
    }

    /// Back from a record written when the table had `fields` fields.
    pub(crate) fn decode(payload: &Bytes, schema: &Schema, fields: usize, keyed: bool) -> Result<Self> {
        let bad = |why: &dyn std::fmt::Display| Error::corrupt("log record", why);
        let metadata = payload.get(4..8).and_then(|n| n.try_into().ok()).map(u32::from_le_bytes);
        let body = 8 + metadata.ok_or_else(|| bad(&"too short"))? as usize;
        let head = payload.get(8..body).ok_or_else(|| bad(&"message length"))?;
        let message = arrow_ipc::root_as_message(head).map_err(|e| bad(&e))?;
        let rows = message.header_as_record_batch().ok_or_else(|| bad(&"no record batch"))?;
        let buffer = Buffer::from(payload.slice(body..));
        let logged = logged_schema(schema, fields, keyed);
        let batch =
            arrow_ipc::reader::read_record_batch(&buffer, rows, logged, &HashMap::new(), None, &message.version())
                .map_err(|e| bad(&e))?;
        let last = batch.num_columns() - 1;
        let expiry = batch.column(last).as_primitive::<Int64Type>().clone();
        Ok(Self { columns: batch.columns()[..last].to_vec(), expiry })
    }

    /// As the memtable keeps them. Generated keys come from `seq` unless they are `keyed`.
    pub(crate) fn into_stored(self, schema: &Schema, seq: u64, keyed: bool) -> Result<RecordBatch> {
        let rows = self.expiry.len();
        let mut columns = self.columns;
        if schema.primary_key() == PrimaryKey::Auto && !keyed {
            let keys = Int64Array::from_iter_values((0..rows).map(|row| auto_key(seq, row)));
            columns.insert(0, Arc::new(keys));
        }
        let fields = columns.len() - usize::from(schema.primary_key() == PrimaryKey::Auto);
        columns.push(Arc::new(UInt64Array::from_value(seq, rows)));
        columns.push(Arc::new(self.expiry));
        RecordBatch::try_new(stored_schema_of(schema, fields), columns).map_err(|e| Error::corrupt("rows of a call", e))
    }

    /// Fields of the schema the rows were made for.
    pub(crate) fn fields(&self, schema: &Schema, keyed: bool) -> u16 {
        let fields = self.columns.len() - usize::from(keyed && schema.primary_key() == PrimaryKey::Auto);
        u16::try_from(fields).expect("limit::FIELDS is small")
    }
}

/// Keys of a delete record: integers, or strings each after its length.
pub(crate) fn encode_keys(keys: &KeyList) -> Vec<u8> {
    match keys {
        KeyList::Int(keys) => keys.iter().flat_map(|key| key.to_le_bytes()).collect(),
        KeyList::Str(keys) => {
            let mut out = Vec::new();
            for key in keys {
                let length = u32::try_from(key.len()).expect("keys are bounded by limit::KEY_BYTES");
                out.extend_from_slice(&length.to_le_bytes());
                out.extend_from_slice(key.as_bytes());
            }
            out
        }
    }
}

pub(crate) fn decode_keys(kind: KeyType, mut payload: &[u8]) -> Result<KeyList> {
    let bad = || Error::corrupt("log record", "keys");
    match kind {
        KeyType::Int => {
            let (keys, rest) = payload.as_chunks::<8>();
            if !rest.is_empty() {
                return Err(bad());
            }
            Ok(KeyList::Int(keys.iter().map(|key| i64::from_le_bytes(*key)).collect()))
        }
        KeyType::Str => {
            let mut keys = Vec::new();
            while let Some((length, rest)) = payload.split_first_chunk::<4>() {
                let length = u32::from_le_bytes(*length) as usize;
                let key = rest.get(..length).ok_or_else(bad)?;
                keys.push(std::str::from_utf8(key).map_err(|_| bad())?.into());
                payload = &rest[length..];
            }
            if payload.is_empty() { Ok(KeyList::Str(keys)) } else { Err(bad()) }
        }
    }
}
