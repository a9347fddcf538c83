//! Prepared requests sent by eight clients, and what came back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::Value;

use crate::bench::CLIENTS;
use crate::client::{Connection, accepted};
use crate::measure::{self, percentile};

/// When clients stop.
pub(crate) struct Until {
    /// By the clock of [`measure::now`].
    pub(crate) deadline: f64,
    /// After the last request comes the first again, until the deadline.
    pub(crate) again: bool,
}

/// What the clients saw.
pub(crate) struct Answers {
    pub(crate) seconds: f64,
    /// Seconds of each call, ascending.
    pub(crate) latencies: Vec<f64>,
    /// Bodies that were kept, with the place of the request, ascending.
    pub(crate) kept: Vec<(usize, Vec<u8>)>,
}

impl Answers {
    pub(crate) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.seconds
    }

    pub(crate) fn percentile_ms(&self, percent: f64) -> f64 {
        percentile(&self.latencies, percent) * 1000.0
    }
}

/// Sends requests in their order; `keep` tells by a request's place whether its answers are kept. Only success counts.
pub(crate) fn drive(host: &str, requests: &[Vec<u8>], keep: impl Fn(usize) -> bool + Sync, until: &Until) -> Answers {
    let next = AtomicUsize::new(0);
    let start = measure::now();
    let seen: Vec<_> = thread::scope(|scope| {
        let client = || client(host, requests, &keep, until, &next);
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().map(|c| c.join().expect("every answer was a success")).collect()
    });
    let seconds = measure::now() - start;
    let (mut latencies, mut kept) = (Vec::new(), Vec::new());
    for (some, bodies) in seen {
        latencies.extend(some);
        kept.extend(bodies);
    }
    latencies.sort_by(f64::total_cmp);
    kept.sort_by_key(|(at, _)| *at);
    Answers { seconds, latencies, kept }
}

type Seen = (Vec<f64>, Vec<(usize, Vec<u8>)>);

fn client(host: &str, requests: &[Vec<u8>], keep: impl Fn(usize) -> bool, until: &Until, next: &AtomicUsize) -> Seen {
    let mut connection = Connection::open(host).expect("the server is up");
    let mut seen = Seen::default();
    loop {
        let at = next.fetch_add(1, Ordering::Relaxed);
        let start = measure::now();
        if start >= until.deadline || (at >= requests.len() && !until.again) {
            return seen;
        }
        let place = at % requests.len();
        let (status, body) = connection.exchange(&requests[place]).expect("the server is up");
        seen.0.push(measure::now() - start);
        assert!(accepted(status, body), "{status} {}", String::from_utf8_lossy(body));
        if keep(place) {
            seen.1.push((place, body.to_vec()));
        }
    }
}

/// A row of an answer.
pub(crate) struct Found {
    pub(crate) id: i64,
    pub(crate) score: f32,
}

/// The rows of a search's answer, as they came.
pub(crate) fn found(body: &[u8]) -> Vec<Found> {
    let answer: Value = serde_json::from_slice(body).expect("an answer is JSON");
    let items = answer["data"][0].as_array().expect("data is a list with a list for each query");
    let one = |item: &Value| Found {
        id: item["id"].as_i64().expect("an item has its key"),
        score: item["score"].as_f64().expect("an item has a score") as f32,
    };
    items.iter().map(one).collect()
}

/// Makes one thing of each number, on all processors, in order.
pub(crate) fn in_parallel<T: Send>(count: usize, make: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let cores = thread::available_parallelism().map_or(2, usize::from);
    let bounds = |n: usize| (count * n / cores, count * (n + 1) / cores);
    let part = |(from, to): (usize, usize)| (from..to).map(&make).collect::<Vec<_>>();
    thread::scope(|scope| {
        let part = &part;
        let threads: Vec<_> = (0..cores).map(bounds).map(|bounds| scope.spawn(move || part(bounds))).collect();
        threads.into_iter().flat_map(|t| t.join().expect("preparing does not panic")).collect()
    })
}
