//! Strict JSON: no duplicate members, no NaN, no lone surrogates, integers exact, nesting bounded.
//!
//! The body's top level keeps its members as raw text, so that rows reach the engine unparsed and a task's parameters
//! are echoed as they came; everything else becomes a [`Value`].

mod scan;
mod value;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use knarr_base::{Error, Kind, Result};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

pub(crate) use value::{Members, Value, flag, int, text};

/// The members of a body, each with its raw text.
#[derive(Debug, Default)]
pub(crate) struct Object<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'a> Object<'a> {
    /// Parses a body. Nothing, white space and `null` are an empty object.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self> {
        let text = utf8(body)?;
        if text.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        scan::find_list(body, None)?;
        Self::read(text)
    }

    /// As [`Object::parse`], but a list under `name` is found and not read: most of a body of rows is digits, and
    /// whoever takes them in checks every byte. Until then its grammar is unknown.
    pub(crate) fn parse_around(body: &'a [u8], name: &str) -> Result<Self> {
        let Some(list) = scan::find_list(body, Some(name))? else {
            return Self::parse(body);
        };
        let text = utf8(body)?;
        // If the body without the list is an object, and the list turns out to be a list, the body is an object.
        const EMPTY: &str = "[]";
        let rest = format!("{}{EMPTY}{}", &text[..list.start], &text[list.end..]);
        let Object(members) = Object::read(&rest)?;
        let place = |(member, raw): (Cow<'_, str>, &str)| {
            let at = raw.as_ptr().addr() - rest.as_ptr().addr();
            let range = match at.cmp(&list.start) {
                Ordering::Less => at..at + raw.len(),
                Ordering::Equal => list.clone(),
                Ordering::Greater => at - EMPTY.len() + list.len()..at - EMPTY.len() + list.len() + raw.len(),
            };
            (Cow::Owned(member.into_owned()), &text[range])
        };
        Ok(Self(members.into_iter().map(place).collect()))
    }

    fn read(text: &'a str) -> Result<Self> {
        serde_json::from_str(text).map_err(|e| invalid(format!("body is not a JSON object: {e}")))
    }

    /// True without members.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A member's raw text; `null` is text too.
    pub(crate) fn raw(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(member, _)| member == name).map(|(_, raw)| *raw)
    }

    /// Names of all members.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_ref())
    }

    /// A member, parsed; `null` counts as absent.
    pub(crate) fn value(&self, name: &str) -> Result<Option<Value>> {
        let value = self.raw(name).map(|raw| parse(name, raw)).transpose()?;
        Ok(value.filter(|value| *value != Value::Null))
    }

    /// A string member.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>> {
        text(name, self.value(name)?)
    }

    /// An integer member.
    pub(crate) fn int(&self, name: &str) -> Result<Option<i64>> {
        int(name, self.value(name)?)
    }

    /// A boolean member.
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>> {
        flag(name, self.value(name)?)
    }

    /// A numeric member; finite.
    pub(crate) fn number(&self, name: &str) -> Result<Option<f64>> {
        match self.value(name)? {
            None => Ok(None),
            Some(Value::Int(n)) => Ok(Some(n as f64)),
            Some(Value::Float(x)) => Ok(Some(x)),
            Some(_) => Err(invalid(format!("{name} must be a number"))),
        }
    }
}

fn utf8(body: &[u8]) -> Result<&str> {
    std::str::from_utf8(body).map_err(|_| invalid("body is not UTF-8"))
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
                    members.push((name, raw.get()));
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
