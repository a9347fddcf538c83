//! What happens beside searches: upserts at a steady pace, and a look now and then at the index and its files.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::files::SegmentFiles;
use super::{Near, info};
use crate::client::{Connection, accepted};
use crate::measure::{self, percentile};
use crate::process::Server;
use crate::progress::Progress;
use crate::upsert;

/// Connections that upsert.
pub(super) const WRITERS: usize = 4;
/// Between two looks at the index and at its files.
const LOOK: Duration = Duration::from_millis(100);
/// Seconds until an index that does not catch up counts as one that will not.
const GIVEN_UP: f64 = 300.0;

/// The upserts of a run.
pub(super) struct Written {
    pub(super) rows_per_s: f64,
    pub(super) p99_ms: f64,
}

/// Sends every call once, each when it is due; its time counts from then.
pub(super) fn write(server: &Server, calls: &[Vec<u8>], rate: f64) -> Written {
    let (next, start, every) = (AtomicUsize::new(0), measure::now(), upsert::CALL as f64 / rate);
    let progress = Progress::new("upserts: calls", calls.len() as u64);
    let writer = || {
        let mut connection = Connection::open(server.host()).expect("the server is up");
        let mut latencies = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(request) = calls.get(at) else { return latencies };
            let due = start + at as f64 * every;
            measure::pause(Duration::from_secs_f64((due - measure::now()).max(0.0)));
            let (status, body) = connection.exchange(request).expect("the server is up");
            assert!(accepted(status, body), "{status} {}", String::from_utf8_lossy(body));
            latencies.push(measure::now() - due);
            progress.add(1);
        }
    };
    let mut latencies: Vec<f64> = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(writer)).collect();
        writers.into_iter().flat_map(|w| w.join().expect("every upsert was a success")).collect()
    });
    let seconds = measure::now() - start;
    latencies.sort_by(f64::total_cmp);
    let rows = calls.len() as f64 * upsert::CALL as f64;
    Written { rows_per_s: rows / seconds, p99_ms: percentile(&latencies, 99.0) * 1000.0 }
}

/// Looks at the index and at the files of its table while others work.
pub(super) struct Watch<'a> {
    near: Near,
    data: &'a Path,
    files: SegmentFiles,
    stop: AtomicBool,
}

impl<'a> Watch<'a> {
    pub(super) fn new(near: Near, data: &'a Path) -> io::Result<Self> {
        Ok(Self { near, data, files: SegmentFiles::now(data)?, stop: AtomicBool::new(false) })
    }

    /// Greatest lag until [`Watch::stop`], and the files that came and went.
    pub(super) fn until_told(&self, server: &Server) -> (i64, SegmentFiles) {
        let (mut client, mut lag, mut files) = (server.client(), 0, self.files.clone());
        while !self.stop.load(Ordering::Relaxed) {
            lag = lag.max(info(&mut client, self.near)["lag_writes"].as_i64().unwrap_or(0));
            // A file that goes while the directory is read is seen to have gone the next time.
            let _ = files.look(self.data);
            measure::pause(LOOK);
        }
        (lag, files)
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Seconds until the index has every write.
pub(super) fn catch_up(server: &Server, near: Near) -> f64 {
    let (mut client, start) = (server.client(), measure::now());
    while info(&mut client, near)["lag_writes"].as_i64().unwrap_or(0) > 0 {
        assert!(measure::now() - start < GIVEN_UP, "the index does not catch up");
        measure::pause(LOOK);
    }
    measure::now() - start
}
