//! What searches wait for while rows are written: the same searches on a quiet table, and beside a steady stream of upserts
//! with the flushes and compactions that follow from it.

use std::io;
use std::path::Path;
use std::thread;

use knarr_engine::index::vector::Bits;

use super::beside::{self, WRITERS, Watch, Written};
use super::drive::{Answers, Until, drive};
use super::files::SegmentFiles;
use super::judge::{Judge, Recall, slices};
use super::requests::{self, Ask};
use super::{Near, ensure, prime};
use crate::bench::{self, Bench};
use crate::client::Signer;
use crate::data::{Row, Shape};
use crate::load;
use crate::measure::{self, Noise, Spread, print_table};
use crate::process::Server;
use crate::search::sets::Floats;
use crate::search::truth::Truth;
use crate::upsert;

/// First batch of held-out queries of this command.
const BATCH: i64 = 90;
/// Queries of each part; searches begin again after the last.
const QUERIES: usize = 40_000;
/// One query out of so many is judged, each time it is asked.
const EVERY: usize = 80;
/// Seconds that the searches after the upserts may take.
const GIVEN_UP: f64 = 60.0;
/// Seconds of searches before the first clock.
const WARM: f64 = 2.0;
/// The index that is asked.
const NEAR: Near = Near::Ip;

/// How it is asked.
const ASK: Ask = Ask { near: NEAR, scale: 1.0, bare: false };

/// Options of `index-upsert`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds of upserts.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Seconds of searches before them.
    #[arg(long, default_value_t = 10.0)]
    idle: f64,
    /// Rows per second.
    #[arg(long, default_value_t = 5000.0)]
    rate: f64,
}

impl Args {
    fn rows(&self) -> i64 {
        (self.seconds * self.rate) as i64 / upsert::CALL * upsert::CALL
    }
}

/// What does not change from run to run.
struct Ground<'a> {
    bench: &'a Bench,
    args: &'a Args,
    /// Of the table before the upserts.
    before: Judge,
    /// And after them, unless keys are written twice, so that nobody knows which version is the last.
    after: Option<(Judge, Truth)>,
    idle: Vec<Vec<f32>>,
    idle_truth: Truth,
    busy: Vec<Vec<f32>>,
    /// Rows that no upsert touches, and the nearest of them.
    steady: Bits,
    steady_truth: Truth,
}

/// What one run gave.
struct Run {
    idle: Answers,
    busy: Answers,
    idle_recall: Recall,
    busy_recall: Recall,
    after_recall: Recall,
    written: Written,
    /// Greatest number of writes that the index did not have yet.
    lag_writes: i64,
    /// Seconds from the last upsert until the index had them all.
    caught_up: f64,
    files: SegmentFiles,
    foreign: f64,
}

pub(crate) fn run(bench: &Bench, args: &Args) -> io::Result<()> {
    bench.print_disk()?;
    let ground = Ground::new(bench, args)?;
    let source = prime::primed(bench, NEAR, args.rows())?;
    let mut runs = Vec::new();
    for run in 0..bench.n {
        eprintln!("run {} of {}: copying, preparing", run + 1, bench.n);
        let data = bench.copy(&source, "knarr_scratch")?;
        let server = bench.start(&data)?;
        ensure(&server, &[NEAR]);
        runs.push(ground.one(&server, &data)?);
        bench::stop(server)?;
        bench.remove(&data)?;
    }
    bench.remove(&source)?;
    ground.show(&runs);
    Ok(())
}

impl<'a> Ground<'a> {
    fn new(bench: &'a Bench, args: &'a Args) -> io::Result<Self> {
        let before = Judge::new(bench)?;
        let mut idle = requests::queries(bench, BATCH, 2 * QUERIES as i64);
        let busy = idle.split_off(QUERIES);
        let set = NEAR.set();
        let judged = |queries: &[Vec<f32>]| queries.iter().step_by(EVERY).cloned().collect::<Vec<_>>();
        let mut touched = vec![false; bench.rows as usize];
        (0..args.rows()).step_by(2).for_each(|at| touched[upsert::key(bench.rows, at) as usize] = true);
        let steady = Bits::of(bench.rows as u32, |row| !touched[row as usize]);
        let steady_truth = Truth::among(set, before.vectors(), &slices(&judged(&busy)), |_| steady.clone());
        let idle_truth = before.truth(bench, NEAR, BATCH, &judged(&idle))?;
        let after = (args.rows() / 2 <= bench.rows).then(|| {
            let after = Judge::of(vectors_after(&before, bench.rows, args.rows()));
            let truth = Truth::of_all(set, after.vectors(), &slices(&judged(&busy)));
            (after, truth)
        });
        Ok(Self { bench, args, before, after, idle, idle_truth, busy, steady, steady_truth })
    }

    fn one(&self, server: &Server, data: &Path) -> io::Result<Run> {
        let Self { bench, args, before, .. } = self;
        let signer = Signer::new(server.keys(), server.host(), measure::now_ms());
        let upserts = upsert::prepare(bench.rows, args.rows(), |rows| {
            signer.request("POST", "/api/collection/upsert_data", &load::body(rows, Row::write_json_with_centre))
        });
        let [idle, busy] = [&self.idle, &self.busy].map(|queries| requests::searches(server, ASK, queries, None));
        measure::settle(server.pid());
        search(server, &idle, WARM);
        let noise = Noise::start(server.pid());
        eprintln!("searches alone, {} s", args.idle);
        let idle = search(server, &idle, args.idle);
        eprintln!("searches beside upserts, {} s", args.seconds);
        let (busy, written, (lag_writes, files)) = self.both(server, data, &busy, &upserts.calls)?;
        let foreign = noise.read();
        let caught_up = beside::catch_up(server, NEAR);
        measure::settle(server.pid());
        let steady = (&self.steady_truth, &self.steady);
        Ok(Run {
            idle_recall: before.recall_every(NEAR, &self.idle, &self.idle_truth, EVERY, &idle),
            busy_recall: before.recall_of_steady(NEAR, &self.busy, steady, EVERY, &busy),
            after_recall: self.after_recall(server),
            idle,
            busy,
            written,
            lag_writes,
            caught_up,
            files,
            foreign,
        })
    }

