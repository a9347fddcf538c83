//! Finding the cells: k-means on a sample, then the measure of how far rows reach out of their cells.

use knarr_base::limit;

use super::Distance;
use super::cells::{Assigner, Cells, Centres, Measured, NEIGHBOURS, turn};
use super::code::Metric;
use super::crew::Crew;
use super::kernel::Kernel;
use super::rotate::{Random, Rotation};
use crate::error::Result;

/// Rounds of assigning and averaging; the centres hardly move afterwards.
const ROUNDS: usize = 8;
/// Vectors of one job: a few milliseconds of work.
const JOB_ROWS: usize = 16 * 1024;
/// Vectors of the sample that are used as queries, to measure what theirs take.
const PROBES: usize = 256;
/// Share of those neighbours that must lie in the cells which the default effort may read.
const FOUND: f64 = 0.985;
/// Share of them that must lie in cells whose order is within the slack.
const WITHIN_SLACK: f64 = 0.995;
/// Times that slack: neighbours among all rows are nearer than those in the sample, so their cells begin farther behind.
/// By inner product on 1,000,000 rows the sample's own slack finds 0.84 of them, twice as much finds nearly all.
const SLACK_FACTOR: f32 = 2.0;
/// Which rows of the sample may be found: one of so many.
const THINNINGS: [usize; 3] = [1, 10, 100];

/// Number of cells for an index of so many rows, and of how many rows training wants a sample.
pub fn cells_for(rows: u64, dim: usize) -> (usize, usize) {
    let sample_max = limit::INDEX_TRAIN_BYTES / (dim * size_of::<f32>());
    let cells = (rows / limit::INDEX_CELL_ROWS).clamp(1, limit::INDEX_CELLS as u64) as usize;
    let cells = cells.min(sample_max / limit::INDEX_TRAIN_ROWS_PER_CELL_MIN).max(1);
    let sample = (cells * limit::INDEX_TRAIN_ROWS_PER_CELL).min(sample_max);
    (cells, sample.min(usize::try_from(rows).unwrap_or(usize::MAX)))
}

impl Cells {
    /// Trains `count` cells on a sample of whole vectors; fewer if the sample is smaller. `generation` names them and
    /// seeds all that is random, so the same sample gives the same cells.
    ///
    /// # Errors
    /// `Cancelled`; `Io` if no thread can be started.
    ///
    /// # Panics
    /// If the sample is empty or not whole.
    pub fn train(
        distance: Distance,
        dim: usize,
        mut sample: Vec<f32>,
        count: usize,
        generation: u64,
        crew: &Crew,
    ) -> Result<Self> {
        assert!(!sample.is_empty() && sample.len().is_multiple_of(dim), "a sample has vectors, and whole ones");
        turn_all(distance, dim, &mut sample, generation, crew)?;
        let rows = sample.len() / dim;
        let mut random = Random::new(generation);
        let mut centroids = seeds(&sample, dim, count.clamp(1, rows), &mut random);
        let mut owners = Vec::new();
        for round in 0..=ROUNDS {
            let centres = Centres::new(Metric::L2, dim, &centroids);
            owners = assign(&sample, dim, &centres, crew)?;
            if round < ROUNDS {
                average(&sample, dim, &owners, &mut centroids, &mut random);
            }
        }
        let radii = radii(&sample, dim, &owners, &centroids);
        let nothing = Measured { rows: rows as f32, slack: 0.0, shares: [1.0; THINNINGS.len()] };
        let mut cells = Cells::assemble(generation, distance, dim, centroids, radii, nothing);
        cells.measured = measure(&cells, &sample, &owners, crew)?;
        Ok(cells)
    }
}

fn turn_all(distance: Distance, dim: usize, sample: &mut [f32], seed: u64, crew: &Crew) -> Result<()> {
    let rotation = Rotation::new(dim, seed);
    let jobs: Vec<_> = sample.chunks_mut(JOB_ROWS * dim).map(parking_lot::Mutex::new).collect();
    crew.each(jobs.len(), |job| {
        let mut out = Vec::with_capacity(dim);
        for vector in jobs[job].lock().chunks_exact_mut(dim) {
            turn(distance, &rotation, vector, &mut out);
            vector.copy_from_slice(&out);
        }
        Ok(())
    })?;
    Ok(())
}

/// Different rows of the sample, one per stretch.
fn seeds(sample: &[f32], dim: usize, count: usize, random: &mut Random) -> Vec<f32> {
    let rows = sample.len() / dim;
    let pick = |n: usize| {
        let (from, to) = (n * rows / count, (n + 1) * rows / count);
        let row = from + random.below(to - from);
        sample[row * dim..(row + 1) * dim].iter().copied()
    };
    (0..count).flat_map(pick).collect()
}

fn assign(sample: &[f32], dim: usize, centres: &Centres, crew: &Crew) -> Result<Vec<u32>> {
    let jobs: Vec<&[f32]> = sample.chunks(JOB_ROWS * dim).collect();
    let owners = crew.each(jobs.len(), |job| {
        let mut assigner = Assigner::new(centres);
        Ok(jobs[job].chunks_exact(dim).map(|vector| assigner.assign(vector)).collect::<Vec<u32>>())
    })?;
    Ok(owners.concat())
}

