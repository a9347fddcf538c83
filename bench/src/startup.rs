//! From the start of the process to ready and to the first answer.

use std::io;

use serde_json::json;

use crate::bench::{self, Bench, TABLE};
use crate::data::{Row, Shape};
use crate::load;
use crate::measure::{self, Spread, print_table};

/// Calls of 100 rows that are only in the log when the process is killed.
const LOGGED_CALLS: i64 = 200;

pub(crate) fn run(bench: &Bench) -> io::Result<()> {
    let data = bench.scratch()?;
    let clean = measure(bench, &data, false)?;
    let killed = measure(bench, &data, true)?;
    bench.remove(&data)?;
    print_table(&["start", "ready s (min..max)", "first answer s (min..max)"], &[clean, killed]);
    Ok(())
}

fn measure(bench: &Bench, data: &std::path::Path, kill: bool) -> io::Result<Vec<String>> {
    let (mut ready, mut answered) = (Vec::new(), Vec::new());
    for _ in 0..bench.n {
        let start = measure::now();
        let server = bench.start(data)?;
        ready.push(measure::now() - start);
        let mut client = server.client();
        let body = json!({"collection_name": TABLE, "primary_keys": [bench.rows / 2]});
        let row = client.must("/api/collection/fetch_data", &body)[0].take();
        answered.push(measure::now() - start);
        assert_eq!(row["id"], bench.rows / 2);
        if kill {
            let shape = Shape::new();
            for call in 0..LOGGED_CALLS {
                let body = load::body(shape.rows(4, call * 100, call * 100 + 100), Row::write_json);
                let reply = client.send("POST", "/api/collection/upsert_data", &body)?;
                assert_eq!((reply.status, reply.code), (200, 0), "{}", reply.text);
            }
            server.kill();
        } else {
            bench::stop(server)?;
        }
    }
    let name = if kill { "after SIGKILL, 20,000 rows in the log" } else { "after a clean stop" };
    Ok(vec![format!("{} rows, {name}", bench.rows), Spread::of(ready).show(3), Spread::of(answered).show(3)])
}
