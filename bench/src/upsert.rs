//! Upserts of 100 rows a call from 8 clients: half existing keys, half new ones, every call durable.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::bench::{self, Bench, CLIENTS, TABLE};
use crate::client::{Connection, Signer, accepted};
use crate::data::{Random, Row, Shape};
use crate::load;
use crate::measure::{self, Noise, Spread, percentile, print_table};
use crate::process::{Server, proc_value};

pub(crate) const CALL: i64 = 100;
/// Stream of the upserted rows, so that an existing key gets a different row.
pub(crate) const STREAM: u64 = 2;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rows to upsert; their prepared requests take 1.5 kB each in memory.
    #[arg(long, default_value_t = 4_000_000)]
    pub(crate) upserts: i64,
}

/// Something ready to be sent for every call, and what the rows weigh.
pub(crate) struct Prepared<T> {
    pub(crate) calls: Vec<T>,
    pub(crate) payload: u64,
}

pub(crate) fn run(bench: &Bench, args: &Args) -> io::Result<()> {
    bench.print_disk()?;
    let (mut rates, mut p50, mut p99, mut writes, mut settles, mut foreign) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new(), 0f64);
    let mut sent = 0;
    for _ in 0..bench.n {
        let data = bench.scratch()?;
        let server = bench.start(&data)?;
        let signer = Signer::new(server.keys(), server.host(), measure::now_ms());
        let Prepared { calls: requests, payload } = prepare(bench.rows, args.upserts, |rows| {
            signer.request("POST", "/api/collection/upsert_data", &load::body(rows, Row::write_json))
        });
        sent = requests.iter().map(|r| r.len() as u64).sum();
        let written = || proc_value(server.pid(), "io", "write_bytes") as f64;
        let (before, noise, start) = (written(), Noise::start(server.pid()), measure::now());
        let mut latencies = send(&server, &requests);
        let seconds = measure::now() - start;
        foreign = foreign.max(noise.read());
        rates.push(args.upserts as f64 / seconds);
        latencies.sort_by(f64::total_cmp);
        p50.push(percentile(&latencies, 50.0) * 1000.0);
        p99.push(percentile(&latencies, 99.0) * 1000.0);
        settles.push(measure::settle(server.pid()));
        writes.push((written() - before) / payload as f64);
        check(&server, bench.rows, args.upserts);
        bench::stop(server)?;
        bench.remove(&data)?;
    }
    print_table(
        &[
            "upsert, 8 clients",
            "reach",
            "rows/s (min..max)",
            "p50 ms",
            "p99 ms",
            "write amplification",
            "s until idle",
            "foreign cpu",
        ],
        &[vec![
            format!("{} rows through HTTP, {:.1} GB sent", args.upserts, sent as f64 / 1e9),
            "80,000".to_owned(),
            Spread::of(rates).show(0),
            Spread::of(p50).show(2),
            Spread::of(p99).show(2),
            Spread::of(writes).show(2),
            Spread::of(settles).show(1),
            format!("{foreign:.2}"),
        ]],
    );
    Ok(())
}

/// The key of upserted row `at`: even ones replace a row of the table, each about equally often and in no order; odd ones
/// are new.
pub(crate) fn key(table: i64, at: i64) -> i64 {
    let pair = at / 2;
    if at % 2 == 0 {
        // A full cycle through the table in steps that have no common divisor with any round number of rows.
        ((pair as i128 * 600_011) % i128::from(table)) as i64
    } else {
        table + pair
    }
}

/// Makes every call by `make`, from its hundred rows, on all processors.
pub(crate) fn prepare<T: Send>(
    table: i64,
    upserts: i64,
    make: impl Fn(&mut dyn Iterator<Item = Row>) -> T + Sync,
) -> Prepared<T> {
    let (shape, calls) = (Shape::new(), (upserts / CALL) as usize);
    let cores = thread::available_parallelism().map_or(2, usize::from);
    let part = |from: usize, to: usize| {
        let mut payload = 0;
        let rows = shape.rows(STREAM, from as i64 * CALL, to as i64 * CALL);
        let mut rows = rows.map(|row| row.rename(|at| key(table, at))).inspect(|row| payload += row.payload());
        let calls = (from..to).map(|_| make(&mut rows.by_ref().take(CALL as usize))).collect();
        Prepared { calls, payload }
    };
    let parts: Vec<Prepared<T>> = thread::scope(|scope| {
        let bounds = |n: usize| (calls * n / cores, calls * (n + 1) / cores);
        let part = &part;
        let threads: Vec<_> = (0..cores).map(bounds).map(|(from, to)| scope.spawn(move || part(from, to))).collect();
        threads.into_iter().map(|t| t.join().expect("preparing does not panic")).collect()
    });
    let payload = parts.iter().map(|p| p.payload).sum();
    Prepared { calls: parts.into_iter().flat_map(|p| p.calls).collect(), payload }
}

/// Sends every request once; seconds of each call.
fn send(server: &Server, requests: &[Vec<u8>]) -> Vec<f64> {
    let next = AtomicUsize::new(0);
    let client = || {
        let mut connection = Connection::open(server.host()).expect("the server is up");
        let mut latencies = Vec::with_capacity(requests.len());
        while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
            let start = measure::now();
            let (status, body) = connection.exchange(request).expect("the server is up");
            assert!(accepted(status, body), "{status} {}", String::from_utf8_lossy(body));
            latencies.push(measure::now() - start);
        }
        latencies
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().flat_map(|c| c.join().expect("every answer was a success")).collect()
    })
}

/// A thousand of the new rows, and the number of all.
fn check(server: &Server, table: i64, upserts: i64) {
    let mut client = server.client();
    let shape = Shape::new();
    let mut random = Random::new(3, 0);
    for _ in 0..1000 {
        let at = (random.below(upserts as u64 / 2) * 2 + 1) as i64;
        let row = shape.rows(STREAM, at - at % CALL, at - at % CALL + CALL).find(|row| row.id == at);
        let row = row.expect("a stream has every row");
        let body = json!({"collection_name": TABLE, "primary_keys": [key(table, at)]});
        let got = &client.must("/api/collection/fetch_data", &body)[0];
        assert_eq!((&got["user_id"], &got["created"]), (&json!(row.user_id), &json!(row.created)), "{got}");
    }
    // The scan of a delete that is never confirmed counts exactly; the collection's own number is an estimate.
    let everything = json!({"collection_name": TABLE, "filter": [{"op": "range", "field": "id", "gte": 0}]});
    let task = bench::create_task(&mut client, "filter_delete", everything);
    let info = bench::wait(&mut client, &task, "confirm", Duration::from_millis(10));
    assert_eq!(info["total_filter_count"], table + upserts / 2, "rows after the upserts");
}
