//! Searches through signed HTTP from eight clients: at the default effort and at those that reach a recall, all rows and
//! under filters.

use std::io;

use knarr_base::limit;
use serde_json::Value;

use super::drive::{Answers, Until, drive};
use super::filters::{Columns, Filter, Lie};
use super::judge::{Judge, Recall};
use super::requests::{self, Ask};
use super::{Near, ensure, table};
use crate::bench::{self, Bench};
use crate::data::Shape;
use crate::measure::{self, Noise, Spread, print_table};
use crate::process::Server;

/// Batch of held-out queries that efforts are chosen with; runs ask others.
const TUNING: i64 = 99;
/// Queries of it.
const TUNED_BY: i64 = 1000;
/// An effort is chosen for so much more than the recall wanted, since other queries will ask.
const SPARE: f64 = 0.003;
/// Efforts this close to each other are one.
const CLOSE: f64 = 1.04;
/// Queries of later runs, and filtered ones, whose neighbours are computed.
const JUDGED: usize = 500;
/// Queries that are asked before anything is measured.
const WARMED: i64 = 91;
/// Queries that are asked once more for what they read.
const EXPLAINED: usize = 100;

/// Options of `index-search`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Distances that are searched by.
    #[arg(long, value_delimiter = ',', default_value = "ip,l2")]
    distances: Vec<Near>,
    /// Held-out queries of a run; every run asks others.
    #[arg(long, default_value_t = 10_000)]
    queries: usize,
    /// Held-out queries of a filtered run, each with a filter of its own.
    #[arg(long, default_value_t = 4000)]
    filtered: usize,
    /// Seconds after which a run ends, however many queries are left.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Beside the default effort, only rows whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
}

/// One row of the table.
struct Cell {
    name: String,
    reach: &'static str,
    ask: Ask,
    filter: Option<(Lie, f64)>,
    runs: Vec<Run>,
}

/// What one run of a cell gave.
struct Run {
    rate: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Times the rate of the default effort without a filter, in the same run.
    share: f64,
    recall: Recall,
    /// Cells and vectors that a search read, on average.
    read: [f64; 2],
    foreign: f64,
}

/// What all cells use.
struct Ground<'a> {
    bench: &'a Bench,
    args: &'a Args,
    server: &'a Server,
    judge: Judge,
    shape: Shape,
    columns: Columns,
}

pub(crate) fn run(bench: &Bench, args: &Args) -> io::Result<()> {
    let data = table(bench)?;
    let server = bench.start(&data)?;
    ensure(&server, &args.distances);
    let shape = Shape::new();
    let columns = Columns::new(&shape, bench.rows);
    let ground = Ground { bench, args, server: &server, judge: Judge::new(bench)?, shape, columns };
    for near in &args.distances {
        ground.one(*near)?;
    }
    bench::stop(server)
}

