//! Postings of a table's segments: which fields are wanted, which segments have theirs.
//!
//! `post/<set>/` has one `<segment>.post` per segment, and an empty file `ready` once all large segments had one. A set is a
//! list of fields under one number; when filters may name more of them, another set begins.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::super::Table;
use super::super::layout::number_of;
use super::super::segment::Segment;
use super::files::READY;
use crate::error::{Error, Result};
use crate::index::postings::{self, Postings, Scalars};

/// Fields that have postings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FieldSet {
    pub(super) number: u64,
    pub(super) fields: BTreeSet<String>,
}

impl FieldSet {
    pub(super) fn new(fields: BTreeSet<String>) -> Self {
        // No name has a zero in it.
        let names: Vec<&str> = fields.iter().map(String::as_str).collect();
        Self { number: xxh3_64(names.join("\0").as_bytes()), fields }
    }
}

/// The postings of a segment.
pub(crate) struct Posted {
    set: u64,
    pub(crate) postings: Postings,
}

/// The scalar columns of a segment.
///
/// # Errors
/// `Corrupt`.
pub(crate) fn scalars(segment: &Segment) -> Result<Scalars<'_>> {
    Ok(Scalars::new(segment.starts()?, segment.rows(), |index| segment.scalars(index).map(Cow::Borrowed)))
}

/// Bytes of postings per row and field, about, to see whether there is room.
const BYTES_PER_ROW: usize = 26;

impl Table {
    /// True once filters on these fields need no scan of segments, but for those that are young.
    pub fn filters_ready(&self, fields: &BTreeSet<String>) -> bool {
        let posted = self.structures.posted.lock();
        let set = self.structures.set.lock().clone();
        let all_have = || self.large_segments().iter().all(|held| has(&held.segment, set.number));
        posted.is_superset(fields) || (set.fields.is_superset(fields) && all_have())
    }

    pub(super) fn find_postings(&self) {
        let set = self.structures.set.lock().clone();
        if set.fields.is_empty() {
            return;
        }
        for held in self.large_segments() {
            if let Some(posted) = self.open_postings(set.number, &held.segment) {
                held.segment.nears().set_postings(Some(posted));
            }
        }
        if self.listed(&self.layout.post_set(set.number)).iter().any(|name| name == READY) {
            *self.structures.posted.lock() = set.fields;
        }
    }

    fn open_postings(&self, set: u64, segment: &Segment) -> Option<Arc<Posted>> {
        let opened = Postings::open(&*self.disk, &self.layout.post(set, segment.id())).and_then(|postings| {
            if (postings.segment(), postings.rows()) == (segment.id(), segment.rows()) {
                Ok(postings)
            } else {
                Err(Error::corrupt(format!("postings of segment {}", segment.id()), "they belong to another segment"))
            }
        });
        match opened {
            Ok(postings) => Some(Arc::new(Posted { set, postings })),
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(table = %self.id, segment = segment.id(), %error, "postings are built anew");
                None
            }
        }
    }

    /// Builds until every large segment has the wanted ones, the largest first.
    pub(super) fn build_all_postings(&self) -> Result<()> {
        loop {
            let set = self.structures.set.lock().clone();
            if set.fields.is_empty() {
                return Ok(());
            }
            if self.stopped() {
                return Err(Error::Stopped);
            }
            let large = self.large_segments();
            let lacking = large.iter().filter(|held| !has(&held.segment, set.number));
            match lacking.max_by_key(|held| held.segment.rows()) {
                Some(held) => self.build_postings(&set, &held.segment)?,
                None => return self.mark_posted(set),
            }
        }
    }

    /// Writes the postings of a segment and has searches use them.
    pub(super) fn build_postings(&self, set: &FieldSet, segment: &Segment) -> Result<()> {
        let (dir, path) = (self.layout.post_set(set.number), self.layout.post(set.number, segment.id()));
        let made = self.disk.create_dir(&self.layout.post_dir()).and_then(|()| self.disk.create_dir(&dir));
        // Damaged, or left by a process that died.
        let made = made.and_then(|()| self.disk.remove(&path));
        made.map_err(|e| Error::io(format!("preparing {}", path.display()), e))?;
        self.check_space(segment.rows() as usize * set.fields.len() * BYTES_PER_ROW)?;
        fail::fail_point!("table::structures::before_postings");
        let (schema, fields) = (self.schema(), set.fields.iter().map(String::as_str).collect::<Vec<_>>());
        let (scalars, cancel) = (scalars(segment)?, &self.structures.cancel);
        let built = postings::build(&schema, &fields, segment.id(), &scalars, &*self.disk, &path, cancel);
        if let Err(error) = built {
            // On a full disk it must not wait for the collector.
            let _ = self.disk.remove(&path);
            return Err(error);
        }
        segment.nears().set_postings(self.open_postings(set.number, segment));
        Ok(())
    }

    fn mark_posted(&self, set: FieldSet) -> Result<()> {
        let mut posted = self.structures.posted.lock();
        if *posted != set.fields && !self.large_segments().is_empty() {
            let path = self.layout.post_set(set.number).join(READY);
            let made = self.disk.remove(&path).and_then(|()| self.disk.create_new(&path));
            made.map_err(|e| Error::io(format!("creating {}", path.display()), e))?;
        }
        *posted = set.fields;
        Ok(())
    }

    /// See `collect_structures`.
    pub(super) fn collect_postings(&self) -> Result<()> {
        let wanted = self.structures.set.lock().clone();
        if wanted.fields.is_empty() {
            self.structures.posted.lock().clear();
            self.view.load().segments().iter().for_each(|held| held.segment.nears().set_postings(None));
        }
        for set in self.listed(&self.layout.post_dir()).iter().filter_map(|name| number_of(name)) {
            let dir = self.layout.post_set(set);
            let is_used = || self.view.load().segments().iter().any(|held| has(&held.segment, set));
            if (set == wanted.number && !wanted.fields.is_empty()) || is_used() {
                self.collect_files(&dir)?;
            } else {
                self.remove_dir(&dir)?;
            }
        }
        Ok(())
    }

    pub(super) fn remove_dir(&self, dir: &Path) -> Result<()> {
        self.disk.remove_dir_all(dir).map_err(|e| Error::io(format!("removing {}", dir.display()), e))
    }

    /// More fields are wanted. True if that is news.
    pub(super) fn want_fields(&self, fields: &BTreeSet<String>) -> bool {
        let mut set = self.structures.set.lock();
        if set.fields.is_superset(fields) {
            return false;
        }
        *set = FieldSet::new(set.fields.union(fields).cloned().collect());
        true
    }

    pub(super) fn keep_fields(&self, fields: &BTreeSet<String>) {
        *self.structures.set.lock() = FieldSet::new(fields.clone());
    }
}

fn has(segment: &Segment, set: u64) -> bool {
    segment.nears().postings().is_some_and(|posted| posted.set == set)
}
