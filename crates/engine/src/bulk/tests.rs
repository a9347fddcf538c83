use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use arrow_buffer::BooleanBuffer;
use knarr_base::filter::{Bounds, Filter, Values};
use knarr_base::object::{BucketName, ObjectKey};
use knarr_base::schema::{FieldType, Schema};
use knarr_base::value::Number;
use knarr_base::{Kind, limit};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::count::count;
use super::export::{Export, export_unit};
use super::testing::MemorySource;
use super::{Counted, FileReport, Format, SharedSource, UnitSpec};
use crate::compute::{Cancel, Meter, Pool};
use crate::error::Error;
use crate::filter::Predicate;
use crate::objects::Stores;
use crate::objects::fault::Faults;
use crate::rows::RowDigest;
use crate::rows::testing::{Cell, Row, any_rows, any_schema, every_type, field, key, kinds, names, row, same, stored};

fn bucket() -> BucketName {
    BucketName::parse("data").unwrap()
}

fn file_name(n: usize, format: Format) -> ObjectKey {
    ObjectKey::parse(&format!("t/{n}.{}", format.as_str())).unwrap()
}

/// What every test needs, and what an export of it answers.
struct Bench {
    pool: Arc<Pool>,
    stores: Stores,
    faults: Faults,
    dir: tempfile::TempDir,
    meter: Meter,
    cancel: Cancel,
}

impl Bench {
    async fn new() -> Self {
        let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::new());
        let stores = Stores::open_faulty(dir.path(), &faults).unwrap();
        stores.ensure_bucket(&bucket()).await.unwrap();
        Self { pool: Pool::new(2), stores, faults, dir, meter: Meter::new(), cancel: Cancel::new() }
    }

    async fn count(&self, source: &SharedSource, filter: &Filter) -> Result<Counted, Error> {
        count(&self.pool, source, filter, &self.meter, &self.cancel).await
    }

    async fn unit(
        &self,
        source: &SharedSource,
        filter: &Filter,
        unit: &UnitSpec,
        format: Format,
        n: usize,
    ) -> Result<FileReport, Error> {
        let (bucket, key) = (bucket(), file_name(n, format));
        let export = Export { filter, unit, format, bucket: &bucket, key: &key };
        export_unit(&self.pool, &self.stores, source, export, &self.meter, &self.cancel).await
    }

    fn path(&self, n: usize, format: Format) -> std::path::PathBuf {
        self.dir.path().join("data").join(file_name(n, format).as_str())
    }

    /// No object and nothing on its way to become one.
    fn is_empty(&self) -> bool {
        let empty = |dir: &Path| fs::read_dir(dir).map_or(true, |mut names| names.next().is_none());
        empty(&self.dir.path().join("data/t")) && empty(&self.dir.path().join(".staging"))
    }
}

fn source(schema: &Arc<Schema>, segments: Vec<Vec<RecordBatch>>) -> SharedSource {
    let all_live = |batches: Vec<RecordBatch>| batches.into_iter().map(|batch| (batch, None)).collect();
    Arc::new(MemorySource::new(Arc::clone(schema), segments.into_iter().map(all_live).collect()))
}

/// The rows of a written file, read by other libraries.
fn read(schema: &Schema, path: &Path, format: Format) -> Vec<Row> {
    match format {
        Format::Json => {
            let text = fs::read_to_string(path).unwrap();
            assert!(text.is_empty() || text.ends_with('\n'));
            text.lines().map(|line| row(schema, &serde_json::from_str(line).unwrap())).collect()
        }
        Format::Parquet => {
            let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path).unwrap()).unwrap();
            let found: Vec<_> = reader.schema().fields().iter().map(|f| f.name().as_str().to_owned()).collect();
            assert_eq!(found, names(schema));
            let batches = reader.with_batch_size(100).build().unwrap();
            batches.flat_map(|batch| batch_rows(schema, &batch.unwrap())).collect()
        }
    }
}

