//! The structure against looking at every row.

use std::path::{Path as FilePath, PathBuf};

use proptest::prelude::*;

use super::rotate::Random;
use super::search::Looked;
use super::*;
use crate::compute::Cancel;
use crate::disk::fault::{Fault, FaultDisk};
use crate::disk::{Disk, OsDisk};
use crate::error::Error;

const K: usize = 10;

/// Standard normal enough: a sum of uniform numbers.
fn normal(random: &mut Random) -> f32 {
    (0..6).map(|_| random.below(1 << 16) as f32 / 65_536.0 - 0.5).sum::<f32>() * 1.414
}

/// Vectors around `centres` centres, spread as widely as the centres are; 0 centres: around nothing.
fn vectors(rows: usize, dim: usize, centres: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(77);
    let homes: Vec<f32> = (0..centres * dim).map(|_| 2.0 * normal(&mut random)).collect();
    let mut random = Random::new(seed);
    let mut out = Vec::with_capacity(rows * dim);
    for _ in 0..rows {
        let home = if centres == 0 { 0 } else { random.below(centres) };
        out.extend((0..dim).map(|d| homes.get(home * dim + d).unwrap_or(&0.0) + normal(&mut random)));
    }
    out
}

fn crew() -> Crew {
    Crew::new(2, Cancel::new())
}

/// An index of one segment in a directory of its own.
/// Through the cells, whatever the plan would be.
fn through_cells(rows: u32, allowed: u32, k: usize) -> Plan {
    let here = counts(rows, allowed);
    Plan { here, all: here, k, effort: Effort::default(), way: Way::Cells, why: "a test" }
}

fn counts(rows: u32, allowed: u32) -> Counts {
    Counts { rows: rows.into(), allowed: allowed.into() }
}

struct World {
    _dir: tempfile::TempDir,
    path: PathBuf,
    dim: usize,
    floats: Vec<f32>,
    cells: Cells,
    structure: Structure,
}

impl World {
    fn new(distance: Distance, dim: usize, floats: Vec<f32>, cells: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.vec");
        let cells = Cells::train(distance, dim, floats.clone(), cells, 5, &crew()).unwrap();
        let batches = Batches::new(dim, floats.chunks(300 * dim));
        build(&cells, 1, &batches, &OsDisk, &path, &crew()).unwrap();
        let structure = Structure::open(&OsDisk, &path).unwrap();
        Self { _dir: dir, path, dim, floats, cells, structure }
    }

