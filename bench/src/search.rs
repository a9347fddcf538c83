//! The search structure in this process: one thread, one query a call, recall beside every rate.

mod goals;
pub(crate) mod sets;
pub(crate) mod truth;

use std::io;
use std::path::Path;

use knarr_engine::compute::Cancel;
use knarr_engine::disk::{Disk, OsDisk};
use knarr_engine::index::vector::{self, Allow, Batches, Bits, Cells, Counts, Crew, Effort, Structure};

use crate::bench::Bench;
use crate::data::Random;
use crate::measure::{self, Noise, Peak, Spread, print_table};
use sets::{Floats, Set};
use truth::Truth;

/// Rows wanted of each query.
pub(crate) const K: usize = 10;
/// Threads that build, and that compute the truth.
const THREADS: usize = 2;
/// Efforts of the curve; the vendor's default is among them.
const EFFORTS: [f32; 13] =
    [6.0, 12.0, 25.0, 50.0, 100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0, 6400.0, 12_800.0, 51_200.0];
/// Different filters per selectivity.
const FILTERS: usize = 20;

/// Options of `search`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Data sets and distances: c-ip, c-l2, n-cosine.
    #[arg(long, value_delimiter = ',', default_value = "c-ip,c-l2,n-cosine")]
    sets: Vec<Set>,
    /// Held-out queries.
    #[arg(long, default_value_t = 10_000)]
    queries: usize,
    /// Held-out queries of the filtered rows.
    #[arg(long, default_value_t = 1000)]
    filtered: usize,
}

pub(crate) fn run(bench: &Bench, args: &Args) -> io::Result<()> {
    for set in &args.sets {
        println!();
        one(bench, args, *set)?;
    }
    Ok(())
}

fn one(bench: &Bench, args: &Args, set: Set) -> io::Result<()> {
    let Some(files) = set.files(bench)? else {
        println!("{set}: its files are not here; bench/run.sh --peers makes them");
        return Ok(());
    };
    let base = Floats::map(&files.base, files.dim)?;
    let queries = Floats::map(&files.queries, files.dim)?;
    let asked: Vec<&[f32]> = queries.vectors().take(args.queries).collect();
    let truth = Truth::cached(&bench.dir, set, &base, &asked)?;
    let (cells, structure, build_s) = build(bench, set, &base)?;
    let (unfiltered, curve) = curve(bench, &cells, &structure, &base, &asked, &truth)?;
    print_table(
        &["effort (sef)", "recall@10", "queries/s (min..max)", "cells", "rows", "scored", "foreign cpu"],
        &curve,
    );
    goals::goals(bench, set, (&cells, &structure), &base, &asked, &truth, build_s)?;
    let asked = &asked[..args.filtered.min(asked.len())];
    let filtered = filtered(&cells, &structure, &base, asked, set)?;
    println!("\ndefault effort, filtered; unfiltered is {unfiltered:.0}/s");
    print_table(&["filter", "recall@10", "queries/s", "of unfiltered", "way", "cells", "rows", "scored"], &{
        let share = |rate: f64| format!("{:.2}x", rate / unfiltered);
        filtered.into_iter().map(|row| row.show(share)).collect::<Vec<_>>()
    });
    Ok(())
}

fn crew() -> Crew {
    Crew::new(THREADS, Cancel::new())
}

/// The segment's batches, as long as those of a table.
fn batches<'a>(base: &'a Floats) -> Batches<'a> {
    Batches::new(base.dim, base.floats().chunks(knarr_base::limit::BATCH_ROWS * base.dim))
}

