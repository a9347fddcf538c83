use knarr_base::Kind;
use knarr_base::id::KeyId;

use super::*;
use crate::testing::{NOW_MS, golden};
use crate::vikingdb::convert::write;

fn read(text: &str) -> Result<Vec<Grant>> {
    grants(json::parse("grants", text)?)
}

#[test]
fn grants_are_rights_on_patterns() {
    let given = read(r#"[{"rights":["read","export"],"pattern":"shop_*"},{"rights":["admin"],"pattern":"*"}]"#);
    let expected = [
        Grant { rights: vec![Right::Read, Right::Export], pattern: "shop_*".to_owned() },
        Grant { rights: vec![Right::Admin], pattern: "*".to_owned() },
    ];
    assert_eq!(given.expect("valid"), expected);
    for bad in [
        "[]",
        "{}",
        "[1]",
        r#"[{"rights":["read"]}]"#,
        r#"[{"pattern":"*"}]"#,
        r#"[{"rights":[],"pattern":"*"}]"#,
        r#"[{"rights":["Read"],"pattern":"*"}]"#,
        r#"[{"rights":["read",1],"pattern":"*"}]"#,
        r#"[{"rights":["read"],"pattern":""}]"#,
        r#"[{"rights":["read"],"pattern":"a*b"}]"#,
        r#"[{"rights":["read"],"pattern":"**"}]"#,
        r#"[{"rights":["read"],"pattern":"*","deny":["write"]}]"#,
    ] {
        assert_eq!(read(bad).map_err(|e| e.kind()), Err(Kind::Invalid), "{bad}");
    }
}

#[test]
fn names_are_checked_before_they_reach_a_store() {
    let args = |query: &'static str| Args::new(query, b"").expect("valid");
    assert_eq!(bucket(&args("bucket=data-export")).expect("valid").as_str(), "data-export");
    assert_eq!(object_key(&args("key=a%2Fb.parquet")).expect("valid").as_str(), "a/b.parquet");
    for bad in ["", "bucket=", "bucket=A", "bucket=..", "bucket=a&bucket=b"] {
        assert_eq!(bucket(&args(bad)).map_err(|e| e.kind()), Err(Kind::Invalid), "{bad}");
    }
    for bad in ["", "key=", "key=..%2Fx", "key=%2Fetc", "key=a%00", "key=a%252fb", "key=a%5Cb"] {
        assert_eq!(object_key(&args(bad)).map_err(|e| e.kind()), Err(Kind::Invalid), "{bad}");
    }
}

#[test]
fn prefixes_stay_inside_their_bucket() {
    let read = |text: &str| prefix("prefix", Some(text.to_owned()));
    assert_eq!(read("").expect("none"), None);
    for good in ["a", "a/", "a/b", "a/b."] {
        assert_eq!(read(good).expect("valid").as_deref(), Some(good));
    }
    for bad in ["/", "..", "../", "a/../b", "/a", "a//", "a\\b", "%2e", "a\u{7}"] {
        assert_eq!(read(bad).map_err(|e| e.kind()), Err(Kind::Invalid), "{bad}");
    }
}

#[test]
fn views_name_no_secret_but_a_new_one() {
    let grants = vec![Grant { rights: vec![Right::Read], pattern: "shop_*".to_owned() }];
    let valid =
        KeyInfo { id: KeyId::new("AKLT1"), label: "ci".to_owned(), grants, created_ms: NOW_MS, revoked_ms: None };
    let revoked = KeyInfo { id: KeyId::new("AKLT2"), revoked_ms: Some(NOW_MS), ..valid.clone() };
    let object_info = ObjectInfo {
        key: "dir/0.parquet".to_owned(),
        size: 4096,
        etag: "d41d8cd9".to_owned(),
        last_modified_ms: NOW_MS,
    };
    let name = BucketName::parse("data-export").expect("valid");
    let mut out = Vec::new();
    let mut line = |view: &dyn Fn(&mut Vec<u8>)| {
        view(&mut out);
        out.push(b'\n');
    };
    line(&|out| write(&NewKey { access_key: "AKLT1", secret_key: "shown once" }, out));
    line(&|out| write(&[key(&valid), key(&revoked)], out));
    line(&|out| write(&BucketCreated { bucket: name.as_str(), created: true }, out));
    line(&|out| write(&[bucket_view(&name, NOW_MS)], out));
    line(&|out| write(&[object(&object_info)], out));
    let undone = Undone { at_ms: NOW_MS, restored: 9, changed_since: 1, expired: 1 };
    let id: TaskId = "0c2d9d04-5a3d-4f0a-9e0b-0123456789ab".parse().expect("an id");
    line(&|out| write(&undo(id, &undone), out));
    golden("management.jsonl", String::from_utf8(out).expect("UTF-8").trim_end());
}