    fn batches(&self) -> Batches<'_> {
        Batches::new(self.dim, self.floats.chunks(300 * self.dim))
    }

    fn exact(&self, query: &[f32], allow: Allow<'_>, k: usize) -> Vec<Hit> {
        exact(self.cells.distance(), query, &self.batches(), allow, k).unwrap()
    }

    fn find(&self, query: &[f32], allow: Allow<'_>, k: usize, effort: Effort) -> (Vec<Hit>, Looked) {
        let rows = self.structure.rows();
        let allowed = match allow {
            Allow::Only(bits) => bits.count(),
            Allow::Few(listed) => listed.len() as u32,
            Allow::All | Allow::Each(_) => rows,
        };
        let here = counts(rows, allowed);
        self.by(query, allow, self.cells.plan(here, here, allow.form(), k, effort))
    }

    /// Through the cells, whatever the plan would be.
    fn cells(&self, query: &[f32], allow: Allow<'_>) -> Vec<Hit> {
        let rows = self.structure.rows();
        let allowed = if let Allow::Only(bits) = allow { bits.count() } else { rows };
        self.by(query, allow, through_cells(rows, allowed, K)).0
    }

    fn by(&self, query: &[f32], allow: Allow<'_>, plan: Plan) -> (Vec<Hit>, Looked) {
        let asked = self.cells.ask(query);
        let (hits, looked) = self.structure.search(&self.cells, &asked, &self.batches(), allow, plan, None).unwrap();
        self.check(query, allow, &hits);
        // With a bound less is looked at.
        if let Some(worst) = hits.get(hits.len() / 2) {
            let (cells, bound) = (&self.cells, Some(worst.score));
            let (bounded, less) = self.structure.search(cells, &asked, &self.batches(), allow, plan, bound).unwrap();
            self.check(query, allow, &bounded);
            assert!(less.cells <= looked.cells && less.scored <= looked.scored, "{less:?} {looked:?}");
        }
        (hits, looked)
    }

    /// What holds for every answer: allowed rows only, none twice, exact scores, in order.
    fn check(&self, query: &[f32], allow: Allow<'_>, hits: &[Hit]) {
        let one = |row: u32| self.exact(query, Allow::Only(&Bits::of(self.structure.rows(), |r| r == row)), 1)[0];
        for hit in hits {
            assert!(allow.contains(hit.row), "row {} may not be found", hit.row);
            assert_eq!(one(hit.row), *hit, "the score is exact");
        }
        for pair in hits.windows(2) {
            let key = |hit: &Hit| flip(self.cells.distance(), hit.score);
            assert!(key(&pair[0]) < key(&pair[1]) || pair[0].score == pair[1].score && pair[0].row < pair[1].row);
        }
    }

    /// Share of the nearest rows that searches find.
    fn recall(&self, queries: &[f32], allow: Allow<'_>, effort: Effort) -> f64 {
        let (mut wanted, mut found) = (0, 0);
        for query in queries.chunks(self.dim) {
            let truth = self.exact(query, allow, K);
            let (hits, _) = self.find(query, allow, K, effort);
            wanted += truth.len();
            found += truth.iter().filter(|hit| hits.contains(hit)).count();
        }
        f64::from(found as u32) / f64::from(wanted as u32)
    }
}

const DISTANCES: [Distance; 3] = [Distance::Ip, Distance::L2, Distance::Cosine];

#[test]
fn recall_has_a_floor_with_clusters_and_without() {
    for distance in DISTANCES {
        for (centres, dim) in [(20, 32), (0, 24)] {
            let world = World::new(distance, dim, vectors(12_000, dim, centres, 1), 64);
            let queries = vectors(50, dim, centres, 2);
            let recall = world.recall(&queries, Allow::All, Effort::default());
            assert!(recall >= 0.95, "{distance:?}, {centres} centres: {recall}");
            let looked = queries.chunks(dim).map(|query| world.find(query, Allow::All, K, Effort::default()).1);
            let share = looked.map(|looked| f64::from(looked.scored)).sum::<f64>() / 50.0 / 12_000.0;
            assert!(share < 0.05, "{share} of the vectors are read: codes are of no use");
        }
    }
}

#[test]
fn recall_has_a_floor_under_every_filter() {
    for distance in DISTANCES {
        let (dim, rows) = (32, 12_000u32);
        let world = World::new(distance, dim, vectors(rows as usize, dim, 20, 1), 64);
        let queries = vectors(12, dim, 20, 2);
        let mut random = Random::new(3);
        for share in [0.9, 0.3, 0.08, 0.03, 0.003] {
            let bits = Bits::of(rows, |_| (random.below(1000) as f64) < share * 1000.0);
            let listed: Vec<u32> = bits.iter().collect();
            for allow in [Allow::Only(&bits), Allow::Few(&listed)] {
                let recall = world.recall(&queries, allow, Effort::default());
                assert!(recall >= 0.95, "{distance:?}, {share} by chance: {recall}");
            }
            for query in queries.chunks(dim) {
                for nearest in [true, false] {
                    let bits = toward(&world, query, share, nearest);
                    let listed: Vec<u32> = bits.iter().collect();
                    for allow in [Allow::Only(&bits), Allow::Few(&listed)] {
                        let recall = world.recall(query, allow, Effort::default());
                        assert!(recall >= 0.8, "{distance:?}, {share}, nearest {nearest}: {recall}");
                    }
                }
            }
        }
    }
}

/// Rows that are told one by one, and how often all were asked for; also in the order of the cells, if they are arranged.
struct Told(Bits, std::cell::Cell<u32>, Option<Box<[u16]>>);

