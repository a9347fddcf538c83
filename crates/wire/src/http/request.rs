//! A request whose signature and body hash are valid, and its arguments.

use std::borrow::Cow;
use std::sync::Arc;

use axum::http::{HeaderMap, Uri, header};
use bytes::Bytes;
use knarr_base::{Error, Result};
use knarr_service::Principal;
use knarr_service::buckets::{ByteStream, ObjectInfo};
use sha2::{Digest, Sha256};

use crate::http::query;
use crate::json::{self, Object, Value, invalid};
use crate::vikingdb::request_id::RequestId;

/// What a handler gets.
pub(crate) struct Signed {
    pub(crate) principal: Arc<Principal>,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    /// Empty where the route streams.
    pub(crate) body: Bytes,
    pub(crate) request_id: RequestId,
}

/// What a handler gives back.
pub(crate) enum Answer {
    /// A whole envelope.
    Json(Vec<u8>),
    /// Raw bytes of an object.
    Object(ObjectInfo, ByteStream),
}

impl Signed {
    /// The arguments of the call.
    pub(crate) fn args(&self) -> Result<Args<'_>> {
        Args::new(self.uri.query().unwrap_or_default(), &self.body)
    }

    /// As [`Signed::args`]; a list of rows is found in the body, its grammar left to whoever takes the rows in.
    pub(crate) fn args_with_rows(&self) -> Result<Args<'_>> {
        Args::with(self.uri.query().unwrap_or_default(), Object::parse_around(&self.body, ROWS)?)
    }

    /// Equal for an exact retransmission, and only then: the signature covers the date to the second.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let authorization = self.headers.get(header::AUTHORIZATION).map(|v| v.as_bytes()).unwrap_or_default();
        Sha256::new().chain_update(authorization).chain_update(&self.body).finalize().into()
    }
}

/// The parameter of the data calls that holds rows.
pub(crate) const ROWS: &str = "fields";

/// Arguments of a call: members of the body, else pairs of the query string.
#[derive(Debug)]
pub(crate) struct Args<'a> {
    body: Object<'a>,
    query: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Args<'a> {
    pub(crate) fn new(query: &'a str, body: &'a [u8]) -> Result<Self> {
        Self::with(query, Object::parse(body)?)
    }

    fn with(query: &'a str, body: Object<'a>) -> Result<Self> {
        let malformed = || invalid("malformed query string");
        let pairs = query::pairs(query).ok_or_else(malformed)?.into_iter();
        let query = pairs.map(|(k, v)| Ok((utf8(k).ok_or_else(malformed)?, utf8(v).ok_or_else(malformed)?)));
        Ok(Self { query: query.collect::<Result<_>>()?, body })
    }

    /// True without any argument.
    pub(crate) fn is_empty(&self) -> bool {
        self.body.is_empty() && self.query.is_empty()
    }

    /// The raw JSON text of a body member that is not `null`.
    pub(crate) fn raw(&self, name: &str) -> Option<&'a str> {
        self.body.raw(name).filter(|raw| *raw != "null")
    }

    /// A member of the body, or the query's text: once as a string, several times as a list of strings.
    pub(crate) fn value(&self, name: &str) -> Result<Option<Value>> {
        if let Some(raw) = self.body.raw(name) {
            return json::parse(name, raw).map(|value| (value != Value::Null).then_some(value));
        }
        let mut texts = self.query_texts(name).map(|text| Value::Text(text.to_owned()));
        Ok(match (texts.next(), texts.next()) {
            (None, _) => None,
            (Some(one), None) => Some(one),
            (Some(first), Some(second)) => Some(Value::List([first, second].into_iter().chain(texts).collect())),
        })
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<String>> {
        json::text(name, self.value(name)?)
    }

    pub(crate) fn int(&self, name: &str) -> Result<Option<i64>> {
        match self.query_text(name) {
            Some(text) => text.parse().map(Some).map_err(|_| invalid(format!("{name} must be an integer"))),
            None => json::int(name, self.value(name)?),
        }
    }

    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>> {
        match self.query_text(name) {
            Some(text) => text.parse().map(Some).map_err(|_| invalid(format!("{name} must be true or false"))),
            None => json::flag(name, self.value(name)?),
        }
    }

    /// The query's text for a name that the body does not give.
    fn query_text(&self, name: &str) -> Option<&str> {
        if self.body.raw(name).is_some() { None } else { self.query_texts(name).next() }
    }

    fn query_texts(&self, name: &str) -> impl Iterator<Item = &str> {
        self.query.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_ref())
    }
}

/// The cause of an error about a parameter that is not there: one dialect has a code of its own for that.
#[derive(Debug, thiserror::Error)]
#[error("a parameter is missing")]
struct Missing;

/// # Errors
/// `Kind::Invalid` naming the parameter that is missing.
pub(crate) fn required<T>(name: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| missing(format!("{name} is required")))
}

/// An error about a parameter that is not there.
pub(crate) fn missing(text: impl Into<String>) -> Error {
    invalid(text).with_source(Missing)
}

/// True for what [`missing`] made.
pub(crate) fn is_missing(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|cause| cause.is::<Missing>())
}

fn utf8(bytes: Cow<'_, [u8]>) -> Option<Cow<'_, str>> {
    match bytes {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    }
}

#[cfg(test)]
mod tests;
