//! Percent-encoding of paths and query strings, as it comes in.

use std::borrow::Cow;

/// The bytes that `%XX` (and, in a query, `+`) stand for; `None` for a malformed escape.
pub(crate) fn decode(text: &str, plus_is_blank: bool) -> Option<Cow<'_, [u8]>> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|b| *b == b'%' || (plus_is_blank && *b == b'+')) {
        return Some(Cow::Borrowed(bytes));
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    let digit = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16)).and_then(|n| u8::try_from(n).ok());
    while let Some(&b) = rest.next() {
        out.push(match b {
            b'%' => digit(rest.next())? << 4 | digit(rest.next())?,
            b'+' if plus_is_blank => b' ',
            _ => b,
        });
    }
    Some(Cow::Owned(out))
}

/// Decoded key and value.
pub(crate) type Pair<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// The pairs of a query string in the order they came; `None` for a malformed escape.
pub(crate) fn pairs(query: &str) -> Option<Vec<Pair<'_>>> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            Some((decode(key, true)?, decode(value, true)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_once_or_refused() {
        assert_eq!(decode("a%20b+c%2B", false).as_deref(), Some(&b"a b+c+"[..]));
        assert_eq!(decode("a%20b+c%252B", true).as_deref(), Some(&b"a b c%2B"[..]));
        for bad in ["%", "%4", "a%zz", "%+1", "%-1"] {
            assert_eq!(decode(bad, true), None, "{bad}");
        }
    }

    #[test]
    fn pairs_keep_their_order_and_empty_values() {
        let text = |query| -> Option<Vec<String>> {
            let all = pairs(query)?;
            Some(all.iter().map(|(k, v)| format!("{}:{}", k.escape_ascii(), v.escape_ascii())).collect())
        };
        assert_eq!(text("b=1&a=2&b=3&c&&=x").unwrap_or_default(), ["b:1", "a:2", "b:3", "c:", ":x"]);
        assert_eq!(text("a=b=c").unwrap_or_default(), ["a:b=c"]);
        assert_eq!(text("").unwrap_or_default(), [""; 0]);
        assert_eq!(text("a=%g"), None);
    }
}