impl Pass for Told {
    fn lanes(&self, rows: &[u32; LANES], among: u16) -> u16 {
        self.0.lanes(rows, among)
    }

    fn in_order(&self) -> bool {
        self.2.is_some()
    }

    fn stretch(&self, place: usize, row: &dyn Fn(u32) -> u32, among: u64) -> u64 {
        let arranged = &self.2.as_ref().unwrap()[place..place + 64];
        let told = (0..64).filter(|lane| arranged[*lane] == 1).fold(0, |told, lane| told | 1u64 << lane) & among;
        let rows = (0..64).filter(|lane| among >> lane & 1 == 1 && self.0.contains(row(*lane)));
        assert_eq!(told, rows.fold(0, |told, lane| told | 1 << lane), "a number for each row, where it is");
        told
    }

    fn ahead(&self, place: usize) {
        assert!(place < self.2.as_ref().unwrap().len());
    }

    fn every(&self) -> Result<&Bits, Error> {
        self.1.set(self.1.get() + 1);
        Ok(&self.0)
    }
}

/// However the rows that may be found are told, the same are found; all are asked for only where most are met.
#[test]
fn rows_told_one_by_one_are_found_as_by_bits() {
    for distance in DISTANCES {
        let (dim, rows) = (16, 8000u32);
        let world = World::new(distance, dim, vectors(rows as usize, dim, 12, 1), 64);
        let mut random = Random::new(3);
        let both = |query: &[f32], told: &Told| {
            let plan = through_cells(rows, told.0.count(), K);
            let (hits, by_bits) =
                (world.by(query, Allow::Each(told), plan), world.by(query, Allow::Only(&told.0), plan));
            assert_eq!(hits, by_bits, "{distance:?}");
        };
        for share in [0.9, 0.3, 0.05] {
            let bits = Bits::of(rows, |_| (random.below(1000) as f64) < share * 1000.0);
            let told = Told(bits.clone(), Default::default(), None);
            for query in vectors(10, dim, 12, 2).chunks(dim) {
                both(query, &told);
            }
            assert!(told.1.get() == 0 || share < 0.9, "{distance:?}, {share}: few cells are read");
            let query = &vectors(1, dim, 12, 2)[..];
            let told = Told(toward(&world, query, share, false), Default::default(), None);
            both(query, &told);
        }
        let query = vectors(1, dim, 12, 2);
        let told = Told(toward(&world, &query, 0.05, false), Default::default(), None);
        both(&query, &told);
        assert!(told.1.get() > 0, "{distance:?}: the rows that pass are far away");
    }
}

/// In the order of the cells it is known of all rows before one is read: few are scored at once, of many the codes are read.
#[test]
fn rows_told_in_the_order_of_the_cells_are_found() {
    for distance in DISTANCES {
        let (dim, rows) = (16, 20_000u32);
        let world = World::new(distance, dim, vectors(rows as usize, dim, 12, 1), 64);
        let mut random = Random::new(3);
        for share in [0.9, 0.3, 0.05, 0.01] {
            let bits = Bits::of(rows, |_| (random.below(1000) as f64) < share * 1000.0);
            let arranged = world.structure.arrange(|row| bits.contains(row).into()).unwrap();
            let told = Told(bits.clone(), Default::default(), Some(arranged));
            let here = counts(rows, bits.count());
            let plan = |effort| Plan { way: Way::Cells, ..world.cells.plan(here, here, Form::Arranged, K, effort) };
            let mut found = 0;
            for query in vectors(20, dim, 12, 2).chunks(dim) {
                let whole = world.exact(query, Allow::Only(&bits), K);
                let (hits, looked) = world.by(query, Allow::Each(&told), plan(Effort::default()));
                found += hits.iter().filter(|hit| whole.contains(hit)).count();
                assert!(
                    looked.rows < bits.count() && looked.scored <= looked.rows,
                    "{distance:?}, {share}: {looked:?}"
                );
                let at_once = looked.scored == looked.rows;
                assert!(at_once == (share < 0.02) || share == 0.05, "{distance:?}, {share}: {looked:?}");
            }
            assert!(found >= 190, "{distance:?}, {share}: {found} of 200");
            assert_eq!(told.1.get(), 0, "all are never asked for");
        }
    }
}

