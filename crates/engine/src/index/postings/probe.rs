//! Telling of single rows whether they pass, by the codes of their values: for whoever meets few rows of many.

use std::ops::{BitAnd, BitOr, Not, Range};

use knarr_base::limit;

use super::arranged::Arranged;
use super::field::Piece;
use super::plan::{Runs, Step};
use crate::error::Result;
use crate::index::vector::LANES;
use crate::index::vector::kernel::{Kernel, STRETCH, prefetch};

/// Rows that are tested for an estimate.
pub(super) const SAMPLE: u32 = 512;

/// What every row can be asked.
pub(crate) enum Test<'a> {
    Const(bool),
    All(Vec<Test<'a>>),
    Any(Vec<Test<'a>>),
    Probe(Probe<'a>),
}

impl<'a> Test<'a> {
    /// `None` if rows cannot be asked all of it.
    pub(super) fn new(step: &Step<'a>, arranged: Option<&'a Arranged>) -> Result<Option<Self>> {
        let every =
            |parts: &[Step<'a>]| parts.iter().map(|part| Self::new(part, arranged)).collect::<Result<Option<Vec<_>>>>();
        Ok(match step {
            Step::Const(value) => Some(Test::Const(*value)),
            Step::And(parts) => every(parts)?.map(Test::All),
            Step::Or(parts) => every(parts)?.map(Test::Any),
            Step::Runs(runs) => Probe::new(runs, arranged)?.map(Test::Probe),
        })
    }

    /// True if it can tell rows by their places.
    pub(crate) fn is_arranged(&self) -> bool {
        match self {
            Test::Const(_) => true,
            Test::All(tests) | Test::Any(tests) => tests.iter().all(Test::is_arranged),
            Test::Probe(probe) => probe.arranged.is_some(),
        }
    }

    /// Which of the rows at `place` and after it pass, of those whose bit is set in `among`; `row` says their numbers. The
    /// test [is arranged](Test::is_arranged).
    pub(crate) fn stretch(&self, place: usize, row: &dyn Fn(u32) -> u32, among: u64) -> u64 {
        self.told(among, &|probe, among| probe.stretch(place, row, among))
    }

    /// Asks for the codes at `place` and after it.
    pub(crate) fn ahead(&self, place: usize) {
        match self {
            Test::Const(_) => {}
            Test::All(tests) | Test::Any(tests) => tests.iter().for_each(|test| test.ahead(place)),
            Test::Probe(probe) => prefetch(probe.stretch_at(place)),
        }
    }

    /// Which of some rows pass, of those whose bit is set in `among`.
    pub(crate) fn lanes(&self, rows: &[u32; LANES], among: u16) -> u16 {
        self.told(among, &|probe, among| probe.lanes(rows, among))
    }

    /// The bits of `among` that `ask` leaves, which asks single probes.
    fn told<M>(&self, among: M, ask: &impl Fn(&Probe<'a>, M) -> M) -> M
    where
        M: Copy + Default + PartialEq + BitAnd<Output = M> + BitOr<Output = M> + Not<Output = M>,
    {
        let none = M::default();
        match self {
            Test::Const(true) => among,
            Test::Const(false) => none,
            Test::All(tests) => {
                tests.iter().fold(among, |left, test| if left == none { none } else { test.told(left, ask) })
            }
            Test::Any(tests) => tests.iter().fold(none, |found, test| found | test.told(among & !found, ask)),
            Test::Probe(probe) => ask(probe, among),
        }
    }

    /// How many of so many rows pass, about.
    pub(super) fn estimate(&self, rows: u32) -> u64 {
        let sampled = SAMPLE.min(rows);
        // One of each stretch, not all at one distance: a field may repeat with the rows.
        let row = |n: u32| {
            let start = |n: u32| u64::from(n) * u64::from(rows) / u64::from(sampled);
            let (from, to) = (start(n), start(n + 1));
            (from + ((u64::from(n) * 0x9e37_79b9) >> 7) % (to - from)) as u32
        };
        let passed: u64 = (0..sampled.div_ceil(LANES as u32))
            .map(|block| {
                let first = block * LANES as u32;
                let lanes = u16::MAX >> (first + LANES as u32).saturating_sub(sampled);
                let rows = std::array::from_fn(|lane| row((first + lane as u32).min(sampled - 1)));
                u64::from(self.lanes(&rows, lanes).count_ones())
            })
            .sum();
        passed * u64::from(rows) / u64::from(sampled.max(1))
    }
}

/// Tells of a row whether it has one of some values of a field.
pub(crate) struct Probe<'a> {
    codes: &'a [[u8; 4]],
    /// The same in the order of the cells, if they are arranged.
    arranged: Option<&'a [u16]>,
    /// Codes whose values all are wanted.
    wanted: Codes,
    /// Codes of which some values are.
    unsure: Codes,
    /// The rows that are, of those with such a code; ascending.
    listed: Vec<u32>,
    inverted: bool,
}

impl<'a> Probe<'a> {
    /// `None` if the field has no codes, or too many rows have one that does not tell.
    pub(super) fn new(runs: &Runs<'a>, arranged: Option<&'a Arranged>) -> Result<Option<Self>> {
        let Some(codes) = runs.field.codes()? else { return Ok(None) };
        let (each, values) = (runs.field.values_per_code(), runs.values.count());
        let (mut wanted, mut unsure, mut listed) = (Vec::new(), Vec::new(), Vec::new());
        for run in runs.runs.iter().filter(|run| !run.is_empty()) {
            let first = run.start.div_ceil(each);
            let last = if run.end == values { run.end.div_ceil(each) } else { run.end / each };
            let edges = if first <= last {
                wanted.push(first..last);
                [run.start..(first * each).min(run.end), (last * each).min(run.end)..run.end]
            } else {
                [run.clone(), run.end..run.end]
            };
            for edge in edges.into_iter().filter(|edge| !edge.is_empty()) {
                let rows = listed.len() as u64 + runs.values.rows(edge.clone());
                if rows > limit::POSTINGS_UNSURE_ROWS as u64 || !runs.values.only_lists(&edge) {
                    return Ok(None);
                }
                unsure.push(edge.start / each..edge.start / each + 1);
                runs.values.pieces(edge, |piece| {
                    if let Piece::List(list) = piece {
                        listed.extend(super::rows::listed(list));
                    }
                })?;
            }
        }
        listed.sort_unstable();
        let (wanted, unsure) = (Codes::of(&wanted), Codes::of(&unsure));
        let arranged = arranged.and_then(|arranged| arranged.codes(runs.field.column()));
        Ok(Some(Self { codes, arranged, wanted, unsure, listed, inverted: runs.inverted }))
    }

    fn stretch_at(&self, place: usize) -> &[u16; STRETCH] {
        let codes = self.arranged.expect("Test::is_arranged was asked");
        codes[place..].first_chunk().expect("Structure::arrange leaves room after the last cell")
    }

    fn stretch(&self, place: usize, row: &dyn Fn(u32) -> u32, among: u64) -> u64 {
        let codes = self.stretch_at(place);
        let mut found = self.wanted.stretch(codes) & among;
        let mut unsure = self.unsure.stretch(codes) & among & !found;
        while unsure != 0 {
            let lane = unsure.trailing_zeros();
            unsure &= unsure - 1;
            found |= u64::from(self.listed.binary_search(&row(lane)).is_ok()) << lane;
        }
        if self.inverted { among & !found } else { found }
    }

    fn lanes(&self, rows: &[u32; LANES], among: u16) -> u16 {
        let codes = Kernel::best().shorts(rows, self.codes);
        let mut found = self.wanted.lanes(&codes);
        let mut unsure = self.unsure.lanes(&codes) & among & !found;
        while unsure != 0 {
            let lane = unsure.trailing_zeros();
            unsure &= unsure - 1;
            found |= u16::from(self.listed.binary_search(&rows[lane as usize]).is_ok()) << lane;
        }
        if self.inverted { among & !found } else { among & found }
    }
}

/// A set of codes.
enum Codes {
    Run { first: u32, count: u32 },
    Some(Vec<u32>),
}

impl Codes {
    fn of(runs: &[Range<u32>]) -> Self {
        match runs {
            [] => Codes::Run { first: 0, count: 0 },
            [run] => Codes::Run { first: run.start, count: run.end - run.start },
            runs => {
                let end = runs.iter().map(|run| run.end).max().unwrap_or(0);
                let mut words = vec![0u32; end.div_ceil(u32::BITS) as usize];
                runs.iter().filter(|run| !run.is_empty()).for_each(|run| set_run(&mut words, run.clone()));
                Codes::Some(words)
            }
        }
    }

    fn lanes(&self, codes: &[u32; LANES]) -> u16 {
        match self {
            Codes::Run { count: 0, .. } => 0,
            Codes::Run { first, count } => {
                let within = codes.map(|code| u16::from(code.wrapping_sub(*first) < *count));
                within.iter().enumerate().fold(0, |mask, (lane, within)| mask | within << lane)
            }
            Codes::Some(words) => Kernel::best().allowed(codes, words),
        }
    }

    fn stretch(&self, codes: &[u16; STRETCH]) -> u64 {
        match self {
            Codes::Run { count: 0, .. } => 0,
            Codes::Run { first, count } => {
                let number = |n: u32| u16::try_from(n).expect("limit::POSTINGS_CODES");
                Kernel::best().within(codes, number(*first), number(count - 1))
            }
            Codes::Some(words) => Kernel::best().among(codes, words),
        }
    }
}

/// Sets the bits of a run.
fn set_run(words: &mut [u32], run: Range<u32>) {
    for at in run.start / u32::BITS..run.end.div_ceil(u32::BITS) {
        let first = at * u32::BITS;
        let (from, to) = (run.start.max(first) - first, run.end.min(first + u32::BITS) - first);
        words[at as usize] |= (!0 >> (u32::BITS - (to - from))) << from;
    }
}
