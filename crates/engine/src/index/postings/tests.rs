//! Postings against looking at every row.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{Int64Builder, ListBuilder};
use arrow_array::{ArrayRef, Float32Array, Int64Array, RecordBatch, UInt64Array};
use arrow_schema::{DataType, Field as ArrowField};
use knarr_base::filter::{Bounds, Filter, Values};
use knarr_base::limit;
use knarr_base::schema::{FieldType, Schema};
use knarr_base::value::Number;
use proptest::prelude::*;

use super::*;
use crate::columns;
use crate::compute::Cancel;
use crate::disk::fault::{Fault, FaultDisk};
use crate::disk::{Disk, OsDisk};
use crate::filter::tests::any_filter;
use crate::index::vector::LANES;
use crate::index::vector::kernel::STRETCH;
use crate::rows::testing::{Cell, Row, any_rows, any_schema, every_type, field, stored};

/// The postings of some batches in a directory of their own.
struct World {
    _dir: tempfile::TempDir,
    path: PathBuf,
    postings: Postings,
}

fn world(schema: &Schema, fields: &[&str], batches: &[RecordBatch]) -> World {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("7.postings");
    build(schema, fields, 7, &Scalars::of(batches), &OsDisk, &path, &Cancel::new()).unwrap();
    let postings = Postings::open(&OsDisk, &path).unwrap();
    assert_eq!((postings.segment(), postings.bytes()), (7, path.metadata().unwrap().len()));
    World { _dir: dir, path, postings }
}

/// The batch in parts of so many rows.
fn cut(batch: &RecordBatch, rows: usize) -> Vec<RecordBatch> {
    (0..batch.num_rows()).step_by(rows).map(|at| batch.slice(at, rows.min(batch.num_rows() - at))).collect()
}

/// Checks a filter: what postings tell excludes no row that passes, and is all there is to know if nothing is left.
fn check(world: &World, filter: &Filter, schema: &Schema, batches: &[RecordBatch]) -> Bits {
    let scalars = Scalars::of(batches);
    let expected = scan(filter, schema, &scalars).unwrap();
    assert_eq!(world.postings.matching(filter, schema, &scalars).unwrap(), expected, "{filter:?}");
    let predicate = Predicate::compile(filter, schema).unwrap();
    if let Some(answer) = world.postings.ask(&predicate, schema).unwrap() {
        let bits = answer.bits().unwrap();
        assert!(expected.iter().all(|row| bits.contains(row)), "{filter:?} loses rows");
        assert!(!answer.is_exact() || bits == expected, "{filter:?}");
        if answer.is_exact() {
            let order = backwards(bits.rows());
            let arranged = arranged(&world.postings, &order);
            for few in [0, bits.rows() / 20, bits.rows() / 2] {
                check_passed(&answer.passed(few, None).unwrap(), &expected, &[], filter);
                check_passed(&answer.passed(few, Some(&arranged)).unwrap(), &expected, &order, filter);
            }
        }
    }
    expected
}

/// The rows as cells might have them, with places that no row has.
fn backwards(rows: u32) -> Vec<Option<u32>> {
    (0..rows).rev().flat_map(|row| [Some(Some(row)), (row % 5 == 0).then_some(None)]).flatten().collect()
}

fn arranged(postings: &Postings, order: &[Option<u32>]) -> Arranged {
    let arrange = |code: &dyn Fn(u32) -> u16| {
        let codes = order.iter().map(|row| row.map_or(0, code));
        Ok(codes.chain([0; STRETCH]).collect())
    };
    Arranged::new(postings, arrange).unwrap()
}