/// Where a filter lets only rows through that are about as far away as each other, codes do not tell which are the best.
#[test]
fn rows_that_look_alike_against_the_query_are_all_scored() {
    let (dim, rows) = (8, 20_000u32);
    let world = World::new(Distance::Ip, dim, vectors(rows as usize, dim, 1, 1), 64);
    for query in vectors(3, dim, 1, 2).chunks(dim) {
        let bits = toward(&world, query, 0.1, false);
        let whole = world.exact(query, Allow::Only(&bits), K);
        let plan = through_cells(rows, bits.count(), K);
        let asked = world.cells.ask(query);
        let search = |bound| {
            let found = world.structure.search(&world.cells, &asked, &world.batches(), Allow::Only(&bits), plan, bound);
            found.unwrap()
        };
        let (hits, looked) = search(None);
        assert_eq!(hits, whole);
        assert_eq!(looked.scored, bits.count(), "{looked:?}");
        assert!(search(Some(whole[4].score)).0.starts_with(&whole[..5]));
    }
}

/// Rows of a cell ascend, so what a filter on their order lets through lies together in each: that must not be taken for more
/// than it is.
#[test]
fn filters_that_follow_the_order_of_rows_are_counted_rightly() {
    for distance in DISTANCES {
        let (dim, rows) = (16, 16_000u32);
        let world = World::new(distance, dim, vectors(rows as usize, dim, 12, 1), 64);
        for part in [6, 4] {
            for bits in [Bits::of(rows, |row| row < rows / part), Bits::of(rows, |row| row >= rows - rows / part)] {
                let recall = world.recall(&vectors(40, dim, 12, 2), Allow::Only(&bits), Effort::default());
                assert!(recall >= 0.95, "{distance:?}, a {part}th: {recall}");
            }
        }
    }
}

/// Of listed rows, those in the nearest cells are read, and all of them if the effort says so.
#[test]
fn listed_rows_are_found_whatever_their_order() {
    for distance in DISTANCES {
        let (dim, rows) = (16, 20_000u32);
        let world = World::new(distance, dim, vectors(rows as usize, dim, 12, 1), 64);
        let mut random = Random::new(3);
        let mut listed: Vec<u32> = (0..rows).filter(|_| random.below(60) == 0).collect();
        let bits = Bits::of(rows, |row| listed.binary_search(&row).is_ok());
        let here = counts(rows, bits.count());
        let plan = |way, effort| Plan { way, ..world.cells.plan(here, here, Form::Listed, K, effort) };
        for query in vectors(10, dim, 12, 2).chunks(dim) {
            let whole = world.exact(query, Allow::Only(&bits), K);
            let (hits, looked) = world.by(query, Allow::Few(&listed), plan(Way::Nearest, Effort::new(1e9, 1.0)));
            assert_eq!(hits, whole, "{distance:?}");
            let (few, least) = world.by(query, Allow::Few(&listed), plan(Way::Nearest, Effort::new(1e-3, 1.0)));
            assert!(least.scored < looked.scored && few.len() == K, "{distance:?}: {least:?} for nearly no effort");
            let (some, less) = world.by(query, Allow::Few(&listed), plan(Way::Nearest, Effort::default()));
            assert!(less.scored < looked.scored && some.len() == K, "{distance:?}: {less:?} of {looked:?}");
            listed.reverse();
            let again = world.by(query, Allow::Few(&listed), plan(Way::Nearest, Effort::default()));
            assert_eq!(again, (some, less), "the order of a list is of no matter");
            assert_eq!(world.by(query, Allow::Few(&listed), plan(Way::Survivors, Effort::default())).0, whole);
        }
    }
}

