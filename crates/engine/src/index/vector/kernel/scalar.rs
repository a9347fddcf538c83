//! The kernels in plain Rust. What they compute is the definition; the other levels are tested against them.

use super::{LANES, Probe, STRETCH, Width};

pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    fold(a, b, |x, y| x * y)
}

pub(super) fn l2(a: &[f32], b: &[f32]) -> f32 {
    fold(a, b, |x, y| (x - y) * (x - y))
}

/// Sums in 16 lanes, as the vector units do: the compiler can use what the target has, and rounding stays alike.
fn fold(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let (whole_a, whole_b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = whole_a.remainder().iter().zip(whole_b.remainder()).map(|(x, y)| term(*x, *y)).sum();
    for (x, y) in whole_a.zip(whole_b) {
        lanes.iter_mut().zip(x.iter().zip(y)).for_each(|(lane, (x, y))| *lane += term(*x, *y));
    }
    lanes.iter().sum::<f32>() + rest
}

/// A code: dimension `dim` of row `lane` of a block's codes.
pub(super) fn code(width: Width, codes: &[u8], lane: usize, dim: usize) -> u8 {
    match width {
        Width::Nibble => {
            let byte = codes[dim / 8 * 64 + lane * 4 + dim % 4];
            if dim % 8 < 4 { byte & 15 } else { byte >> 4 }
        }
        Width::Byte => codes[dim / 4 * 64 + lane * 4 + dim % 4],
    }
}

pub(super) fn scan(width: Width, blocks: &[u8], probe: &Probe<'_>, keys: &mut [[f32; LANES]]) {
    for (block, keys) in blocks.chunks_exact(width.block_bytes(probe.query.len())).zip(keys) {
        let (scales, rest) = block.split_at(LANES * 4);
        let (terms, codes) = rest.split_at(LANES * 4);
        for (lane, key) in keys.iter_mut().enumerate() {
            let products =
                probe.query.iter().enumerate().map(|(dim, q)| i32::from(code(width, codes, lane, dim)) * i32::from(*q));
            let sum: i32 = products.sum();
            *key = finish(probe, float(scales, lane), float(terms, lane), sum);
        }
    }
}

/// Written without a fused step, and in this order at every level, so that keys are equal to the bit.
fn finish(probe: &Probe<'_>, scale: f32, term: f32, sum: i32) -> f32 {
    (probe.base + term) + (probe.factor * scale) * (sum as f32 - probe.offset)
}

fn float(bytes: &[u8], at: usize) -> f32 {
    f32::from_le_bytes([bytes[at * 4], bytes[at * 4 + 1], bytes[at * 4 + 2], bytes[at * 4 + 3]])
}

pub(super) fn allowed(rows: &[u32; LANES], words: &[u32]) -> u16 {
    let set = |row: u32| words.get((row / 32) as usize).is_some_and(|word| word >> (row % 32) & 1 == 1);
    rows.iter().enumerate().fold(0, |mask, (lane, row)| mask | u16::from(set(*row)) << lane)
}

pub(super) fn shorts(rows: &[u32; LANES], table: &[[u8; 4]]) -> [u32; LANES] {
    rows.map(|row| match table.get((row / 2) as usize) {
        Some(word) => u32::from_le_bytes(*word) >> (row % 2 * 16) & 0xffff,
        None => 0,
    })
}

pub(super) fn within(codes: &[u16; STRETCH], first: u16, span: u16) -> u64 {
    let within = |code: &u16| u64::from(code.wrapping_sub(first) <= span);
    codes.iter().enumerate().fold(0, |mask, (lane, code)| mask | within(code) << lane)
}

pub(super) fn among(codes: &[u16; STRETCH], words: &[u32]) -> u64 {
    let set = |code: u16| words.get(usize::from(code / 32)).is_some_and(|word| word >> (code % 32) & 1 == 1);
    codes.iter().enumerate().fold(0, |mask, (lane, code)| mask | u64::from(set(*code)) << lane)
}

pub(super) fn below(keys: &[f32; LANES], limit: f32) -> u16 {
    keys.iter().enumerate().fold(0, |mask, (lane, key)| mask | u16::from(*key < limit) << lane)
}

pub(super) fn ones(words: &[u32]) -> u32 {
    words.iter().map(|word| word.count_ones()).sum()
}
