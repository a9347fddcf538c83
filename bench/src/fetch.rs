//! Fetches by key through signed HTTP.

use std::io;
use std::thread;

use serde_json::{Value, json};

use crate::bench::{self, Bench, CLIENTS, TABLE};
use crate::client::{Connection, Signer, accepted};
use crate::data::{Random, Row, Shape};
use crate::index::{self, Near};
use crate::measure::{self, Noise, Spread, percentile, print_table};
use crate::process::Server;

/// Prepared requests of one client; it sends them in a ring.
const RING: usize = 5_000;
/// Every so many answers one is kept and compared with the data.
const CHECKED: usize = 100;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds of one run.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

/// Where rows are fetched from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// The table that `load` made.
    Table,
    /// An index, on the table of the `index-*` commands.
    Index,
}

/// The index that is asked.
const NEAR: Near = Near::Ip;

/// What one client saw.
#[derive(Default)]
struct Seen {
    latencies: Vec<f64>,
    kept: Vec<(Vec<i64>, Vec<u8>)>,
}

pub(crate) fn run(bench: &Bench, args: &Args, from: From) -> io::Result<()> {
    let rows: Vec<Row> = Shape::new().rows(0, 0, bench.rows).collect();
    let server = match from {
        From::Table => bench.start(&bench.table())?,
        From::Index => bench.start(&index::table(bench)?)?,
    };
    if from == From::Index {
        index::ensure(&server, &[NEAR]);
    }
    let mut table = Vec::new();
    for (keys, reach) in [(1, "15,000"), (100, "2,000")] {
        let (mut rates, mut p50, mut p99, mut checked) = (Vec::new(), Vec::new(), Vec::new(), 0);
        let noise = Noise::start(server.pid());
        for run in 0..bench.n {
            let (seconds, seen) = one_run(&server, bench, (from, keys), run, args.seconds);
            let mut latencies: Vec<f64> = seen.iter().flat_map(|s| s.latencies.iter().copied()).collect();
            latencies.sort_by(f64::total_cmp);
            rates.push(latencies.len() as f64 / seconds);
            p50.push(percentile(&latencies, 50.0) * 1000.0);
            p99.push(percentile(&latencies, 99.0) * 1000.0);
            checked +=
                seen.iter().flat_map(|s| &s.kept).map(|(keys, body)| check(from, &rows, keys, body)).sum::<usize>();
        }
        table.push(vec![
            format!("{keys} key{} a call", if keys == 1 { "" } else { "s" }),
            reach.to_owned(),
            Spread::of(rates).show(0),
            Spread::of(p50).show(2),
            Spread::of(p99).show(2),
            checked.to_string(),
            format!("{:.2}", noise.read()),
        ]);
    }
    bench::stop(server)?;
    let title = if from == From::Table { "fetch, 8 clients" } else { "index/fetch_data, 8 clients" };
    let head = [title, "reach", "calls/s (min..max)", "p50 ms", "p99 ms", "rows compared", "foreign cpu"];
    print_table(&head, &table);
    Ok(())
}

fn one_run(server: &Server, bench: &Bench, (from, keys): (From, usize), run: usize, seconds: f64) -> (f64, Vec<Seen>) {
    let signer = Signer::new(server.keys(), server.host(), measure::now_ms());
    let rings: Vec<Vec<(Vec<i64>, Vec<u8>)>> = (0..CLIENTS)
        .map(|client| {
            let mut random = Random::new(100 + run as u64, client as u64);
            let mut draw = || (0..keys).map(|_| random.below(bench.rows as u64) as i64).collect::<Vec<_>>();
            let count = RING / keys.min(10);
            (0..count)
                .map(|_| {
                    let keys = draw();
                    let bytes = prepare(&signer, from, &keys);
                    (keys, bytes)
                })
                .collect()
        })
        .collect();
    let start = measure::now();
    let seen = thread::scope(|scope| {
        let clients: Vec<_> =
            rings.iter().map(|ring| scope.spawn(move || client(server.host(), ring, start + seconds))).collect();
        clients.into_iter().map(|c| c.join().expect("every answer was a success")).collect()
    });
    (measure::now() - start, seen)
}

fn prepare(signer: &Signer, from: From, keys: &[i64]) -> Vec<u8> {
    let (path, mut body) = ("/api/collection/fetch_data", json!({"collection_name": TABLE, "primary_keys": keys}));
    if from == From::Table {
        return signer.request("GET", path, body.to_string().as_bytes());
    }
    body["index_name"] = NEAR.name().into();
    signer.request("GET", "/api/index/fetch_data", body.to_string().as_bytes())
}

fn client(host: &str, ring: &[(Vec<i64>, Vec<u8>)], until: f64) -> Seen {
    let mut connection = Connection::open(host).expect("the server is up");
    let mut seen = Seen::default();
    for (keys, request) in ring.iter().cycle() {
        let start = measure::now();
        if start >= until {
            break;
        }
        let (status, body) = connection.exchange(request).expect("the server is up");
        seen.latencies.push(measure::now() - start);
        assert!(accepted(status, body), "{status} {}", String::from_utf8_lossy(body));
        if seen.latencies.len().is_multiple_of(CHECKED) {
            seen.kept.push((keys.clone(), body.to_vec()));
        }
    }
    seen
}

/// Compares a kept answer with the data; how many rows that were.
fn check(from: From, rows: &[Row], keys: &[i64], body: &[u8]) -> usize {
    let answer: Value = serde_json::from_slice(body).expect("an answer is JSON");
    let items = answer["data"].as_array().expect("data is a list");
    assert_eq!(items.len(), keys.len());
    for (key, item) in keys.iter().zip(items) {
        let row = &rows[*key as usize];
        assert_eq!(item["id"], *key);
        // The collection answers with flat rows, the index with the vector beside the other fields.
        let fields = if from == From::Table { item } else { &item["fields"] };
        assert_eq!((&fields["user_id"], &fields["created"]), (&json!(row.user_id), &json!(row.created)), "row {key}");
        let float = |value: &Value| value.as_f64().map(|x| x as f32);
        assert_eq!(float(&fields["score"]), Some(row.score), "row {key}");
        let vector = item["vector"].as_array().expect("vector is a list");
        assert!(vector.len() == row.vector.len(), "row {key}");
        assert!(vector.iter().zip(row.vector).all(|(got, want)| float(got) == Some(want)), "vector of row {key}");
    }
    keys.len()
}
