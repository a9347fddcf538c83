//! One published state of a table: its segments, what is dead in them, its schema, its unacknowledged publications.

use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::sync::{Arc, Weak};

use arrow_schema::SchemaRef;
use knarr_base::id::{TableId, TaskId};
use knarr_base::schema::Schema;
use parking_lot::Mutex;
use roaring::RoaringBitmap;

use super::Published;
use super::layout::Layout;
use super::manifest::{self, MANIFEST, ManifestDisk, MaskDisk, PublicationDisk};
use super::manifest::{RestorableDisk, SchemaDisk, SegmentDisk};
use super::mask::{self, Mask};
use super::restorable::{Restorable, Undoable};
use super::segment::Segment;
use crate::columns;
use crate::disk::Disk;
use crate::error::{Error, Result};

/// A segment as one version sees it.
#[derive(Clone)]
pub(crate) struct Held {
    pub(crate) segment: Arc<Segment>,
    pub(crate) mask: Option<Mask>,
    /// Set if the mask cannot be read: which rows are alive is unknown, so none is served. Where it is, and why.
    pub(crate) mask_damage: Option<(MaskDisk, Arc<str>)>,
    /// See [`SegmentDisk::damaged`].
    pub(crate) damaged: bool,
    /// By task, at most one of each, without a row in common; all their rows are dead.
    pub(crate) restorable: Vec<Restorable>,
    /// The next version does without it, see [`Held::spent`]. Never true in a published version.
    pub(crate) gone: bool,
}

impl Held {
    pub(crate) fn new(segment: Arc<Segment>) -> Self {
        Self { segment, mask: None, mask_damage: None, damaged: false, restorable: Vec::new(), gone: false }
    }

    pub(crate) fn id(&self) -> u64 {
        self.segment.id()
    }

    /// Dead rows, where there are any.
    pub(crate) fn dead(&self) -> Result<Option<&RoaringBitmap>> {
        match &self.mask_damage {
            _ if self.damaged => {
                Err(Error::corrupt(format!("segment {}", self.segment.id()), "its manifest entry says so"))
            }
            Some((_, why)) => Err(Error::corrupt(format!("mask of segment {}", self.segment.id()), why)),
            None => Ok(self.mask.as_ref().map(|mask| &*mask.rows)),
        }
    }

    /// True if its rows may be served.
    pub(crate) fn healthy(&self) -> bool {
        !self.damaged && self.mask_damage.is_none() && !self.segment.quarantined()
    }

    pub(crate) fn dead_count(&self) -> u64 {
        self.mask.as_ref().map_or(0, |mask| mask.place.dead)
    }

    pub(crate) fn live_count(&self) -> u64 {
        u64::from(self.segment.rows()) - self.dead_count()
    }

    fn entry(&self) -> SegmentDisk {
        // A mask that cannot be read is still the mask: without it the dead would be back at the next start.
        let unread = self.mask_damage.as_ref().map(|(place, _)| *place);
        SegmentDisk {
            mask: self.mask.as_ref().map(|mask| mask.place).or(unread),
            damaged: self.damaged,
            restorable: self.restorable.iter().map(Restorable::entry).collect(),
            ..self.segment.entry().clone()
        }
    }
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Version {
    pub(crate) number: u64,
    pub(crate) schema: Arc<Schema>,
    /// `columns::stored_schema(schema)`.
    pub(crate) stored: SchemaRef,
    pub(crate) flushed_seq: u64,
    pub(crate) next_segment: u64,
    pub(crate) segments: Vec<Held>,
    pub(crate) publications: BTreeMap<(TaskId, u32), Published>,
    /// Oldest first.
    pub(crate) undoable: Vec<Undoable>,
    /// Number of the newest version in which rows came back from the dead; 0: of none.
    pub(crate) undone: u64,
}

/// Segments that are mapped now, by id, so that all versions share them.
pub(crate) type SegmentCache = Mutex<HashMap<u64, Weak<Segment>>>;

impl Version {
    /// Of a new table.
    pub(crate) fn first(schema: Schema) -> Self {
        Self {
            number: 0,
            stored: columns::stored_schema(&schema),
            schema: Arc::new(schema),
            flushed_seq: 0,
            next_segment: 1,
            segments: Vec::new(),
            publications: BTreeMap::new(),
            undoable: Vec::new(),
            undone: 0,
        }
    }

    /// The segment with this id.
    pub(crate) fn held(&self, id: u64) -> Option<&Held> {
        self.segments.iter().find(|held| held.segment.id() == id)
    }

