//! Ids, one newtype each, with parsing and printing beside it.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::{Error, Kind};

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// A new random id.
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }

            /// The 128 bits, for storage.
            pub fn as_u128(self) -> u128 {
                self.0.as_u128()
            }

            /// From the 128 bits.
            pub fn from_u128(bits: u128) -> Self {
                Self(Uuid::from_u128(bits))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            /// The hyphenated lower-case form only (8-4-4-4-12).
            fn from_str(text: &str) -> Result<Self, Error> {
                let id = Uuid::parse_str(text)
                    .map_err(|_| Error::new(Kind::Invalid, concat!("malformed ", $what)))?;
                if id.hyphenated().to_string() == text {
                    Ok(Self(id))
                } else {
                    Err(Error::new(Kind::Invalid, concat!("malformed ", $what)))
                }
            }
        }
    };
}

uuid_id!(
    /// The incarnation of a collection or dataset version: one table. A collection dropped and made again under the
    /// same name has another one, so a task of the old one can never touch the new.
    TableId,
    "table id"
);
uuid_id!(
    /// The incarnation of an index: dropped and made again under the same name, it has another one.
    IndexId,
    "index id"
);
uuid_id!(
    /// One durable bulk job, as clients see it.
    TaskId,
    "task id"
);

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// Wraps a text that has been checked where it was made.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// Who owns names and keys. One, `default`, until someone makes another.
    AccountId
);
text_id!(
    /// The public half of an access key (`AKLT...`).
    KeyId
);

impl AccountId {
    /// The account that exists from the start.
    pub fn default_account() -> Self {
        Self::new("default")
    }
}

/// A collection, index, field or alias name: `^[A-Za-z][A-Za-z0-9_]{0,127}$`, case-sensitive
/// (docs/wire/vikingdb.md section 2.2).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// Checks the rule; the error names `what` ("collection_name", ...).
    pub fn parse(what: &str, text: &str) -> Result<Self, Error> {
        let mut bytes = text.bytes();
        let first = bytes.next().is_some_and(|b| b.is_ascii_alphabetic());
        if first && text.len() <= crate::limit::NAME_BYTES && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::new(
                Kind::Invalid,
                format!("{what} must start with a letter and hold 1 to 128 letters, digits or underscores"),
            ))
        }
    }

    /// A name of ours, which the rule keeps out of every request.
    pub(crate) fn reserved(text: &'static str) -> Self {
        Self(text.to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        for good in ["a", "Z9_", "example", &"x".repeat(128)] {
            assert!(Name::parse("n", good).is_ok(), "{good}");
        }
        for bad in ["", "_a", "1a", "a-b", "a b", "é", "a\0", &"x".repeat(129)] {
            assert!(Name::parse("n", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn task_ids_have_one_spelling() {
        let id = TaskId::random();
        assert_eq!(id.to_string().parse::<TaskId>().ok(), Some(id));
        assert!(
            id.to_string().to_uppercase().parse::<TaskId>().is_err() || id.to_string().to_uppercase() == id.to_string()
        );
        assert!(id.to_string().replace('-', "").parse::<TaskId>().is_err());
    }
}
