//! The upserts of `upsert` into the engine alone: no HTTP, no signatures, no catalog. With rows that were decoded before the
//! clock starts, and with the JSON text that a server gets.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use knarr_base::clock::SystemClock;
use knarr_base::id::{Name, TableId};
use knarr_base::limit;
use knarr_base::schema::{Field, FieldType, Schema};
use knarr_engine::compute::Pool;
use knarr_engine::disk::OsDisk;
use knarr_engine::rows::Rows;
use knarr_engine::table::{Options, Table, Tables};

use crate::bench::{Bench, CLIENTS};
use crate::data::{self, DIM, Shape};
use crate::load;
use crate::measure::{self, Noise, Spread, percentile, print_table};
use crate::process::proc_value;
use crate::upsert::{self, Prepared};

pub(crate) fn run(bench: &Bench, args: &upsert::Args) -> io::Result<()> {
    bench.print_disk()?;
    let decoded = |rows: &mut dyn Iterator<Item = data::Row>| decode(&text(rows));
    let decoded = measure(bench, args, "rows decoded before", decoded, |rows| rows)?;
    let texts = measure(bench, args, "JSON text", |rows| text(rows), |text| decode(&text))?;
    print_table(
        &[
            "engine alone, 8 callers",
            "reach",
            "rows/s (min..max)",
            "p50 ms",
            "p99 ms",
            "write amplification",
            "foreign cpu",
        ],
        &[decoded, texts],
    );
    Ok(())
}

fn text(rows: &mut dyn Iterator<Item = data::Row>) -> String {
    let mut text = Vec::new();
    load::fields(rows, data::Row::write_json, &mut text);
    String::from_utf8(text).expect("JSON is UTF-8")
}

fn schema() -> Arc<Schema> {
    let kinds = [
        ("id", FieldType::Int64),
        ("user_id", FieldType::Int64),
        ("city", FieldType::String),
        ("tags", FieldType::StringList),
        ("score", FieldType::Float32),
        ("created", FieldType::Int64),
        ("vector", FieldType::Vector { dim: DIM as u32 }),
    ];
    let field = |(name, kind)| Field {
        name: Name::parse("field_name", name).expect("follows the rule"),
        kind,
        default: None,
        pipeline: None,
    };
    Arc::new(Schema::new(kinds.map(field).to_vec(), "id").expect("a sound schema"))
}

fn decode(text: &str) -> Rows {
    Rows::decode_upsert(&schema(), text).expect("rows of the schema")
}

/// `make` prepares a call before the clock starts, `take` turns it into rows while it runs.
fn measure<T: Send + 'static>(
    bench: &Bench,
    args: &upsert::Args,
    name: &str,
    make: impl Fn(&mut dyn Iterator<Item = data::Row>) -> T + Sync,
    take: fn(T) -> Rows,
) -> io::Result<Vec<String>> {
    let dir = bench.dir.join("engine_scratch");
    let (mut rates, mut p50, mut p99, mut writes, mut foreign) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), 0f64);
    for _ in 0..bench.n {
        bench.remove(&dir)?;
        std::fs::create_dir_all(&dir)?;
        let (tables, table) = open(&dir);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let shape = Shape::new();
        for from in (0..bench.rows).step_by(1000) {
            let loaded = (from..from + 1000).step_by(100).map(|at| decode(&text(&mut shape.rows(0, at, at + 100))));
            send(&runtime, &table, loaded.collect(), |rows| rows);
        }
        let own = std::process::id();
        measure::settle(own);
        let Prepared { calls, payload } = upsert::prepare(bench.rows, args.upserts, &make);
        let written = || proc_value(own, "io", "write_bytes") as f64;
        let (before, noise, start) = (written(), Noise::start(own), measure::now());
        let mut latencies = send(&runtime, &table, calls, take);
        rates.push(args.upserts as f64 / (measure::now() - start));
        foreign = foreign.max(noise.read());
        latencies.sort_by(f64::total_cmp);
        p50.push(percentile(&latencies, 50.0) * 1000.0);
        p99.push(percentile(&latencies, 99.0) * 1000.0);
        measure::settle(own);
        writes.push((written() - before) / payload as f64);
        drop(runtime);
        tables.close();
        bench.remove(&dir)?;
    }
    Ok(vec![
        format!("{} rows, {name}", args.upserts),
        "150,000".to_owned(),
        Spread::of(rates).show(0),
        Spread::of(p50).show(2),
        Spread::of(p99).show(2),
        Spread::of(writes).show(2),
        format!("{foreign:.2}"),
    ])
}

fn open(dir: &Path) -> (Arc<Tables>, Arc<Table>) {
    let options = Options {
        dir: dir.to_owned(),
        clock: SystemClock::shared(),
        disk: OsDisk::shared(),
        pool: Pool::new(std::thread::available_parallelism().map_or(2, usize::from)),
        memtable_bytes: limit::MEMTABLE_BYTES,
        structure_rows: limit::INDEX_SEGMENT_ROWS,
    };
    let tables = Tables::open(options).expect("an empty directory opens");
    tables.start_maintenance(Vec::new(), Arc::new(|_| false));
    let table = tables.create(TableId::random(), Arc::unwrap_or_clone(schema())).expect("a new table");
    (tables, table)
}

/// Every call once, by as many callers as a server has clients; seconds of each.
fn send<T: Send + 'static>(
    runtime: &tokio::runtime::Runtime,
    table: &Arc<Table>,
    calls: Vec<T>,
    take: fn(T) -> Rows,
) -> Vec<f64> {
    let calls: Arc<Vec<Mutex<Option<T>>>> = Arc::new(calls.into_iter().map(|call| Mutex::new(Some(call))).collect());
    let next = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (table, calls, next) = (table.clone(), calls.clone(), next.clone());
            runtime.spawn(async move {
                let mut latencies = Vec::new();
                while let Some(call) = calls.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let call = call.lock().expect("nobody panics with it").take().expect("every call is taken once");
                    let start = measure::now();
                    table.upsert(take(call), 0).await.expect("the table takes it");
                    latencies.push(measure::now() - start);
                }
                latencies
            })
        })
        .collect();
    runtime.block_on(async {
        let mut all = Vec::new();
        for caller in callers {
            all.extend(caller.await.expect("no caller panics"));
        }
        all
    })
}