fn batch_rows(schema: &Schema, batch: &RecordBatch) -> Vec<Row> {
    let floats = |array: &dyn Array| array.as_primitive::<Float32Type>().values().to_vec();
    let strings =
        |array: &dyn Array| -> Vec<String> { array.as_string::<i32>().iter().map(|s| s.unwrap().to_owned()).collect() };
    let cell = |column: &dyn Array, kind: FieldType, at: usize| match kind {
        _ if column.is_null(at) => Cell::Absent,
        FieldType::Int64 => Cell::Int(column.as_primitive::<Int64Type>().value(at)),
        FieldType::Float32 => Cell::Float(column.as_primitive::<Float32Type>().value(at)),
        FieldType::Bool => Cell::Bool(column.as_boolean().value(at)),
        FieldType::String | FieldType::Text | FieldType::Image => {
            Cell::Str(column.as_string::<i32>().value(at).to_owned())
        }
        FieldType::Int64List => {
            Cell::IntList(column.as_list::<i32>().value(at).as_primitive::<Int64Type>().values().to_vec())
        }
        FieldType::StringList => Cell::StrList(strings(&column.as_list::<i32>().value(at))),
        FieldType::Vector { .. } => Cell::Vector(floats(&column.as_fixed_size_list().value(at))),
        FieldType::SparseVector => {
            let entries = column.as_map().value(at);
            Cell::Sparse(strings(entries.column(0)).into_iter().zip(floats(entries.column(1))).collect())
        }
    };
    let kinds = kinds(schema);
    let row = |at| kinds.iter().enumerate().map(|(n, kind)| cell(batch.column(n), *kind, at)).collect();
    (0..batch.num_rows()).map(row).collect()
}

fn digest(schema: &Schema, rows: &[Row]) -> u128 {
    let batch = stored(schema, rows);
    let mut digest = RowDigest::new(schema);
    (0..rows.len()).map(|at| digest.of(&batch, at)).fold(0, u128::wrapping_add)
}

