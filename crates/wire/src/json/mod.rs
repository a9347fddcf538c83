//! Strict JSON: no duplicate members, no NaN, no lone surrogates, integers exact, nesting bounded.
//!
//! The body's top level keeps its members as raw text, so that rows reach the engine unparsed and a task's parameters
//! are echoed as they came; everything else becomes a [`Value`].

mod value;

use std::borrow::Cow;
use std::fmt;

use knarr_base::{Error, Kind, Result, limit};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

pub(crate) use value::{Members, Value, flag, int, text};

/// The members of a body, each with its raw text.
#[derive(Debug, Default)]
pub(crate) struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> {
    /// Parses a body. Nothing, white space and `null` are an empty object.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self> {
        let text = std::str::from_utf8(body).map_err(|_| invalid("body is not UTF-8"))?;
        if text.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        check_depth(body)?;
        serde_json::from_str(text).map_err(|e| invalid(format!("body is not a JSON object: {e}")))
    }

    /// True without members.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A member's raw text; `null` is text too.
    pub(crate) fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(member, _)| member == name).map(|(_, raw)| *raw)
    }
}

/// Parses the raw text of one parameter.
pub(crate) fn parse(name: &str, raw: &str) -> Result<Value> {
    serde_json::from_str(raw).map_err(|e| invalid(format!("{name}: {e}")))
}

/// Appends `text` as a JSON string.
pub(crate) fn write_text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a string can always be written into memory");
}

pub(crate) fn invalid(text: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, text)
}

/// Refuses nesting deeper than [`limit::JSON_DEPTH`] before anything is parsed. Not a parser: malformed text passes.
fn check_depth(body: &[u8]) -> Result<()> {
    // Most bytes of a body are digits of vectors: pieces without a bracket or quote are skipped whole.
    const PIECE: usize = 32;
    let telling = |b: u8| matches!(b | 0x20, b'{' | b'}') || b == b'"';
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    for piece in body.chunks(PIECE) {
        if !in_text && !piece.iter().fold(false, |any, &b| any | telling(b)) {
            continue;
        }
        for &b in piece {
            match b {
                _ if escaped => escaped = false,
                b'\\' if in_text => escaped = true,
                b'"' => in_text = !in_text,
                _ if in_text => {}
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > limit::JSON_DEPTH {
                return Err(invalid(format!("body is nested deeper than {}", limit::JSON_DEPTH)));
            }
        }
    }
    Ok(())
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Walk;
        impl<'de> Visitor<'de> for Walk {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_unit<E>(self) -> Result<Object<'de>, E> {
                Ok(Object::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some((Text(name), raw)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    members.push((name, raw));
                }
                refuse_duplicates(members.iter().map(|(name, _)| name.as_ref()))?;
                Ok(Object(members))
            }
        }
        deserializer.deserialize_any(Walk)
    }
}

/// A string that borrows where it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Walk;
        impl<'de> Visitor<'de> for Walk {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Walk)
    }
}

/// Two members of one name could be read in two ways.
fn refuse_duplicates<'n, E: de::Error>(names: impl Iterator<Item = &'n str>) -> Result<(), E> {
    let mut sorted: Vec<&str> = names.collect();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(E::custom(format!("member {:?} is given twice", pair[0]))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