/// The nearest or the farthest share of all rows.
fn toward(world: &World, query: &[f32], share: f64, nearest: bool) -> Bits {
    let rows = world.structure.rows();
    let sorted = world.exact(query, Allow::All, rows as usize);
    let kept = (f64::from(rows) * share) as usize;
    let kept = if nearest { &sorted[..kept] } else { &sorted[rows as usize - kept..] };
    let mut bits = Bits::none(rows);
    kept.iter().for_each(|hit| bits.insert(hit.row));
    bits
}

#[test]
fn more_effort_finds_no_less() {
    for distance in DISTANCES {
        let world = World::new(distance, 16, vectors(8000, 16, 0, 1), 64);
        let queries = vectors(40, 16, 0, 2);
        let mut last = (0.0, 0);
        for sef in [1.0, 10.0, 100.0, 800.0, 10_000.0, 1e6] {
            let effort = Effort::new(sef, 1.0);
            let recall = world.recall(&queries, Allow::All, effort);
            let cells = queries.chunks(16).map(|query| world.find(query, Allow::All, K, effort).1.cells).sum();
            assert!(recall >= last.0 && cells >= last.1, "{distance:?}, sef {sef}: {recall}, {cells} after {last:?}");
            last = (recall, cells);
        }
        assert!(last.0 > 0.999, "{distance:?}: {last:?}");
    }
}

#[test]
fn few_survivors_are_all_found() {
    let world = World::new(Distance::L2, 16, vectors(3000, 16, 5, 1), 16);
    for (count, query) in [(1, 0.0), (7, 1.0), (30, -3.0)] {
        let bits = Bits::of(3000, |row| row % (3000 / count) == 0);
        let query = [query; 16];
        let (hits, looked) = world.find(&query, Allow::Only(&bits), K, Effort::default());
        assert_eq!(hits, world.exact(&query, Allow::Only(&bits), K));
        assert_eq!((looked.cells, looked.scored), (0, bits.count()));
    }
    assert_eq!(world.find(&[0.0; 16], Allow::Only(&Bits::none(3000)), K, Effort::default()).0, []);
    assert_eq!(world.find(&[0.0; 16], Allow::All, 0, Effort::default()).0, []);
    assert_eq!(world.find(&[0.0; 16], Allow::All, 5000, Effort::default()).0.len(), 3000);
}

/// Fewer rows than wanted pass, and all in one far corner: the walk has to go through to the end.
#[test]
fn the_walk_ends_only_when_enough_is_found() {
    let world = World::new(Distance::L2, 16, vectors(3000, 16, 5, 1), 16);
    let bits = Bits::of(3000, |row| row % 500 == 3);
    assert_eq!(world.cells(&[0.5; 16], Allow::Only(&bits)), world.exact(&[0.5; 16], Allow::Only(&bits), K));
}

#[test]
fn odd_sets_are_searched_like_any() {
    let equal: Vec<f32> = [1.0, -2.0, 3.0, 0.5].repeat(2000);
    let mut zeros = vec![0.0; 4 * 1000];
    zeros.extend(vectors(1000, 4, 3, 1));
    for distance in DISTANCES {
        for (dim, floats, cells) in [
            (4, equal.clone(), 8),
            (4, vec![0.0; 4 * 2000], 8),
            (4, zeros.clone(), 8),
            (4, vec![2.5, 1.0, -1.0, 0.0], 8),
            (12, vectors(900, 12, 0, 1), 1),
            (4096, vectors(300, 4096, 4, 1), 4),
        ] {
            let world = World::new(distance, dim, floats, cells);
            let mut queries = vectors(4, dim, 4, 9);
            queries.extend(vec![0.0; dim]);
            for query in queries.chunks(dim) {
                let all = Bits::all(world.structure.rows());
                for allow in [Allow::All, Allow::Only(&all)] {
                    let hits = world.cells(query, allow);
                    assert_eq!(hits.len(), K.min(world.structure.rows() as usize), "{distance:?} {dim}");
                }
            }
        }
    }
}

