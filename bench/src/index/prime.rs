//! A table whose next flush makes a compaction due, so that a short measurement of writes has one in it.

use std::io;
use std::path::{Path, PathBuf};

use knarr_base::limit;

use super::files::segments;
use super::{Near, ensure, table};
use crate::bench::{self, Bench};
use crate::client::Client;
use crate::data::{Row, Shape};
use crate::load;
use crate::measure;
use crate::process::Server;

/// Rows that are written between two looks at the files.
const STEP: i64 = 10_000;
/// Bytes of a row in memory, about; whether anything is flushed at all is decided with it.
const ROW_BYTES: i64 = 600;
/// Steps through the table, which have no common divisor with a round number of them.
const STRIDE: i64 = 37;

/// A copy of the table with its index. It has the same rows; where so many upserts flush at all, some of them were written
/// again until only one more flush is missing.
pub(crate) fn primed(bench: &Bench, near: Near, upserts: i64) -> io::Result<PathBuf> {
    let original = table(bench)?;
    let server = bench.start(&original)?;
    ensure(&server, &[near]);
    bench::stop(server)?;
    let data = bench.copy(&original, "knarr_primed")?;
    if upserts * ROW_BYTES < limit::MEMTABLE_BYTES as i64 || bench.rows < STEP {
        eprintln!("so few upserts flush nothing; compaction is not waited for");
        return Ok(data);
    }
    let server = bench.start(&data)?;
    let rewritten = rewrite(bench, &server, &data)?;
    measure::settle(server.pid());
    bench::stop(server)?;
    eprintln!("{rewritten} rows written again, {} segments", segments(&data)?.len());
    Ok(data)
}

/// Writes rows again, each at most once, until a compaction is one flush away; how many. In a table of a few flushes that never
/// comes, because most of it is dead by then; there compactions come anyway.
fn rewrite(bench: &Bench, server: &Server, data: &Path) -> io::Result<i64> {
    let (shape, mut client) = (Shape::new(), server.client());
    let (mut known, mut flushes, mut rewritten) = (segments(data)?, 0, 0);
    let steps = bench.rows / STEP;
    for step in (0..steps).map(|n| n * STRIDE % steps) {
        write(&mut client, &shape, step * STEP)?;
        rewritten += STEP;
        let now = segments(data)?;
        let Some(flushed) = now.iter().filter(|(path, _)| !known.contains_key(*path)).map(|(_, bytes)| *bytes).min()
        else {
            continue;
        };
        flushes += 1;
        eprintln!("waiting for compactions after flush {flushes}");
        measure::settle(server.pid());
        known = segments(data)?;
        // Segments of about one size are merged together.
        let alike = known.values().filter(|bytes| (flushed / 2..flushed * 2).contains(bytes)).count();
        if alike == limit::COMPACTION_FANOUT - 1 {
            break;
        }
    }
    Ok(rewritten)
}

fn write(client: &mut Client, shape: &Shape, from: i64) -> io::Result<()> {
    for body in load::bodies(shape, 0, from, from + STEP, Row::write_json_with_centre) {
        let reply = client.send("POST", "/api/collection/upsert_data", &body)?;
        assert_eq!((reply.status, reply.code), (200, 0), "{}", reply.text);
    }
    Ok(())
}