/// Also the median of the seconds it took.
fn build(bench: &Bench, set: Set, base: &Floats) -> io::Result<(Cells, Structure, f64)> {
    let path = bench.dir.join("search.structure");
    let (mut train, mut place, mut peak) = (Vec::new(), Vec::new(), 0f64);
    let mut made = None;
    let vectors = batches(base);
    let noise = Noise::start(std::process::id());
    for run in 0..bench.n.min(3) {
        eprintln!("{set}: build {} of {}", run + 1, bench.n.min(3));
        OsDisk.remove(&path)?;
        let watch = Peak::watch(std::process::id());
        let start = measure::now();
        let (count, sampled) = vector::cells_for(u64::from(vectors.rows()), base.dim);
        let mut sample = Vec::new();
        vectors.sample(sampled, 1, &mut sample);
        let cells = Cells::train(set.distance(), base.dim, sample, count, 1, &crew()).map_err(io::Error::other)?;
        train.push(measure::now() - start);
        vector::build(&cells, 1, &vectors, &OsDisk, &path, &crew()).map_err(io::Error::other)?;
        place.push(measure::now() - start - train[train.len() - 1]);
        peak = peak.max(watch.over_idle_mib());
        made = Some(cells);
    }
    let watch = Peak::watch(std::process::id());
    let structure = Structure::open(&OsDisk, Path::new(&path)).map_err(io::Error::other)?;
    structure.verify().map_err(io::Error::other)?;
    let cells = made.expect("at least one run");
    let total = Spread::of(train.iter().zip(&place).map(|(a, b)| a + b).collect());
    print_table(
        &[
            "set",
            "rows",
            "dim",
            "cells",
            "build s",
            "train s",
            "peak MiB",
            "bytes/row",
            "of raw",
            "heap open MiB",
            "foreign cpu",
        ],
        &[vec![
            set.to_string(),
            vectors.rows().to_string(),
            base.dim.to_string(),
            cells.count().to_string(),
            total.show(1),
            Spread::of(train).show(1),
            format!("{peak:.0}"),
            format!("{:.1}", structure.bytes() as f64 / f64::from(vectors.rows())),
            format!("{:.2}x", structure.bytes() as f64 / (base.floats().len() * 4) as f64),
            format!("{:.1}", watch.over_idle_mib()),
            format!("{:.2}", noise.read()),
        ]],
    );
    Ok((cells, structure, total.median))
}

/// Seconds, the rows found, and what was looked at on average.
struct Run {
    seconds: f64,
    found: Vec<Vec<u32>>,
    looked: [f64; 3],
}

impl Run {
    fn looked(&self) -> [String; 3] {
        self.looked.map(|n| format!("{n:.0}"))
    }
}

fn counts(rows: u32, allowed: u32) -> Counts {
    Counts { rows: rows.into(), allowed: allowed.into() }
}

/// Asks every query once; `allow` by the query's place.
fn ask<'b>(
    cells: &Cells,
    structure: &Structure,
    base: &Floats,
    asked: &[&[f32]],
    effort: Effort,
    allow: impl Fn(usize) -> Allow<'b>,
) -> io::Result<Run> {
    let vectors = batches(base);
    let mut found = Vec::with_capacity(asked.len());
    let (mut cells_read, mut rows, mut scored) = (0.0, 0.0, 0.0);
    let start = measure::now();
    for (at, query) in asked.iter().enumerate() {
        let allow = allow(at);
        let allowed = match allow {
            Allow::Only(bits) => bits.count(),
            Allow::Few(rows) => rows.len() as u32,
            Allow::All | Allow::Each(_) => vectors.rows(),
        };
        let here = counts(vectors.rows(), allowed);
        let plan = cells.plan(here, here, allow.form(), K, effort);
        let query = cells.ask(query);
        let (hits, looked) = structure.search(cells, &query, &vectors, allow, plan, None).map_err(io::Error::other)?;
        cells_read += f64::from(looked.cells);
        rows += f64::from(looked.rows);
        scored += f64::from(looked.scored);
        found.push(hits.iter().map(|hit| hit.row).collect());
    }
    let (seconds, n) = (measure::now() - start, asked.len() as f64);
    Ok(Run { seconds, found, looked: [cells_read / n, rows / n, scored / n] })
}