#[test]
fn a_segment_without_rows_is_no_special_case() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("1.vec");
    let cells = Cells::train(Distance::Ip, 8, vectors(100, 8, 2, 1), 4, 5, &crew()).unwrap();
    let nothing = Batches::new(8, []);
    build(&cells, 1, &nothing, &OsDisk, &path, &crew()).unwrap();
    let structure = Structure::open(&OsDisk, &path).unwrap();
    let plan = through_cells(0, 0, 150);
    let asked = cells.ask(&[1.0; 8]);
    assert_eq!(structure.search(&cells, &asked, &nothing, Allow::All, plan, None).unwrap().0, []);
}

#[test]
fn cells_are_read_back_as_they_were_written() {
    let world = World::new(Distance::Cosine, 20, vectors(2000, 20, 5, 1), 16);
    let path = world.path.with_extension("cells");
    world.cells.write(&OsDisk, &path).unwrap();
    let read = Cells::open(&OsDisk, &path).unwrap();
    let query = vectors(1, 20, 5, 2);
    assert_eq!(read.ask(&query).order, world.cells.ask(&query).order);
    assert_eq!((read.generation(), read.distance(), read.dim(), read.count()), (5, Distance::Cosine, 20, 16));
    flip_every_byte(&path, |path| Cells::open(&OsDisk, path).map(|_| ()));
}

/// Opens copies of a file with one byte changed, and every length shorter and one longer: each must be refused.
fn flip_every_byte(path: &FilePath, open: impl Fn(&FilePath) -> Result<(), Error>) {
    open(path).unwrap();
    let whole = std::fs::read(path).unwrap();
    let copy = path.with_extension("copy");
    let refused = |bytes: &[u8], what: &str| {
        std::fs::write(&copy, bytes).unwrap();
        let error = open(&copy).expect_err(what);
        assert!(matches!(error, Error::Corrupt { .. } | Error::NewerFormat { .. }), "{what}: {error}");
    };
    let mut bytes = whole.clone();
    for at in 0..bytes.len() {
        bytes[at] ^= 1 << (at % 8);
        refused(&bytes, &format!("byte {at}"));
        bytes[at] = whole[at];
    }
    for len in (0..whole.len()).step_by(61) {
        refused(&whole[..len], &format!("length {len}"));
    }
    refused(&[&whole[..], &[0]].concat(), "a byte more");
}

#[test]
fn a_changed_byte_is_never_served() {
    let world = World::new(Distance::L2, 8, vectors(150, 8, 3, 1), 4);
    flip_every_byte(&world.path, |path| Structure::open(&OsDisk, path)?.verify());
    // The same at the first search, which reads all cells of so small a segment.
    let asked = world.cells.ask(&[0.0; 8]);
    let plan = through_cells(150, 150, 150);
    flip_every_byte(&world.path, |path| {
        let structure = Structure::open(&OsDisk, path)?;
        structure.search(&world.cells, &asked, &world.batches(), Allow::All, plan, None).map(|_| ())
    });
}

