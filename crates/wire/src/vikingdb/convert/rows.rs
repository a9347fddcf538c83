//! Keys and rows.

use knarr_base::value::Key;
use knarr_base::{Error, Kind, Result, limit};

use crate::http::request::{Args, ROWS, required};
use crate::json::{self, Value, invalid};

/// The key's name for clients that do not know its own.
pub(crate) const PRIMARY_KEY: &str = "__primary_key";

/// `ttl` of a call.
pub(crate) fn ttl(args: &Args<'_>) -> Result<i64> {
    seconds(args.int("ttl")?)
}

/// Seconds; absent, `null` and 0 mean never.
pub(crate) fn seconds(ttl: Option<i64>) -> Result<i64> {
    let ttl = ttl.unwrap_or(0);
    if (0..=limit::TTL_SECONDS).contains(&ttl) {
        Ok(ttl)
    } else {
        Err(invalid(format!("ttl must be between 0 and {} seconds", limit::TTL_SECONDS)))
    }
}

/// The raw text of the `fields` array.
pub(crate) fn fields<'a>(args: &'a Args<'_>) -> Result<&'a str> {
    list(ROWS, args.raw(ROWS))
}

/// Raw text that must be there and begin a list.
pub(crate) fn list<'a>(name: &str, raw: Option<&'a str>) -> Result<&'a str> {
    let raw = required(name, raw)?;
    if raw.starts_with('[') { Ok(raw) } else { Err(invalid(format!("{name} must be a list of rows"))) }
}

/// `primary_keys`: one key or a list of them, integers or strings; `None` if absent.
pub(crate) fn keys(args: &Args<'_>) -> Result<Option<Vec<Key>>> {
    args.value("primary_keys")?.map(|value| some_keys("primary_keys", value)).transpose()
}

/// One key or a list of at most as many as a call has rows.
pub(crate) fn some_keys(name: &str, value: Value) -> Result<Vec<Key>> {
    let list = match value {
        Value::List(list) => list,
        single => vec![single],
    };
    if list.is_empty() || list.len() > limit::ROWS_PER_CALL {
        return Err(invalid(format!("{name} must hold 1 to {} keys", limit::ROWS_PER_CALL)));
    }
    list.into_iter().map(key).collect()
}

pub(crate) fn key(value: Value) -> Result<Key> {
    match value {
        Value::Int(number) => Ok(Key::Int(number)),
        Value::Text(text) if text.len() <= limit::KEY_BYTES => Ok(Key::Str(text.into())),
        Value::Text(_) => Err(Error::new(Kind::InvalidKey, format!("a key has at most {} bytes", limit::KEY_BYTES))),
        Value::Null | Value::Bool(_) | Value::Float(_) | Value::List(_) | Value::Map(_) => {
            Err(Error::new(Kind::InvalidKey, "a key is an int64 or a string"))
        }
    }
}

/// One item of collection/fetch_data: a flat object of all fields.
pub(crate) fn write_found(key: &Key, replace_primary: bool, members: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    out.push(b'{');
    write_replaced(key, replace_primary, out);
    members(out);
    out.push(b'}');
}

/// An item for a key without a row.
pub(crate) fn write_missing(key: &Key, key_name: &str, replace_primary: bool, out: &mut Vec<u8>) {
    out.push(b'{');
    write_replaced(key, replace_primary, out);
    write_key_member(key, key_name, out);
    out.extend_from_slice(b",\"message\":\"no data found\"}");
}

/// The clients that do not know the key's name ask for it under this one, in addition.
fn write_replaced(key: &Key, replace_primary: bool, out: &mut Vec<u8>) {
    if replace_primary {
        write_key_member(key, PRIMARY_KEY, out);
        out.push(b',');
    }
}

/// `"name":key`
pub(crate) fn write_key_member(key: &Key, name: &str, out: &mut Vec<u8>) {
    json::write_text(name, out);
    out.push(b':');
    write_key(key, out);
}

pub(crate) fn write_key(key: &Key, out: &mut Vec<u8>) {
    match key {
        Key::Int(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Key::Str(text) => json::write_text(text, out),
    }
}

#[cfg(test)]
mod tests;
