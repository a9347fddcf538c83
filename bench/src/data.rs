//! The rows that everything is measured on: id int64 key, user_id 0..9999, one of 100 cities, 0 to 5 of 50 tags, a score, a
//! date and a vector of 128 floats around one of 256 centres.
//!
//! A row depends on its stream and number only, so checks regenerate what they expect instead of keeping it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow_schema::{DataType, Field};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};

pub(crate) const DIM: usize = 128;
pub(crate) const CENTRES: usize = 256;
const RANK: usize = 16;
const NOISE: f32 = 0.2;
/// Rows that are drawn one after another from one state.
const CHUNK: i64 = 1000;
/// Rows of a row group of the file.
const GROUP: i64 = 100_000;

/// The filter of 0.3 % of the rows, in the vendor's form.
pub(crate) fn small_filter() -> Value {
    json!({"city": ["city_007", "city_042", "city_077"], "user_id": (3..10_000).step_by(10).collect::<Vec<_>>()})
}

/// True for rows of [`small_filter`].
pub(crate) fn is_small(row: &Row) -> bool {
    matches!(row.city, 7 | 42 | 77) && row.user_id % 10 == 3
}

/// The filter of 30 % of the rows.
pub(crate) fn big_filter() -> Value {
    json!([{"op": "range", "field": "user_id", "lt": 3000}])
}

/// True for rows of [`big_filter`].
pub(crate) fn is_big(row: &Row) -> bool {
    row.user_id < 3000
}

/// `collection/create` of the table.
pub(crate) fn collection(name: &str) -> Value {
    let field = |name: &str, kind: &str| json!({"field_name": name, "field_type": kind});
    json!({"collection_name": name, "primary_key": "id", "fields": [
        field("id", "int64"), field("user_id", "int64"), field("city", "string"), field("tags", "list<string>"),
        field("score", "float32"), field("created", "int64"),
        {"field_name": "vector", "field_type": "vector", "dim": DIM},
    ]})
}

/// `collection/create` of the table that indexes are measured on: a row also tells its centre, so that filters can go with
/// a query and against it.
pub(crate) fn collection_with_centre(name: &str) -> Value {
    let mut collection = collection(name);
    if let Some(fields) = collection["fields"].as_array_mut() {
        fields.push(json!({"field_name": "centre", "field_type": "int64"}));
    }
    collection
}

/// One row.
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) user_id: i64,
    pub(crate) city: usize,
    /// Which of the centres its vector lies around.
    pub(crate) centre: usize,
    tags: Vec<usize>,
    pub(crate) score: f32,
    pub(crate) created: i64,
    pub(crate) vector: [f32; DIM],
}

impl Row {
    /// Appends it as a JSON object.
    pub(crate) fn write_json(&self, out: &mut Vec<u8>) {
        let Self { id, user_id, city, centre: _, tags, score, created, vector } = self;
        let tags = tags.iter().map(|t| format!("\"tag_{t:02}\"")).collect::<Vec<_>>().join(",");
        let head = format!(
            "{{\"id\":{id},\"user_id\":{user_id},\"city\":\"city_{city:03}\",\"tags\":[{tags}],\"created\":{created},\"score\":"
        );
        out.extend_from_slice(head.as_bytes());
        serde_json::to_writer(&mut *out, score).expect("a finite float has a JSON form");
        out.extend_from_slice(b",\"vector\":");
        serde_json::to_writer(&mut *out, &vector[..]).expect("finite floats have a JSON form");
        out.push(b'}');
    }

    /// The same with its centre.
    pub(crate) fn write_json_with_centre(&self, out: &mut Vec<u8>) {
        self.write_json(out);
        out.pop();
        out.extend_from_slice(format!(",\"centre\":{}}}", self.centre).as_bytes());
    }

    /// The same row under another key.
    pub(crate) fn rename(self, key: impl Fn(i64) -> i64) -> Self {
        Self { id: key(self.id), ..self }
    }

