//! One unit: the matching rows of its ranges, encoded, sent to a store as they are made.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_buffer::BooleanBuffer;
use bytes::Bytes;
use futures::TryStreamExt;
use knarr_base::filter::Filter;
use knarr_base::limit;
use knarr_base::object::{BucketName, ObjectKey};
use sha2::{Digest, Sha256};

use super::encode::Encoder;
use super::{FileReport, Format, Matches, Piece, SharedSource, UnitSpec};
use crate::compute::{Cancel, Lane, Meter, Pool};
use crate::error::Error;
use crate::filter::Predicate;
use crate::objects::{Overwrite, Stores, Writer};

/// What to write where.
#[derive(Debug, Clone, Copy)]
pub struct Export<'a> {
    /// Which rows.
    pub filter: &'a Filter,
    /// Of which part of the snapshot.
    pub unit: &'a UnitSpec,
    /// How.
    pub format: Format,
    /// Into which bucket; it exists.
    pub bucket: &'a BucketName,
    /// Under which name.
    pub key: &'a ObjectKey,
}

/// Writes one file. The same unit of the same source gives the same bytes, so a file of that name with the same size
/// and checksum, left by an earlier attempt, counts as written.
///
/// # Errors
/// `ObjectExists` for another file of that name, `Cancelled`, what source, pool and store answer. The object does not
/// exist then, unless the store failed to say whether it finished it.
pub(crate) async fn export_unit(
    pool: &Arc<Pool>,
    stores: &Stores,
    source: &SharedSource,
    export: Export<'_>,
    meter: &Meter,
    cancel: &Cancel,
) -> Result<FileReport, Error> {
    let writer = stores.writer(export.bucket, export.key, Overwrite::Refused);
    let mut writer = or_cancelled(cancel, writer).await?;
    let written = write(pool, &mut writer, source, &export, meter, cancel).await;
    if !matches!(written, Ok(Outcome::Finished(_))) {
        writer.abort().await;
    }
    match written? {
        Outcome::Finished(report) => Ok(report),
        Outcome::NameTaken(report) => {
            if or_cancelled(cancel, same_object(stores, &export, &report)).await? {
                Ok(report)
            } else {
                Err(Error::ObjectExists(format!("{}/{}", export.bucket, export.key)))
            }
        }
    }
}

/// How writing ended when nothing failed.
enum Outcome {
    Finished(FileReport),
    /// An object of that name is there already; whether it is this file remains to be seen.
    NameTaken(FileReport),
}

/// The step that makes the object appear goes on in the store when nobody waits for it. After a cancel it gets a short
/// while to say how it ended, so that whoever cleans up finds what there is.
async fn settled<T>(cancel: &Cancel, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        biased;
        done = &mut work => return done,
        () = cancel.cancelled() => {}
    }
    tokio::time::timeout(limit::CANCEL_GRACE, work).await.unwrap_or(Err(Error::Cancelled))
}

/// A store may hang; whoever cancels does not wait for it.
async fn or_cancelled<T>(cancel: &Cancel, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Error::Cancelled),
        done = work => done,
    }
}

/// Encodes everything, hands it to the writer, finishes the object.
async fn write(
    pool: &Arc<Pool>,
    writer: &mut Writer,
    source: &SharedSource,
    export: &Export<'_>,
    meter: &Meter,
    cancel: &Cancel,
) -> Result<Outcome, Error> {
    let mut work = Work::new(source, export, meter)?;
    let mut parts = Vec::new();
    loop {
        cancel.check()?;
        let step = pool.run(Lane::Background, move || {
            let more = work.step()?;
            let parts = work.encoder.take_ready();
            Ok::<_, Error>((work, more, parts))
        });
        // The last step's parts go out while the next are made.
        let (stepped, sent) = tokio::join!(step, send(writer, parts, meter, cancel));
        sent?;
        let more;
        (work, more, parts) = stepped??;
        if !more {
            break;
        }
    }
    send(writer, parts, meter, cancel).await?;
    let file = pool.run(Lane::Background, move || work.encoder.finish()).await??;
    send(writer, file.parts, meter, cancel).await?;
    match settled(cancel, writer.finish()).await {
        Err(Error::ObjectExists(_)) => Ok(Outcome::NameTaken(file.report)),
        finished => finished.map(|()| Outcome::Finished(file.report)),
    }
}

async fn send(writer: &mut Writer, parts: Vec<Bytes>, meter: &Meter, cancel: &Cancel) -> Result<(), Error> {
    for part in parts {
        let bytes = part.len() as u64;
        or_cancelled(cancel, writer.put(part)).await?;
        meter.add_bytes_done(bytes);
    }
    Ok(())
}

