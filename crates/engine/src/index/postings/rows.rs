//! From runs of values to a bitmap of rows.

use std::ops::Range;

use super::field::Piece;
use super::keys;
use super::plan::{Runs, Step};
use super::probe::{Probe, SAMPLE, Test};
use crate::error::Result;
use crate::index::vector::{Bits, LANES};

/// So many rows of lists are added in the time in which the value of one other row is looked up.
const ENTRIES_PER_PROBE: u64 = 2;
const ROW_BYTES: usize = size_of::<u32>();

/// The rows of a segment of `rows` rows for which the step holds.
pub(super) fn evaluate(step: &Step<'_>, rows: u32) -> Result<Bits> {
    let mut found = Bits::none(rows);
    add(step, &mut found)?;
    // Bitmaps are joined as whole words.
    found.trim();
    Ok(found)
}

/// The rows of a step in no order, if they come from lists without a row twice. `None`: they do not.
pub(super) fn list(step: &Step<'_>) -> Result<Option<Vec<u32>>> {
    match step {
        Step::Const(false) => Ok(Some(Vec::new())),
        Step::Runs(runs) if runs.only_lists() && runs.once() => list_if(runs, &[]).map(Some),
        Step::And(parts) => shortest(parts)?.map(|(first, tests)| list_if(first, &tests)).transpose(),
        _ => Ok(None),
    }
}

/// About how many rows a step has, by a sample of the rows of its shortest part where that comes from lists. `None`: it
/// does not.
pub(super) fn estimate(step: &Step<'_>) -> Result<Option<u64>> {
    let Step::And(parts) = step else { return Ok(None) };
    let Some((first, tests)) = shortest(parts)? else { return Ok(None) };
    let every = first.rows.div_ceil(SAMPLE.into()).max(1) as usize;
    let (mut sampled, mut passed, mut skip) = (0, 0, 0);
    first.each(|piece| {
        let Piece::List(list) = piece else { unreachable!("Runs::only_lists said so") };
        let blocks = list.chunks(LANES * ROW_BYTES);
        let next = (skip + every - blocks.len() % every) % every;
        for block in blocks.skip(skip).step_by(every) {
            sampled += block.len() / ROW_BYTES;
            passing(block, &tests, |_| passed += 1);
        }
        skip = next;
    })?;
    Ok(Some(passed * first.rows / sampled.max(1) as u64))
}

/// The part of an `And` with the fewest rows, if it comes from lists without a row twice and the others can be asked of
/// single rows; and what they ask.
fn shortest<'s, 'a>(parts: &'s [Step<'a>]) -> Result<Option<(&'s Runs<'a>, Vec<Test<'a>>)>> {
    let Some(at) = (0..parts.len()).min_by_key(|at| at_most(&parts[*at], u32::MAX)) else { return Ok(None) };
    let Step::Runs(first) = &parts[at] else { return Ok(None) };
    if !first.only_lists() || !first.once() {
        return Ok(None);
    }
    let others = parts.iter().enumerate().filter(|(other, _)| *other != at);
    let tests = others.map(|(_, part)| Test::new(part, None)).collect::<Result<Option<Vec<_>>>>()?;
    Ok(tests.map(|tests| (first, tests)))
}

/// The rows of lists that pass all tests.
fn list_if(runs: &Runs<'_>, tests: &[Test<'_>]) -> Result<Vec<u32>> {
    let mut rows = Vec::with_capacity(if tests.is_empty() { runs.rows as usize } else { 0 });
    runs.each(|piece| {
        let Piece::List(list) = piece else { unreachable!("Runs::only_lists said so") };
        if tests.is_empty() { rows.extend(listed(list)) } else { passing(list, tests, |row| rows.push(row)) }
    })?;
    Ok(rows)
}

/// Adds the rows of a step.
fn add(step: &Step<'_>, out: &mut Bits) -> Result<()> {
    match step {
        Step::Const(false) => Ok(()),
        Step::Const(true) => {
            out.words_mut().fill(!0);
            Ok(())
        }
        Step::Or(parts) => parts.iter().try_for_each(|part| add(part, out)),
        Step::And(parts) => {
            let found = all_of(parts, out.rows())?;
            join(out.words_mut(), found.words(), |word, found| word | found);
            Ok(())
        }
        Step::Runs(runs) if runs.inverted => {
            let mut others = Bits::none(out.rows());
            runs.each(|piece| set(others.words_mut(), piece))?;
            join(out.words_mut(), others.words(), |word, other| word | !other);
            Ok(())
        }
        Step::Runs(runs) => runs.each(|piece| set(out.words_mut(), piece)),
    }
}

/// Keeps the rows of a step.
fn keep(step: &Step<'_>, out: &mut Bits) -> Result<()> {
    match step {
        Step::Const(true) => Ok(()),
        Step::Const(false) => {
            out.words_mut().fill(0);
            Ok(())
        }
        Step::And(parts) => parts.iter().try_for_each(|part| keep(part, out)),
        Step::Runs(runs) if runs.inverted => runs.each(|piece| clear(out.words_mut(), piece)),
        Step::Or(_) | Step::Runs(_) => {
            let mut found = Bits::none(out.rows());
            add(step, &mut found)?;
            join(out.words_mut(), found.words(), |word, found| word & found);
            Ok(())
        }
    }
}

