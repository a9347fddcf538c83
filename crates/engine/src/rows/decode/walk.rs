//! The structure of a call's JSON, without looking at its grammar again.
//!
//! Most of a call's text is digits of vectors. Whoever checked the text once need not scan them a second time to find
//! where each vector ends: [`RawValue`] is the proof that the text is JSON, and the walk relies on nothing else.

use std::borrow::Cow;

use serde_json::value::RawValue;

/// A place in a JSON text: before a value, before a separator, or at the end.
pub(super) struct Walk<'j> {
    text: &'j str,
    at: usize,
}

impl<'j> Walk<'j> {
    pub(super) fn new(json: &'j RawValue) -> Self {
        Self { text: json.get(), at: 0 }
    }

    /// What is left; it begins with a value where one is due.
    pub(super) fn rest(&self) -> &'j str {
        &self.text[self.at..]
    }

    /// Goes past the first `bytes` of [`Walk::rest`].
    pub(super) fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }

    fn peek(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|b| b.is_ascii_whitespace()).count();
        self.text.as_bytes().get(self.at).copied()
    }

    /// Enters an array or object if that is what comes.
    pub(super) fn enter(&mut self, bracket: u8) -> bool {
        let enters = self.peek() == Some(bracket);
        self.at += usize::from(enters);
        enters
    }

    /// True before the next element; false past the end of the array or object, which closes with `bracket`.
    pub(super) fn next(&mut self, bracket: u8) -> bool {
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                self.peek();
                true
            }
            Some(found) if found == bracket => {
                self.at += 1;
                false
            }
            found => found.is_some(),
        }
    }

    /// The name of a member; the walk is at its value then.
    ///
    /// # Errors
    /// For an escape that means no character: text may hold those.
    pub(super) fn name(&mut self) -> Result<Cow<'j, str>, serde_json::Error> {
        let quoted = self.value();
        // Behind it stands a colon, perhaps among blanks.
        self.peek();
        self.at += 1;
        self.peek();
        let plain = &quoted[1..quoted.len() - 1];
        if plain.contains('\\') { serde_json::from_str(quoted).map(Cow::Owned) } else { Ok(Cow::Borrowed(plain)) }
    }

    /// The text of the value that comes.
    pub(super) fn value(&mut self) -> &'j str {
        self.peek();
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let length = match bytes.first() {
            Some(b'"') => quoted(bytes),
            Some(b'[' | b'{') => nested(bytes),
            _ => bytes.iter().take_while(|b| !matches!(b, b',' | b']' | b'}') && !b.is_ascii_whitespace()).count(),
        };
        self.at += length;
        &rest[..length]
    }
}

/// Bytes of the string at the beginning, with its quotes.
fn quoted(text: &[u8]) -> usize {
    let mut at = 1;
    loop {
        match text.get(at) {
            Some(b'\\') => at += 2,
            Some(b'"') | None => return (at + 1).min(text.len()),
            Some(_) => at += 1,
        }
    }
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
    fn walked(walk: &mut Walk<'_>) -> Value {
        if walk.enter(b'[') {
            let mut list = Vec::new();
            while walk.next(b']') {
                list.push(walked(walk));
            }
            return Value::Array(list);
        }
        if walk.enter(b'{') {
            let mut map = serde_json::Map::new();
            while walk.next(b'}') {
                let name = walk.name().unwrap().into_owned();
                map.insert(name, walked(walk));
            }
            return Value::Object(map);
        }
        serde_json::from_str(walk.value()).unwrap()
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
            let raw = RawValue::from_string(text.unwrap()).unwrap();
            prop_assert_eq!(walked(&mut Walk::new(&raw)), value.clone());
            let mut walk = Walk::new(&raw);
            prop_assert_eq!(walk.value(), raw.get());
            prop_assert_eq!(walk.rest(), "");
        }
    }
}
