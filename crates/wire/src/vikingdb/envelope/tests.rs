use super::*;
use crate::testing::{NOW_MS, golden};
use crate::vikingdb::request_id::RequestIds;

fn id() -> RequestId {
    RequestIds::starting_at(0x00ab_cdef).next(NOW_MS)
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn successes_and_failures_in_the_vendors_order() {
    golden("success.json", &text(bare(id())));
    golden("success_data.json", &text(data(id(), |out| out.extend_from_slice(b"[]"))));
    golden("failure.json", &text(failure(id(), 1000003, "invalid request:field \"x\" is not a\tlist")));
}

/// What the Go client looks for: `"code":(\d+),"message":"(.*?)","request_id":"([a-fA-F0-9]+)"`.
#[test]
fn failures_can_be_read_by_the_go_client() {
    let body = text(failure(id(), 1000029, "quota limit:too much"));
    let rest =
        body.strip_prefix("{\"code\":1000029,\"message\":\"quota limit:too much\",\"request_id\":\"").expect("order");
    let hex = rest.split_once("\",\"msg\":").expect("order").0;
    assert!(hex.len() == 53 && hex.bytes().all(|b| b.is_ascii_hexdigit()), "{hex}");
}