/// The rows of all steps: begins with the fewest, and looks the others' values up for each of these where that is
/// quicker than to list their rows.
fn all_of(parts: &[Step<'_>], rows: u32) -> Result<Bits> {
    let mut found = Bits::none(rows);
    let mut parts: Vec<&Step<'_>> = parts.iter().collect();
    parts.sort_by_key(|part| at_most(part, rows));
    let Some((first, rest)) = parts.split_first() else {
        found.words_mut().fill(!0);
        return Ok(found);
    };
    let mut rest = rest.to_vec();
    match first {
        Step::Runs(runs) if runs.only_lists() => {
            let probes = probes(runs, &mut rest)?;
            runs.each(|piece| match piece {
                Piece::List(list) if !probes.is_empty() => passing(list, &probes, |row| found.insert(row)),
                piece => set(found.words_mut(), piece),
            })?;
        }
        _ => add(first, &mut found)?,
    }
    for part in rest {
        if found.words().iter().all(|word| *word == 0) {
            break;
        }
        keep(part, &mut found)?;
    }
    Ok(found)
}

/// How many rows a step has at most, about.
pub(super) fn at_most(step: &Step<'_>, rows: u32) -> u64 {
    let all = u64::from(rows);
    match step {
        Step::Const(value) => {
            if *value {
                all
            } else {
                0
            }
        }
        Step::And(parts) => parts.iter().map(|part| at_most(part, rows)).min().unwrap_or(all),
        Step::Or(parts) => parts.iter().map(|part| at_most(part, rows)).sum::<u64>().min(all),
        Step::Runs(runs) if runs.inverted => all - runs.rows.min(all),
        Step::Runs(runs) => runs.rows,
    }
}

/// Takes from `rest` what is better looked up for each row of `first`.
fn probes<'a>(first: &Runs<'a>, rest: &mut Vec<&Step<'a>>) -> Result<Vec<Test<'a>>> {
    let mut probes = Vec::new();
    for step in std::mem::take(rest) {
        let probe = match step {
            Step::Runs(runs) if runs.cost > first.rows * ENTRIES_PER_PROBE => Probe::new(runs, None)?,
            _ => None,
        };
        match probe {
            Some(probe) => probes.push(Test::Probe(probe)),
            None => rest.push(step),
        }
    }
    Ok(probes)
}

impl<'a> Runs<'a> {
    fn each(&self, mut see: impl FnMut(Piece<'a>)) -> Result<()> {
        self.runs.iter().try_for_each(|run| self.values.pieces(run.clone(), &mut see))
    }

    /// True if no row has two of the values.
    fn once(&self) -> bool {
        !keys::is_list(self.field.kind()) || self.runs.iter().map(Range::len).sum::<usize>() <= 1
    }

    /// True if the rows that are meant are those of lists, without any bitmap.
    fn only_lists(&self) -> bool {
        !self.inverted && self.runs.iter().all(|run| self.values.only_lists(run))
    }
}

/// Rows of a list, checked against the number of rows when the list was verified.
pub(super) fn listed(list: &[u8]) -> impl Iterator<Item = u32> {
    list.as_chunks().0.iter().map(|row| u32::from_le_bytes(*row))
}

fn set(words: &mut [u32], piece: Piece<'_>) {
    match piece {
        Piece::List(list) => listed(list).for_each(|row| words[(row / u32::BITS) as usize] |= 1 << (row % u32::BITS)),
        Piece::Bitmaps(of, without) => bitmaps(words, of, without, |word, found| word | found),
    }
}

fn clear(words: &mut [u32], piece: Piece<'_>) {
    match piece {
        Piece::List(list) => {
            listed(list).for_each(|row| words[(row / u32::BITS) as usize] &= !(1 << (row % u32::BITS)));
        }
        Piece::Bitmaps(of, without) => bitmaps(words, of, without, |word, found| word & !found),
    }
}

/// Calls `see` with the rows of a list that pass all tests.
fn passing(list: &[u8], tests: &[Test<'_>], mut see: impl FnMut(u32)) {
    let (whole, rest) = list.as_chunks::<4>().0.as_chunks::<LANES>();
    let mut block = |rows: &[u32; LANES], among: u16| {
        let mut left = tests.iter().fold(among, |left, test| if left == 0 { 0 } else { test.lanes(rows, left) });
        while left != 0 {
            see(rows[left.trailing_zeros() as usize]);
            left &= left - 1;
        }
    };
    whole.iter().for_each(|rows| block(&rows.map(u32::from_le_bytes), u16::MAX));
    if let Some(last) = rest.last() {
        let rows = std::array::from_fn(|lane| u32::from_le_bytes(*rest.get(lane).unwrap_or(last)));
        block(&rows, u16::MAX >> (LANES - rest.len()));
    }
}

/// Joins the rows of the first bitmap that are not in the second, as [`Piece::Bitmaps`] says.
fn bitmaps(words: &mut [u32], of: Option<&[u8]>, without: Option<&[u8]>, how: impl Fn(u32, u32) -> u32) {
    let words = words.iter_mut();
    let word = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes);
    match (of.map(|of| of.as_chunks().0), without.map(|without| without.as_chunks().0)) {
        (None, None) => words.for_each(|out| *out = how(*out, !0)),
        (Some(of), None) => words.zip(of).for_each(|(out, of)| *out = how(*out, word(of))),
        (None, Some(without)) => words.zip(without).for_each(|(out, without)| *out = how(*out, !word(without))),
        (Some(of), Some(without)) => {
            words.zip(of).zip(without).for_each(|((out, of), without)| *out = how(*out, word(of) & !word(without)));
        }
    }
}

fn join(words: &mut [u32], others: &[u32], how: impl Fn(u32, u32) -> u32) {
    words.iter_mut().zip(others).for_each(|(word, other)| *word = how(*word, *other));
}
