//! The counting scan: how many rows match, what the first ones are, and where the matches lie.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use futures::{StreamExt, TryStreamExt, stream};
use knarr_base::filter::Filter;
use knarr_base::limit;
use knarr_base::schema::Schema;
use knarr_base::value::Key;

use super::plan::{Block, plan};
use super::{Counted, Piece, RowRange, SharedSource};
use crate::columns;
use crate::compute::{Cancel, Lane, Meter, Pool};
use crate::error::Error;
use crate::filter::Predicate;
use crate::rows::RowPrinter;
use crate::scan::Part;

/// Scans everything once, batches side by side. The result does not depend on the number of threads.
///
/// # Errors
/// `Filter`, `Cancelled`, what the source answers, what the pool answers.
pub(crate) async fn count(
    pool: &Arc<Pool>,
    source: &SharedSource,
    filter: &Filter,
    meter: &Meter,
    cancel: &Cancel,
) -> Result<Counted, Error> {
    let schema = source.schema();
    let predicate = Arc::new(Predicate::compile(filter, &schema)?);
    let mut found = Found { schema: &schema, scanned: 0, blocks: Vec::new(), samples: Vec::new() };
    for part in source.parts() {
        if !predicate.may_match(&|column| source.bounds(part.segment, column)) {
            meter.add_scanned(part.rows.into(), 0);
            found.scanned += u64::from(part.rows);
            continue;
        }
        let scan = |piece: Piece| {
            let (source, predicate, cancel) = (Arc::clone(source), Arc::clone(&predicate), cancel.clone());
            pool.run(Lane::Background, move || {
                cancel.check()?;
                Scanned::of(piece, &source, &predicate)
            })
        };
        let batches = stream::iter(pieces(&part)).map(scan).buffered(pool.threads()).map(|done| done.flatten());
        let samples = found.samples.len();
        let mut batches = std::pin::pin!(batches);
        while let Some(scanned) = batches.try_next().await? {
            meter.add_scanned(scanned.live, scanned.matched);
            found.add(&part, scanned, samples);
        }
    }
    Ok(found.finish())
}

/// Every batch of a part.
fn pieces(part: &Part) -> Vec<Piece> {
    let ends = part.batches.iter().skip(1).copied().chain([part.rows]);
    let piece = |(batch, (start, end)): (usize, (u32, u32))| Piece {
        segment: part.segment,
        batch,
        skip: 0,
        rows: (end - start) as usize,
    };
    part.batches.iter().copied().zip(ends).enumerate().map(piece).collect()
}

/// One batch, scanned.
struct Scanned {
    batch: usize,
    live: u64,
    matched: u64,
    /// Matches of each run of `limit::COUNT_BLOCK_ROWS` rows.
    blocks: Vec<u64>,
    rows: usize,
    /// The first matches: the batch, and which of its rows.
    sample: Option<(RecordBatch, Vec<usize>)>,
}

impl Scanned {
    fn of(piece: Piece, source: &SharedSource, predicate: &Predicate) -> Result<Self, Error> {
        let found = piece.matches(source.as_ref(), predicate)?;
        let block = |start: usize| {
            let rows = limit::COUNT_BLOCK_ROWS.min(piece.rows - start);
            found.rows.slice(start, rows).count_set_bits() as u64
        };
        let first: Vec<_> = found.rows.set_indices().take(limit::SAMPLE_ROWS).collect();
        Ok(Scanned {
            batch: piece.batch,
            live: found.live as u64,
            matched: found.count as u64,
            blocks: (0..piece.rows).step_by(limit::COUNT_BLOCK_ROWS).map(block).collect(),
            rows: piece.rows,
            sample: (!first.is_empty()).then_some((found.batch, first)),
        })
    }
}

/// What all batches so far add up to.
struct Found<'a> {
    schema: &'a Schema,
    scanned: u64,
    blocks: Vec<Block>,
    samples: Vec<(Key, RecordBatch, usize)>,
}

impl Found<'_> {
    /// Takes in the next batch of `part`, of whose rows those after the first `samples` samples are.
    fn add(&mut self, part: &Part, scanned: Scanned, samples: usize) {
        self.scanned += scanned.live;
        let first = part.batches[scanned.batch];
        for (n, matched) in scanned.blocks.into_iter().enumerate().filter(|(_, matched)| *matched > 0) {
            let start = n * limit::COUNT_BLOCK_ROWS;
            let end = scanned.rows.min(start + limit::COUNT_BLOCK_ROWS);
            let row = |at: usize| first + u32::try_from(at).expect("a part has fewer than 2^32 rows");
            let rows = RowRange { segment: part.segment, start: row(start), end: row(end) };
            let bytes = u128::from(part.bytes) * u128::from(matched) / u128::from(part.rows.max(1));
            self.blocks.push(Block { rows, matched, bytes: u64::try_from(bytes).unwrap_or(u64::MAX) });
        }
        // A part is sorted by key, so its first matches are its least.
        if let Some((batch, rows)) = scanned.sample {
            let missing = limit::SAMPLE_ROWS - (self.samples.len() - samples);
            for row in rows.into_iter().take(missing) {
                self.samples.push((key(self.schema, &batch, row), batch.clone(), row));
            }
        }
    }

    fn finish(mut self) -> Counted {
        self.samples.sort_by(|a, b| a.0.cmp(&b.0));
        self.samples.truncate(limit::SAMPLE_ROWS);
        let printer = RowPrinter::without_vectors(self.schema);
        let mut sample = vec![b'['];
        for (n, (_, batch, row)) in self.samples.iter().enumerate() {
            if n > 0 {
                sample.push(b',');
            }
            printer.write_row(batch, *row, &mut sample);
        }
        sample.push(b']');
        Counted {
            scanned: self.scanned,
            matched: self.blocks.iter().map(|block| block.matched).sum(),
            sample: String::from_utf8(sample).expect("the printer copies UTF-8 and adds ASCII"),
            units: plan(&self.blocks),
        }
    }
}

fn key(schema: &Schema, batch: &RecordBatch, row: usize) -> Key {
    let column = batch.column(columns::key_column(schema));
    match column.as_string_opt::<i32>() {
        Some(keys) => Key::Str(keys.value(row).into()),
        None => Key::Int(column.as_primitive::<Int64Type>().value(row)),
    }
}