#[test]
fn other_cells_are_refused() {
    let world = World::new(Distance::L2, 8, vectors(500, 8, 3, 1), 4);
    let others = Cells::train(Distance::L2, 8, vectors(500, 8, 3, 1), 4, 6, &crew()).unwrap();
    let asked = others.ask(&[0.0; 8]);
    let plan = others.plan(counts(500, 500), counts(500, 500), Form::Asked, 1, Effort::default());
    for cells in [&world.cells, &others] {
        let found = world.structure.search(cells, &asked, &world.batches(), Allow::All, plan, None);
        assert!(matches!(found, Err(Error::Corrupt { .. })));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Joining structures gives the bytes that building over the joined rows gives.
    #[test]
    fn a_merge_equals_a_build(
        distance in prop::sample::select(DISTANCES.to_vec()),
        counts in prop::collection::vec(0usize..400, 1..4),
        kept in 1u32..100,
        seed: u64,
    ) {
        let dim = 12;
        let dir = tempfile::tempdir().unwrap();
        let cells = Cells::train(distance, dim, vectors(800, dim, 5, 1), 8, 5, &crew()).unwrap();
        let segments: Vec<Vec<f32>> = counts.iter().map(|rows| vectors(*rows, dim, 5, seed ^ *rows as u64)).collect();
        let (mut random, mut joined) = (Random::new(seed), Vec::new());
        // Rows of the new segment come from any segment in turn, as keys would interleave them.
        let mut places: Vec<(usize, usize)> =
            segments.iter().enumerate().flat_map(|(s, floats)| (0..floats.len() / dim).map(move |row| (s, row))).collect();
        places.sort_by_cached_key(|_| random.next());
        places.retain(|_| (random.below(100) as u32) < kept);
        let mut maps: Vec<Vec<u32>> = counts.iter().map(|rows| vec![Part::GONE; *rows]).collect();
        for (row, (s, old)) in places.iter().enumerate() {
            joined.extend_from_slice(&segments[*s][old * dim..(old + 1) * dim]);
            maps[*s][*old] = row as u32;
        }
        let structures: Vec<Structure> = segments.iter().enumerate().map(|(s, floats)| {
            let path = dir.path().join(format!("{s}.vec"));
            build(&cells, s as u64, &Batches::new(dim, floats.chunks(100 * dim)), &OsDisk, &path, &crew()).unwrap();
            Structure::open(&OsDisk, &path).unwrap()
        }).collect();
        let parts: Vec<Part<'_>> =
            structures.iter().zip(&maps).map(|(structure, rows)| Part { structure, rows }).collect();
        let (merged, built) = (dir.path().join("merged"), dir.path().join("built"));
        merge(&cells, 9, places.len() as u32, &parts, &OsDisk, &merged, &crew()).unwrap();
        build(&cells, 9, &Batches::new(dim, [&joined[..]]), &OsDisk, &built, &crew()).unwrap();
        prop_assert_eq!(std::fs::read(merged).unwrap(), std::fs::read(built).unwrap());
    }
}

#[test]
fn a_merge_refuses_rows_that_do_not_add_up() {
    let world = World::new(Distance::L2, 8, vectors(40, 8, 3, 1), 4);
    let other = world.path.with_extension("other");
    let right: Vec<u32> = (0..40).collect();
    let twice = [0; 40];
    let try_with = |rows: u32, map: &[u32]| {
        let part = Part { structure: &world.structure, rows: map };
        let result = merge(&world.cells, 2, rows, &[part], &OsDisk, &other, &crew());
        OsDisk.remove(&other).unwrap();
        result
    };
    try_with(40, &right).unwrap();
    for (rows, map) in [(40, &twice[..]), (41, &right), (39, &right), (40, &right[..39])] {
        assert!(matches!(try_with(rows, map), Err(Error::Corrupt { .. })), "{rows}");
    }
}

#[test]
fn cancel_stops_training_and_building() {
    let cancel = Cancel::new();
    cancel.cancel();
    let crew = Crew::new(2, cancel);
    let floats = vectors(1000, 8, 3, 1);
    assert!(matches!(Cells::train(Distance::L2, 8, floats.clone(), 4, 5, &crew), Err(Error::Cancelled)));
    let world = World::new(Distance::L2, 8, floats, 4);
    let path = world.path.with_extension("other");
    let built = build(&world.cells, 2, &world.batches(), &OsDisk, &path, &crew);
    assert!(matches!(built, Err(Error::Cancelled)));
    let rows: Vec<u32> = (0..1000).collect();
    let part = Part { structure: &world.structure, rows: &rows };
    assert!(matches!(merge(&world.cells, 2, 1000, &[part], &OsDisk, &path, &crew), Err(Error::Cancelled)));
}

#[test]
fn a_crew_does_every_job_once_and_stops_at_an_error() {
    for threads in [1, 2, 5] {
        let crew = Crew::new(threads, Cancel::new());
        assert_eq!(crew.each(100, |job| Ok(job * 2)).unwrap(), (0..100).map(|job| job * 2).collect::<Vec<_>>());
        let failed = crew.each(100, |job| if job == 3 { Err(Error::Stopped) } else { Ok(()) });
        assert!(matches!(failed, Err(Error::Stopped)));
    }
}

/// Every call to the disk fails once: the error is told, and what was left is not taken for a structure.
#[test]
fn a_failing_disk_is_told_and_leaves_no_structure() {
    let world = World::new(Distance::L2, 8, vectors(500, 8, 3, 1), 4);
    for fault in [Fault::Eio, Fault::Full, Fault::Half] {
        let mut calls = 0;
        for nth in 1.. {
            let dir = tempfile::tempdir().unwrap();
            let (disk, path) = (FaultDisk::new(dir.path()), dir.path().join("1.vec"));
            disk.fail_nth(nth, fault);
            let built = build(&world.cells, 1, &world.batches(), &*disk, &path, &crew());
            if !disk.heal() {
                built.unwrap();
                break;
            }
            calls = nth;
            assert!(matches!(built, Err(Error::Io { .. } | Error::DiskFull)), "{fault:?} at {nth}");
        }
        assert!(calls >= 6, "create, header, row numbers, blocks, table and sync");
    }
}

#[test]
fn plans_follow_from_what_each_way_costs() {
    let facts = |allowed, k, cells, read, form| {
        let walked = cells * 61.0;
        super::plan::Facts { allowed, k, dim: 128, cells, walked, read, form }
    };
    for (facts, way) in [
        (facts(1_000_000, 10, 20.0, 2000.0, Form::Asked), Way::Cells),
        (facts(30_000, 10, 60.0, 500.0, Form::Asked), Way::Cells),
        (facts(300, 10, 800.0, 60.0, Form::Asked), Way::Survivors),
        (facts(0, 10, 0.0, 0.0, Form::Asked), Way::Survivors),
        (facts(1_000_000, 5000, 1000.0, 100_000.0, Form::Asked), Way::Cells),
        (facts(10_000, 5000, 10.0, 100.0, Form::Asked), Way::Survivors),
        (facts(3000, 10, 200.0, 150.0, Form::Listed), Way::Nearest),
        (facts(3000, 1000, 200.0, 150.0, Form::Listed), Way::Survivors),
        (facts(30, 10, 1500.0, 30.0, Form::Listed), Way::Survivors),
        (facts(750, 10, 300.0, 55.0, Form::Arranged), Way::Cells),
        (facts(750, 200, 300.0, 55.0, Form::Arranged), Way::Survivors),
        (facts(75, 10, 1500.0, 30.0, Form::Arranged), Way::Survivors),
    ] {
        let plan = super::plan::plan(facts);
        assert_eq!(plan.0, way, "{facts:?}: {}", plan.1);
    }
    let world = World::new(Distance::L2, 16, vectors(3000, 16, 5, 1), 30);
    let way = |allowed, k| {
        let here = counts(3000, allowed);
        world.cells.plan(here, here, Form::Asked, k, Effort::default()).way
    };
    assert_eq!((way(3000, 10), way(3000, 3000), way(5, 10)), (Way::Cells, Way::Survivors, Way::Survivors));
}

#[test]
fn bits_count_join_and_list_rows() {
    let odd = Bits::of(77, |row| row % 2 == 1);
    assert_eq!(
        (odd.count(), odd.rows(), odd.contains(3), odd.contains(4), odd.contains(1000)),
        (38, 77, true, false, false)
    );
    let dead: roaring::RoaringBitmap = [1, 3, 70, 900].into_iter().collect();
    let mut rest = odd.clone();
    rest.remove(&dead);
    assert_eq!(rest.count(), 36);
    let mut both = Bits::all(77);
    assert_eq!(both.count(), 77);
    both.intersect(&odd);
    assert_eq!(both, odd);
    assert_eq!(Bits::from_bitmap(77, &dead).iter().collect::<Vec<_>>(), [1, 3, 70]);
    assert_eq!(odd.iter().collect::<Vec<_>>(), (0..77).filter(|row| row % 2 == 1).collect::<Vec<_>>());
}
