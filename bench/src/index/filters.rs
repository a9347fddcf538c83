//! Filters of a wanted selectivity, drawn anew for every search: by chance, with the query and against it. Each exists as
//! what is sent and as what it lets through.

use knarr_engine::index::vector::{Bits, Distance};
use serde_json::{Value, json};

use super::drive::in_parallel;
use crate::data::{CENTRES, DIM, Random, Row, Shape};

const USERS: i64 = 10_000;
const CITIES: u64 = 100;
/// `created` lies in so many seconds from [`CREATED`] on.
const CREATED_SPAN: f64 = 100e6;
const CREATED: i64 = 1_700_000_000;
/// Rows that are made by one thread at once.
const CHUNK: i64 = 100_000;

/// How a filter lies to its query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Knows nothing of it.
    Chance,
    /// Lets the rows through whose centres are nearest to it.
    Near,
    /// Those whose centres are farthest from it.
    Far,
}

impl Lie {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Lie::Chance => "by chance",
            Lie::Near => "nearest centres",
            Lie::Far => "farthest centres",
        }
    }
}

/// One condition; a filter is all of its conditions.
enum Condition {
    User { from: i64, to: i64 },
    Created { from: i64, to: i64 },
    City(Vec<bool>),
    Centre(Vec<bool>),
}

pub(crate) struct Filter(Vec<Condition>);

impl Filter {
    /// One that lets about this share of the rows through. `seed` makes it differ from all others.
    pub(crate) fn draw(lie: Lie, share: f64, query: &[f32], distance: Distance, shape: &Shape, seed: [u64; 2]) -> Self {
        let mut random = Random::new(seed[0], seed[1]);
        if lie == Lie::Chance {
            return Self::by_chance(share, seed[1], &mut random);
        }
        let count = ((share * CENTRES as f64).ceil() as usize).max(1);
        let mut order: Vec<usize> = (0..CENTRES).collect();
        let keys: Vec<f32> = shape.centres().iter().map(|centre| key(distance, query, centre)).collect();
        order.sort_by(|a, b| keys[*a].total_cmp(&keys[*b]));
        if lie == Lie::Far {
            order.reverse();
        }
        let mut centres = vec![false; CENTRES];
        order[..count].iter().for_each(|centre| centres[*centre] = true);
        // Whole centres let a little too much through; the rest is cut off by date, everywhere anew.
        Self(vec![Condition::Centre(centres), created(share * CENTRES as f64 / count as f64, &mut random)])
    }

    /// Ranges of one field, lists of another, both together, in turn.
    fn by_chance(share: f64, turn: u64, random: &mut Random) -> Self {
        let cities = share * CITIES as f64;
        Self(match turn % 3 {
            0 => vec![user(share, random)],
            1 if cities >= 1.0 => vec![city(cities as usize, random)],
            1 => vec![city(3, random), user(cities / 3.0, random)],
            _ => vec![created(share, random)],
        })
    }

    /// As a search sends it.
    pub(crate) fn json(&self) -> Value {
        let all: Vec<Value> = self.0.iter().map(Condition::json).collect();
        if let [one] = &all[..] { one.clone() } else { json!({"op": "and", "conds": all}) }
    }

    /// True if the row may be found.
    pub(crate) fn matches(&self, columns: &Columns, row: usize) -> bool {
        self.0.iter().all(|condition| condition.matches(columns, row))
    }

    /// The rows that may be found.
    pub(crate) fn bits(&self, columns: &Columns) -> Bits {
        let mut bits = columns.bits(&self.0[0]);
        self.0[1..].iter().for_each(|condition| bits.intersect(&columns.bits(condition)));
        bits
    }
}

/// Smaller is nearer.
fn key(distance: Distance, query: &[f32], centre: &[f32; DIM]) -> f32 {
    let pairs = query.iter().zip(centre);
    match distance {
        Distance::L2 => pairs.map(|(a, b)| (a - b) * (a - b)).sum(),
        Distance::Ip | Distance::Cosine => -pairs.map(|(a, b)| a * b).sum::<f32>(),
    }
}

fn user(share: f64, random: &mut Random) -> Condition {
    let width = ((share * USERS as f64).round() as i64).clamp(1, USERS);
    let from = random.below((USERS - width + 1).cast_unsigned()).cast_signed();
    Condition::User { from, to: from + width }
}

