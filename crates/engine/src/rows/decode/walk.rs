//! The structure of a call's JSON: arrays, objects and where values stand. Strict, and no more than that: what stands in
//! a value is for its reader to check.

use std::borrow::Cow;

use crate::error::Error;

/// A place in a JSON text: before a value, before a separator, or at the end.
pub(super) struct Walk<'j> {
    text: &'j str,
    at: usize,
    /// True right after a bracket was entered.
    entered: bool,
}

impl<'j> Walk<'j> {
    pub(super) fn new(json: &'j str) -> Self {
        Self { text: json, at: 0, entered: false }
    }

    /// What is left; it begins with a value where one is due.
    pub(super) fn rest(&self) -> &'j str {
        &self.text[self.at..]
    }

    /// Goes past the first `bytes` of [`Walk::rest`].
    pub(super) fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }

    pub(super) fn malformed(&self) -> Error {
        Error::Rows(format!("malformed JSON at byte {}", self.at))
    }

    fn peek(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|b| matches!(b, b' ' | b'\n' | b'\r' | b'\t')).count();
        self.text.as_bytes().get(self.at).copied()
    }

    /// Enters an array or object if that is what comes.
    pub(super) fn enter(&mut self, bracket: u8) -> bool {
        let enters = self.peek() == Some(bracket);
        self.at += usize::from(enters);
        self.entered = enters;
        enters
    }

    /// True before the next element; false past the end of the array or object, which closes with `bracket`.
    pub(super) fn next(&mut self, bracket: u8) -> Result<bool, Error> {
        let first = std::mem::take(&mut self.entered);
        match self.peek() {
            Some(found) if found == bracket => {
                self.at += 1;
                Ok(false)
            }
            Some(_) if first => Ok(true),
            Some(b',') => {
                self.at += 1;
                // The reader of an element finds a closing bracket no element.
                self.peek();
                Ok(true)
            }
            _ => Err(self.malformed()),
        }
    }

    /// The name of a member; the walk is at its value then.
    pub(super) fn name(&mut self) -> Result<Cow<'j, str>, Error> {
        let quoted = self.value();
        let bytes = quoted.as_bytes();
        let plain = bytes.len() >= 2 && bytes.iter().all(|b| *b >= b' ' && *b != b'\\');
        let name = if plain && bytes[0] == b'"' {
            Cow::Borrowed(&quoted[1..quoted.len() - 1])
        } else {
            Cow::Owned(serde_json::from_str(quoted).map_err(|_| self.malformed())?)
        };
        if self.peek() != Some(b':') {
            return Err(self.malformed());
        }
        self.at += 1;
        self.peek();
        Ok(name)
    }

    /// The text of the value that comes, if it is one: empty at anything that begins none.
    pub(super) fn value(&mut self) -> &'j str {
        self.peek();
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let length = match bytes.first() {
            Some(b'"') => quoted(bytes),
            Some(b'[' | b'{') => nested(bytes),
            _ => bytes.iter().take_while(|b| !matches!(b, b',' | b':' | b']' | b'}' | b'"') && **b > b' ').count(),
        };
        self.at += length;
        &rest[..length]
    }

    /// Nothing may be left.
    pub(super) fn end(&mut self) -> Result<(), Error> {
        if self.peek().is_none() { Ok(()) } else { Err(self.malformed()) }
    }
}

/// Bytes of the string at the beginning, with its quotes; of all that is left if it does not end.
fn quoted(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// Bytes of the array or object at the beginning.
fn nested(text: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0usize);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                at += quoted(&text[at..]);
                continue;
            }
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    /// What a walk finds, put together again.
    fn walked(walk: &mut Walk<'_>) -> Result<Value, Error> {
        if walk.enter(b'[') {
            let mut list = Vec::new();
            while walk.next(b']')? {
                list.push(walked(walk)?);
            }
            return Ok(Value::Array(list));
        }
        if walk.enter(b'{') {
            let mut map = serde_json::Map::new();
            while walk.next(b'}')? {
                let name = walk.name()?.into_owned();
                map.insert(name, walked(walk)?);
            }
            return Ok(Value::Object(map));
        }
        serde_json::from_str(walk.value()).map_err(|_| walk.malformed())
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[\\[\\]{},:\"\\\\ a\n\u{e9}]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[{},:\"\\\\ a]{0,3}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_walk_finds_what_the_parser_finds(value in any_json(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let text = text.unwrap();
            let mut walk = Walk::new(&text);
            prop_assert_eq!(walked(&mut walk).unwrap(), value.clone());
            prop_assert!(walk.end().is_ok());
            let mut walk = Walk::new(&text);
            prop_assert_eq!(walk.value(), &text);
            prop_assert_eq!(walk.rest(), "");
        }

        #[test]
        fn a_walk_refuses_what_the_parser_refuses(text in "[\\[\\]{}:,\" a1\\\\-]{0,12}") {
            let mut walk = Walk::new(&text);
            let found = walked(&mut walk).and_then(|value| walk.end().map(|()| value));
            prop_assert_eq!(found.ok(), serde_json::from_str(&text).ok(), "{}", text);
        }
    }
}