/// Whatever form the rows come in, they are the same. `order`: of what was arranged.
fn check_passed(passed: &Passed<'_>, expected: &Bits, order: &[Option<u32>], filter: &Filter) {
    match passed {
        Passed::Few(rows) => {
            let mut rows = rows.clone();
            rows.sort_unstable();
            assert_eq!(rows, expected.iter().collect::<Vec<_>>(), "{filter:?}");
        }
        Passed::Bits(bits) => assert_eq!(bits, expected, "{filter:?}"),
        Passed::Each(test, about) => {
            let (rows, wrong) = (expected.rows(), about.abs_diff(expected.count()));
            assert!(rows < 10_000 || wrong <= expected.count() / 4 + rows / 50, "{filter:?}: {about}, {wrong} wrong");
            for from in (0..expected.rows()).step_by(LANES) {
                let rows = std::array::from_fn(|lane| (from + lane as u32).min(expected.rows() - 1));
                for among in [u16::MAX, 0x0421] {
                    let lanes = (0..LANES).filter(|lane| among >> lane & 1 == 1 && expected.contains(rows[*lane]));
                    assert_eq!(test.lanes(&rows, among), lanes.fold(0, |mask, lane| mask | 1 << lane), "{filter:?}");
                }
            }
            assert!(order.is_empty() || test.is_arranged(), "{filter:?}: so few fields all are");
            for from in (0..order.len()).step_by(LANES) {
                let at = |lane: u32| order.get(from + lane as usize).copied().flatten();
                let filled = (0..64).filter(|lane| at(*lane).is_some()).fold(0u64, |mask, lane| mask | 1 << lane);
                for among in [filled, filled & 0x8000_0421_1111_7777] {
                    let pass = |lane: &u32| among >> lane & 1 == 1 && expected.contains(at(*lane).unwrap());
                    let told = (0..64).filter(pass).fold(0, |mask, lane| mask | 1 << lane);
                    assert_eq!(test.stretch(from, &|lane| at(lane).unwrap(), among), told, "{filter:?}");
                }
                test.ahead(from);
            }
        }
    }
}

/// True if postings alone can tell: every field has them, and no condition is on two fields.
fn told(filter: &Filter, fields: &[&str]) -> bool {
    match filter {
        Filter::All => true,
        Filter::And(parts) | Filter::Or(parts) => parts.iter().all(|part| told(part, fields)),
        Filter::In { field, .. } | Filter::Range { field, .. } => fields.contains(&field.as_str()),
        Filter::Circle { .. } => false,
    }
}

/// A schema, rows, a filter, which fields are indexed, rows of a batch, and how many fields there were at first.
fn case() -> impl Strategy<Value = (Arc<Schema>, Vec<Row>, Filter, Vec<bool>, usize, usize)> {
    any_schema().prop_flat_map(|schema| {
        let (rows, filter) = (any_rows(&schema, 300), any_filter(&schema));
        let indexed = prop::collection::vec(prop::bool::weighted(0.8), 10);
        (Just(schema), rows, filter, indexed, 1usize..200, 1usize..8)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 512 } else { 4096 }))]

    #[test]
    fn postings_tell_what_looking_at_every_row_tells(
        (schema, rows, filter, indexed, batch, had) in case()
    ) {
        let batches = cut(&stored(&schema, &rows), batch);
        let all = indexable(&schema);
        let fields: Vec<&str> = all.iter().zip(indexed).filter(|(_, indexed)| *indexed).map(|(name, _)| *name).collect();
        let world = world(&schema, &fields, &batches);
        prop_assert_eq!(world.postings.fields().map(|(name, ..)| name).collect::<Vec<_>>(), fields.clone());
        check(&world, &filter, &schema, &batches);
        if told(&filter, &fields) {
            let predicate = Predicate::compile(&filter, &schema).unwrap();
            let answer = world.postings.ask(&predicate, &schema).unwrap();
            prop_assert!(answer.is_some_and(|answer| answer.is_exact()), "{:?} is left", filter);
        }
        world.postings.verify().unwrap();

        // Rows that were written when there were fewer fields.
        let later = schema.fields();
        let Ok(old) = Schema::new(later[..had.min(later.len())].to_vec(), schema.key_name()) else { return Ok(()) };
        if later[old.fields().len()..].iter().any(|field| matches!(field.kind, FieldType::Vector { .. })) {
            return Ok(());
        }
        let width = columns::user_schema(&old).fields().len();
        let narrow: Vec<Row> = rows.iter().map(|row| row[..width].to_vec()).collect();
        let batches = cut(&stored(&old, &narrow), batch);
        if !batches.is_empty() {
            let world = self::world(&schema, &fields, &batches);
            check(&world, &filter, &schema, &batches);
        }
    }
}

fn some(field: &str, values: Values) -> Filter {
    Filter::In { field: field.to_owned(), values, negated: false }
}

fn none(field: &str, values: Values) -> Filter {
    Filter::In { field: field.to_owned(), values, negated: true }
}

