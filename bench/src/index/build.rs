//! How long an index takes until it may be searched, and what it adds on disk and in memory.

use std::io;

use super::files;
use super::{Near, create, drop_index, raw_bytes, table, told};
use crate::bench::{self, Bench};
use crate::measure::{self, Noise, Peak, Spread, print_table};
use crate::process::{Server, proc_value};

/// Options of `index-build`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Distances whose indexes are built.
    #[arg(long, value_delimiter = ',', default_value = "ip,l2")]
    distances: Vec<Near>,
}

/// What one build took.
struct Built {
    seconds: f64,
    peak_mib: f64,
    kept_mib: f64,
    disk: f64,
}

pub(crate) fn run(bench: &Bench, args: &Args) -> io::Result<()> {
    let data = bench.copy(&table(bench)?, "knarr_scratch")?;
    let server = bench.start(&data)?;
    let mut rows = Vec::new();
    for near in &args.distances {
        // An index that an earlier command left is made again.
        let _ = server.client().post("/api/index/drop", &near.named())?;
        let noise = Noise::start(server.pid());
        let mut built = Vec::new();
        for run in 0..bench.n {
            eprintln!("index {}: build {} of {}", near.name(), run + 1, bench.n);
            built.push(one(&server, &data, *near)?);
        }
        rows.push(row(bench, *near, &built, noise.read()));
    }
    bench::stop(server)?;
    bench.remove(&data)?;
    let head =
        ["index", "reach", "s until ready", "disk MB", "of raw", "peak MiB", "MiB kept", "of raw", "foreign cpu"];
    print_table(&head, &rows);
    Ok(())
}

fn one(server: &Server, data: &std::path::Path, near: Near) -> io::Result<Built> {
    measure::settle(server.pid());
    let before = bench::bytes(&files::of_indexes(data)?)?;
    let anonymous = || proc_value(server.pid(), "status", "RssAnon");
    let (idle_kib, peak) = (anonymous(), Peak::watch(server.pid()));
    let (seconds, info) = create(server, near);
    let told = told(&info);
    if !told.is_empty() {
        eprintln!("index {}: the server says{}", near.name(), told.trim_start_matches(','));
    }
    let peak_mib = peak.over_idle_mib();
    measure::settle(server.pid());
    let built = Built {
        seconds,
        peak_mib,
        kept_mib: anonymous().saturating_sub(idle_kib) as f64 / 1024.0,
        disk: bench::bytes(&files::of_indexes(data)?)?.saturating_sub(before) as f64,
    };
    drop_index(server, near);
    Ok(built)
}

fn row(bench: &Bench, near: Near, built: &[Built], foreign: f64) -> Vec<String> {
    let spread = |of: fn(&Built) -> f64| Spread::of(built.iter().map(of).collect());
    let (disk, kept, raw) = (spread(|b| b.disk), spread(|b| b.kept_mib), raw_bytes(bench.rows));
    vec![
        format!("{}, {} rows", near.name(), bench.rows),
        "45 s; 0.5x, 0.5x".to_owned(),
        spread(|b| b.seconds).show(1),
        format!("{:.0}", disk.median / 1e6),
        format!("{:.2}x", disk.median / raw),
        format!("{:.0}", spread(|b| b.peak_mib).max),
        format!("{:.0}", kept.median),
        format!("{:.2}x", kept.median * 1024.0 * 1024.0 / raw),
        format!("{foreign:.2}"),
    ]
}
