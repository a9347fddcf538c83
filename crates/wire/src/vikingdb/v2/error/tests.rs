use super::*;
use crate::http::request::required;
use crate::testing::golden;
use crate::vikingdb::error::KINDS;

/// Every kind, as a caller sees it.
#[test]
fn the_table_of_kinds() {
    let line = |name: String, error: &Error| {
        let row = row(error);
        format!("{name:<18} {} {} {}", row.code, row.status.as_u16(), row.text.of(error))
    };
    let mut lines = KINDS.map(|kind| line(format!("{kind:?}"), &Error::new(kind, "<sentence>"))).to_vec();
    let missing = required::<()>("<name>", None).expect_err("missing");
    lines.push(line("Invalid (missing)".to_owned(), &missing));
    golden("v2_kinds.txt", &lines.join("\n"));
}

#[test]
fn only_faults_of_ours_are_told_as_such() {
    for kind in KINDS {
        let row = row(&Error::new(kind, "x"));
        assert_eq!(row.status.is_server_error(), kind.server_fault(), "{kind:?}");
        // What the clients of the vendor repeat in vain otherwise.
        assert_eq!(row.status == StatusCode::TOO_MANY_REQUESTS, kind == Kind::Busy, "{kind:?}");
    }
    for row in ALL {
        assert!(!row.status.is_success(), "{row:?}");
        assert!(row.code.chars().all(|c| c.is_ascii_alphanumeric() || c == '.'), "{row:?}");
    }
}

#[test]
fn places_have_statuses_of_their_own() {
    let status = |failure: &Failure| (row_of(failure).code, row_of(failure).status.as_u16());
    let large = || Error::new(Kind::TooLarge, "too large");
    assert_eq!(status(&Failure::unknown_path()), ("NotImplemented", 404));
    assert_eq!(status(&Failure::wrong_method()), ("NotImplemented", 405));
    assert_eq!(status(&Failure::of_body(large())), ("InvalidParameter", 413));
    assert_eq!(status(&Failure::of_call(large())), ("InvalidParameter", 400));
    assert_eq!(status(&Failure::from(Error::new(Kind::Busy, "x"))), ("TooManyRequests", 429));
}