fn ints(field: &str, values: impl IntoIterator<Item = i64>) -> Filter {
    some(field, Values::Int(values.into_iter().collect()))
}

fn texts(field: &str, values: &[&str]) -> Filter {
    some(field, Values::Str(values.iter().map(|text| (*text).to_owned()).collect()))
}

fn range(field: &str, from: f64, to: f64, outside: bool) -> Filter {
    let bounds = Bounds { gte: Some(Number::Float(from)), lt: Some(Number::Float(to)), ..Bounds::default() };
    Filter::Range { field: field.to_owned(), bounds, outside }
}

/// Numbers that look like chance.
fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33
}

/// Rows of every type: a unique key, a unique score, 40 cities, a flag, small numbers and tags.
fn many(rows: u64) -> (Arc<Schema>, Vec<RecordBatch>) {
    let schema = every_type();
    let row = |n: u64| {
        let (city, tag) = (mix(n) % 40, |salt: u64| Cell::Str(format!("tag{}", mix(n ^ salt) % 9)));
        let Cell::Str(one) = tag(1 << 40) else { unreachable!() };
        vec![
            Cell::Int(n as i64 * 3 - 1000),
            Cell::Float((mix(n + 7) % (rows * 4)) as f32 / 8.0 - 100.0),
            Cell::Str(format!(
                "{}{city}",
                if city.is_multiple_of(2) { "c" } else { "a city with a name of more than 15 bytes " }
            )),
            Cell::Bool(mix(n + 9).is_multiple_of(4)),
            Cell::IntList((0..mix(n + 3) % 4).map(|at| (mix(n * 5 + at) % 700) as i64).collect()),
            Cell::StrList(if n.is_multiple_of(5) { vec![] } else { vec![one.clone(), one, "all".to_owned()] }),
            Cell::Vector(vec![0.0; 4]),
            Cell::Absent,
            Cell::Absent,
            Cell::Absent,
        ]
    };
    let batch = stored(&schema, &(0..rows).map(row).collect::<Vec<_>>());
    (schema, cut(&batch, 4096))
}

const FIELDS: [&str; 6] = ["id", "score", "city", "ok", "ns", "tags"];

/// Filters that go through every way of reading, each with how many of a thousand rows it finds at least and at most.
fn ways(rows: f64) -> Vec<(Filter, [f64; 2])> {
    let long = |n: u32| format!("a city with a name of more than 15 bytes {n}");
    let third = range("id", -1000.0, rows - 1000.0, false);
    let cities = texts("city", &["c0", "c2", &long(3), "nowhere"]);
    let keys = ints("id", (0..500).map(|n| n * 93 - 1000));
    let wide = ints("id", (0..9000).map(|n| n * 3 - 1000));
    vec![
        (third.clone(), [300.0, 340.0]),
        (range("id", -1000.0, rows - 1000.0, true), [1000.0, 1000.0]),
        (range("id", 500.0, 620.0, false), [0.1, 10.0]),
        (range("score", -1e9, 1e9, false), [1000.0, 1000.0]),
        (range("score", 0.0, 100.0, false), [0.1, 40.0]),
        (range("score", rows / 8.0, rows / 4.0, false), [220.0, 280.0]),
        (cities.clone(), [50.0, 100.0]),
        (none("city", Values::Str(vec!["c0".to_owned()])), [950.0, 990.0]),
        (keys.clone(), [1.0, 40.0]),
        (wide.clone(), [100.0, 700.0]),
        (some("ok", Values::Bool(vec![true])), [220.0, 280.0]),
        (none("ok", Values::Bool(vec![true])), [720.0, 780.0]),
        (ints("ns", [5, 600]), [1.0, 10.0]),
        (none("ns", Values::Int((0..699).collect())), [200.0, 300.0]),
        (texts("tags", &["tag1", "tag8"]), [150.0, 200.0]),
        (texts("tags", &["all"]), [800.0, 800.0]),
        (none("tags", Values::Str(vec!["all".to_owned()])), [200.0, 200.0]),
        (Filter::And(vec![cities.clone(), third.clone()]), [15.0, 40.0]),
        (Filter::And(vec![cities.clone(), wide]), [5.0, 60.0]),
        (Filter::And(vec![cities.clone(), none("ok", Values::Bool(vec![true])), third.clone()]), [10.0, 30.0]),
        (Filter::And(vec![keys.clone(), cities.clone(), texts("tags", &["all"])]), [0.01, 4.0]),
        (Filter::Or(vec![cities.clone(), keys, Filter::And(vec![third, texts("tags", &["tag1"])])]), [70.0, 200.0]),
        (Filter::And(vec![cities.clone(), texts("city", &["c4"])]), [0.0, 0.0]),
        (
            Filter::Circle {
                fields: ["id".into(), "score".into()],
                center: [0.0, 0.0],
                radius: 3000.0,
                outside: false,
            },
            [0.1, 999.0],
        ),
    ]
}

