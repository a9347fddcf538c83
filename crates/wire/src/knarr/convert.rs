//! Between the management calls' shapes and the service's words.

use knarr_base::clock::rfc3339;
use knarr_base::id::TaskId;
use knarr_base::object::{BucketName, ObjectKey};
use knarr_base::right::{Grant, Right};
use knarr_base::{Result, limit};
use knarr_service::buckets::ObjectInfo;
use knarr_service::keys::KeyInfo;
use knarr_service::tasks::Undone;
use serde::Serialize;

use crate::http::request::{Args, required};
use crate::json::{self, Value, invalid};
use crate::vikingdb::convert::task;
use crate::vikingdb::model;

/// keys/create: the only answer that ever holds a secret.
#[derive(Serialize)]
pub(super) struct NewKey<'a> {
    pub(super) access_key: &'a str,
    pub(super) secret_key: &'a str,
}

/// An element of keys/list.
#[derive(Serialize)]
pub(super) struct Key<'a> {
    access_key: &'a str,
    label: &'a str,
    grants: Vec<GrantView<'a>>,
    create_time: String,
    /// Absent while the key is valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoke_time: Option<String>,
}

#[derive(Serialize)]
struct GrantView<'a> {
    rights: Vec<&'static str>,
    pattern: &'a str,
}

/// buckets/create.
#[derive(Serialize)]
pub(super) struct BucketCreated<'a> {
    pub(super) bucket: &'a str,
    /// False if it was there already.
    pub(super) created: bool,
}

/// An element of buckets/list.
#[derive(Serialize)]
pub(super) struct Bucket<'a> {
    bucket: &'a str,
    create_time: String,
}

/// objects/info, the answer of objects/put, and an element of objects/list.
#[derive(Serialize)]
pub(super) struct Object<'a> {
    key: &'a str,
    size: u64,
    etag: &'a str,
    last_modified: String,
}

/// tasks/undo.
#[derive(Serialize)]
pub(super) struct Undo {
    task_id: String,
    #[serde(flatten)]
    undone: model::Undone,
}

pub(super) fn undo(id: TaskId, undone: &Undone) -> Undo {
    Undo { task_id: id.to_string(), undone: task::undone(undone) }
}

pub(super) fn key(key: &KeyInfo) -> Key<'_> {
    let grant = |grant: &'_ Grant| grant.rights.iter().map(|right| right.name()).collect();
    Key {
        access_key: key.id.as_str(),
        label: &key.label,
        grants: key.grants.iter().map(|g| GrantView { rights: grant(g), pattern: &g.pattern }).collect(),
        create_time: rfc3339(key.created_ms),
        revoke_time: key.revoked_ms.map(rfc3339),
    }
}

pub(super) fn bucket_view(name: &BucketName, created_ms: i64) -> Bucket<'_> {
    Bucket { bucket: name.as_str(), create_time: rfc3339(created_ms) }
}

pub(super) fn object(info: &ObjectInfo) -> Object<'_> {
    Object { key: &info.key, size: info.size, etag: &info.etag, last_modified: rfc3339(info.last_modified_ms) }
}

/// `[{"rights": ["read", ...], "pattern": "shop_*"}, ...]`
pub(super) fn grants(value: Value) -> Result<Vec<Grant>> {
    match value {
        Value::List(list) if !list.is_empty() => list.into_iter().map(grant).collect(),
        _ => Err(invalid("grants must be a list of at least one {rights, pattern}")),
    }
}

fn grant(value: Value) -> Result<Grant> {
    let Value::Map(mut members) = value else {
        return Err(invalid("a grant must be an object"));
    };
    let pattern = required("pattern", json::text("pattern", members.take("pattern"))?)?;
    let plain = pattern.strip_suffix('*').unwrap_or(&pattern);
    if pattern.is_empty() || pattern.len() > limit::NAME_BYTES || plain.contains('*') {
        return Err(invalid(format!(
            "pattern must be a name, or a prefix and '*', of at most {} bytes",
            limit::NAME_BYTES
        )));
    }
    let Some(Value::List(rights)) = members.take("rights") else {
        return Err(invalid("rights must be a list"));
    };
    if let Some((name, _)) = members.0.first() {
        return Err(invalid(format!("a grant does not know {name:?}")));
    }
    let right = |value| {
        let name = required("rights", json::text("rights", Some(value))?)?;
        Right::parse(&name).ok_or_else(|| invalid(format!("unknown right {name:?}")))
    };
    let rights = rights.into_iter().map(right).collect::<Result<Vec<_>>>()?;
    if rights.is_empty() { Err(invalid("rights must not be empty")) } else { Ok(Grant { rights, pattern }) }
}

/// `bucket`
pub(super) fn bucket(args: &Args<'_>) -> Result<BucketName> {
    BucketName::parse(&required("bucket", args.text("bucket")?)?)
}

/// `key`
pub(super) fn object_key(args: &Args<'_>) -> Result<ObjectKey> {
    ObjectKey::parse(&required("key", args.text("key")?)?)
}

/// The beginning of an object key; it may end in the middle of a part, but never leaves its bucket.
pub(super) fn prefix(name: &str, text: Option<String>) -> Result<Option<String>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let whole = text.strip_suffix('/').unwrap_or(&text);
    ObjectKey::parse(whole).map_err(|e| invalid(format!("{name}: {}", e.message())))?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests;
