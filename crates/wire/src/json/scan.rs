//! A look over a body before anything is parsed: how deep it nests, and where a list of rows stands. Not a parser: text
//! that is no JSON passes.

use std::ops::Range;

use knarr_base::{Result, limit};

use super::invalid;

/// Bytes skipped at once where none of them tells anything: most of a body is digits of vectors.
const PIECE: usize = 32;

/// Where a scan is.
#[derive(Default)]
struct Scan {
    depth: usize,
    in_text: bool,
    escaped: bool,
    /// The last string of the outermost object, without its quotes.
    text: Range<usize>,
    list: Option<Range<usize>>,
}

/// Refuses nesting deeper than [`limit::JSON_DEPTH`] and finds the list that is member `name` of the outermost object.
/// The first one counts; a name spelled with escapes is not found.
///
/// # Errors
/// `Kind::Invalid` for deeper nesting.
pub(super) fn find_list(body: &[u8], name: Option<&str>) -> Result<Option<Range<usize>>> {
    let telling = |b: u8| matches!(b | 0x20, b'{' | b'}') || b == b'"';
    let mut scan = Scan::default();
    for (piece, start) in body.chunks(PIECE).zip((0..).step_by(PIECE)) {
        if !scan.in_text && !piece.iter().fold(false, |any, &b| any | telling(b)) {
            continue;
        }
        for (byte, at) in piece.iter().zip(start..) {
            scan.step(*byte, at, body, name);
            if scan.depth > limit::JSON_DEPTH {
                return Err(invalid(format!("body is nested deeper than {}", limit::JSON_DEPTH)));
            }
        }
    }
    Ok(scan.list.filter(|list| list.end > list.start))
}

impl Scan {
    fn step(&mut self, byte: u8, at: usize, body: &[u8], name: Option<&str>) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.in_text => self.escaped = true,
            b'"' => {
                self.in_text = !self.in_text;
                match (self.depth, self.in_text) {
                    (1, true) => self.text = at + 1..at + 1,
                    (1, false) => self.text.end = at,
                    _ => {}
                }
            }
            _ if self.in_text => {}
            b'{' | b'[' => {
                if byte == b'[' && self.depth == 1 && self.list.is_none() && self.names(body, at, name) {
                    self.list = Some(at..at);
                }
                self.depth += 1;
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if let Some(list) = &mut self.list
                    && self.depth == 1
                    && list.start == list.end
                {
                    list.end = at + 1;
                }
            }
            _ => {}
        }
    }

    /// True if the value that begins at `at` is the member `name`.
    fn names(&self, body: &[u8], at: usize, name: Option<&str>) -> bool {
        let between = body.get(self.text.end + 1..at).unwrap_or_default();
        name.is_some_and(|name| body[self.text.clone()] == *name.as_bytes()) && between.trim_ascii() == b":"
    }
}
