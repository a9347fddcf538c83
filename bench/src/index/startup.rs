//! From the start of a process that was killed to its first answer to a search.

use std::io;
use std::path::Path;

use super::drive::{Answers, Until, drive};
use super::judge::{Judge, Recall};
use super::requests::{self, Ask};
use super::{Near, ensure, table};
use crate::bench::{self, Bench, TABLE};
use crate::client::{Connection, Signer, accepted};
use crate::data::{Row, Shape};
use crate::load;
use crate::measure::{self, Spread, print_table};
use crate::process::Server;
use crate::search::truth::Truth;

/// Calls of 100 rows that are only in the log when the process is killed.
const LOGGED_CALLS: i64 = 200;
/// Searches after the first, which show whether it was right by luck.
const MORE: usize = 100;
/// Batch of held-out queries of this command.
const BATCH: i64 = 98;
/// Seconds until a server that has not answered counts as one that will not.
const GIVEN_UP: f64 = 300.0;
/// The index that is asked.
const NEAR: Near = Near::Ip;

/// What a number of starts gave.
#[derive(Default)]
struct Starts {
    ready: Vec<f64>,
    answered: Vec<f64>,
    first: Recall,
    more: Recall,
}

pub(crate) fn run(bench: &Bench) -> io::Result<()> {
    let source = table(bench)?;
    let server = bench.start(&source)?;
    ensure(&server, &[NEAR]);
    bench::stop(server)?;
    let judge = Judge::new(bench)?;
    let queries = requests::queries(bench, BATCH, ((1 + MORE) * bench.n) as i64);
    let truth = judge.truth(bench, NEAR, BATCH, &queries)?;
    let mut rows = Vec::new();
    for logged in [false, true] {
        let mut starts = Starts::default();
        for run in 0..bench.n {
            eprintln!("start {} of {}, rows written before: {logged}", run + 1, bench.n);
            let data = bench.copy(&source, "knarr_scratch")?;
            kill(bench, &data, logged)?;
            let from = run * (1 + MORE);
            let asked = &queries[from..from + 1 + MORE];
            let part = Truth::of(truth.rows()[from..from + 1 + MORE].to_vec());
            start(bench, &data, &judge, asked, &part, &mut starts)?;
            bench.remove(&data)?;
        }
        rows.push(show(bench, logged, starts));
    }
    let head = [
        "start after SIGKILL",
        "reach",
        "ready s (min..max)",
        "first search answered s (min..max)",
        "recall@10 of it",
        "of the next 100",
    ];
    print_table(&head, &rows);
    Ok(())
}

fn show(bench: &Bench, logged: bool, starts: Starts) -> Vec<String> {
    let Starts { ready, answered, first, more } = starts;
    let written = if logged { bench.rows.min(LOGGED_CALLS * 100) } else { 0 };
    vec![
        format!("{} rows, {written} of them written again just before", bench.rows),
        "2 s".to_owned(),
        Spread::of(ready).show(3),
        Spread::of(answered).show(3),
        first.show(),
        more.show(),
    ]
}

/// Starts the server, writes rows if they are wanted, and kills it.
fn kill(bench: &Bench, data: &Path, logged: bool) -> io::Result<()> {
    let server = bench.start(data)?;
    super::ready(&mut server.client(), NEAR);
    if logged {
        let (shape, mut client) = (Shape::new(), server.client());
        // The rows that are there already, so that the nearest ones stay the same.
        let rows = bench.rows.min(LOGGED_CALLS * 100);
        for body in load::bodies(&shape, 0, 0, rows, Row::write_json_with_centre) {
            let reply = client.send("POST", "/api/collection/upsert_data", &body)?;
            assert_eq!((reply.status, reply.code), (200, 0), "{TABLE}: {}", reply.text);
        }
    }
    server.kill();
    Ok(())
}

fn start(
    bench: &Bench,
    data: &Path,
    judge: &Judge,
    queries: &[Vec<f32>],
    truth: &Truth,
    starts: &mut Starts,
) -> io::Result<()> {
    let start = measure::now();
    let server = bench.start(data)?;
    starts.ready.push(measure::now() - start);
    let first = first_answer(&server, &queries[0], start)?;
    starts.answered.push(measure::now() - start);
    let answers = |kept| Answers { seconds: 0.0, latencies: Vec::new(), kept };
    starts.first.add(judge.recall(NEAR, queries, truth, &answers(vec![(0, first)])));
    let requests = requests::searches(&server, ask(), queries, None);
    let until = Until { deadline: measure::now() + GIVEN_UP, again: false };
    let mut seen = drive(server.host(), &requests, |_| true, &until);
    seen.kept.remove(0);
    starts.more.add(judge.recall(NEAR, queries, truth, &seen));
    server.kill();
    Ok(())
}

fn ask() -> Ask {
    Ask { near: NEAR, scale: 1.0, bare: false }
}

/// Asks until the answer is a success; an index may not be ready at once.
fn first_answer(server: &Server, query: &[f32], start: f64) -> io::Result<Vec<u8>> {
    let body = requests::body(ask(), query, None).to_string();
    let signer = Signer::new(server.keys(), server.host(), measure::now_ms());
    let request = signer.request("POST", "/api/index/search", body.as_bytes());
    let mut connection = Connection::open(server.host())?;
    loop {
        let (status, body) = connection.exchange(&request)?;
        if accepted(status, body) {
            return Ok(body.to_vec());
        }
        let text = String::from_utf8_lossy(body).into_owned();
        assert!(measure::now() - start < GIVEN_UP, "{status} {text}");
        measure::pause(super::POLL);
    }
}
