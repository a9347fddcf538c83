//! Vectors as a few bits per dimension: what is left of a vector beside the centre of its cell, cut into equal steps.
//!
//! A coded vector is `centre + scale * (codes - mid)`. Beside the codes a row keeps its scale, fitted by least squares,
//! and a term that makes its key complete: squared distance for `l2`, negated inner product otherwise. The error of a
//! key is then the part of the query that lies across the coding error alone: about 0.107 of the residual for nibbles,
//! spread over all dimensions.

use super::Distance;
use super::kernel::{GROUP, LANES, Probe, Width};

/// Step of a nibble in standard deviations of a coordinate: least squared error of 16 equal steps on a normal
/// distribution (J. Max, "Quantizing for minimum distortion", 1960).
const NIBBLE_STEP: f32 = 0.3352;
/// Length of the coding error over that of the residual which these steps leave.
pub(crate) const NIBBLE_ERROR: f32 = 0.1075;

/// What keys measure. Cosine is the inner product of vectors that were scaled to length 1 before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metric {
    L2,
    Ip,
}

impl From<Distance> for Metric {
    fn from(distance: Distance) -> Self {
        match distance {
            Distance::L2 => Metric::L2,
            Distance::Ip | Distance::Cosine => Metric::Ip,
        }
    }
}

impl Width {
    fn mid(self) -> f32 {
        match self {
            Width::Nibble => 7.5,
            Width::Byte => 63.5,
        }
    }

    fn step(self, residual: &[f32]) -> f32 {
        match self {
            Width::Nibble => {
                let sum: f32 = residual.iter().map(|x| x * x).sum();
                NIBBLE_STEP * (sum / residual.len() as f32).sqrt()
            }
            Width::Byte => residual.iter().fold(0f32, |most, x| most.max(x.abs())) / self.mid(),
        }
    }

    fn place(self, codes: &mut [u8], lane: usize, dim: usize, code: u8) {
        match self {
            Width::Nibble => {
                codes[dim / GROUP * 64 + lane * 4 + dim % 4] |= if dim % GROUP < 4 { code } else { code << 4 };
            }
            Width::Byte => codes[dim / 4 * 64 + lane * 4 + dim % 4] = code,
        }
    }
}

/// Writes vectors into the lanes of blocks.
pub(crate) struct Coder {
    width: Width,
    metric: Metric,
    padded: usize,
    residual: Vec<f32>,
    codes: Vec<u8>,
}

impl Coder {
    pub(crate) fn new(width: Width, metric: Metric, dim: usize) -> Self {
        let padded = dim.next_multiple_of(GROUP);
        Self { width, metric, padded, residual: vec![0.0; dim], codes: vec![0; dim] }
    }

    /// Bytes of one block.
    pub(crate) fn block_bytes(&self) -> usize {
        self.width.block_bytes(self.padded)
    }

    /// Makes all lanes of a block such that no row of it is ever near.
    pub(crate) fn clear(&self, block: &mut [u8]) {
        block.fill(0);
        for lane in 0..LANES {
            put(block, LANES + lane, f32::INFINITY);
        }
    }

    /// Puts a vector into a cleared lane. Vector and centre are rotated.
    pub(crate) fn put(&mut self, block: &mut [u8], lane: usize, vector: &[f32], centre: &[f32]) {
        let Self { width, metric, residual, codes, .. } = self;
        let mid = width.mid();
        residual.iter_mut().zip(vector.iter().zip(centre)).for_each(|(r, (x, c))| *r = x - c);
        let step = width.step(residual);
        let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
        // The products that the scale and the term are made of.
        let (mut with_residual, mut with_self, mut with_centre, mut length) = (0f32, 0f32, 0f32, 0f32);
        for ((r, c), code) in residual.iter().zip(centre).zip(codes.iter_mut()) {
            // Truncation after the clamp rounds to the nearest step, as codes are not negative.
            *code = (r * inverse + mid + 0.5).clamp(0.0, 2.0 * mid) as u8;
            let u = f32::from(*code) - mid;
            with_residual += r * u;
            with_self += u * u;
            with_centre += c * u;
            length += r * r;
        }
        // A row that equals its centre has no residual; any code stands for it.
        let scale = if step > 0.0 { with_residual / with_self } else { 0.0 };
        let term = match metric {
            Metric::L2 => length + 2.0 * scale * with_centre,
            Metric::Ip => 0.0,
        };
        put(block, lane, scale);
        put(block, LANES + lane, term);
        let body = &mut block[LANES * 8..];
        codes.iter().enumerate().for_each(|(dim, code)| width.place(body, lane, dim, *code));
    }

    /// Copies a coded row into a cleared lane of another block.
    pub(crate) fn copy(&self, from: &[u8], from_lane: usize, to: &mut [u8], to_lane: usize) {
        for float in [0, LANES] {
            let (at, into) = ((float + from_lane) * 4, (float + to_lane) * 4);
            to[into..into + 4].copy_from_slice(&from[at..at + 4]);
        }
        let (from, to) = (&from[LANES * 8..], &mut to[LANES * 8..]);
        for (from, to) in from.chunks_exact(64).zip(to.chunks_exact_mut(64)) {
            to[to_lane * 4..to_lane * 4 + 4].copy_from_slice(&from[from_lane * 4..from_lane * 4 + 4]);
        }
    }
}

fn put(block: &mut [u8], float: usize, value: f32) {
    block[float * 4..float * 4 + 4].copy_from_slice(&value.to_le_bytes());
}

/// A rotated query as signed bytes.
pub(crate) struct Quantised {
    bytes: Vec<i8>,
    scale: f32,
    sum: f32,
}

impl Quantised {
    pub(crate) fn new(dim: usize) -> Self {
        Self { bytes: vec![0; dim.next_multiple_of(GROUP)], scale: 0.0, sum: 0.0 }
    }

    /// Takes another query of the same dimension.
    pub(crate) fn set(&mut self, query: &[f32]) {
        let most = query.iter().fold(0f32, |most, x| most.max(x.abs()));
        let inverse = if most > 0.0 { 127.0 / most } else { 0.0 };
        let mut sum = 0i32;
        for (byte, x) in self.bytes.iter_mut().zip(query) {
            // Adding and taking away 1.5 * 2^23 rounds to the nearest integer.
            *byte = ((x * inverse + 12_582_912.0) - 12_582_912.0) as i8;
            sum += i32::from(*byte);
        }
        self.scale = most / 127.0;
        self.sum = sum as f32;
    }

    /// For blocks of this kind; `base` is the key of their centre.
    pub(crate) fn probe(&self, width: Width, metric: Metric, base: f32) -> Probe<'_> {
        let factor = match metric {
            Metric::L2 => -2.0 * self.scale,
            Metric::Ip => -self.scale,
        };
        Probe { query: &self.bytes, offset: width.mid() * self.sum, factor, base }
    }
}