fn created(share: f64, random: &mut Random) -> Condition {
    let width = (share * CREATED_SPAN).clamp(1.0, CREATED_SPAN) as i64;
    let from = CREATED + random.below((CREATED_SPAN as i64 - width + 1).cast_unsigned()).cast_signed();
    Condition::Created { from, to: from + width }
}

fn city(count: usize, random: &mut Random) -> Condition {
    let mut cities = vec![false; CITIES as usize];
    let mut left = count;
    while left > 0 {
        let city = &mut cities[random.below(CITIES) as usize];
        left -= usize::from(!*city);
        *city = true;
    }
    Condition::City(cities)
}

impl Condition {
    fn json(&self) -> Value {
        let named = |set: &[bool]| (0..set.len()).filter(|n| set[*n]).collect::<Vec<_>>();
        match self {
            Condition::User { from, to } => json!({"op": "range", "field": "user_id", "gte": from, "lt": to}),
            Condition::Created { from, to } => json!({"op": "range", "field": "created", "gte": from, "lt": to}),
            Condition::City(set) => {
                let cities: Vec<_> = named(set).into_iter().map(|n| format!("city_{n:03}")).collect();
                json!({"op": "must", "field": "city", "conds": cities})
            }
            Condition::Centre(set) => json!({"op": "must", "field": "centre", "conds": named(set)}),
        }
    }

    fn matches(&self, columns: &Columns, row: usize) -> bool {
        match self {
            Condition::User { from, to } => (*from..*to).contains(&i64::from(columns.user[row])),
            Condition::Created { from, to } => (*from..*to).contains(&columns.created[row]),
            Condition::City(set) => set[usize::from(columns.city[row])],
            Condition::Centre(set) => set[usize::from(columns.centre[row])],
        }
    }
}

/// What filters look at, of every row of the table.
pub(crate) struct Columns {
    user: Vec<u16>,
    city: Vec<u8>,
    centre: Vec<u8>,
    created: Vec<i64>,
}

impl Columns {
    /// Of rows `0..rows` of the table's stream.
    pub(crate) fn new(shape: &Shape, rows: i64) -> Self {
        let of = |row: Row| (row.user_id as u16, row.city as u8, row.centre as u8, row.created);
        let chunks = in_parallel(((rows + CHUNK - 1) / CHUNK) as usize, |chunk| {
            let from = chunk as i64 * CHUNK;
            shape.rows(0, from, rows.min(from + CHUNK)).map(of).collect::<Vec<_>>()
        });
        let all = || chunks.iter().flatten();
        Self {
            user: all().map(|row| row.0).collect(),
            city: all().map(|row| row.1).collect(),
            centre: all().map(|row| row.2).collect(),
            created: all().map(|row| row.3).collect(),
        }
    }

    fn bits(&self, condition: &Condition) -> Bits {
        Bits::of(self.user.len() as u32, |row| condition.matches(self, row as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_let_through_what_they_promise() {
        let shape = Shape::new();
        let columns = Columns::new(&shape, 200_000);
        let query = shape.rows(9, 0, 100).next().unwrap();
        let own = query.centre;
        for lie in [Lie::Chance, Lie::Near, Lie::Far] {
            // Of 200,000 rows the last is sixty, give or take their root.
            for (share, off) in [(0.3, 0.2), (0.03, 0.2), (0.003, 0.2), (0.0003, 0.6)] {
                for turn in 0..6 {
                    let draw = |turn| Filter::draw(lie, share, &query.vector, Distance::L2, &shape, [1, turn]);
                    let filter = draw(turn);
                    let (bits, text) = (filter.bits(&columns), filter.json().to_string());
                    let got = f64::from(bits.count()) / 200_000.0;
                    assert!((got / share - 1.0).abs() < off, "{lie:?} {share} turn {turn}: {got}, {text}");
                    assert!((0..200_000).all(|row| bits.contains(row) == filter.matches(&columns, row as usize)));
                    assert_ne!(text, draw(turn + 6).json().to_string(), "a fresh value each time");
                    let mut rows = (0..200_000).filter(|row| usize::from(columns.centre[*row]) == own);
                    let through = rows.any(|row| filter.matches(&columns, row));
                    assert!(lie == Lie::Chance || through == (lie == Lie::Near), "{lie:?} {share}");
                }
            }
        }
    }
}
