//! What others are compared with: the rate at the least effort that reaches a recall, with all queries.

use std::fs;
use std::io;

use knarr_engine::index::vector::{Allow, Cells, Effort, Structure};
use serde_json::{Value, json};

use super::sets::{Floats, Set};
use super::truth::Truth;
use super::{K, ask};
use crate::bench::Bench;
use crate::measure::{Noise, Spread, print_table};

/// Recalls whose rates are compared.
const GOALS: [f64; 2] = [0.95, 0.99];
/// Queries that choose the effort.
const CHOOSING: usize = 2000;
/// Efforts between which the choice lies.
const EFFORTS: (f32, f32) = (6.0, 51_200.0);
/// Efforts this close to each other are one.
const CLOSE: f32 = 1.02;

/// Measures every goal, prints the table, and keeps the figures for `peers/peer_ann.py` in `search_SET.json`.
pub(super) fn goals(
    bench: &Bench,
    set: Set,
    (cells, structure): (&Cells, &Structure),
    base: &Floats,
    asked: &[&[f32]],
    truth: &Truth,
    build_s: f64,
) -> io::Result<()> {
    let (mut table, mut kept) = (Vec::new(), Vec::new());
    let noise = Noise::start(std::process::id());
    for goal in GOALS {
        eprintln!("{set}: the effort for {goal}");
        let recall_at = |effort: f32, asked: &[&[f32]], truth: &Truth| -> io::Result<(f64, f64)> {
            let run = ask(cells, structure, base, asked, Effort::new(effort, 1.0), |_| Allow::All)?;
            Ok((truth.recall(&run.found), asked.len() as f64 / run.seconds))
        };
        let effort = choose(goal, asked, truth, recall_at)?;
        let (mut recall, mut rates) = (0.0, Vec::new());
        for _ in 0..bench.n {
            let (found, rate) = recall_at(effort, asked, truth)?;
            recall = found;
            rates.push(rate);
        }
        let rates = Spread::of(rates);
        kept.push(json!({"goal": goal, "effort": effort, "recall": recall, "queries_per_s": rates.median}));
        let foreign = format!("{:.2}", noise.read());
        table.push(vec![format!("{goal}"), format!("{effort:.0}"), format!("{recall:.4}"), rates.show(0), foreign]);
    }
    println!();
    print_table(
        &["recall wanted", "effort (sef)", &format!("recall@{K}"), "queries/s (min..max)", "foreign cpu"],
        &table,
    );
    let kept: Value = json!({"rows": base.rows(), "queries": asked.len(), "build_s": build_s, "goals": kept});
    fs::write(bench.dir.join(format!("search_{set}.json")), kept.to_string())
}

/// The least effort that reaches the goal with all queries; the greatest there is if none does.
fn choose(
    goal: f64,
    asked: &[&[f32]],
    truth: &Truth,
    recall_at: impl Fn(f32, &[&[f32]], &Truth) -> io::Result<(f64, f64)>,
) -> io::Result<f32> {
    let step = (asked.len() / CHOOSING).max(1);
    let few: Vec<&[f32]> = asked.iter().step_by(step).copied().collect();
    let few_truth = Truth::of(truth.rows().iter().step_by(step).cloned().collect());
    let (mut low, mut high) = EFFORTS;
    while high / low > CLOSE {
        let middle = (low * high).sqrt();
        if recall_at(middle, &few, &few_truth)?.0 >= goal { high = middle } else { low = middle }
    }
    // Those may be luckier than all.
    while high < EFFORTS.1 && recall_at(high, asked, truth)?.0 < goal {
        high = (high * CLOSE).min(EFFORTS.1);
    }
    Ok(high)
}
