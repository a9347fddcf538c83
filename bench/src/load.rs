//! Makes the table, through signed HTTP like any other client.

use std::io;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;

use serde_json::json;

use crate::bench::{self, Bench, CLIENTS, TABLE};
use crate::data::{self, Row, Shape};
use crate::measure::{self, print_table};
use crate::process::Server;
use crate::progress::Progress;

/// Rows of one call.
const CALL: i64 = 100;

pub(crate) fn run(bench: &Bench) -> io::Result<()> {
    let data = bench.table();
    bench.remove(&data)?;
    let server = bench.start(&data)?;
    server.client().must("/api/collection/create", &data::collection(TABLE));
    let start = measure::now();
    fill(&server, bench.rows, Row::write_json);
    let loaded = measure::now() - start;
    let settled = measure::settle(server.pid());
    let stat = server.client().must("/api/collection/info", &json!({"collection_name": TABLE}))["stat"].take();
    assert_eq!(stat["data_number"], bench.rows, "rows of the loaded table");
    bench::stop(server)?;
    print_table(
        &["load", "rows", "s", "s until idle", "MB on disk"],
        &[vec![
            "8 clients, bodies made on the way".to_owned(),
            bench.rows.to_string(),
            format!("{loaded:.1}"),
            format!("{settled:.1}"),
            (bench::bytes(&bench::files(&data)?)? / 1_000_000).to_string(),
        ]],
    );
    Ok(())
}

/// How a row becomes JSON.
pub(crate) type Write = fn(&Row, &mut Vec<u8>);

/// Upserts rows `0..rows` of the table's stream.
pub(crate) fn fill(server: &Server, rows: i64, write: Write) {
    let (shape, next) = (Shape::new(), AtomicI64::new(0));
    let progress = Progress::new("rows loaded", rows as u64);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = server.client();
                // A thread takes a thousand rows at once, the unit of the generator.
                for from in std::iter::from_fn(|| Some(next.fetch_add(10 * CALL, Ordering::Relaxed))) {
                    if from >= rows {
                        break;
                    }
                    for body in bodies(&shape, 0, from, rows.min(from + 10 * CALL), write) {
                        let reply = client.send("POST", "/api/collection/upsert_data", &body);
                        let reply = reply.expect("the server is up");
                        assert_eq!((reply.status, reply.code), (200, 0), "{}", reply.text);
                    }
                    progress.add(10 * CALL as u64);
                }
            });
        }
    });
}

/// Bodies of upsert calls with rows `from..to` of a stream.
pub(crate) fn bodies(shape: &Shape, stream: u64, from: i64, to: i64, write: Write) -> impl Iterator<Item = Vec<u8>> {
    let mut rows = shape.rows(stream, from, to).peekable();
    std::iter::from_fn(move || {
        rows.peek()?;
        Some(body(rows.by_ref().take(CALL as usize), write))
    })
}

/// The body of one upsert call.
pub(crate) fn body(rows: impl Iterator<Item = Row>, write: Write) -> Vec<u8> {
    let mut body = format!("{{\"collection_name\":\"{TABLE}\",\"fields\":").into_bytes();
    fields(rows, write, &mut body);
    body.push(b'}');
    body
}

/// Rows as a JSON array.
pub(crate) fn fields(rows: impl Iterator<Item = Row>, write: Write, out: &mut Vec<u8>) {
    out.push(b'[');
    for (at, row) in rows.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(&row, out);
    }
    out.push(b']');
}