    /// Searches beside upserts, and what was seen of the index meanwhile.
    fn both(
        &self,
        server: &Server,
        data: &Path,
        searches: &[Vec<u8>],
        upserts: &[Vec<u8>],
    ) -> io::Result<(Answers, Written, (i64, SegmentFiles))> {
        let watch = Watch::new(NEAR, data)?;
        Ok(thread::scope(|scope| {
            let watching = scope.spawn(|| watch.until_told(server));
            let writing = scope.spawn(|| beside::write(server, upserts, self.args.rate));
            let answers = search(server, searches, self.args.seconds);
            let written = writing.join().expect("every upsert was a success");
            watch.stop();
            (answers, written, watching.join().expect("the server is up"))
        }))
    }

    /// Of the queries asked beside the upserts, once everything is in the index.
    fn after_recall(&self, server: &Server) -> Recall {
        let Some((judge, truth)) = &self.after else { return Recall::default() };
        let queries: Vec<Vec<f32>> = self.busy.iter().step_by(EVERY).cloned().collect();
        let requests = requests::searches(server, ASK, &queries, None);
        let until = Until { deadline: measure::now() + GIVEN_UP, again: false };
        judge.recall(NEAR, &queries, truth, &drive(server.host(), &requests, |_| true, &until))
    }

    fn show(&self, runs: &[Run]) {
        let alone = Part { name: "searches alone".to_owned(), reach: "", of: |run| (&run.idle, run.idle_recall) };
        let name = format!("beside {} upserted rows/s, {} s", self.args.rate, self.args.seconds);
        let beside = Part { name, reach: "3x", of: |run| (&run.busy, run.busy_recall) };
        let title = format!("{}, {} rows, 8 clients", NEAR.name(), self.bench.rows);
        let head = ["reach", "p99 ms (min..max)", "of alone", "p50 ms", "searches/s", "recall@10", "foreign cpu"];
        let head: Vec<&str> = [title.as_str()].into_iter().chain(head).collect();
        print_table(&head, &[alone.show(runs), beside.show(runs)]);
        println!();
        let after = runs.iter().map(|run| run.after_recall).sum::<Recall>().show();
        let after = if self.after.is_some() { after } else { "keys come twice".to_owned() };
        let head =
            ["rows/s", "p99 ms", "segments made", "merged away", "writes behind", "s to catch up", "recall@10 then"];
        let head: Vec<&str> = ["upserts"].into_iter().chain(head).collect();
        print_table(
            &head,
            &[vec![
                format!("{WRITERS} clients, paced"),
                spread(runs, |run| run.written.rows_per_s).show(0),
                spread(runs, |run| run.written.p99_ms).show(1),
                spread(runs, |run| run.files.made as f64).show(0),
                spread(runs, |run| run.files.gone as f64).show(0),
                spread(runs, |run| run.lag_writes as f64).show(0),
                spread(runs, |run| run.caught_up).show(2),
                after,
            ]],
        );
    }
}

/// One of the two parts of a run, as a row of the table.
struct Part {
    name: String,
    reach: &'static str,
    of: fn(&Run) -> (&Answers, Recall),
}

impl Part {
    fn answers<'r>(&self, run: &'r Run) -> &'r Answers {
        (self.of)(run).0
    }

    fn show(&self, runs: &[Run]) -> Vec<String> {
        let ratio = |run: &Run| self.answers(run).percentile_ms(99.0) / run.idle.percentile_ms(99.0);
        vec![
            self.name.clone(),
            self.reach.to_owned(),
            spread(runs, |run| self.answers(run).percentile_ms(99.0)).show(2),
            spread(runs, ratio).show(2),
            spread(runs, |run| self.answers(run).percentile_ms(50.0)).show(2),
            spread(runs, |run| self.answers(run).rate()).show(0),
            runs.iter().map(|run| (self.of)(run).1).sum::<Recall>().show(),
            format!("{:.2}", spread(runs, |run| run.foreign).max),
        ]
    }
}

fn spread(runs: &[Run], of: impl Fn(&Run) -> f64) -> Spread {
    Spread::of(runs.iter().map(of).collect())
}

/// The table's vectors once all upserts are in it; numbers are keys again, since new keys follow the old ones.
fn vectors_after(before: &Judge, table: i64, upserts: i64) -> Floats {
    let dim = before.vectors().dim;
    let mut floats = before.vectors().floats().to_vec();
    floats.resize((table + upserts / 2) as usize * dim, 0.0);
    for row in Shape::new().rows(upsert::STREAM, 0, upserts) {
        let at = upsert::key(table, row.id) as usize * dim;
        floats[at..at + dim].copy_from_slice(&row.vector);
    }
    Floats::of(dim, floats)
}

fn search(server: &Server, requests: &[Vec<u8>], seconds: f64) -> Answers {
    let until = Until { deadline: measure::now() + seconds, again: true };
    drive(server.host(), requests, |place| place.is_multiple_of(EVERY), &until)
}
