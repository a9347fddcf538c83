//! One JSON object per line; blank lines are skipped.

use std::io::{BufRead, Read};

use knarr_base::limit;
use serde_json::value::RawValue;

use super::{Batch, Builder, Error};

/// Bytes of a line; the server would refuse a longer one.
const LINE_BYTES: u64 = limit::BODY_BYTES as u64 / 2;

/// Batches of a JSON lines file; ends after the first error.
pub struct JsonlBatches<R> {
    input: R,
    line: u64,
    position: u64,
    ended: bool,
}

/// Reads as it goes: one batch is in memory at a time.
pub fn jsonl_batches<R: BufRead>(input: R) -> JsonlBatches<R> {
    JsonlBatches { input, line: 0, position: 0, ended: false }
}

impl<R: BufRead> JsonlBatches<R> {
    fn next_batch(&mut self) -> Result<Option<Batch>, Error> {
        let mut batch = Builder::new();
        let mut line = String::new();
        while !batch.full() {
            line.clear();
            let read = (&mut self.input).take(LINE_BYTES + 1).read_line(&mut line)? as u64;
            if read == 0 {
                break;
            }
            self.line += 1;
            self.position += read;
            let row = line.trim();
            if !row.is_empty() {
                self.check(row, read)?;
                batch.next_row().push_str(row);
            }
        }
        Ok(batch.finish(self.position))
    }

    /// A line that breaks the array around it would make the server refuse all rows of the call, naming none.
    fn check(&self, row: &str, read: u64) -> Result<(), Error> {
        let bad = |why: String| Err(Error::Line { line: self.line, why });
        if read > LINE_BYTES {
            return bad(format!("longer than {LINE_BYTES} bytes"));
        }
        if !row.starts_with('{') {
            return bad("not a JSON object".to_owned());
        }
        match serde_json::from_str::<&RawValue>(row) {
            Ok(_) => Ok(()),
            Err(error) => bad(error.to_string()),
        }
    }
}

impl<R: BufRead> Iterator for JsonlBatches<R> {
    type Item = Result<Batch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.next_batch().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}