/// Moves every centre to the mean of its rows. One without rows takes a row of the largest cell, so that no cell is
/// wasted while others are crowded.
fn average(sample: &[f32], dim: usize, owners: &[u32], centroids: &mut [f32], random: &mut Random) {
    let mut counts = vec![0u32; centroids.len() / dim];
    centroids.fill(0.0);
    for (vector, owner) in sample.chunks_exact(dim).zip(owners) {
        let at = *owner as usize;
        counts[at] += 1;
        centroids[at * dim..(at + 1) * dim].iter_mut().zip(vector).for_each(|(c, x)| *c += x);
    }
    for (centroid, count) in centroids.chunks_exact_mut(dim).zip(&counts) {
        centroid.iter_mut().for_each(|c| *c /= (*count).max(1) as f32);
    }
    for empty in 0..counts.len() {
        if counts[empty] == 0 {
            let largest = (0..counts.len()).max_by_key(|cell| counts[*cell]).unwrap_or(0);
            let start = random.below(owners.len());
            let around = (start..owners.len()).chain(0..start);
            let row = around.into_iter().find(|row| owners[*row] as usize == largest).unwrap_or(start);
            centroids[empty * dim..(empty + 1) * dim].copy_from_slice(&sample[row * dim..(row + 1) * dim]);
            counts[empty] = counts[largest] / 2;
            counts[largest] -= counts[empty];
        }
    }
}

fn radii(sample: &[f32], dim: usize, owners: &[u32], centroids: &[f32]) -> Vec<f32> {
    let kernel = Kernel::best();
    let mut sums = vec![(0f64, 0u32); centroids.len() / dim];
    for (vector, owner) in sample.chunks_exact(dim).zip(owners) {
        let at = *owner as usize;
        sums[at].0 += f64::from(kernel.l2(vector, &centroids[at * dim..(at + 1) * dim]));
        sums[at].1 += 1;
    }
    let (all, rows) = sums.iter().fold((0.0, 0), |(all, rows), (sum, count)| (all + sum, rows + count));
    let typical = all / f64::from(rows.max(1));
    // A cell that the sample hardly met is taken for a typical one.
    sums.iter().map(|(sum, n)| if *n < 4 { typical } else { sum / f64::from(*n) }).map(|r| r.sqrt() as f32).collect()
}

/// Rows of the sample ask for their neighbours in the sample, all of it and thinner parts, as a filter would leave
/// them: how much has to be read to find them?
fn measure(cells: &Cells, sample: &[f32], owners: &[u32], crew: &Crew) -> Result<Measured> {
    let rows = owners.len();
    let mut counts = vec![0u32; cells.count()];
    owners.iter().for_each(|owner| counts[*owner as usize] += 1);
    let probes = PROBES.min(rows);
    let needs = crew.each(probes, |n| Ok(needs(cells, sample, owners, &counts, n * rows / probes)))?;
    let mut measured = Measured { rows: rows as f32, slack: 0.0, shares: [1.0; THINNINGS.len()] };
    let mut slacks = Vec::new();
    for (thinning, share) in measured.shares.iter_mut().enumerate() {
        let needs = || needs.iter().flat_map(|levels| &levels[thinning]);
        slacks.extend(needs().map(|need| need.slack));
        *share = quantile(needs().map(|need| need.share).collect(), FOUND).unwrap_or(1.0);
    }
    measured.slack = SLACK_FACTOR * quantile(slacks, WITHIN_SLACK).unwrap_or(f32::MAX / SLACK_FACTOR).max(0.0);
    Ok(measured)
}

fn quantile(mut values: Vec<f32>, share: f64) -> Option<f32> {
    values.sort_unstable_by(f32::total_cmp);
    values.get(((values.len() as f64 * share) as usize).min(values.len().saturating_sub(1))).copied()
}

/// What finding one neighbour takes.
struct Need {
    /// Slopes of the query between the neighbours' keys and the order of its cell.
    slack: f32,
    /// Share of the rows in its cell and in all before it.
    share: f32,
}

/// The needs of the neighbours of one row, per thinning.
fn needs(cells: &Cells, sample: &[f32], owners: &[u32], counts: &[u32], probe: usize) -> [Vec<Need>; THINNINGS.len()] {
    let (kernel, dim) = (Kernel::best(), cells.dim);
    let vector = &sample[probe * dim..(probe + 1) * dim];
    let key = |other: &[f32]| match Metric::from(cells.distance) {
        Metric::L2 => kernel.l2(vector, other),
        Metric::Ip => -kernel.dot(vector, other),
    };
    let mut keys: Vec<(f32, usize)> = sample.chunks_exact(dim).map(key).zip(0..).collect();
    keys.swap_remove(probe);
    let query = cells.ask_turned(vector.to_vec());
    let mut order: Vec<usize> = (0..cells.count()).collect();
    order.sort_unstable_by(|a, b| query.order[*a].total_cmp(&query.order[*b]));
    let (mut read, mut before) = (0u32, vec![0u32; cells.count()]);
    for cell in order {
        read += counts[cell];
        before[cell] = read;
    }
    THINNINGS.map(|step| {
        let mut kept: Vec<(f32, usize)> = keys.iter().copied().filter(|(_, row)| row % step == 0).collect();
        if kept.len() <= NEIGHBOURS {
            return Vec::new();
        }
        let (_, last, _) = kept.select_nth_unstable_by(NEIGHBOURS - 1, |a, b| a.0.total_cmp(&b.0));
        let last = last.0;
        let need = |row: usize| {
            let cell = owners[row] as usize;
            let slack = if query.slope > 0.0 { (query.order[cell] - last) / query.slope } else { 0.0 };
            Need { slack, share: before[cell] as f32 / owners.len() as f32 }
        };
        kept[..NEIGHBOURS].iter().map(|(_, row)| need(*row)).collect()
    })
}