    /// Bytes of its values alone: what has to reach the disk once.
    pub(crate) fn payload(&self) -> u64 {
        (8 * 3 + 4 + 8 + self.tags.len() * 6 + DIM * 4) as u64
    }
}

/// The centres and how rows scatter around them; the same for every stream.
pub(crate) struct Shape {
    centres: Vec<[f32; DIM]>,
    bases: Vec<[[f32; DIM]; RANK]>,
}

impl Shape {
    pub(crate) fn new() -> Self {
        let mut random = Random::new(7, 0);
        let centres = (0..CENTRES).map(|_| std::array::from_fn(|_| random.normal())).collect();
        let bases = (0..CENTRES)
            .map(|_| std::array::from_fn(|_| std::array::from_fn(|_| random.normal() / (RANK as f32).sqrt())));
        Self { centres, bases: bases.collect() }
    }

    /// Where rows lie around.
    pub(crate) fn centres(&self) -> &[[f32; DIM]] {
        &self.centres
    }

    /// Rows `chunk * CHUNK ..` of a stream. Stream 0 is the table; others replace or extend it.
    fn chunk(&self, stream: u64, chunk: i64) -> impl Iterator<Item = Row> {
        let mut random = Random::new(stream, chunk.unsigned_abs() + 1);
        (chunk * CHUNK..(chunk + 1) * CHUNK).map(move |id| self.row(id, &mut random))
    }

    /// Rows `from..to` of a stream; both are multiples of 100.
    pub(crate) fn rows(&self, stream: u64, from: i64, to: i64) -> impl Iterator<Item = Row> {
        let chunks = from / CHUNK..(to + CHUNK - 1) / CHUNK;
        chunks.flat_map(move |c| self.chunk(stream, c)).filter(move |row| (from..to).contains(&row.id))
    }

    fn row(&self, id: i64, random: &mut Random) -> Row {
        let centre = random.below(CENTRES as u64) as usize;
        let mut vector = self.centres[centre];
        vector.iter_mut().for_each(|x| *x += NOISE * random.normal());
        for axis in &self.bases[centre] {
            let z = random.normal();
            vector.iter_mut().zip(axis).for_each(|(x, a)| *x += z * a);
        }
        Row {
            id,
            user_id: random.below(10_000).cast_signed(),
            city: random.below(100) as usize,
            centre,
            tags: (0..random.below(6)).map(|_| random.below(50) as usize).collect(),
            score: random.unit(),
            created: 1_700_000_000 + random.below(100_000_000).cast_signed(),
            vector,
        }
    }
}

/// The file of the first `rows` rows below `dir`, written unless it is there.
pub(crate) fn file(dir: &Path, rows: i64) -> io::Result<PathBuf> {
    let path = dir.join(format!("w_{rows}.parquet"));
    if !path.exists() {
        fs::create_dir_all(dir)?;
        let part = path.with_extension("part");
        write(&part, rows)?;
        fs::rename(part, &path)?;
    }
    Ok(path)
}

fn write(path: &Path, rows: i64) -> io::Result<()> {
    let shape = Shape::new();
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_dictionary_enabled(false)
        .set_column_dictionary_enabled("city".into(), true)
        .set_column_dictionary_enabled("tags.list.item".into(), true)
        .set_max_row_group_row_count(Some(GROUP as usize));
    let first = batch(std::iter::empty());
    let mut writer = ArrowWriter::try_new(File::create(path)?, first.schema(), Some(properties.build()))?;
    for start in (0..rows).step_by(GROUP as usize) {
        writer.write(&batch(shape.rows(0, start, rows.min(start + GROUP))))?;
    }
    writer.into_inner()?.flush()
}

