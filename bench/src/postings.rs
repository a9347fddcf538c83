//! Which rows of a segment pass a filter: by its postings, and by looking at every row. In this process, one thread.

use std::hint::black_box;
use std::io;

use arrow_array::RecordBatch;
use knarr_base::filter::{Bounds, Filter, Values};
use knarr_base::id::Name;
use knarr_base::limit;
use knarr_base::schema::{Field, FieldType, Schema};
use knarr_base::value::Number;
use knarr_engine::compute::Cancel;
use knarr_engine::disk::{Disk, OsDisk};
use knarr_engine::index::postings::{Postings, Scalars, build, scan};

use crate::bench::Bench;
use crate::data::{self, DIM, Shape};
use crate::measure::{self, Noise, Peak, Spread, print_table};

/// Times that each filter is asked.
const TIMES: usize = 101;
/// Times that every row is looked at for it.
const SCANS: usize = 5;
/// Bytes read between two questions of the second column: more than the caches that a core has to itself.
const OTHER_BYTES: usize = 32 * 1024 * 1024;
const FIELDS: [&str; 6] = ["id", "user_id", "city", "tags", "score", "created"];

pub(crate) fn run(bench: &Bench) -> io::Result<()> {
    let (schema, batches) = (schema(), batches(bench));
    let scalars = Scalars::of(&batches);
    let postings = built(bench, &schema, &scalars)?;
    let others = vec![1u8; OTHER_BYTES];
    let noise = Noise::start(std::process::id());
    let mut table = Vec::new();
    for (name, filter) in filters() {
        let matching = || postings.matching(&filter, &schema, &scalars).map_err(io::Error::other);
        let found = matching()?;
        assert_eq!(found, scan(&filter, &schema, &scalars).map_err(io::Error::other)?, "{name}");
        let alone = micros(TIMES, &[], || matching().map(|found| u64::from(found.count())))?;
        let among = micros(TIMES, &others, || matching().map(|found| u64::from(found.count())))?;
        let by_rows =
            micros(SCANS, &[], || Ok(u64::from(scan(&filter, &schema, &scalars).map_err(io::Error::other)?.count())))?;
        table.push(vec![
            name.to_owned(),
            format!("{:.2} %", f64::from(found.count()) * 100.0 / f64::from(scalars.rows())),
            format!("{:.0} ({:.0})", alone.median, alone.min),
            format!("{:.0} ({:.0})", among.median, among.min),
            format!("{:.0}", by_rows.median),
        ]);
    }
    print_table(&["filter", "rows", "postings us (least)", "after other work", "every row us"], &table);
    println!("foreign cpu {:.2}", noise.read());
    Ok(())
}

/// Microseconds of each call, with `others` read before it.
fn micros(times: usize, others: &[u8], call: impl Fn() -> io::Result<u64>) -> io::Result<Spread> {
    let mut runs = Vec::with_capacity(times);
    for _ in 0..times {
        black_box(others.iter().step_by(64).map(|byte| u64::from(*byte)).sum::<u64>());
        let start = measure::now();
        black_box(call()?);
        runs.push((measure::now() - start) * 1e6);
    }
    Ok(Spread::of(runs))
}

