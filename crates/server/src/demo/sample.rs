//! The handwritten digits that the binary carries, and rows compared with them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;

use knarr_engine::decode::parquet_batches;
use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::output::Row;

/// UCI's test set, 1,797 rows; testdata/samples/README.md names its authors and licence.
const PARQUET: &[u8] = include_bytes!("../../../../testdata/samples/digits.parquet");

/// The truth that the demo is checked against.
pub(super) struct Digits {
    /// Path of the unpacked file.
    pub(super) file: String,
    /// In order of `id`, which counts from 0.
    pub(super) rows: Vec<Row>,
}

impl Digits {
    /// Writes the file to `path` and reads it.
    pub(super) fn unpack(path: &Path) -> Result<Self> {
        fs::write(path, PARQUET)?;
        Ok(Self { file: path.display().to_string(), rows: read(path)? })
    }

    /// Ids of the rows that show one of these digits.
    pub(super) fn chosen(&self, digits: &[i64]) -> BTreeSet<i64> {
        let shows = |row: &&Row| row.get("digit").and_then(Value::as_i64).is_some_and(|d| digits.contains(&d));
        self.rows.iter().filter(shows).filter_map(id).collect()
    }

    /// True if `row` is, in every member, the row of the same id.
    pub(super) fn same(&self, row: &Row) -> bool {
        let at = id(row).and_then(|id| usize::try_from(id).ok());
        let truth = at.and_then(|at| self.rows.get(at));
        truth.is_some_and(|truth| truth.0.iter().all(|(name, value)| row.get(name).is_some_and(|v| equal(v, value))))
    }
}

/// Numbers by value: `0` and `0.0` are two texts of one number.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (a, b) => a == b,
    }
}

/// The row's key.
pub(super) fn id(row: &Row) -> Option<i64> {
    row.get("id").and_then(Value::as_i64)
}

/// All rows of a parquet file.
pub(super) fn read(path: &Path) -> Result<Vec<Row>> {
    let unreadable = |e: &dyn std::fmt::Display| Failure::failed(format!("{}: {e}", path.display()));
    let mut rows: Vec<Row> = Vec::new();
    for batch in parquet_batches(File::open(path)?).map_err(|e| unreadable(&e))? {
        let batch = batch.map_err(|e| unreadable(&e))?;
        rows.extend(serde_json::from_str::<Vec<Row>>(&batch.json).map_err(|e| unreadable(&e))?);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_what_the_story_says() {
        let dir = tempfile::tempdir().expect("a directory");
        let digits = Digits::unpack(&dir.path().join("d.parquet")).expect("readable");
        assert_eq!(digits.rows.len(), 1797);
        assert!(digits.rows.iter().enumerate().all(|(at, row)| id(row) == i64::try_from(at).ok()));
        assert_eq!(digits.chosen(&[3, 8]).len(), 183 + 174);
        assert!(digits.rows.iter().all(|row| digits.same(row)));
        let mut other = digits.rows[7].0.clone();
        other[2].1[5] = serde_json::json!(99.5);
        assert!(!digits.same(&Row(other)));
        assert!(!digits.same(&Row(vec![("id".to_owned(), serde_json::json!(7))])));
    }
}