/// Every row, or those whose key is even, or a text key of an even length.
fn some_rows(schema: &Schema, all: bool) -> Filter {
    if all {
        return Filter::All;
    }
    let field = schema.key_name().to_owned();
    match kinds(schema)[crate::columns::key_column(schema)] {
        FieldType::String => {
            Filter::In { field, values: Values::Str(vec!["a".into(), "b".into(), "北京".into()]), negated: true }
        }
        _ => Filter::Range { field, bounds: Bounds { gte: Some(Number::Int(0)), ..Bounds::default() }, outside: false },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.div_ceil(4), ..ProptestConfig::default() })]

    /// What is counted, sampled and exported, in both formats, is what lives and matches, to the last bit.
    #[test]
    fn export_import_roundtrip(
        (schema, rows) in any_schema().prop_flat_map(|s| { let rows = any_rows(&s, 60); (Just(s), rows) }),
        places in prop::collection::vec((0usize..3, 0usize..2, any::<bool>()), 60),
        all in any::<bool>(), mask in any::<bool>(),
    ) {
        // Segments of two batches each, with dead rows.
        let mut segments = vec![vec![Vec::new(); 2]; 3];
        for (at, row) in rows.iter().enumerate() {
            let (segment, _, alive) = places[at];
            segments[segment][usize::from(at * 2 >= rows.len())].push((row.clone(), alive || !mask));
        }
        let filter = some_rows(&schema, all);
        let predicate = Predicate::compile(&filter, &schema).unwrap();
        let mut expected = Vec::new();
        let mut parts = Vec::new();
        let mut living = 0;
        for segment in &segments {
            let mut batches = Vec::new();
            for batch in segment {
                let rows: Vec<_> = batch.iter().map(|(row, _)| row.clone()).collect();
                let live = BooleanBuffer::from_iter(batch.iter().map(|(_, alive)| *alive));
                living += live.count_set_bits() as u64;
                let stored = stored(&schema, &rows);
                expected.extend(predicate.evaluate(&stored, Some(&live)).set_indices().map(|at| rows[at].clone()));
                batches.push((stored, mask.then_some(live)));
            }
            parts.push(batches);
        }
        let source: SharedSource = Arc::new(MemorySource::new(Arc::clone(&schema), parts));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new().await;
            let counted = bench.count(&source, &filter).await.unwrap();
            prop_assert_eq!(counted.matched, expected.len() as u64);
            prop_assert!(counted.scanned >= living.min(counted.matched) && counted.scanned <= rows.len() as u64);
            prop_assert_eq!(counted.units.iter().map(|unit| unit.matched).sum::<u64>(), counted.matched);

            let sample: Vec<serde_json::Value> = serde_json::from_str(&counted.sample).unwrap();
            let mut first = expected.clone();
            first.sort_by_key(|row| key(&schema, row));
            first.truncate(limit::SAMPLE_ROWS);
            let shown = |row: &Row| {
                let mut json = crate::rows::testing::json(&schema, row);
                let hidden = schema.fields().iter().filter(|f| matches!(f.kind, FieldType::Vector { .. } | FieldType::SparseVector));
                hidden.for_each(|f| { json.as_object_mut().unwrap().remove(f.name.as_str()); });
                json
            };
            let names: Vec<_> = sample.iter().map(|row| row.as_object().unwrap().keys().cloned().collect::<Vec<_>>()).collect();
            let wanted: Vec<_> = first.iter().map(|row| shown(row).as_object().unwrap().keys().cloned().collect::<Vec<_>>()).collect();
            prop_assert_eq!(names, wanted);
            let at_key = |json: &serde_json::Value| json[schema.key_name()].clone();
            prop_assert_eq!(sample.iter().map(at_key).collect::<Vec<_>>(), first.iter().map(|row| at_key(&shown(row))).collect::<Vec<_>>());

            for format in [Format::Parquet, Format::Json] {
                let (mut found, mut sum) = (Vec::new(), 0u128);
                for (n, unit) in counted.units.iter().enumerate() {
                    let report = bench.unit(&source, &filter, unit, format, n).await.unwrap();
                    let path = bench.path(n, format);
                    let bytes = fs::read(&path).unwrap();
                    let sha256: [u8; 32] = Sha256::digest(&bytes).into();
                    prop_assert_eq!((report.rows, report.bytes, report.sha256), (unit.matched, bytes.len() as u64, sha256));
                    found.extend(read(&schema, &path, format));
                    sum = sum.wrapping_add(report.digest);
                    // A second run finds its own file and says the same.
                    prop_assert_eq!(bench.unit(&source, &filter, unit, format, n).await.unwrap(), report);
                }
                prop_assert_eq!(found.len(), expected.len());
                for (found, expected) in found.iter().zip(&expected) {
                    prop_assert!(same(found, expected), "{:?} became {:?}", expected, found);
                }
                prop_assert_eq!(sum, digest(&schema, &expected));
            }
            Ok(())
        })?;
    }
}

fn numbers(rows: std::ops::Range<i64>, dim: u32) -> (Arc<Schema>, RecordBatch) {
    let fields = vec![
        field("id", FieldType::Int64),
        field("v", FieldType::Vector { dim }),
        field("tags", FieldType::StringList),
        field("s", FieldType::SparseVector),
    ];
    let schema = Arc::new(Schema::new(fields, "id").unwrap());
    let row = |n: i64| {
        let tags = (0..n % 3).map(|t| format!("tag{t}")).collect();
        let sparse = if n % 5 == 0 { Cell::Absent } else { Cell::Sparse(vec![(format!("t{}", n % 7), n as f32)]) };
        vec![
            Cell::Int(n),
            Cell::Vector((0..dim).map(|d| (n * 10 + i64::from(d)) as f32).collect()),
            Cell::StrList(tags),
            sparse,
        ]
    };
    let batch = stored(&schema, &rows.map(row).collect::<Vec<_>>());
    (schema, batch)
}

