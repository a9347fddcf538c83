//! From runs of values to a bitmap of rows.

use std::ops::Range;

use super::field::Piece;
use super::plan::{Runs, Step};
use crate::error::Result;
use crate::index::vector::Bits;

/// So many rows of lists are added in the time in which the value of one other row is looked up.
const ENTRIES_PER_PROBE: u64 = 2;
const ORDINAL_BYTES: usize = size_of::<u16>();

/// The rows of a segment of `rows` rows for which the step holds.
pub(super) fn evaluate(step: &Step<'_>, rows: u32) -> Result<Bits> {
    let mut found = Bits::none(rows);
    add(step, &mut found)?;
    // Bitmaps are joined as whole words.
    found.trim();
    Ok(found)
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
            runs.each(|piece| set_if(found.words_mut(), piece, &probes))?;
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
fn at_most(step: &Step<'_>, rows: u32) -> u64 {
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
fn probes<'a>(first: &Runs<'a>, rest: &mut Vec<&Step<'a>>) -> Result<Vec<Probe<'a>>> {
    let mut probes = Vec::new();
    for step in std::mem::take(rest) {
        let probe = match step {
            Step::Runs(runs) if runs.cost > first.rows * ENTRIES_PER_PROBE => Probe::new(runs)?,
            _ => None,
        };
        match probe {
            Some(probe) => probes.push(probe),
            None => rest.push(step),
        }
    }
    Ok(probes)
}

/// Tells of one row whether it has one of some values.
struct Probe<'a> {
    ordinals: &'a [[u8; ORDINAL_BYTES]],
    /// A bit for each value.
    wanted: Vec<u64>,
}

impl<'a> Probe<'a> {
    /// `None` if the field does not keep the value of each row.
    fn new(runs: &Runs<'a>) -> Result<Option<Self>> {
        let Some(ordinals) = runs.field.ordinals()? else { return Ok(None) };
        let mut wanted = vec![0u64; runs.values.count().div_ceil(u64::BITS) as usize];
        runs.runs.iter().for_each(|run| set_run(&mut wanted, run.clone()));
        if runs.inverted {
            wanted.iter_mut().for_each(|word| *word = !*word);
        }
        Ok(Some(Self { ordinals, wanted }))
    }

    #[inline]
    fn passes(&self, row: u32) -> bool {
        let value = u32::from(u16::from_le_bytes(self.ordinals[row as usize]));
        self.wanted[(value / u64::BITS) as usize] >> (value % u64::BITS) & 1 == 1
    }
}

/// Sets the bits of a run.
fn set_run(words: &mut [u64], run: Range<u32>) {
    for at in run.start / u64::BITS..run.end.div_ceil(u64::BITS) {
        let first = at * u64::BITS;
        let (from, to) = (run.start.max(first) - first, run.end.min(first + u64::BITS) - first);
        words[at as usize] |= (!0 >> (u64::BITS - (to - from))) << from;
    }
}

impl<'a> Runs<'a> {
    fn each(&self, mut see: impl FnMut(Piece<'a>)) -> Result<()> {
        self.runs.iter().try_for_each(|run| self.values.pieces(run.clone(), &mut see))
    }

    /// True if the rows that are meant are those of lists, without any bitmap.
    fn only_lists(&self) -> bool {
        !self.inverted && self.runs.iter().all(|run| self.values.only_lists(run))
    }
}

/// Rows of a list, checked against the number of rows when the list was verified.
fn listed(list: &[u8]) -> impl Iterator<Item = u32> {
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

/// Sets the rows of a list that pass all probes.
fn set_if(words: &mut [u32], piece: Piece<'_>, probes: &[Probe<'_>]) {
    let Piece::List(list) = piece else { unreachable!("Runs::only_lists said so") };
    match probes {
        [] => set(words, piece),
        [probe] => {
            for row in listed(list) {
                words[(row / u32::BITS) as usize] |= u32::from(probe.passes(row)) << (row % u32::BITS);
            }
        }
        probes => {
            for row in listed(list).filter(|row| probes.iter().all(|probe| probe.passes(*row))) {
                words[(row / u32::BITS) as usize] |= 1 << (row % u32::BITS);
            }
        }
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
