//! Files of the tables, as they come and go: what of them belongs to indexes, and how many segments were written.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::bench;

/// Files that are there for indexes: all but logs, segments, masks and manifests.
pub(crate) fn of_indexes(data: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = bench::files(&data.join("tables"))?;
    files.retain(|path| {
        let of_rows = matches!(extension(path), Some("log" | "arrow" | "meta" | "mask"));
        !of_rows && !path.parent().is_some_and(|parent| parent.ends_with("manifest"))
    });
    Ok(files)
}

fn extension(path: &Path) -> Option<&str> {
    path.extension().and_then(|extension| extension.to_str())
}

/// Bytes of each segment that is there.
pub(crate) fn segments(data: &Path) -> io::Result<BTreeMap<PathBuf, u64>> {
    let files = bench::files(&data.join("tables"))?.into_iter().filter(|path| extension(path) == Some("arrow"));
    // One that has gone since it was listed is none.
    Ok(files.filter_map(|path| Some((path.clone(), path.metadata().ok()?.len()))).collect())
}

/// Segments that were made and merged away since the first look; segments that lived between two looks are missed.
#[derive(Clone)]
pub(crate) struct SegmentFiles {
    there: BTreeMap<PathBuf, u64>,
    pub(crate) made: usize,
    pub(crate) gone: usize,
}

impl SegmentFiles {
    pub(crate) fn now(data: &Path) -> io::Result<Self> {
        Ok(Self { there: segments(data)?, made: 0, gone: 0 })
    }

    /// Looks again.
    pub(crate) fn look(&mut self, data: &Path) -> io::Result<()> {
        let there = segments(data)?;
        self.made += there.keys().filter(|path| !self.there.contains_key(*path)).count();
        self.gone += self.there.keys().filter(|path| !there.contains_key(*path)).count();
        self.there = there;
        Ok(())
    }
}
