//! The frame of every V2 answer: codes are words, and what was asked for is under `result`.

use crate::json;
use crate::vikingdb::request_id::RequestId;

const SUCCESS: &str = "Success";
const SUCCEEDED: &str = "The API call was executed successfully.";

/// A success with nothing to tell.
pub(super) fn bare(id: RequestId) -> Vec<u8> {
    result(id, |out| out.extend_from_slice(b"null"))
}

/// A success whose `result` is what `write` appends.
pub(super) fn result(id: RequestId, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    open(&mut out, SUCCESS, SUCCEEDED, id);
    write(&mut out);
    out.push(b'}');
    out
}

/// A failure.
pub(super) fn failure(id: RequestId, code: &str, message: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(192 + message.len());
    open(&mut out, code, message, id);
    out.extend_from_slice(b"null}");
    out
}

fn open(out: &mut Vec<u8>, code: &str, message: &str, id: RequestId) {
    out.extend_from_slice(b"{\"code\":");
    json::write_text(code, out);
    out.extend_from_slice(b",\"message\":");
    json::write_text(message, out);
    out.extend_from_slice(b",\"request_id\":\"");
    out.extend_from_slice(id.as_str().as_bytes());
    out.extend_from_slice(b"\",\"result\":");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW_MS, golden};
    use crate::vikingdb::request_id::RequestIds;

    #[test]
    fn successes_and_failures_in_the_vendors_order() {
        let id = RequestIds::starting_at(0x00ab_cdef).next(NOW_MS);
        let lines = [
            bare(id),
            result(id, |out| out.extend_from_slice(b"{\"data\":[]}")),
            failure(id, "InvalidParameter", "field \"x\" is not a\tlist"),
        ];
        let text = lines.map(|line| String::from_utf8(line).expect("UTF-8")).join("\n");
        golden("v2_envelopes.jsonl", &text);
    }
}