#[test]
fn every_way_of_reading_tells_the_same() {
    // More than 65,536 rows: sections of many blocks, unique fields whose values share codes.
    let rows = 70_000;
    let (schema, batches) = many(rows);
    let world = world(&schema, &FIELDS, &batches);
    assert_eq!(world.postings.fields().map(|(name, ..)| name).collect::<Vec<_>>(), FIELDS);
    for (filter, [least, most]) in ways(rows as f64) {
        let found = f64::from(check(&world, &filter, &schema, &batches).count()) * 1000.0 / rows as f64;
        assert!((least..=most).contains(&found), "{found} of a thousand: {filter:?}");
    }
}

/// A circle's square excludes rows; outside of it nothing is known.
#[test]
fn circles_and_fields_without_postings_are_left_for_the_rows() {
    let (schema, batches) = many(3000);
    let world = world(&schema, &["id", "score"], &batches);
    let answer = |filter: &Filter| {
        let predicate = Predicate::compile(filter, &schema).unwrap();
        let answer = world.postings.ask(&predicate, &schema).unwrap();
        answer.map(|answer| (answer.bits().unwrap().count(), answer.is_exact()))
    };
    let circle = |outside| Filter::Circle {
        fields: ["id".into(), "score".into()],
        center: [500.0, 10.0],
        radius: 30.0,
        outside,
    };
    let (few, exact) = answer(&circle(false)).unwrap();
    assert!(few < 21 && !exact, "{few}");
    assert_eq!(answer(&circle(true)), None);
    let city = texts("city", &["c0"]);
    let low = range("id", -1000.0, -700.0, false);
    assert_eq!(answer(&city), None);
    assert_eq!(answer(&Filter::And(vec![city.clone(), low.clone()])), Some((100, false)));
    assert_eq!(answer(&Filter::Or(vec![city.clone(), low.clone()])), None);
    assert_eq!(answer(&Filter::Or(vec![low.clone(), low.clone()])), Some((100, true)));
    for filter in [circle(false), circle(true), city.clone(), Filter::And(vec![city, low])] {
        check(&world, &filter, &schema, &batches);
    }
}

#[test]
fn floats_of_every_kind_are_in_the_ranges_that_comparing_says() {
    let schema = Schema::new(vec![field("id", FieldType::Int64), field("x", FieldType::Float32)], "id").unwrap();
    let floats = [0.0, -0.0, f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-45, -1e-45, f32::MAX, 1.0, -1.0];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(0..floats.len() as i64)),
        Arc::new(Float32Array::from(floats.to_vec())),
        Arc::new(UInt64Array::from_value(1, floats.len())),
        Arc::new(Int64Array::from_value(0, floats.len())),
    ];
    let batches = [RecordBatch::try_new(columns::stored_schema(&schema), columns).unwrap()];
    let world = world(&schema, &["x"], &batches);
    let bounds = [-1e300, -1.0, -1e-45, -0.0, 0.0, 1e-45, 1.0, 1e300];
    for (low, high) in bounds.into_iter().flat_map(|low| bounds.into_iter().map(move |high| (low, high))) {
        let bounds = Bounds { gte: Some(Number::Float(low)), lte: Some(Number::Float(high)), ..Bounds::default() };
        for outside in [false, true] {
            check(&world, &Filter::Range { field: "x".to_owned(), bounds, outside }, &schema, &batches);
        }
    }
}

