//! The manifest as bytes. Private, versioned and dumb: [`super::version`] is the domain side.

use knarr_base::id::{Name, TableId, TaskId};
use knarr_base::schema::{AUTO_ID, Field, FieldType, MADE_VECTOR, PrimaryKey, Schema};
use knarr_base::value::{Key, Value};
use serde::{Deserialize, Serialize};

use super::Published;
use super::framed::Framed;
use crate::error::{Error, Result};

pub(crate) const MANIFEST: Framed = Framed { magic: *b"KNARRMAN", format: 1 };

/// Everything that a table is at one version, except what its log adds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ManifestDisk {
    pub(crate) table: String,
    pub(crate) version: u64,
    pub(crate) schema: SchemaDisk,
    /// Every record of the log up to here is in the segments.
    pub(crate) flushed_seq: u64,
    /// Lowest segment id that no manifest has used.
    pub(crate) next_segment: u64,
    pub(crate) segments: Vec<SegmentDisk>,
    pub(crate) publications: Vec<PublicationDisk>,
    /// Deletions that can be undone, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) undoable: Vec<UndoableDisk>,
    /// Number of the newest version in which rows came back from the dead.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) undone: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SchemaDisk {
    primary_key: String,
    fields: Vec<FieldDisk>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldDisk {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dim: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    default: Option<ValueDisk>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pipeline: Option<String>,
}

/// Floats are stored by their bits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ValueDisk {
    Int(i64),
    FloatBits(u32),
    Str(String),
    Bool(bool),
    IntList(Vec<i64>),
    StrList(Vec<String>),
}

/// One segment and how to know that its metadata is the right one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SegmentDisk {
    pub(crate) id: u64,
    pub(crate) rows: u32,
    /// Bytes of the Arrow file.
    pub(crate) bytes: u64,
    pub(crate) min_key: KeyDisk,
    pub(crate) max_key: KeyDisk,
    pub(crate) meta_bytes: u64,
    pub(crate) meta_crc: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mask: Option<MaskDisk>,
    /// Found damaged when its keys had to be looked up: dead rows are missing from its mask, so it is never served again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) damaged: bool,
    /// Dead rows that can be had back, for each task that deleted any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) restorable: Vec<RestorableDisk>,
}

impl SegmentDisk {
    /// Where all its lists of rows are.
    pub(crate) fn masks(&self) -> impl Iterator<Item = MaskDisk> {
        self.mask.into_iter().chain(self.restorable.iter().map(|restorable| restorable.mask))
    }
}

/// Where the dead rows of a segment are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MaskDisk {
    pub(crate) file: u64,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) crc: u32,
    pub(crate) dead: u64,
}

/// Where the rows of a segment are listed that a task deleted and that can be had back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RestorableDisk {
    pub(crate) task: String,
    /// `dead`: how many.
    pub(crate) mask: MaskDisk,
}

