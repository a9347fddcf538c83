//! Task time of exports, beside a raw copy of the same bytes.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bench::{self, Bench, TABLE};
use crate::data::{self, Row, Shape};
use crate::measure::{Noise, Peak, Spread, print_table, raw_copy};

const BUCKET: &str = "bench";

struct Case {
    name: &'static str,
    format: &'static str,
    filter: Option<Value>,
    matches: fn(&Row) -> bool,
    reach: &'static str,
}

pub(crate) fn run(bench: &Bench) -> io::Result<()> {
    let cases = [
        Case { name: "all, parquet", format: "parquet", filter: None, matches: |_| true, reach: "1.0 s, 2.7x" },
        Case { name: "all, JSON lines", format: "json", filter: None, matches: |_| true, reach: "3.0 s" },
        Case {
            name: "0.3 %, parquet",
            format: "parquet",
            filter: Some(data::small_filter()),
            matches: data::is_small,
            reach: "0.05 s",
        },
        Case {
            name: "30 %, parquet",
            format: "parquet",
            filter: Some(data::big_filter()),
            matches: data::is_big,
            reach: "0.35 s",
        },
    ];
    let shape = Shape::new();
    let mut expected = [0u64; 4];
    for row in shape.rows(0, 0, bench.rows) {
        expected.iter_mut().zip(&cases).for_each(|(n, case)| *n += u64::from((case.matches)(&row)));
    }
    bench.print_disk()?;
    let rows: io::Result<Vec<_>> = cases.iter().zip(expected).map(|(case, rows)| measure(bench, case, rows)).collect();
    let head = ["export", "reach", "task s (min..max)", "rows/s", "MB", "x raw copy", "MiB over idle", "foreign cpu"];
    print_table(&head, &rows?);
    Ok(())
}

/// One server per case, so that the memory of one does not hide that of the next.
fn measure(bench: &Bench, case: &Case, rows: u64) -> io::Result<Vec<String>> {
    let data = bench.table();
    let server = bench.start(&data)?;
    let mut client = server.client();
    let objects = data.join("objects").join(BUCKET);
    let (mut seconds, mut ratios, mut peaks, mut size) = (Vec::new(), Vec::new(), Vec::new(), 0);
    let noise = Noise::start(server.pid());
    for run in 0..bench.n {
        let peak = Peak::watch(server.pid());
        let mut params = json!({
            "collection_name": TABLE, "tos_path": format!("{BUCKET}/run_{run}"), "file_type": case.format,
        });
        match &case.filter {
            Some(filter) => params["filter"] = filter.clone(),
            None => params["export_all"] = true.into(),
        }
        let task = bench::create_task(&mut client, "data_export", params);
        let every = Duration::from_millis(10);
        let mut info = bench::wait(&mut client, &task, "done", every);
        assert_eq!(info["total_filter_count"], rows, "{}: {info}", case.name);
        // The task is final before its time is written down.
        while info["elapsed_ms"].is_null() {
            info = bench::wait(&mut client, &task, "done", every);
        }
        let elapsed = info["elapsed_ms"].as_f64().expect("milliseconds are a number");
        peaks.push(peak.over_idle_mib());
        seconds.push(elapsed / 1000.0);
        let files = bench::files(&objects)?;
        size = bench::bytes(&files)?;
        ratios.push(elapsed / 1000.0 / raw_copy(&files, &bench.dir)?);
        std::fs::remove_dir_all(&objects)?;
    }
    let foreign = noise.read();
    bench::stop(server)?;
    let spread = Spread::of(seconds);
    Ok(vec![
        case.name.to_owned(),
        case.reach.to_owned(),
        spread.show(3),
        format!("{:.0}", rows as f64 / spread.median),
        (size / 1_000_000).to_string(),
        // A fixed cost divided by almost nothing says nothing.
        if case.filter.is_none() { Spread::of(ratios).show(2) } else { String::new() },
        format!("{:.0}", Spread::of(peaks).max),
        format!("{foreign:.2}"),
    ])
}