/// Around the length from which a digest stands for a string, and with bytes that could pass for its length.
#[test]
fn strings_are_told_apart_whatever_their_length() {
    let schema = Schema::new(vec![field("id", FieldType::Int64), field("t", FieldType::String)], "id").unwrap();
    let texts: Vec<String> = (0..20)
        .flat_map(|n| ["a".repeat(n), "\0".repeat(n), format!("{}\u{f}", "a".repeat(n)), format!("{}b", "a".repeat(n))])
        .collect();
    let rows: Vec<Row> = (0i64..).zip(&texts).map(|(n, text)| vec![Cell::Int(n), Cell::Str(text.clone())]).collect();
    let batches = [stored(&schema, &rows)];
    let world = world(&schema, &["t"], &batches);
    for text in &texts {
        let found = check(&world, &self::texts("t", &[text]), &schema, &batches);
        assert_eq!(found.count() as usize, texts.iter().filter(|other| *other == text).count());
    }
}

/// Memory for codes is bounded: of the fields after the first few they are asked where they are.
#[test]
fn codes_of_the_first_fields_are_arranged() {
    let name = |n: usize| format!("f{n:02}");
    let names: Vec<String> = (0..=limit::INDEX_ARRANGED_FIELDS).map(name).collect();
    let fields = names.iter().map(|name| field(name, FieldType::Int64));
    let schema = Schema::new(std::iter::once(field("id", FieldType::Int64)).chain(fields).collect(), "id").unwrap();
    let row = |n: i64| {
        std::iter::once(Cell::Int(n)).chain((0..names.len() as i64).map(|at| Cell::Int(n % (at + 2)))).collect()
    };
    let rows: Vec<Row> = (0..100).map(row).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let world = world(&schema, &names, &[stored(&schema, &rows)]);
    let arranged = arranged(&world.postings, &backwards(100));
    let is_arranged = |filter: &Filter| {
        let predicate = Predicate::compile(filter, &schema).unwrap();
        let answer = world.postings.ask(&predicate, &schema).unwrap().unwrap();
        let Passed::Each(test, _) = answer.passed(0, Some(&arranged)).unwrap() else { panic!("rows can be asked") };
        test.is_arranged()
    };
    let (first, last) = (ints(names[0], [1]), ints(names[names.len() - 1], [1]));
    assert!(is_arranged(&first) && !is_arranged(&last));
    assert!(
        !is_arranged(&Filter::And(vec![first.clone(), last.clone()])) && !is_arranged(&Filter::Or(vec![first, last]))
    );
}

#[test]
fn a_segment_without_rows_is_no_special_case() {
    let schema = every_type();
    for batches in [vec![], vec![stored(&schema, &[])]] {
        let world = world(&schema, &FIELDS, &batches);
        for (filter, _) in ways(100.0) {
            assert_eq!(check(&world, &filter, &schema, &batches).count(), 0);
        }
        world.postings.verify().unwrap();
    }
}

#[test]
fn fields_that_cannot_have_postings_are_left_out() {
    let (schema, batches) = many(10);
    let world = world(&schema, &["v", "s", "t", "i", "nope", "city", "city", "__AUTO_ID__"], &batches);
    assert_eq!(
        world.postings.fields().map(|(name, kind, _)| (name, kind)).collect::<Vec<_>>(),
        [("city", FieldType::String)]
    );
    assert_eq!(indexable(&schema), FIELDS);

    // One row with more elements than may be sorted.
    let schema = Schema::new(vec![field("id", FieldType::Int64), field("ns", FieldType::Int64List)], "id").unwrap();
    for (elements, kept) in [(3, true), (limit::POSTINGS_ENTRIES as usize + 1, false)] {
        let mut lists = ListBuilder::new(Int64Builder::with_capacity(elements)).with_field(Arc::new(ArrowField::new(
            "item",
            DataType::Int64,
            false,
        )));
        lists.values().append_slice(&vec![0; elements]);
        lists.append(true);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_value(0, 1)),
            Arc::new(lists.finish()),
            Arc::new(UInt64Array::from_value(1, 1)),
            Arc::new(Int64Array::from_value(0, 1)),
        ];
        let batches = [RecordBatch::try_new(columns::stored_schema(&schema), columns).unwrap()];
        let world = self::world(&schema, &["ns"], &batches);
        assert_eq!(world.postings.fields().count() == 1, kept);
        assert_eq!(check(&world, &ints("ns", [0]), &schema, &batches).count(), 1);
    }
}