/// The scalar columns of rows; `item` is the element of a list.
fn scalars(rows: &[Row], item: Field) -> Vec<(&'static str, ArrayRef)> {
    let ints = |of: fn(&Row) -> i64| Arc::new(rows.iter().map(of).collect::<Int64Array>());
    let mut tags = ListBuilder::new(StringBuilder::new()).with_field(item);
    for row in rows {
        row.tags.iter().for_each(|t| tags.values().append_value(format!("tag_{t:02}")));
        tags.append(true);
    }
    vec![
        ("id", ints(|row| row.id)),
        ("user_id", ints(|row| row.user_id)),
        ("city", Arc::new(rows.iter().map(|row| Some(format!("city_{:03}", row.city))).collect::<StringArray>())),
        ("tags", Arc::new(tags.finish())),
        ("score", Arc::new(rows.iter().map(|row| row.score).collect::<Float32Array>())),
        ("created", ints(|row| row.created)),
    ]
}

/// The rows as a segment stores them, without their vectors.
pub(crate) fn stored(rows: impl Iterator<Item = Row>) -> RecordBatch {
    let rows: Vec<Row> = rows.collect();
    let mut columns = scalars(&rows, Field::new("item", DataType::Utf8, false));
    columns.push(("_seq", Arc::new(UInt64Array::from_value(1, rows.len()))));
    columns.push(("_expiry", Arc::new(Int64Array::from_value(0, rows.len()))));
    RecordBatch::try_from_iter(columns).expect("every column has one value per row")
}

fn batch(rows: impl Iterator<Item = Row>) -> RecordBatch {
    let rows: Vec<Row> = rows.collect();
    let floats = Arc::new(rows.iter().flat_map(|row| row.vector).collect::<Float32Array>());
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let mut columns = scalars(&rows, Field::new("item", DataType::Utf8, true));
    columns.push(("vector", Arc::new(FixedSizeListArray::new(item, DIM as i32, floats, None))));
    RecordBatch::try_from_iter(columns).expect("every column has one value per row")
}

/// xoshiro256++ seeded through splitmix64: fast, and the same on every machine.
pub(crate) struct Random {
    state: [u64; 4],
    spare: Option<f32>,
}

impl Random {
    pub(crate) fn new(stream: u64, number: u64) -> Self {
        let mut seed = stream.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number.wrapping_mul(0xd1b5_4a32_d192_ed03);
        let state = std::array::from_fn(|_| {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = seed;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        });
        Self { state, spare: None }
    }

    pub(crate) fn next(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let out = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        out
    }

    /// Uniform in `0..bound`; the bias of one in 2^32 does not matter here.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((self.next() >> 32) * bound) >> 32
    }

    /// Uniform in [0, 1).
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Standard normal, by Box and Muller.
    fn normal(&mut self) -> f32 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        let (sin, cos) = (std::f32::consts::TAU * self.unit()).sin_cos();
        self.spare = Some(radius * sin);
        radius * cos
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_do_not_depend_on_how_they_are_asked_for() {
        let shape = Shape::new();
        let text = |rows: &mut dyn Iterator<Item = Row>| {
            let mut out = Vec::new();
            rows.for_each(|row| row.write_json(&mut out));
            out
        };
        let all = text(&mut shape.rows(0, 0, 3000));
        let parts = [(0, 500), (500, 1500), (1500, 3000)].map(|(a, b)| text(&mut shape.rows(0, a, b)));
        assert_eq!(all, parts.concat());
        assert_ne!(all, text(&mut shape.rows(1, 0, 3000)));
    }

    #[test]
    fn the_distribution_is_the_documented_one() {
        let rows: Vec<Row> = Shape::new().rows(0, 0, 100_000).collect();
        let share = |test: fn(&Row) -> bool| rows.iter().filter(|row| test(row)).count() as f64 / rows.len() as f64;
        assert!((share(is_small) - 0.003).abs() < 0.0006, "{}", share(is_small));
        assert!((share(is_big) - 0.3).abs() < 0.006, "{}", share(is_big));
        assert!((share(|row| row.tags.is_empty()) - 1.0 / 6.0).abs() < 0.005);
        // centre 1 + basis 1 + noise 0.04 per coordinate
        let variance = rows.iter().flat_map(|row| row.vector).map(|x| f64::from(x * x)).sum::<f64>() / 12.8e6;
        assert!((variance - 2.04).abs() < 0.1, "{variance}");
    }
}