/// More than a row group and more than a page of vectors, in pieces that end nowhere near either.
#[tokio::test]
async fn row_groups_and_pages_of_any_size_read_back() {
    let (schema, first) = numbers(0..50_000, 8);
    let (_, second) = numbers(50_000..131_000, 8);
    let source = source(&schema, vec![vec![first], vec![second]]);
    let odd =
        Filter::In { field: "id".to_owned(), values: Values::Int((0..1000).map(|n| n * 131).collect()), negated: true };
    let bench = Bench::new().await;
    for (n, (filter, step)) in [(Filter::All, 0), (odd, 131)].into_iter().enumerate() {
        let counted = bench.count(&source, &filter).await.unwrap();
        let unit = UnitSpec {
            ranges: counted.units.iter().flat_map(|u| u.ranges.clone()).collect(),
            matched: counted.matched,
        };
        let report = bench.unit(&source, &filter, &unit, Format::Parquet, n).await.unwrap();
        let path = bench.path(n, Format::Parquet);
        let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(&path).unwrap()).unwrap();
        let groups = reader.metadata().row_groups().to_vec();
        let sizes: Vec<_> = groups.iter().map(|group| group.num_rows()).collect();
        let total = report.rows as i64;
        assert_eq!(
            sizes,
            [65_536.min(total), 65_536.min(total - 65_536)].into_iter().filter(|n| *n > 0).collect::<Vec<_>>()
        );
        for group in &groups {
            let leaves: Vec<_> = group.columns().iter().map(|c| c.column_path().string()).collect();
            assert_eq!(leaves, ["id", "v.list.element", "tags.list.element", "s.key_value.key", "s.key_value.value"]);
            assert_eq!(group.column(1).num_values(), group.num_rows() * 8);
        }
        drop(reader);
        let rows = read(&schema, &path, Format::Parquet);
        let ids: Vec<_> = (0..131_000).filter(|id| step == 0 || id % step != 0).collect();
        assert_eq!(rows.len(), ids.len());
        for (row, id) in rows.iter().zip(&ids) {
            let [Cell::Int(found), Cell::Vector(v), Cell::StrList(tags), sparse] = &row[..] else { panic!("{row:?}") };
            assert_eq!(
                (*found, v.len(), v[0], v[7], tags.len()),
                (*id, 8, (id * 10) as f32, (id * 10 + 7) as f32, (id % 3) as usize)
            );
            assert_eq!(matches!(sparse, Cell::Absent), id % 5 == 0);
        }
    }
}

#[tokio::test]
async fn an_empty_result_is_a_file_with_the_schema() {
    let schema = every_type();
    let nothing = source(&schema, vec![]);
    let bench = Bench::new().await;
    let counted = bench.count(&nothing, &Filter::All).await.unwrap();
    assert_eq!((counted.scanned, counted.matched, counted.sample.as_str()), (0, 0, "[]"));
    assert_eq!(counted.units, [UnitSpec::default()]);
    for format in [Format::Parquet, Format::Json] {
        let report = bench.unit(&nothing, &Filter::All, &counted.units[0], format, 0).await.unwrap();
        assert_eq!((report.rows, report.digest), (0, 0));
        assert!(read(&schema, &bench.path(0, format), format).is_empty());
    }
    assert_eq!(fs::metadata(bench.path(0, Format::Json)).unwrap().len(), 0);
}

#[tokio::test]
async fn digest_depends_neither_on_order_nor_on_split() {
    let (schema, batch) = numbers(0..1000, 4);
    let whole = source(&schema, vec![vec![batch.clone()]]);
    let split = source(&schema, vec![vec![batch.slice(700, 300)], vec![batch.slice(0, 1), batch.slice(1, 699)]]);
    let bench = Bench::new().await;
    let mut sums = Vec::new();
    for (n, (source, format)) in
        [(&whole, Format::Parquet), (&split, Format::Parquet), (&split, Format::Json)].into_iter().enumerate()
    {
        let units = bench.count(source, &Filter::All).await.unwrap().units;
        let ranges: Vec<_> = units.iter().flat_map(|unit| unit.ranges.clone()).collect();
        let mut sum = 0u128;
        for (m, range) in ranges.into_iter().enumerate() {
            let unit = UnitSpec { ranges: vec![range], matched: 0 };
            sum = sum.wrapping_add(bench.unit(source, &Filter::All, &unit, format, n * 10 + m).await.unwrap().digest);
        }
        sums.push(sum);
    }
    assert!(sums[0] != 0 && sums[0] == sums[1] && sums[1] == sums[2], "{sums:x?}");
    let (_, other) = numbers(0..1000, 4);
    let other = source(&schema, vec![vec![other.slice(0, 999)]]);
    let units = bench.count(&other, &Filter::All).await.unwrap().units;
    assert_ne!(bench.unit(&other, &Filter::All, &units[0], Format::Json, 99).await.unwrap().digest, sums[0]);
}

