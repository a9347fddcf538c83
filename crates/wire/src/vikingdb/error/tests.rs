use super::*;
use crate::testing::golden;

pub(crate) const KINDS: [Kind; 25] = [
    Kind::Unauthorized,
    Kind::Forbidden,
    Kind::Invalid,
    Kind::TooLarge,
    Kind::InvalidKey,
    Kind::InvalidFilter,
    Kind::CollectionMissing,
    Kind::CollectionExists,
    Kind::AliasMissing,
    Kind::IndexMissing,
    Kind::IndexExists,
    Kind::IndexNotReady,
    Kind::InvalidVector,
    Kind::InvalidPartition,
    Kind::EmbeddingFailed,
    Kind::RowMissing,
    Kind::TaskMissing,
    Kind::NotFound,
    Kind::Refused,
    Kind::Unsupported,
    Kind::Busy,
    Kind::Unavailable,
    Kind::DiskFull,
    Kind::Corrupt,
    Kind::Internal,
];

/// Every kind, as a caller sees it.
#[test]
fn the_table_of_kinds() {
    let line = |kind: Kind| {
        let (row, error) = (row(kind), Error::new(kind, "<sentence>"));
        format!("{:<18} {} {} {}", format!("{kind:?}"), row.code, row.status.as_u16(), row.text.of(&error))
    };
    golden("kinds.txt", &KINDS.map(line).join("\n"));
}

#[test]
fn rows_agree_with_the_specification() {
    for row in ALL {
        assert_eq!(row.label, row.code.to_string());
        assert!(!row.status.is_success());
    }
    // Go retries every 5xx, so only faults of ours may have one.
    for kind in KINDS {
        assert_eq!(row(kind).status.is_server_error(), kind.server_fault(), "{kind:?}");
    }
}

#[test]
fn sentences_are_cut_between_characters() {
    let long = "北".repeat(limit::ERROR_MESSAGE_BYTES);
    let error = Error::new(Kind::Invalid, long);
    let text = INVALID_REQUEST.text.of(&error);
    assert!(text.len() <= "invalid request:".len() + limit::ERROR_MESSAGE_BYTES);
    assert!(text.ends_with('北'));
}

/// Faults of ours have codes of their own per operation; everything else is the same everywhere.
#[test]
fn faults_are_told_by_what_was_asked() {
    let told = |call, kind| {
        let failure = Failure::of_call(Error::new(kind, "x"));
        row_of(Some(route::Call::Vikingdb(call)), &failure).code
    };
    for (call, code) in [
        (Call::Upsert, 1000014),
        (Call::UpdateRows, 1000014),
        (Call::DeleteRows, 1000013),
        (Call::Search, 1000021),
        (Call::IndexFetch, 1000022),
        (Call::TaskInfo, 1000028),
    ] {
        assert_eq!(told(call, Kind::Internal), code, "{call:?}");
        assert_eq!(told(call, Kind::Invalid), 1000003, "{call:?}");
        assert_eq!(told(call, Kind::EmbeddingFailed), 1000025, "{call:?}");
    }
    // Before the operation began, none of it has failed.
    let early = Failure::from(Error::new(Kind::Unavailable, "x"));
    assert_eq!(row_of(Some(route::Call::Vikingdb(Call::Upsert)), &early).code, 1000028);
}