fn built(bench: &Bench, schema: &Schema, scalars: &Scalars<'_>) -> io::Result<Postings> {
    let path = bench.dir.join("postings");
    let (mut seconds, mut peak) = (Vec::new(), 0f64);
    let noise = Noise::start(std::process::id());
    for _ in 0..bench.n {
        OsDisk.remove(&path)?;
        let watch = Peak::watch(std::process::id());
        let start = measure::now();
        build(schema, &FIELDS, 1, scalars, &OsDisk, &path, &Cancel::new()).map_err(io::Error::other)?;
        seconds.push(measure::now() - start);
        peak = peak.max(watch.over_idle_mib());
    }
    let start = measure::now();
    let postings = Postings::open(&OsDisk, &path).map_err(io::Error::other)?;
    let opened = measure::now() - start;
    postings.verify().map_err(io::Error::other)?;
    let verified = measure::now() - start - opened;
    let (raw, rows) = (scalars.rows() as usize * DIM * 4, f64::from(scalars.rows()));
    let share = |bytes: u64| format!("{:.1} %", bytes as f64 * 100.0 / raw as f64);
    let field = |(name, kind, bytes): (&str, FieldType, u64)| {
        vec![name.to_owned(), kind.name().to_owned(), format!("{:.1}", bytes as f64 / rows), share(bytes)]
    };
    let mut table: Vec<_> = postings.fields().map(field).collect();
    let all = postings.bytes();
    table.push(vec!["all".to_owned(), String::new(), format!("{:.1}", all as f64 / rows), share(all)]);
    print_table(&["field", "type", "bytes a row", "of the raw vectors"], &table);
    println!(
        "built in {} s by one thread, peak {peak:.0} MiB; opened in {:.0} us, verified in {:.1} ms; foreign cpu {:.2}\n",
        Spread::of(seconds).show(2),
        opened * 1e6,
        verified * 1e3,
        noise.read()
    );
    Ok(postings)
}

fn schema() -> Schema {
    let kinds = [
        FieldType::Int64,
        FieldType::Int64,
        FieldType::String,
        FieldType::StringList,
        FieldType::Float32,
        FieldType::Int64,
    ];
    let field = |(name, kind): (&str, FieldType)| Field {
        name: Name::parse("field_name", name).expect("follows the rule"),
        kind,
        default: None,
        pipeline: None,
    };
    Schema::new(FIELDS.into_iter().zip(kinds).map(field).collect(), "id").expect("a sound schema")
}

fn batches(bench: &Bench) -> Vec<RecordBatch> {
    let shape = Shape::new();
    // Rows come in chunks of a thousand and must be asked for by the hundred.
    let step = limit::BATCH_ROWS as i64 / 1600 * 1600;
    let range = |from: i64| shape.rows(0, from, bench.rows.min(from + step));
    (0..bench.rows).step_by(step as usize).map(|from| data::stored(range(from))).collect()
}

fn filters() -> Vec<(&'static str, Filter)> {
    let cities = || some("city", Values::Str([7, 42, 77].map(|n| format!("city_{n:03}")).to_vec()));
    let users = || some("user_id", Values::Int((3..10_000).step_by(10).collect()));
    let tags = some("tags", Values::Str(vec!["tag_03".to_owned(), "tag_30".to_owned()]));
    let below = |end| range("user_id", None, Some(Number::Int(end)));
    let created = |from: i64, to: i64| {
        range("created", Some(Number::Int(1_700_000_000 + from)), Some(Number::Int(1_700_000_000 + to)))
    };
    let keys = some("id", Values::Int((0..1000).map(|n| n * 997).collect()));
    let not_cities = Filter::In {
        field: "city".to_owned(),
        values: Values::Str([7, 42, 77].map(|n| format!("city_{n:03}")).to_vec()),
        negated: true,
    };
    vec![
        ("user_id < 3000", below(3000)),
        ("score in 30 % of its range", range("score", Some(Number::Float(0.333)), Some(Number::Float(0.633)))),
        ("city in 3", cities()),
        ("city in 3 and user_id in 1000", Filter::And(vec![cities(), users()])),
        ("created in 0.3 % of its range", created(41_300_000, 41_600_000)),
        ("created in 10 % and city in 3", Filter::And(vec![created(40_000_000, 50_000_000), cities()])),
        ("user_id in 1000", users()),
        ("id in 1000", keys),
        ("city in 3 or user_id < 300", Filter::Or(vec![cities(), below(300)])),
        ("city not in 3", not_cities),
        ("tags with one of 2", tags),
    ]
}

fn some(field: &str, values: Values) -> Filter {
    Filter::In { field: field.to_owned(), values, negated: false }
}

fn range(field: &str, gte: Option<Number>, lt: Option<Number>) -> Filter {
    Filter::Range { field: field.to_owned(), bounds: Bounds { gte, lt, ..Bounds::default() }, outside: false }
}
