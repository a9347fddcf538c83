//! Collections and their rows.
//!
//! `manage` makes, changes and drops collections; `rows` reads and writes what is in them; `open` resolves a name to
//! its incarnation's table, once, and forgets it when names change.

mod manage;
mod open;
mod rows;

use std::sync::Arc;

use knarr_base::id::Name;
use knarr_base::schema::{Field, Schema};

pub(crate) use open::{Open, Opened, wanted};
pub(crate) use rows::{typed_key, typed_keys};

pub use knarr_engine::rows::{Fetched, Unknown};

/// How a request names a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CollectionRef {
    /// `collection_name`, unchecked: a name against the rule simply does not exist.
    Name(String),
    /// `collection_alias`.
    Alias(String),
}

/// create
#[derive(Debug, Clone)]
pub struct CreateCollection {
    /// Unique in the account.
    pub name: Name,
    /// Other names; one that is mapped elsewhere is moved here.
    pub aliases: Vec<Name>,
    /// Free text.
    pub description: String,
    /// A label, default `default`.
    pub project: String,
    /// Checked by its constructor.
    pub schema: Schema,
    /// JSON text, echoed by info.
    pub vectorize: Option<String>,
}

/// update
#[derive(Debug, Clone, Default)]
pub struct UpdateCollection {
    /// New text, if given.
    pub description: Option<String>,
    /// The aliases that shall map here from now on, if given.
    pub aliases: Option<Vec<Name>>,
    /// Fields to add; may be empty.
    pub fields: Vec<Field>,
}

/// upsert and update_rows
#[derive(Debug, Clone, Copy)]
pub struct RowWrite<'a> {
    /// Raw JSON text of an array of objects.
    pub rows: &'a str,
    /// Seconds; 0: no change of what a row has, which is for ever for a new one.
    pub ttl: i64,
    /// What becomes of members that are no field.
    pub unknown: Unknown,
}

impl<'a> RowWrite<'a> {
    /// Rows without unknown members.
    pub fn new(rows: &'a str, ttl: i64) -> Self {
        Self { rows, ttl, unknown: Unknown::Refused }
    }
}

/// info
#[derive(Debug, Clone)]
pub struct CollectionInfo {
    /// Name.
    pub name: Name,
    /// Aliases, sorted.
    pub aliases: Vec<Name>,
    /// Free text.
    pub description: String,
    /// Label.
    pub project: String,
    /// Present fields and key.
    pub schema: Arc<Schema>,
    /// JSON text as given at creation.
    pub vectorize: Option<String>,
    /// Names of its indexes.
    pub indexes: Vec<String>,
    /// Live rows, an estimate while writes are in memory.
    pub rows: u64,
    /// Bytes on disk and in memory.
    pub bytes: u64,
    /// Unix milliseconds.
    pub created_ms: i64,
    /// Unix milliseconds.
    pub updated_ms: i64,
    /// Key of the last change.
    pub updated_by: String,
}
