//! Visitors of one value's JSON. They push into the [`Decoder`]'s builders and leave every refusal with it.

use std::borrow::Cow;
use std::fmt;

use knarr_base::limit;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Decoder, shorten};
use crate::rows::column::Builder;
use crate::rows::vector::parse_float;

/// A member's value, into its slot: of any type but float32 and dense vector.
pub(super) struct ValueSeed<'a, 's> {
    pub(super) decoder: &'a mut Decoder<'s>,
    pub(super) at: usize,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl ValueSeed<'_, '_> {
    fn is_key(&self) -> bool {
        self.decoder.key == Some(self.at)
    }

    fn wrong_type<E: de::Error>(self, found: &str) -> E {
        let why = format!("expected {}, got {found}", self.decoder.slots[self.at].kind.name());
        self.decoder.fail_at(self.at, why)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.decoder.slots[self.at].kind.name())
    }

    /// Null means not given.
    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        match &mut self.decoder.slots[self.at].column {
            Builder::Bool(out) => out.append_value(value),
            _ => return Err(self.wrong_type("a boolean")),
        }
        self.decoder.gave(self.at, 1);
        Ok(())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        match &mut self.decoder.slots[self.at].column {
            Builder::Int(out) => out.push(value),
            _ => return Err(self.wrong_type("a number")),
        }
        self.decoder.gave(self.at, 8);
        Ok(())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => Err(self.wrong_type("an integer beyond 64 bits")),
        }
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        Err(self.wrong_type("a number with a fraction, an exponent or too many digits"))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        let is_key = self.is_key();
        match &mut self.decoder.slots[self.at].column {
            Builder::Str(_) if is_key && value.len() > limit::KEY_BYTES => {
                let why = format!("a key holds at most {} bytes", limit::KEY_BYTES);
                return Err(self.decoder.fail_at(self.at, why));
            }
            Builder::Str(out) => out.append_value(value),
            // The vendor's documents show integer keys in quotes.
            Builder::Int(out) if is_key && !value.starts_with('+') => match value.parse() {
                Ok(key) => {
                    out.push(key);
                    self.decoder.gave(self.at, 8);
                    return Ok(());
                }
                Err(_) => return Err(self.wrong_type("a string")),
            },
            _ => return Err(self.wrong_type("a string")),
        }
        self.decoder.gave(self.at, value.len());
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let (mut bytes, mut count) = (0, 0);
        match &mut self.decoder.slots[self.at].column {
            Builder::IntList(list) => {
                while let Some(value) = elements.next_element()? {
                    list.elements.push(value);
                    bytes += 8;
                    count += 1;
                    if count > limit::LIST_ELEMENTS {
                        return Err(self.too_many());
                    }
                }
                list.end();
            }
            Builder::StrList(list) => {
                while let Some(text) = elements.next_element_seed(Text)? {
                    bytes += text.len();
                    list.elements.append_value(text);
                    count += 1;
                    if count > limit::LIST_ELEMENTS {
                        return Err(self.too_many());
                    }
                }
                list.end();
            }
            Builder::Sparse { .. } => {
                let mut weights = Vec::new();
                while elements.next_element_seed(Entry(&mut weights))?.is_some() {}
                return self.sparse(weights);
            }
            _ => return Err(self.wrong_type("an array")),
        }
        self.decoder.gave(self.at, bytes);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<(), A::Error> {
        if !matches!(self.decoder.slots[self.at].column, Builder::Sparse { .. }) {
            return Err(self.wrong_type("an object"));
        }
        let mut weights = Vec::new();
        read_weights(members, &mut weights)?;
        self.sparse(weights)
    }
}

impl<'de> ValueSeed<'_, '_> {
    fn too_many<E: de::Error>(self) -> E {
        self.decoder.fail_at(self.at, format!("a list holds at most {} elements", limit::LIST_ELEMENTS))
    }

    /// A sparse vector, its tokens sorted by bytes.
    fn sparse<E: de::Error>(self, mut entries: Weights<'de>) -> Result<(), E> {
        entries.sort_unstable_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let why = format!("the token {:?} appears twice", shorten(&pair[0].0));
            return Err(self.decoder.fail_at(self.at, why));
        }
        let mut bytes = 0;
        let Builder::Sparse { lists, weights, present } = &mut self.decoder.slots[self.at].column else {
            unreachable!("callers looked at the column")
        };
        for (token, weight) in &entries {
            match parse_float(weight) {
                Ok(weight) => weights.push(weight),
                Err(why) => {
                    let why = format!("weight of {:?}: {why}", shorten(token));
                    return Err(self.decoder.fail_at(self.at, why));
                }
            }
            lists.elements.append_value(token);
            bytes += token.len() + 4;
        }
        lists.end();
        present.append_non_null();
        self.decoder.gave(self.at, bytes);
        Ok(())
    }
}

/// Tokens with the text of their weights.
type Weights<'de> = Vec<(Cow<'de, str>, &'de str)>;

fn read_weights<'de, A: MapAccess<'de>>(mut members: A, out: &mut Weights<'de>) -> Result<(), A::Error> {
    while let Some(token) = members.next_key_seed(Text)? {
        out.push((token, members.next_value::<&RawValue>()?.get()));
    }
    Ok(())
}

/// An element of a sparse vector written as a list: an object of one token.
struct Entry<'a, 'de>(&'a mut Weights<'de>);

impl<'de> DeserializeSeed<'de> for Entry<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Entry<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of one token and its weight")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<(), A::Error> {
        let before = self.0.len();
        read_weights(members, self.0)?;
        if self.0.len() == before + 1 { Ok(()) } else { Err(de::Error::invalid_length(self.0.len() - before, &self)) }
    }
}

/// A string, borrowed from the call's text where it holds no escapes.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}
