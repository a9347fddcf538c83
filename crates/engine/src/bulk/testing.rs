//! A source in memory, for tests of everything that scans.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use arrow_buffer::BooleanBuffer;
use arrow_schema::DataType;
use knarr_base::schema::Schema;
use knarr_base::value::Number;

use crate::error::Error;
use crate::scan::{LiveBatch, Part, Source};

/// Called with the number of the read, from 1, before it is answered.
pub(crate) type OnRead = Box<dyn Fn(usize) -> Result<(), Error> + Send + Sync>;

pub(crate) struct MemorySource {
    schema: Arc<Schema>,
    segments: Vec<Vec<LiveBatch>>,
    reads: AtomicUsize,
    on_read: OnRead,
}

impl MemorySource {
    /// Segments 10, 11, ...: each the batches of sorted rows that are given, with the rows that live.
    pub(crate) fn new(schema: Arc<Schema>, segments: Vec<Vec<(RecordBatch, Option<BooleanBuffer>)>>) -> Self {
        let live = |(batch, live)| LiveBatch { batch, live };
        let segments = segments.into_iter().map(|batches| batches.into_iter().map(live).collect()).collect();
        Self { schema, segments, reads: AtomicUsize::new(0), on_read: Box::new(|_| Ok(())) }
    }

    pub(crate) fn on_read(mut self, on_read: OnRead) -> Self {
        self.on_read = on_read;
        self
    }

    pub(crate) fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    fn segment(&self, segment: u64) -> Result<&Vec<LiveBatch>, Error> {
        let at = segment.checked_sub(10).and_then(|at| self.segments.get(at as usize));
        at.ok_or(Error::SegmentMissing(segment))
    }
}

impl Source for MemorySource {
    fn schema(&self) -> Arc<Schema> {
        Arc::clone(&self.schema)
    }

    fn parts(&self) -> Vec<Part> {
        let part = |(at, batches): (usize, &Vec<LiveBatch>)| {
            let (mut firsts, mut rows) = (Vec::new(), 0);
            for batch in batches {
                firsts.push(rows);
                rows += batch.batch.num_rows() as u32;
            }
            let bytes = |b: &LiveBatch| -> usize {
                b.batch.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap()).sum()
            };
            let bytes = batches.iter().map(bytes).sum::<usize>() as u64;
            Part { segment: 10 + at as u64, batches: firsts, rows, bytes }
        };
        self.segments.iter().enumerate().map(part).collect()
    }

    fn read(&self, segment: u64, index: usize) -> Result<LiveBatch, Error> {
        (self.on_read)(self.reads.fetch_add(1, Ordering::SeqCst) + 1)?;
        Ok(self.segment(segment)?[index].clone())
    }

    fn bounds(&self, segment: u64, column: usize) -> Option<(Number, Number)> {
        bounds(self.segment(segment).ok()?.iter().map(|b| b.batch.column(column).as_ref()))
    }
}

/// Least and greatest number of columns; `None` for other types and without rows.
pub(crate) fn bounds<'a>(columns: impl Iterator<Item = &'a dyn Array>) -> Option<(Number, Number)> {
    let (mut ints, mut floats) = (Vec::new(), Vec::new());
    for column in columns {
        match column.data_type() {
            DataType::Int64 => ints.extend(column.as_primitive::<Int64Type>().values().iter().copied()),
            DataType::Float32 => floats.extend(column.as_primitive::<Float32Type>().values().iter().copied()),
            _ => return None,
        }
    }
    let float = |x: &f32| Number::Float(f64::from(*x));
    match (ints.iter().min(), ints.iter().max()) {
        (Some(least), Some(greatest)) => Some((Number::Int(*least), Number::Int(*greatest))),
        _ => {
            let least = floats.iter().min_by(|a, b| a.total_cmp(b))?;
            let greatest = floats.iter().max_by(|a, b| a.total_cmp(b))?;
            Some((float(least), float(greatest)))
        }
    }
}
