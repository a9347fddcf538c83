//! Operations on ranked rows (docs/wire/vikingdb.md section 2.6).
//!
//! Patterns come from outside: they are compiled to bounded automata that read each text once, and the text that one
//! search may give them is bounded too.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_schema::DataType;
use knarr_base::schema::Schema;
use knarr_base::search::{Post, PostOp};
use knarr_base::{Kind, limit};
use regex::{Regex, RegexBuilder};

use super::found::Hit;
use crate::columns;
use crate::compute::Cancel;
use crate::error::{Error, Result};

/// An operation bound to a column.
#[derive(Debug)]
pub(super) struct Op {
    column: usize,
    test: Test,
}

#[derive(Debug)]
enum Test {
    Matches(Arc<Regex>),
    Contains(String),
    AtMost(u64),
}

/// Binds operations that `Search::check` has passed.
///
/// # Errors
/// `Search` for a pattern that is malformed or too large.
pub(super) fn compile(post: &Post, schema: &Schema) -> Result<Vec<Op>> {
    let bind = |op: &PostOp| {
        let (field, test) = match op {
            PostOp::Match { field, pattern } => (field, Test::Matches(Arc::new(regex(pattern)?))),
            PostOp::Like { field, pattern } => (field, Test::Matches(Arc::new(regex(&like(pattern))?))),
            PostOp::Contain { field, pattern } => (field, Test::Contains(pattern.clone())),
            PostOp::PerValue { field, threshold } => (field, Test::AtMost(*threshold)),
        };
        let column = columns::named_column(schema, field).expect("Search::check looked it up");
        Ok(Op { column, test })
    };
    post.ops.iter().map(bind).collect()
}

fn regex(pattern: &str) -> Result<Regex> {
    let mut builder = RegexBuilder::new(pattern);
    builder.size_limit(limit::PATTERN_COMPILED_BYTES).dfa_size_limit(limit::PATTERN_COMPILED_BYTES);
    builder.build().map_err(|error| refused(format!("pattern: {error}")))
}

/// SQL's LIKE as a regular expression.
fn like(pattern: &str) -> String {
    let mut out = String::from("(?s)^");
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        match c {
            '%' => out.push_str(".*"),
            '_' => out.push('.'),
            // At the end of a pattern it stands for itself.
            '\\' => out.push_str(&regex::escape(rest.next().unwrap_or('\\').encode_utf8(&mut [0; 4]))),
            c => out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    out.push('$');
    out
}

/// The rows that every operation leaves, in their order.
///
/// # Errors
/// `Search` if patterns would have to read more than `limit::PATTERN_TEXT_BYTES`; `Cancelled`.
pub(super) fn apply(ops: &[Op], hits: Vec<Hit>, cancel: &Cancel) -> Result<Vec<Hit>> {
    let mut left = hits;
    let mut read = 0;
    for op in ops {
        left = op.apply(left, &mut read, cancel)?;
    }
    Ok(left)
}

impl Op {
    fn apply(&self, hits: Vec<Hit>, read: &mut usize, cancel: &Cancel) -> Result<Vec<Hit>> {
        let mut kept = Vec::with_capacity(hits.len());
        let mut seen: HashMap<Value, u64> = HashMap::new();
        for hit in hits {
            cancel.check()?;
            let stays = match &self.test {
                Test::AtMost(threshold) => {
                    let count = seen.entry(value(hit.batch.column(self.column), hit.row)).or_default();
                    *count += 1;
                    *count <= *threshold
                }
                Test::Matches(pattern) => text(&hit, self.column, read)?.is_some_and(|text| pattern.is_match(text)),
                Test::Contains(part) => text(&hit, self.column, read)?.is_some_and(|text| text.contains(part)),
            };
            if stays {
                kept.push(hit);
            }
        }
        Ok(kept)
    }
}

/// A row's text, counted; `None` where it is absent.
fn text<'a>(hit: &'a Hit, column: usize, read: &mut usize) -> Result<Option<&'a str>> {
    let texts = hit.batch.column(column).as_string::<i32>();
    if texts.is_null(hit.row) {
        return Ok(None);
    }
    let text = texts.value(hit.row);
    *read += text.len();
    if *read > limit::PATTERN_TEXT_BYTES {
        let most = limit::PATTERN_TEXT_BYTES;
        return Err(refused(format!("post_process_ops would read more than {most} bytes of text")));
    }
    Ok(Some(text))
}

#[derive(PartialEq, Eq, Hash)]
enum Value {
    Int(i64),
    Text(Box<str>),
    Bool(bool),
}

fn value(column: &dyn Array, row: usize) -> Value {
    match column.data_type() {
        DataType::Int64 => Value::Int(column.as_primitive::<Int64Type>().value(row)),
        DataType::Boolean => Value::Bool(column.as_boolean().value(row)),
        _ => Value::Text(column.as_string::<i32>().value(row).into()),
    }
}

fn refused(text: String) -> Error {
    Error::Search(knarr_base::Error::new(Kind::Invalid, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_is_sqls() {
        let fits = |pattern: &str, text: &str| regex(&like(pattern)).expect("compiles").is_match(text);
        for (pattern, text) in [
            ("doc2%", "doc2"),
            ("doc2%", "doc21\nx"),
            ("%x%", "axb"),
            ("a_c", "a北c"),
            ("a\\%c", "a%c"),
            ("a\\_", "a_"),
            ("a\\", "a\\"),
            ("(.*)", "(.*)"),
            ("", ""),
            ("\\北", "北"),
        ] {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("doc2%", "xdoc2"),
            ("doc2", "doc21"),
            ("a_c", "ac"),
            ("a\\%c", "abc"),
            ("a.c", "abc"),
            ("", "x"),
            ("a", "A"),
        ] {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn patterns_are_bounded() {
        for good in [r"^\w+@\w+\.com$", "(?i)北京", r"\d{3,4}", "a|b|c", r"\p{Han}+"] {
            assert!(regex(good).is_ok(), "{good}");
        }
        for bad in ["(", r"(a)\1", "(?=a)", r"\w{1000}{100}", "((((a{100}){100}){100}){100})", "a{2,1}"] {
            assert!(regex(bad).is_err(), "{bad}");
        }
        let deep = "(".repeat(500) + "a" + &")".repeat(500);
        assert!(regex(&deep).is_err());
    }
}