/// Every byte of a file changed, one at a time: refused when it is opened, refused when it is used, or of no matter.
#[test]
fn a_changed_byte_is_never_served() {
    let (schema, batches) = many(24);
    let world = world(&schema, &FIELDS, &batches);
    let scalars = Scalars::of(&batches);
    let ways: Vec<(Filter, Bits)> = ways(24.0)
        .into_iter()
        .map(|(filter, _)| {
            let expected = scan(&filter, &schema, &scalars).unwrap();
            (filter, expected)
        })
        .collect();
    let whole = std::fs::read(&world.path).unwrap();
    let copy = world.path.with_extension("copy");
    let is_refusal = |error: &Error| matches!(error, Error::Corrupt { .. } | Error::NewerFormat { .. });
    let mut bytes = whole.clone();
    for at in 0..bytes.len() {
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&copy, &bytes).unwrap();
        bytes[at] = whole[at];
        let postings = match Postings::open(&OsDisk, &copy) {
            Ok(postings) => postings,
            Err(error) => {
                assert!(is_refusal(&error), "byte {at}: {error}");
                continue;
            }
        };
        for (filter, expected) in &ways {
            match postings.matching(filter, &schema, &scalars) {
                Ok(found) => assert_eq!(found, *expected, "byte {at}: {filter:?}"),
                Err(error) => assert!(is_refusal(&error), "byte {at}: {error}"),
            }
        }
        assert!(postings.verify().is_err_and(|error| is_refusal(&error)), "byte {at} is not noticed");
    }
}

#[test]
fn a_shorter_or_longer_file_is_refused() {
    let (schema, batches) = many(100);
    let world = world(&schema, &FIELDS, &batches);
    let whole = std::fs::read(&world.path).unwrap();
    let copy = world.path.with_extension("copy");
    let refused = |bytes: &[u8], what: &str| {
        std::fs::write(&copy, bytes).unwrap();
        let error = Postings::open(&OsDisk, &copy).err().expect(what);
        assert!(matches!(error, Error::Corrupt { .. }), "{what}: {error}");
    };
    (0..whole.len()).step_by(13).for_each(|length| refused(&whole[..length], &format!("length {length}")));
    refused(&[&whole[..], &[0]].concat(), "a byte more");
    refused(&[&whole[..64], &whole[128..]].concat(), "a line less");
}

#[test]
fn a_newer_format_and_other_rows_are_refused() {
    let (schema, batches) = many(100);
    let world = world(&schema, &FIELDS, &batches);
    let mut bytes = std::fs::read(&world.path).unwrap();
    bytes[8] = 2;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..64]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    let copy = world.path.with_extension("copy");
    std::fs::write(&copy, &bytes).unwrap();
    assert!(matches!(Postings::open(&OsDisk, &copy), Err(Error::NewerFormat { found: 2, known: 1, .. })));
    let (_, others) = many(101);
    let found = world.postings.matching(&ints("id", [5]), &schema, &Scalars::of(&others));
    assert!(matches!(found, Err(Error::Corrupt { .. })));
}

#[test]
fn cancel_stops_building() {
    let (schema, batches) = many(100);
    let cancel = Cancel::new();
    cancel.cancel();
    let dir = tempfile::tempdir().unwrap();
    let built = build(&schema, &FIELDS, 1, &Scalars::of(&batches), &OsDisk, &dir.path().join("1.postings"), &cancel);
    assert!(matches!(built, Err(Error::Cancelled)));
}

/// Every call to the disk fails once: the error is told, and what was left is not taken for postings.
#[test]
fn a_failing_disk_is_told_and_leaves_no_postings() {
    let (schema, batches) = many(500);
    let try_on =
        |disk: &dyn Disk, path: &Path| build(&schema, &FIELDS, 1, &Scalars::of(&batches), disk, path, &Cancel::new());
    for fault in [Fault::Eio, Fault::Full, Fault::Half] {
        let mut calls = 0;
        for nth in 1.. {
            let dir = tempfile::tempdir().unwrap();
            let (disk, path) = (FaultDisk::new(dir.path()), dir.path().join("1.postings"));
            disk.fail_nth(nth, fault);
            let built = try_on(&*disk, &path);
            if !disk.heal() {
                built.unwrap();
                break;
            }
            calls = nth;
            assert!(matches!(built, Err(Error::Io { .. } | Error::DiskFull)), "{fault:?} at {nth}");
        }
        assert!(calls >= 9, "create, header, six sections, table and sync");
    }
}
