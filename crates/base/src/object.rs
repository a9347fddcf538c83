//! Bucket names and object keys. The only way a name from outside becomes a place in a store (threat model H7).

use std::fmt;

use unicode_normalization::is_nfc;

use crate::limit::{BUCKET_NAME_BYTES, OBJECT_KEY_BYTES};
use crate::{Error, Kind};

/// A bucket: 3 to 63 of lower-case letters, digits and `-`, starting and ending with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BucketName(String);

impl BucketName {
    /// Checks the rule, which is the intersection of what S3, TOS and BOS accept.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let bytes = text.as_bytes();
        let ok = (3..=BUCKET_NAME_BYTES).contains(&bytes.len())
            && edge(bytes.first())
            && edge(bytes.last())
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
        if ok {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::new(
                Kind::Invalid,
                "bucket must hold 3 to 63 lower-case letters, digits or '-', with a letter or digit at both ends",
            ))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The path of an object inside its bucket: parts joined by `/`.
///
/// Refused, never normalised: empty parts, `.`, `..`, a leading or trailing `/`, backslash, `%`, control characters,
/// text that is not in Unicode normal form C, more than 1,024 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// Checks every rule above.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bad = |why: &str| Err(Error::new(Kind::Invalid, format!("object key {why}")));
        if text.is_empty() || text.len() > OBJECT_KEY_BYTES {
            return bad("must hold 1 to 1024 bytes");
        }
        if text.chars().any(|c| c == '\\' || c == '%' || c.is_control()) {
            return bad("must not hold a backslash, a percent sign or a control character");
        }
        if text.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return bad("must not hold an empty part, '.' or '..', nor begin or end with '/'");
        }
        if text.split('/').any(|part| part.len() > 255) {
            return bad("must not hold a part of more than 255 bytes");
        }
        if !is_nfc(text) {
            return bad("must be in Unicode normal form C");
        }
        Ok(Self(text.to_owned()))
    }

    /// This key with one more part. `part` is checked like a whole key.
    pub fn child(&self, part: &str) -> Result<Self, Error> {
        Self::parse(&format!("{}/{part}", self.0))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A `tos_path`: `bucket/dir`, both parts checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObjectPath {
    /// The bucket before the first `/`.
    pub bucket: BucketName,
    /// Everything after it.
    pub key: ObjectKey,
}

impl ObjectPath {
    /// Splits at the first `/`; one trailing `/` of a directory is accepted.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let Some((bucket, key)) = text.split_once('/') else {
            return Err(Error::new(Kind::Invalid, "tos_path must be {bucket}/{path}"));
        };
        let key = key.strip_suffix('/').unwrap_or(key);
        Ok(Self { bucket: BucketName::parse(bucket)?, key: ObjectKey::parse(key)? })
    }
}

impl fmt::Display for ObjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bucket, self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Strings of past traversal advisories (zip slip, tar, object gateways), and their cousins.
    const TRAVERSALS: &[&str] = &[
        "",
        "/",
        ".",
        "..",
        "../x",
        "a/../b",
        "a/..",
        "/a",
        "a/",
        "a//b",
        "./a",
        "a/./b",
        "..\\x",
        "a\\b",
        "C:\\x",
        "%2e%2e/x",
        "a%2fb",
        "..%c0%af",
        "a\0b",
        "a\nb",
        "a\u{7f}",
        "a\u{85}",
        "....//\u{0}",
        "e\u{301}",
    ];

    #[test]
    fn object_keys_refuse_every_traversal() {
        for text in TRAVERSALS {
            assert!(ObjectKey::parse(text).is_err(), "{text:?}");
            assert!(ObjectPath::parse(&format!("bucket/{text}/..")).is_err(), "{text:?}");
        }
        assert!(ObjectKey::parse(&"x".repeat(1025)).is_err());
        assert!(ObjectKey::parse(&format!("{}/b", "x".repeat(256))).is_err());
        for good in
            ["a", "a/b.parquet", "北京/1.json", "\u{e9}", "...", "a..b", &["x".repeat(255).as_str(); 4].join("/")]
        {
            assert!(ObjectKey::parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn buckets_follow_the_common_rule() {
        for good in ["data-export", "abc", "0a0", &"b".repeat(63)] {
            assert!(BucketName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "ab", "-ab", "ab-", "Abc", "a.b.c", "a_b", "a/b", &"b".repeat(64)] {
            assert!(BucketName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_split_at_the_first_slash() {
        let path = ObjectPath::parse("data-export/task_example/").expect("valid");
        assert_eq!((path.bucket.as_str(), path.key.as_str()), ("data-export", "task_example"));
        for bad in ["bucket", "bucket/", "/x", "b/x", "bucket//x"] {
            assert!(ObjectPath::parse(bad).is_err(), "{bad}");
        }
    }
}