impl Ground<'_> {
    fn one(&self, near: Near) -> io::Result<()> {
        let mut cells = self.cells(near)?;
        eprintln!("{}: reading every page once", near.name());
        let ask = Ask { near, scale: 1.0, bare: false };
        let queries = requests::queries(self.bench, WARMED, self.args.queries as i64);
        self.drive(&requests::searches(self.server, ask, &queries, None), 0);
        for run in 0..self.bench.n {
            let mut unfiltered = None;
            for cell in &mut cells {
                eprintln!("{}, run {} of {}: {}", near.name(), run + 1, self.bench.n, cell.name);
                let mut measured = self.measure(cell, run)?;
                measured.share = measured.rate / *unfiltered.get_or_insert(measured.rate);
                cell.runs.push(measured);
            }
        }
        let title = format!("{}, {} rows, 8 clients", near.name(), self.bench.rows);
        let head = [
            title.as_str(),
            "reach",
            "scale_k",
            "recall@10",
            "searches/s (min..max)",
            "of default",
            "p50 ms",
            "p99 ms",
            "cells",
            "vectors",
            "foreign cpu",
        ];
        println!();
        print_table(&head, &cells.iter().map(Cell::show).collect::<Vec<_>>());
        Ok(())
    }

    /// The default effort comes first: the others are compared with it.
    fn cells(&self, near: Near) -> io::Result<Vec<Cell>> {
        let ask = Ask { near, scale: 1.0, bare: false };
        let cell = |name: &str, reach, ask| Cell { name: name.to_owned(), reach, ask, filter: None, runs: Vec::new() };
        let wanted = |name: &str| name.contains(&self.args.only);
        let mut cells = vec![cell("default effort", "", ask)];
        for (goal, reach) in [(0.95, "5,000/s, p99 10 ms"), (0.99, "3,500/s, p99 10 ms")] {
            let name = format!("effort for {goal}");
            if wanted(&name) {
                cells.push(cell(&name, reach, Ask { scale: self.scale_for(near, goal)?, ..ask }));
            }
        }
        cells.push(cell("default, keys and scores alone", "", Ask { bare: true, ..ask }));
        for (lie, shares) in [
            (Lie::Chance, [(0.3, "0.7x at 0.95"), (0.03, "0.5x at 0.95"), (0.003, "1.0x at 0.95"), (0.0003, "0.95")]),
            (Lie::Near, [(0.3, "0.95"), (0.03, "0.95"), (0.003, "0.95"), (0.0003, "0.95")]),
            (Lie::Far, [(0.3, "0.95"), (0.03, "0.95"), (0.003, "0.95"), (0.0003, "0.95")]),
        ] {
            for (share, reach) in shares {
                let name = format!("{} %, {}", (share * 1e4_f64).round() / 100.0, lie.name());
                cells.push(Cell { filter: Some((lie, share)), ..cell(&name, reach, ask) });
            }
        }
        cells.retain(|cell| cell.filter.is_none() || wanted(&cell.name));
        Ok(cells)
    }

    /// The least `scale_k` whose recall is above the goal by [`SPARE`], or the least or greatest that there is.
    fn scale_for(&self, near: Near, goal: f64) -> io::Result<f64> {
        let queries = requests::queries(self.bench, TUNING, TUNED_BY);
        let truth = self.judge.truth(self.bench, near, TUNING, &queries)?;
        let recall = |scale: f64| {
            let requests = requests::searches(self.server, Ask { near, scale, bare: true }, &queries, None);
            let recall = self.judge.recall(near, &queries, &truth, &self.drive(&requests, queries.len())).share();
            eprintln!("{}: scale_k {scale} has recall {recall:.4} of 1,000 queries", near.name());
            recall
        };
        let (mut low, mut high) = (*limit::SEARCH_SCALE.start(), *limit::SEARCH_SCALE.end());
        if recall(low) >= goal + SPARE {
            return Ok(low);
        }
        while high / low > CLOSE {
            let middle = ((low * high).sqrt() * 1000.0).round() / 1000.0;
            if recall(middle) >= goal + SPARE { high = middle } else { low = middle }
        }
        Ok(high)
    }

    fn drive(&self, requests: &[Vec<u8>], kept: usize) -> Answers {
        let until = Until { deadline: measure::now() + self.args.seconds, again: false };
        drive(self.server.host(), requests, |place| place < kept, &until)
    }

    fn measure(&self, cell: &Cell, run: usize) -> io::Result<Run> {
        let Self { bench, args, judge, columns, .. } = self;
        let (near, batch) = (cell.ask.near, run as i64);
        let count = if cell.filter.is_some() { args.filtered } else { args.queries };
        let queries = requests::queries(bench, batch, count as i64);
        let filters = cell.filter.map(|(lie, share)| self.filters(near, lie, share, run, &queries));
        // All queries of the first run are judged, if no filter makes their neighbours others than those of `search`.
        let judged = if run == 0 && filters.is_none() { count } else { JUDGED.min(count) };
        let truth = match &filters {
            None => judge.truth(bench, near, batch, &queries[..judged])?,
            Some(filters) => judge.filtered_truth(bench, near, &queries[..judged], &filters[..judged], columns)?,
        };
        let requests = requests::searches(self.server, cell.ask, &queries, filters.as_deref());
        let noise = Noise::start(self.server.pid());
        let answers = self.drive(&requests, judged);
        let foreign = noise.read();
        if let Some(filters) = &filters {
            Judge::check_filters(filters, columns, &answers);
        }
        Ok(Run {
            rate: answers.rate(),
            p50_ms: answers.percentile_ms(50.0),
            p99_ms: answers.percentile_ms(99.0),
            share: 1.0,
            recall: judge.recall(near, &queries, &truth, &answers),
            read: self.read(cell.ask, &queries, filters.as_deref()),
            foreign,
        })
    }

    /// Asks some of the queries once more, with an explanation.
    fn read(&self, ask: Ask, queries: &[Vec<f32>], filters: Option<&[Filter]>) -> [f64; 2] {
        let asked = EXPLAINED.min(queries.len());
        let (mut client, mut sums) = (self.server.client(), [0.0; 2]);
        for at in 0..asked {
            let mut body = requests::body(ask, &queries[at], filters.map(|filters| &filters[at]));
            body["search"]["explain"] = true.into();
            let reply = client.post("/api/index/search", &body).expect("the server is up");
            let reply: Value = serde_json::from_str(&reply.text).expect("answers are JSON");
            for segment in reply["extend"]["explain"]["segments"].as_array().into_iter().flatten() {
                for (sum, name) in sums.iter_mut().zip(["cells_read", "vectors_read"]) {
                    *sum += segment[name].as_f64().unwrap_or(0.0);
                }
            }
        }
        sums.map(|sum| sum / asked as f64)
    }

    /// Values differ between any two queries, runs and cells.
    fn filters(&self, near: Near, lie: Lie, share: f64, run: usize, queries: &[Vec<f32>]) -> Vec<Filter> {
        let stream = ((near as u64 * 3 + lie as u64) * 1_000_000 + (share * 1e6) as u64) * 1000 + run as u64;
        let draw = |(at, query): (usize, &Vec<f32>)| {
            Filter::draw(lie, share, query, near.set().distance(), &self.shape, [stream, at as u64])
        };
        queries.iter().enumerate().map(draw).collect()
    }
}

impl Cell {
    fn show(&self) -> Vec<String> {
        let spread = |of: fn(&Run) -> f64| Spread::of(self.runs.iter().map(of).collect());
        let recall = self.runs.iter().map(|run| run.recall).sum::<Recall>();
        vec![
            self.name.clone(),
            self.reach.to_owned(),
            format!("{}", self.ask.scale),
            recall.show(),
            spread(|run| run.rate).show(0),
            format!("{:.2}x", spread(|run| run.share).median),
            spread(|run| run.p50_ms).show(2),
            spread(|run| run.p99_ms).show(2),
            format!("{:.0}", spread(|run| run.read[0]).median),
            format!("{:.0}", spread(|run| run.read[1]).median),
            format!("{:.2}", spread(|run| run.foreign).max),
        ]
    }
}
