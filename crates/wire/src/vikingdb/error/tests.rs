use super::*;
use crate::testing::golden;

const KINDS: [Kind; 24] = [
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
    Kind::Corrupt,
    Kind::Internal,
];

/// Every kind, as a caller sees it.
#[test]
fn the_table_of_kinds() {
    let line = |kind: Kind| {
        let failure = Failure::from(Error::new(kind, "<sentence>"));
        format!("{:<18} {} {} {}", format!("{kind:?}"), failure.row.code, failure.row.status.as_u16(), failure.text())
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
    let failure = Failure::from(Error::new(Kind::Invalid, long));
    let text = failure.text();
    assert!(text.len() <= "invalid request:".len() + limit::ERROR_MESSAGE_BYTES);
    assert!(text.ends_with('北'));
}