#[tokio::test]
async fn progress_is_told_as_it_happens() {
    let (schema, batch) = numbers(0..1000, 4);
    let source = source(&schema, vec![vec![batch.slice(0, 400), batch.slice(400, 600)]]);
    let filter = Filter::Range {
        field: "id".into(),
        bounds: Bounds { lt: Some(Number::Int(500)), ..Bounds::default() },
        outside: false,
    };
    let bench = Bench::new().await;
    let counted = bench.count(&source, &filter).await.unwrap();
    assert_eq!((bench.meter.rows_scanned(), bench.meter.rows_matched()), (1000, 500));
    assert_eq!((counted.scanned, counted.matched, bench.meter.rows_done()), (1000, 500, 0));
    let report = bench.unit(&source, &filter, &counted.units[0], Format::Json, 0).await.unwrap();
    assert_eq!((bench.meter.rows_done(), bench.meter.bytes_done()), (500, report.bytes));

    // Parts whose bounds exclude every match are counted but not read.
    let none = Filter::Range {
        field: "id".into(),
        bounds: Bounds { gt: Some(Number::Int(5000)), ..Bounds::default() },
        outside: false,
    };
    let source = Arc::new(MemorySource::new(Arc::clone(&schema), vec![vec![(batch, None)]]));
    let shared: SharedSource = source.clone();
    let counted = bench.count(&shared, &none).await.unwrap();
    assert_eq!((counted.scanned, counted.matched, source.reads()), (1000, 0, 0));
}

/// Twenty batches; the cancel comes while the third is read.
fn cancelling(cancel: &Cancel) -> Arc<MemorySource> {
    let (schema, batch) = numbers(0..2000, 4);
    let batches = (0..20).map(|n| (batch.slice(n * 100, 100), None)).collect();
    let cancel = cancel.clone();
    let source = MemorySource::new(schema, vec![batches]);
    Arc::new(source.on_read(Box::new(move |n| {
        if n == 3 {
            cancel.cancel();
        }
        Ok(())
    })))
}

#[tokio::test]
async fn slow_filter_cancelled() {
    let bench = Bench::new().await;
    let source = cancelling(&bench.cancel);
    let shared: SharedSource = source.clone();
    let counted = bench.count(&shared, &Filter::All).await;
    assert!(matches!(counted, Err(Error::Cancelled)), "{counted:?}");
    assert!(source.reads() < 3 + 2 * bench.pool.threads(), "at most what was under way: {}", source.reads());
}

#[tokio::test]
async fn a_cancelled_export_leaves_no_object() {
    let (schema, batch) = numbers(0..2000, 4);
    let units = Bench::new().await.count(&source(&schema, vec![vec![batch]]), &Filter::All).await.unwrap().units;
    for format in [Format::Parquet, Format::Json] {
        let bench = Bench::new().await;
        let source = cancelling(&bench.cancel);
        let shared: SharedSource = source.clone();
        let stopped = bench.unit(&shared, &Filter::All, &units[0], format, 0).await;
        assert!(matches!(stopped, Err(Error::Cancelled)), "{stopped:?}");
        // Each batch is read for the filter and, as it matches, once more for its vectors.
        assert!(source.reads() <= 6 && bench.is_empty());
    }
}