fn curve(
    bench: &Bench,
    cells: &Cells,
    structure: &Structure,
    base: &Floats,
    asked: &[&[f32]],
    truth: &Truth,
) -> io::Result<(f64, Vec<Vec<String>>)> {
    let (mut table, mut default_rate) = (Vec::new(), 0.0);
    for effort in EFFORTS {
        eprintln!("effort {effort}");
        let (mut rates, mut recall, mut looked) = (Vec::new(), 0.0, Default::default());
        let noise = Noise::start(std::process::id());
        for _ in 0..bench.n {
            let run = ask(cells, structure, base, asked, Effort::new(effort, 1.0), |_| Allow::All)?;
            rates.push(asked.len() as f64 / run.seconds);
            (recall, looked) = (truth.recall(&run.found), run.looked());
        }
        let rates = Spread::of(rates);
        if effort == knarr_base::limit::INDEX_SEF_DEFAULT {
            default_rate = rates.median;
        }
        let mut row = vec![effort.to_string(), format!("{recall:.4}"), rates.show(0)];
        row.extend(looked);
        row.push(format!("{:.2}", noise.read()));
        table.push(row);
        if recall > 0.9995 {
            break;
        }
    }
    Ok((default_rate, table))
}

struct Filtered {
    name: String,
    recall: f64,
    rate: f64,
    way: String,
    looked: [String; 3],
}

impl Filtered {
    fn show(self, share: impl Fn(f64) -> String) -> Vec<String> {
        let Self { name, recall, rate, way, looked } = self;
        let mut row = vec![name, format!("{recall:.4}"), format!("{rate:.0}"), share(rate), way];
        row.extend(looked);
        row
    }
}

fn filtered(
    cells: &Cells,
    structure: &Structure,
    base: &Floats,
    asked: &[&[f32]],
    set: Set,
) -> io::Result<Vec<Filtered>> {
    let rows = structure.rows();
    let mut out = Vec::new();
    for share in [0.9, 0.3, 0.03, 0.003, 0.0003] {
        let filter = |n: usize| {
            let mut random = Random::new(99, n as u64);
            Bits::of(rows, |_| random.below(1_000_000) < (share * 1e6) as u64)
        };
        let filters: Vec<Bits> = (0..FILTERS).map(filter).collect();
        out.push(filtered_by(cells, structure, base, asked, set, &format!("{} % by chance", share * 100.0), &filters)?);
    }
    // A filter of its own for each query: rows that point its way, and rows that point away from it.
    let asked = &asked[..asked.len().min(100)];
    for (name, sign) in [("nearest", 1.0), ("farthest", -1.0)] {
        for share in [0.3, 0.03, 0.003] {
            let filters = asked.iter().map(|query| sets::toward(base, query, sign, share)).collect::<Vec<_>>();
            let name = format!("{} % {name} by product", share * 100.0);
            out.push(filtered_by(cells, structure, base, asked, set, &name, &filters)?);
        }
    }
    Ok(out)
}

fn filtered_by(
    cells: &Cells,
    structure: &Structure,
    base: &Floats,
    asked: &[&[f32]],
    set: Set,
    name: &str,
    filters: &[Bits],
) -> io::Result<Filtered> {
    let rows = structure.rows();
    // As a table brings them: few rows as a list.
    let listed = filters[0].count() <= Cells::few(rows);
    let lists: Vec<Vec<u32>> = if listed { filters.iter().map(|bits| bits.iter().collect()).collect() } else { vec![] };
    let allow = |at: usize| match lists.get(at % filters.len()) {
        Some(list) => Allow::Few(list),
        None => Allow::Only(&filters[at % filters.len()]),
    };
    eprintln!("filter {name}");
    let truth = Truth::compute(set, base, asked, |at| Allow::Only(&filters[at % filters.len()]))?;
    let run = ask(cells, structure, base, asked, Effort::default(), allow)?;
    let here = counts(rows, filters[0].count());
    let plan = cells.plan(here, here, allow(0).form(), K, Effort::default());
    Ok(Filtered {
        name: name.to_owned(),
        recall: truth.recall(&run.found),
        rate: asked.len() as f64 / run.seconds,
        way: format!("{:?}", plan.way),
        looked: run.looked(),
    })
}
