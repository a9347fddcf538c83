//! Indexes through signed HTTP: how they are built and searched, what searches cost beside writes, and when they answer
//! after a kill.
//!
//! All of it starts from one table of its own, `knarr_index_ROWS`: the rows of `load`, each with the number of its
//! centre. An index per distance lies on it, of type hnsw with default parameters.

mod beside;
pub(crate) mod build;
pub(crate) mod churn;
mod drive;
mod files;
mod filters;
mod judge;
mod prime;
mod requests;
pub(crate) mod search;
pub(crate) mod startup;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bench::{self, Bench, TABLE};
use crate::client::Client;
use crate::data::{self, DIM, Row};
use crate::load;
use crate::measure;
use crate::process::Server;
use crate::progress::Progress;
use crate::search::sets::Set;

/// Answers of `index/info` are this far apart while a build is awaited.
const POLL: Duration = Duration::from_millis(20);
/// Seconds that an index may take until it is ready, on the slowest machine that is measured.
const READY_SECONDS: f64 = 900.0;

/// A distance, with its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Near {
    /// Inner product.
    Ip,
    /// Euclidean distance.
    L2,
}

impl Near {
    /// Name of the distance, and of its index.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Near::Ip => "ip",
            Near::L2 => "l2",
        }
    }

    /// The vectors and the distance, as the search structure alone is measured with them.
    pub(crate) fn set(self) -> Set {
        match self {
            Near::Ip => Set::CIp,
            Near::L2 => Set::CL2,
        }
    }

    /// What `index/*` calls begin with.
    fn named(self) -> Value {
        json!({"collection_name": TABLE, "index_name": self.name()})
    }
}

/// The data directory, with the table in it; made if it is not there.
pub(crate) fn table(bench: &Bench) -> io::Result<PathBuf> {
    let data = bench.dir.join(format!("knarr_index_{}", bench.rows));
    if data.exists() {
        return Ok(data);
    }
    // Under another name until it is whole.
    let part = data.with_extension("part");
    bench.remove(&part)?;
    let server = bench.start(&part)?;
    server.client().must("/api/collection/create", &data::collection_with_centre(TABLE));
    load::fill(&server, bench.rows, Row::write_json_with_centre);
    measure::settle(server.pid());
    bench::stop(server)?;
    std::fs::rename(&part, &data)?;
    bench.remove(&part)?;
    Ok(data)
}

/// `index/info`.
pub(crate) fn info(client: &mut Client, near: Near) -> Value {
    client.must("/api/index/info", &near.named())
}

/// Makes an index; seconds until it was ready, and its info then.
fn create(server: &Server, near: Near) -> (f64, Value) {
    let mut body = near.named();
    body["vector_index"] = json!({"index_type": "hnsw", "distance": near.name()});
    let (mut client, start) = (server.client(), measure::now());
    client.must("/api/index/create", &body);
    let info = ready(&mut client, near);
    (measure::now() - start, info)
}

/// Waits until an index may be searched; its info then.
pub(crate) fn ready(client: &mut Client, near: Near) -> Value {
    let (progress, start) = (Progress::new(format!("index {}", near.name()), 0), measure::now());
    loop {
        let info = info(client, near);
        if info["status"] == "READY" {
            return info;
        }
        assert!(measure::now() - start < READY_SECONDS, "not ready in {READY_SECONDS} s: {info}");
        progress.tell(|| info["status"].to_string());
        measure::pause(POLL);
    }
}

fn drop_index(server: &Server, near: Near) {
    server.client().must("/api/index/drop", &near.named());
}

/// Makes the indexes that are not there and waits for all.
pub(crate) fn ensure(server: &Server, nears: &[Near]) {
    for near in nears {
        // A connection would have been closed while the index before was made.
        let mut client = server.client();
        let reply = client.post("/api/index/info", &near.named()).expect("the server is up");
        if reply.status == 200 {
            ready(&mut client, *near);
        } else {
            let (seconds, info) = create(server, *near);
            measure::settle(server.pid());
            println!("index {} made in {seconds:.1} s{}", near.name(), told(&info));
        }
    }
}

/// What an info says of its build, if it does.
fn told(info: &Value) -> String {
    let members = info.as_object().into_iter().flatten().filter(|(name, _)| name.contains("build"));
    members.map(|(name, value)| format!(", {name} {value}")).collect()
}

/// Bytes of a table's vectors.
fn raw_bytes(rows: i64) -> f64 {
    (rows * DIM as i64 * 4) as f64
}