/// True if the object of that name is this file.
async fn same_object(stores: &Stores, export: &Export<'_>, report: &FileReport) -> Result<bool, Error> {
    let (info, mut body) = match stores.get(export.bucket, export.key).await {
        Err(Error::ObjectMissing(_)) => return Ok(false),
        found => found?,
    };
    if info.size != report.bytes {
        return Ok(false);
    }
    let mut sha256 = Sha256::new();
    while let Some(bytes) = body.try_next().await? {
        sha256.update(&bytes);
    }
    let sha256: [u8; 32] = sha256.finalize().into();
    Ok(sha256 == report.sha256)
}

/// The unit as the compute pool sees it: it is carried from job to job.
struct Work {
    source: SharedSource,
    predicate: Predicate,
    pieces: VecDeque<Piece>,
    open: Option<Open>,
    encoder: Encoder,
    /// Rows encoded by one job.
    step_rows: usize,
    meter: Meter,
}

/// A piece of which the rows before `next` are written.
struct Open {
    matches: Matches,
    next: usize,
}

impl Work {
    fn new(source: &SharedSource, export: &Export<'_>, meter: &Meter) -> Result<Self, Error> {
        let schema = source.schema();
        let predicate = Predicate::compile(export.filter, &schema)?;
        let encoder = Encoder::new(&schema, export.format)?;
        let (pieces, widest) = pieces(source, export.unit)?;
        // Text is a multiple of its columns and takes longer to write: smaller jobs, soon sent on.
        let step_rows = match export.format {
            Format::Parquet => limit::ROW_GROUP_ROWS.min(limit::ROW_GROUP_BYTES / widest),
            Format::Json => limit::EXPORT_STEP_ROWS.min(limit::PART_BYTES / widest),
        };
        let (source, meter) = (Arc::clone(source), meter.clone());
        Ok(Self { source, predicate, pieces, open: None, encoder, step_rows: step_rows.max(1), meter })
    }

    /// Encodes the next rows; false when there are none.
    fn step(&mut self) -> Result<bool, Error> {
        fail::fail_point!("bulk::export::step");
        let Some(mut open) = self.open.take() else { return self.open_next() };
        let rows = self.step_rows.min(open.matches.batch.num_rows() - open.next);
        let selected = open.matches.rows.slice(open.next, rows);
        self.write(&open, rows, &selected)?;
        open.next += rows;
        if open.next < open.matches.batch.num_rows() {
            self.open = Some(open);
            return Ok(true);
        }
        Ok(!self.pieces.is_empty())
    }

    /// Evaluates the filter on the next piece and writes its first rows.
    fn open_next(&mut self) -> Result<bool, Error> {
        let Some(piece) = self.pieces.pop_front() else { return Ok(false) };
        let mut matches = piece.matches(self.source.as_ref(), &self.predicate)?;
        self.meter.add_scanned(matches.live as u64, matches.count as u64);
        if matches.count == 0 {
            return Ok(!self.pieces.is_empty());
        }
        matches.batch = piece.whole(self.source.as_ref())?;
        self.open = Some(Open { matches, next: 0 });
        self.step()
    }

    fn write(&mut self, open: &Open, rows: usize, selected: &BooleanBuffer) -> Result<(), Error> {
        let count = selected.count_set_bits();
        if count > 0 {
            self.encoder.write(&open.matches.batch.slice(open.next, rows), selected)?;
            self.meter.add_rows_done(count as u64);
        }
        Ok(())
    }
}

/// The unit's ranges cut at the batches of their parts, and the bytes of a row where they are largest.
fn pieces(source: &SharedSource, unit: &UnitSpec) -> Result<(VecDeque<Piece>, usize), Error> {
    let parts = source.parts();
    let (mut pieces, mut widest) = (VecDeque::new(), 1);
    for range in &unit.ranges {
        let part = parts.iter().find(|part| part.segment == range.segment);
        let part = part.ok_or(Error::SegmentMissing(range.segment))?;
        widest = widest.max(usize::try_from(part.bytes / u64::from(part.rows.max(1))).unwrap_or(usize::MAX));
        let ends = part.batches.iter().skip(1).copied().chain([part.rows]);
        for (batch, (first, end)) in part.batches.iter().copied().zip(ends).enumerate() {
            let (start, end) = (range.start.max(first), range.end.min(end));
            if start < end {
                let (skip, rows) = ((start - first) as usize, (end - start) as usize);
                pieces.push_back(Piece { segment: part.segment, batch, skip, rows });
            }
        }
    }
    Ok((pieces, widest))
}