/// A deletion that can be undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UndoableDisk {
    pub(crate) task: String,
    pub(crate) until_ms: i64,
    pub(crate) deleted: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) expired: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) damaged: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublicationDisk {
    task: String,
    unit: u32,
    fence: u64,
    deleted: u64,
    changed_since: u64,
    missing: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    restored: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum KeyDisk {
    Int(i64),
    Str(Box<str>),
}

impl From<Key> for KeyDisk {
    fn from(key: Key) -> Self {
        match key {
            Key::Int(n) => KeyDisk::Int(n),
            Key::Str(s) => KeyDisk::Str(s),
        }
    }
}

impl From<KeyDisk> for Key {
    fn from(key: KeyDisk) -> Self {
        match key {
            KeyDisk::Int(n) => Key::Int(n),
            KeyDisk::Str(s) => Key::Str(s),
        }
    }
}

impl From<&Value> for ValueDisk {
    fn from(value: &Value) -> Self {
        match value {
            Value::Int(n) => ValueDisk::Int(*n),
            Value::Float(x) => ValueDisk::FloatBits(x.to_bits()),
            Value::Str(s) => ValueDisk::Str(s.clone()),
            Value::Bool(b) => ValueDisk::Bool(*b),
            Value::IntList(v) => ValueDisk::IntList(v.clone()),
            Value::StrList(v) => ValueDisk::StrList(v.clone()),
        }
    }
}

impl From<ValueDisk> for Value {
    fn from(value: ValueDisk) -> Self {
        match value {
            ValueDisk::Int(n) => Value::Int(n),
            ValueDisk::FloatBits(bits) => Value::Float(f32::from_bits(bits)),
            ValueDisk::Str(s) => Value::Str(s),
            ValueDisk::Bool(b) => Value::Bool(b),
            ValueDisk::IntList(v) => Value::IntList(v),
            ValueDisk::StrList(v) => Value::StrList(v),
        }
    }
}

impl From<&Schema> for SchemaDisk {
    fn from(schema: &Schema) -> Self {
        let fields = schema.fields().iter().map(|field| FieldDisk {
            name: field.name.as_str().to_owned(),
            kind: field.kind.name().to_owned(),
            dim: match field.kind {
                FieldType::Vector { dim } => Some(dim),
                _ => None,
            },
            default: field.default.as_ref().map(ValueDisk::from),
            pipeline: field.pipeline.clone(),
        });
        Self { primary_key: schema.key_name().to_owned(), fields: fields.collect() }
    }
}

impl FieldDisk {
    fn into_field(self) -> knarr_base::Result<Field> {
        let kind = FieldType::parse(&self.kind, self.dim)?;
        match (self.name.as_str(), kind) {
            (MADE_VECTOR, FieldType::Vector { dim }) => Field::made_vector(dim),
            (name, kind) => {
                let (name, default) = (Name::parse("field_name", name)?, self.default.map(Value::from));
                Ok(Field { name, kind, default, pipeline: self.pipeline })
            }
        }
    }
}

impl SchemaDisk {
    /// The schema, held to every rule again.
    pub(crate) fn into_schema(self, what: &str) -> Result<Schema> {
        let bad = |e: knarr_base::Error| Error::corrupt(what, e);
        let mut fields = Vec::with_capacity(self.fields.len());
        for field in self.fields {
            fields.push(field.into_field().map_err(bad)?);
        }
        let schema = Schema::new(fields, &self.primary_key).map_err(bad)?;
        debug_assert!(schema.primary_key() != PrimaryKey::Auto || schema.key_name() == AUTO_ID);
        Ok(schema)
    }
}

impl PublicationDisk {
    pub(crate) fn new((task, unit): (TaskId, u32), published: &Published) -> Self {
        let Published { fence, deleted, changed_since, missing, restored } = *published;
        Self { task: task.to_string(), unit, fence, deleted, changed_since, missing, restored }
    }

    pub(crate) fn into_published(self, what: &str) -> Result<((TaskId, u32), Published)> {
        let Self { task, unit, fence, deleted, changed_since, missing, restored } = self;
        let task = task.parse().map_err(|e| Error::corrupt(what, e))?;
        Ok(((task, unit), Published { fence, deleted, changed_since, missing, restored }))
    }
}

/// Name of the table a manifest belongs to must be the one of its directory.
pub(crate) fn check_table(manifest: &ManifestDisk, table: TableId, what: &str) -> Result<()> {
    if manifest.table == table.to_string() {
        Ok(())
    } else {
        Err(Error::corrupt(what, format!("belongs to table {}", manifest.table)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: &str = "0c2d9d04-5a3d-4f0a-9e0b-0123456789ab";

    /// A manifest with one segment and one publication, with these members added to each and to itself.
    fn text(segment: &str, publication: &str, own: &str) -> String {
        let schema = r#"{"primary_key":"id","fields":[{"name":"id","type":"int64"}]}"#;
        let keys = r#""rows":5,"bytes":100,"min_key":1,"max_key":5,"meta_bytes":10,"meta_crc":11"#;
        let mask = r#"{"file":7,"offset":16,"bytes":20,"crc":12,"dead":2}"#;
        let counts = r#""fence":2,"deleted":2,"changed_since":0,"missing":0"#;
        let segments = format!(r#"[{{"id":2,{keys},"mask":{mask}{segment}}}]"#);
        let publications = format!(r#"[{{"task":"{TASK}","unit":1,{counts}{publication}}}]"#);
        format!(
            r#"{{"table":"t","version":7,"schema":{schema},"flushed_seq":9,"next_segment":3,"segments":{segments},"publications":{publications}{own}}}"#
        )
    }

    /// What is stored stays readable and what has nothing new in it is stored as before.
    #[test]
    fn manifests_are_stored_to_the_letter() {
        let lists = format!(
            r#","restorable":[{{"task":"{TASK}","mask":{{"file":7,"offset":36,"bytes":20,"crc":13,"dead":2}}}}]"#
        );
        let undoable = format!(r#","undoable":[{{"task":"{TASK}","until_ms":1700000000000,"deleted":2}}],"undone":6"#);
        let damaged = undoable.replace("\"deleted\":2", "\"deleted\":2,\"expired\":1,\"damaged\":true");
        for (segment, publication, own) in [
            ("", "", ""),
            (&*lists, "", &*undoable),
            ("", r#","restored":2"#, r#","undone":7"#),
            (&lists, "", &damaged),
        ] {
            let text = text(segment, publication, own);
            let read: ManifestDisk = serde_json::from_str(&text).expect("reads");
            assert_eq!(serde_json::to_string(&read).expect("writes"), text);
            let places: Vec<_> = read.segments[0].masks().map(|place| place.offset).collect();
            assert_eq!(places, if segment.is_empty() { vec![16] } else { vec![16, 36] });
        }
    }
}
