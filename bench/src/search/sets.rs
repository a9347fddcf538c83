//! The vectors that are searched: raw little-endian floats in files, which the peers read as well.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use arrow_buffer::{Buffer, ScalarBuffer};
use knarr_engine::disk::{Disk, OsDisk};
use knarr_engine::index::vector::{Bits, Distance};

use crate::bench::Bench;
use crate::data::{DIM, Shape};

/// Held-out queries of the generated set.
pub(crate) const QUERIES: i64 = 10_000;

/// A data set and how it is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Set {
    /// Generated, clustered, by inner product.
    CIp,
    /// The same by squared distance.
    #[value(name = "c-l2")]
    CL2,
    /// Natural: real text, by cosine.
    NCosine,
}

impl std::fmt::Display for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Set::CIp => "c-ip",
            Set::CL2 => "c-l2",
            Set::NCosine => "n-cosine",
        })
    }
}

/// Where a set is.
pub(crate) struct Files {
    pub(crate) dim: usize,
    pub(crate) base: PathBuf,
    pub(crate) queries: PathBuf,
}

impl Set {
    pub(crate) fn distance(self) -> Distance {
        match self {
            Set::CIp => Distance::Ip,
            Set::CL2 => Distance::L2,
            Set::NCosine => Distance::Cosine,
        }
    }

    /// Its files; the generated ones are made if they are not there.
    pub(crate) fn files(self, bench: &Bench) -> io::Result<Option<Files>> {
        if self == Set::NCosine {
            let (base, queries) = (bench.dir.join("n_base.f32"), bench.dir.join("n_query.f32"));
            let about = fs::read_to_string(bench.dir.join("n.json")).ok();
            let about = about.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
            let dim = about.and_then(|about| about["dim"].as_u64());
            return Ok(dim.map(|dim| Files { dim: dim as usize, base, queries }));
        }
        let base = bench.dir.join(format!("c_base_{}.f32", bench.rows));
        let queries = bench.dir.join(format!("c_query_{}.f32", bench.rows));
        generate(&base, 0, bench.rows)?;
        // Rows of the same shape that are beyond the table.
        generate(&queries, bench.rows, bench.rows + QUERIES)?;
        Ok(Some(Files { dim: DIM, base, queries }))
    }
}

fn generate(path: &Path, from: i64, to: i64) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let part = path.with_extension("part");
    let mut out = BufWriter::new(File::create(&part)?);
    for row in Shape::new().rows(0, from, to) {
        for x in row.vector {
            out.write_all(&x.to_le_bytes())?;
        }
    }
    out.into_inner()?.sync_data()?;
    fs::rename(part, path)
}

/// A mapped file of vectors, as the engine maps its segments.
pub(crate) struct Floats {
    pub(crate) dim: usize,
    floats: ScalarBuffer<f32>,
}

impl Floats {
    pub(crate) fn map(path: &Path, dim: usize) -> io::Result<Self> {
        let floats = ScalarBuffer::from(Buffer::from(OsDisk.map(path)?));
        Ok(Self { dim, floats })
    }

    /// Vectors that lie in no file.
    pub(crate) fn of(dim: usize, floats: Vec<f32>) -> Self {
        Self { dim, floats: floats.into() }
    }

    pub(crate) fn floats(&self) -> &[f32] {
        &self.floats
    }

    pub(crate) fn rows(&self) -> usize {
        self.floats.len() / self.dim
    }

    pub(crate) fn vectors(&self) -> impl Iterator<Item = &[f32]> {
        self.floats.chunks_exact(self.dim)
    }
}

/// The share of the rows whose product with the query is the greatest (`sign` 1) or the least (`sign` -1).
pub(crate) fn toward(base: &Floats, query: &[f32], sign: f32, share: f64) -> Bits {
    let products: Vec<f32> =
        base.vectors().map(|row| sign * row.iter().zip(query).map(|(a, b)| a * b).sum::<f32>()).collect();
    let mut sorted = products.clone();
    let at = ((1.0 - share) * sorted.len() as f64) as usize;
    let (_, least, _) = sorted.select_nth_unstable_by(at, f32::total_cmp);
    Bits::of(products.len() as u32, |row| products[row as usize] >= *least)
}