#[tokio::test]
async fn a_hanging_store_does_not_hold_a_cancelled_export() {
    let (schema, batch) = numbers(0..100, 4);
    let source = source(&schema, vec![vec![batch]]);
    for call in 1..=3 {
        let bench = Bench::new().await;
        let units = bench.count(&source, &Filter::All).await.unwrap().units;
        bench.faults.hang(call);
        let export = bench.unit(&source, &Filter::All, &units[0], Format::Json, 0);
        let cancel = async {
            while bench.faults.hanging() == 0 {
                tokio::task::yield_now().await;
            }
            bench.cancel.cancel();
        };
        let (stopped, ()) = tokio::join!(export, cancel);
        assert!(matches!(stopped, Err(Error::Cancelled)), "call {call}: {stopped:?}");
        assert!(bench.is_empty(), "call {call}");
    }
}

#[tokio::test]
async fn another_file_of_that_name_is_never_touched() {
    let (schema, batch) = numbers(0..100, 4);
    let source = source(&schema, vec![vec![batch]]);
    let bench = Bench::new().await;
    let units = bench.count(&source, &Filter::All).await.unwrap().units;
    let report = bench.unit(&source, &Filter::All, &units[0], Format::Json, 0).await.unwrap();
    let path = bench.path(0, Format::Json);
    let mut bytes = fs::read(&path).unwrap();
    assert_eq!(report.bytes, bytes.len() as u64);
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    for other in [bytes, b"longer or shorter".to_vec(), Vec::new()] {
        fs::write(&path, &other).unwrap();
        let refused = bench.unit(&source, &Filter::All, &units[0], Format::Json, 0).await.unwrap_err();
        assert!(matches!(refused, Error::ObjectExists(_)) && refused.kind() == Kind::Refused, "{refused:?}");
        assert_eq!(fs::read(&path).unwrap(), other);
    }
}

/// Fails the first, second, ... call until a run sees none; then lets each answer get lost. A second run always ends
/// with the right file.
#[tokio::test]
async fn a_unit_can_always_be_run_again() {
    let (schema, batch) = numbers(0..100, 4);
    let source = source(&schema, vec![vec![batch]]);
    for lost in [false, true] {
        for n in 1.. {
            let bench = Bench::new().await;
            let units = bench.count(&source, &Filter::All).await.unwrap().units;
            if lost {
                bench.faults.lose_ack(n)
            } else {
                bench.faults.fail(n)
            }
            let first = bench.unit(&source, &Filter::All, &units[0], Format::Parquet, 0).await;
            let unseen = first.is_ok();
            if let Err(error) = first {
                assert_eq!(error.kind(), Kind::Unavailable, "{error:?}");
                assert!(lost || bench.is_empty(), "call {n}");
            }
            bench.faults.clear();
            let report = bench.unit(&source, &Filter::All, &units[0], Format::Parquet, 0).await.unwrap();
            assert_eq!(report.rows, 100);
            assert_eq!(read(&schema, &bench.path(0, Format::Parquet), Format::Parquet).len(), 100);
            if unseen {
                assert!(n > 3, "begin, part and complete were each tried");
                break;
            }
        }
    }
}

#[tokio::test]
async fn corrupt_input_ends_the_unit() {
    let (schema, batch) = numbers(0..100, 4);
    let units =
        Bench::new().await.count(&source(&schema, vec![vec![batch.clone()]]), &Filter::All).await.unwrap().units;
    let bad = |_| Err(Error::Corrupt { what: "segment 10".into(), why: "checksum".into() });
    let source: SharedSource = Arc::new(MemorySource::new(schema, vec![vec![(batch, None)]]).on_read(Box::new(bad)));
    let bench = Bench::new().await;
    assert_eq!(bench.count(&source, &Filter::All).await.unwrap_err().kind(), Kind::Corrupt);
    let stopped = bench.unit(&source, &Filter::All, &units[0], Format::Json, 0).await;
    assert_eq!(stopped.unwrap_err().kind(), Kind::Corrupt);
    assert!(bench.is_empty());
    let elsewhere = UnitSpec { ranges: vec![super::RowRange { segment: 99, start: 0, end: 1 }], matched: 1 };
    let stopped = bench.unit(&source, &Filter::All, &elsewhere, Format::Json, 0).await;
    assert!(matches!(stopped, Err(Error::SegmentMissing(99))) && bench.is_empty());
}
