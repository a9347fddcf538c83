//! The frame of every JSON answer, compact and in the vendor's order (docs/wire/vikingdb.md section 2.1).

use crate::json;
use crate::vikingdb::request_id::RequestId;

/// A success without `data`.
pub(crate) fn bare(id: RequestId) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    open(&mut out, 0, "success", id);
    close(&mut out, "success");
    out
}

/// A success whose `data` is what `write` appends.
pub(crate) fn data(id: RequestId, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    data_and(id, write, None)
}

/// The same with `extend`, the text of an object, after it.
pub(crate) fn data_and(id: RequestId, write: impl FnOnce(&mut Vec<u8>), extend: Option<&str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    open(&mut out, 0, "success", id);
    out.extend_from_slice(b",\"data\":");
    write(&mut out);
    if let Some(extend) = extend {
        out.extend_from_slice(b",\"extend\":");
        out.extend_from_slice(extend.as_bytes());
    }
    close(&mut out, "success");
    out
}

/// A failure.
pub(crate) fn failure(id: RequestId, code: u32, text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(192 + 2 * text.len());
    open(&mut out, code, text, id);
    close(&mut out, text);
    out
}

fn open(out: &mut Vec<u8>, code: u32, message: &str, id: RequestId) {
    out.extend_from_slice(b"{\"code\":");
    out.extend_from_slice(code.to_string().as_bytes());
    out.extend_from_slice(b",\"message\":");
    json::write_text(message, out);
    out.extend_from_slice(b",\"request_id\":\"");
    out.extend_from_slice(id.as_str().as_bytes());
    out.push(b'"');
}

fn close(out: &mut Vec<u8>, message: &str) {
    out.extend_from_slice(b",\"msg\":");
    json::write_text(message, out);
    out.push(b'}');
}

#[cfg(test)]
mod tests;