    pub(crate) fn encode(&self, table: TableId) -> Vec<u8> {
        MANIFEST.encode(&ManifestDisk {
            table: table.to_string(),
            version: self.number,
            schema: SchemaDisk::from(&*self.schema),
            flushed_seq: self.flushed_seq,
            next_segment: self.next_segment,
            segments: self.segments.iter().map(Held::entry).collect(),
            publications: self.publications.iter().map(|(key, p)| PublicationDisk::new(*key, p)).collect(),
            undoable: self.undoable.iter().map(Undoable::entry).collect(),
            undone: self.undone,
        })
    }

    /// Reads a manifest and opens what it names. A damaged segment or mask is quarantined; a damaged manifest is an
    /// error.
    pub(crate) fn load(
        disk: &dyn Disk,
        layout: &Layout,
        table: TableId,
        number: u64,
        cache: &SegmentCache,
    ) -> Result<Self> {
        let manifest = read_manifest(disk, layout, table, number)?;
        let what = format!("manifest {number}");
        let schema = Arc::new(manifest.schema.into_schema(&what)?);
        let publications =
            manifest.publications.into_iter().map(|p| p.into_published(&what)).collect::<Result<BTreeMap<_, _>>>()?;
        let undoable = manifest.undoable.iter().map(|one| Undoable::from_entry(one, &what));
        let mut undoable = undoable.collect::<Result<Vec<_>>>()?;
        let mut segments = Vec::with_capacity(manifest.segments.len());
        for entry in &manifest.segments {
            let mut held = open_held(disk, layout, entry, &schema, cache);
            open_restorable(disk, layout, entry, &mut held, &mut undoable)?;
            segments.push(held);
        }
        Ok(Self {
            number,
            stored: columns::stored_schema(&schema),
            schema,
            flushed_seq: manifest.flushed_seq,
            next_segment: manifest.next_segment,
            segments,
            publications,
            undoable,
            undone: manifest.undone,
        })
    }
}

/// A manifest as it is stored.
pub(crate) fn read_manifest(disk: &dyn Disk, layout: &Layout, table: TableId, number: u64) -> Result<ManifestDisk> {
    let (path, what) = (layout.manifest(number), format!("manifest {number}"));
    let bytes = disk.read(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::VersionMissing { table, version: number },
        _ => Error::io(format!("reading {}", path.display()), error),
    })?;
    let manifest: ManifestDisk = MANIFEST.decode(&what, &bytes)?;
    manifest::check_table(&manifest, table, &what)?;
    if manifest.version != number {
        return Err(Error::corrupt(what, "is another version"));
    }
    Ok(manifest)
}

fn open_held(disk: &dyn Disk, layout: &Layout, entry: &SegmentDisk, schema: &Schema, cache: &SegmentCache) -> Held {
    let segment = {
        let mut cache = cache.lock();
        cache.retain(|_, segment| segment.strong_count() > 0);
        match cache.get(&entry.id).and_then(Weak::upgrade) {
            Some(segment) => segment,
            None => {
                let segment = Segment::open(disk, layout, entry, schema);
                cache.insert(entry.id, Arc::downgrade(&segment));
                segment
            }
        }
    };
    let mut held = Held::new(segment);
    held.damaged = entry.damaged;
    let Some(place) = entry.mask else { return held };
    match mask::read(disk, layout, place, entry.rows) {
        Ok(mask) => held.mask = Some(mask),
        Err(error) => {
            tracing::error!(segment = entry.id, %error, "a segment is quarantined");
            held.mask_damage = Some((place, error.to_string().into()));
        }
    }
    held
}

/// Reads which rows of a segment can be had back. What is damaged or gone is none of them from here on, and its task's
/// deletion stays: a list that misses what was written since must never be read again. A disk that cannot be read now
/// says nothing about the list and is an error.
fn open_restorable(
    disk: &dyn Disk,
    layout: &Layout,
    entry: &SegmentDisk,
    held: &mut Held,
    undoable: &mut [Undoable],
) -> Result<()> {
    for RestorableDisk { task, mask: place } in &entry.restorable {
        let task = task.parse().map_err(|e| Error::corrupt(format!("segment {}", entry.id), e))?;
        let all_dead = |rows: &RoaringBitmap| held.mask.as_ref().is_some_and(|mask| rows.is_subset(&mask.rows));
        match mask::read(disk, layout, *place, entry.rows) {
            Ok(mask) if held.mask_damage.is_some() || all_dead(&mask.rows) => {
                held.restorable.push(Restorable { task, mask });
            }
            Err(Error::Io { source, what }) if source.kind() != ErrorKind::NotFound => {
                return Err(Error::Io { source, what });
            }
            read => {
                let error = read.err().unwrap_or_else(|| Error::corrupt(format!("mask file {}", place.file), "rows"));
                tracing::error!(segment = entry.id, %task, %error, "a deletion cannot be undone any more");
                undoable.iter_mut().filter(|one| one.task == task).for_each(|one| one.damaged = true);
            }
        }
    }
    Ok(())
}
