//! The kernels for AVX2 and for AVX-512 with VNNI.

use std::arch::x86_64::*;

use super::{GROUP, LANES, Probe, STRETCH, Width};

/// How far ahead of the codes that are read others are asked for.
const SCAN_AHEAD_BYTES: usize = 2048;

pub(super) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt") && is_x86_feature_detected!("fma")
}

pub(super) fn has_avx512() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vnni")
}

pub(super) fn prefetch(line: *const u8) {
    // SAFETY: SSE is part of x86_64, and a prefetch of any address reads nothing.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
}

/// # Safety
/// The processor has AVX2 and FMA; both slices have one length.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn dot_avx2(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [_mm256_setzero_ps(); 4];
    let whole = a.len() - a.len() % 32;
    for at in (0..whole).step_by(32) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            // SAFETY: `at + 32 <= whole`, which is within both slices.
            let (x, y) = unsafe { (load8(a, at + lane * 8), load8(b, at + lane * 8)) };
            *sum = _mm256_fmadd_ps(x, y, *sum);
        }
    }
    let rest: f32 = a[whole..].iter().zip(&b[whole..]).map(|(x, y)| x * y).sum();
    sum8(_mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]))) + rest
}

/// # Safety
/// The processor has AVX2 and FMA; both slices have one length.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn l2_avx2(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [_mm256_setzero_ps(); 4];
    let whole = a.len() - a.len() % 32;
    for at in (0..whole).step_by(32) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            // SAFETY: `at + 32 <= whole`, which is within both slices.
            let (x, y) = unsafe { (load8(a, at + lane * 8), load8(b, at + lane * 8)) };
            let d = _mm256_sub_ps(x, y);
            *sum = _mm256_fmadd_ps(d, d, *sum);
        }
    }
    let rest: f32 = a[whole..].iter().zip(&b[whole..]).map(|(x, y)| (x - y) * (x - y)).sum();
    sum8(_mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]))) + rest
}

/// # Safety
/// `at + 8` is within the slice.
#[target_feature(enable = "avx2")]
unsafe fn load8(slice: &[f32], at: usize) -> __m256 {
    // SAFETY: by the caller's promise; the load needs no alignment.
    unsafe { _mm256_loadu_ps(slice.as_ptr().add(at)) }
}

#[target_feature(enable = "avx2")]
fn sum8(x: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}

/// # Safety
/// The processor has AVX-512 F; both slices have one length.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn dot_avx512(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [_mm512_setzero_ps(); 4];
    let whole = a.len() - a.len() % 64;
    for at in (0..whole).step_by(64) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            // SAFETY: `at + 64 <= whole`, which is within both slices.
            let (x, y) = unsafe { (load16(a, at + lane * 16), load16(b, at + lane * 16)) };
            *sum = _mm512_fmadd_ps(x, y, *sum);
        }
    }
    for at in (whole..a.len()).step_by(LANES) {
        let left = tail(a.len() - at);
        // SAFETY: the mask keeps the load within both slices.
        let (x, y) = unsafe { (load_tail(a, at, left), load_tail(b, at, left)) };
        sums[0] = _mm512_fmadd_ps(x, y, sums[0]);
    }
    _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3])))
}

/// # Safety
/// The processor has AVX-512 F; both slices have one length.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn l2_avx512(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [_mm512_setzero_ps(); 4];
    let whole = a.len() - a.len() % 64;
    for at in (0..whole).step_by(64) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            // SAFETY: `at + 64 <= whole`, which is within both slices.
            let (x, y) = unsafe { (load16(a, at + lane * 16), load16(b, at + lane * 16)) };
            let d = _mm512_sub_ps(x, y);
            *sum = _mm512_fmadd_ps(d, d, *sum);
        }
    }
    for at in (whole..a.len()).step_by(LANES) {
        let left = tail(a.len() - at);
        // SAFETY: the mask keeps the load within both slices.
        let (x, y) = unsafe { (load_tail(a, at, left), load_tail(b, at, left)) };
        let d = _mm512_sub_ps(x, y);
        sums[0] = _mm512_fmadd_ps(d, d, sums[0]);
    }
    _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3])))
}

/// # Safety
/// `at + 16` is within the slice.
#[target_feature(enable = "avx512f")]
unsafe fn load16(slice: &[f32], at: usize) -> __m512 {
    // SAFETY: by the caller's promise; the load needs no alignment.
    unsafe { _mm512_loadu_ps(slice.as_ptr().add(at)) }
}

/// The lanes of the last `left` floats, at most all 16.
fn tail(left: usize) -> __mmask16 {
    if left >= LANES { !0 } else { (1 << left) - 1 }
}

/// # Safety
/// The lanes of `mask` are within the slice from `at` on.
#[target_feature(enable = "avx512f")]
unsafe fn load_tail(slice: &[f32], at: usize, mask: __mmask16) -> __m512 {
    // SAFETY: by the caller's promise; lanes outside the mask are not read.
    unsafe { _mm512_maskz_loadu_ps(mask, slice.as_ptr().add(at)) }
}

/// # Safety
/// The processor has AVX-512 F, BW and VNNI; `blocks` holds exactly `keys.len()` blocks of the query's dimensions.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) unsafe fn scan_avx512(width: Width, blocks: &[u8], probe: &Probe<'_>, keys: &mut [[f32; LANES]]) {
    let padded = probe.query.len();
    let query = probe.query.as_ptr();
    let nibbles = _mm512_set1_epi8(15);
    let (base, factor, offset) =
        (_mm512_set1_ps(probe.base), _mm512_set1_ps(probe.factor), _mm512_set1_ps(probe.offset));
    for (block, keys) in blocks.chunks_exact(width.block_bytes(padded)).zip(keys) {
        let at = block.as_ptr();
        let mut sums = [_mm512_setzero_si512(); 4];
        // SAFETY: a block is 128 bytes of floats and the codes of `padded` dimensions: 64 bytes per group of nibbles,
        // 128 per group of bytes. A group reads 8 bytes of the query, which has `padded`, a multiple of a group.
        unsafe {
            let codes = at.add(LANES * 8);
            match width {
                Width::Nibble => {
                    for group in 0..padded / GROUP {
                        let pair = _mm512_loadu_si512(codes.add(group * 64).cast());
                        // The processor's own guess ends at every page; a prefetch past the blocks reads nothing.
                        _mm_prefetch::<_MM_HINT_T0>(codes.wrapping_add(group * 64 + SCAN_AHEAD_BYTES).cast());
                        let low = _mm512_and_si512(pair, nibbles);
                        let high = _mm512_and_si512(_mm512_srli_epi16::<4>(pair), nibbles);
                        let side = group % 2 * 2;
                        sums[side] = _mm512_dpbusd_epi32(sums[side], low, four(query.add(group * GROUP)));
                        sums[side + 1] = _mm512_dpbusd_epi32(sums[side + 1], high, four(query.add(group * GROUP + 4)));
                    }
                }
                Width::Byte => {
                    for group in 0..padded / GROUP {
                        let first = _mm512_loadu_si512(codes.add(group * 128).cast());
                        let second = _mm512_loadu_si512(codes.add(group * 128 + 64).cast());
                        let side = group % 2 * 2;
                        sums[side] = _mm512_dpbusd_epi32(sums[side], first, four(query.add(group * GROUP)));
                        sums[side + 1] =
                            _mm512_dpbusd_epi32(sums[side + 1], second, four(query.add(group * GROUP + 4)));
                    }
                }
            }
            let sum = _mm512_add_epi32(_mm512_add_epi32(sums[0], sums[1]), _mm512_add_epi32(sums[2], sums[3]));
            let (scale, term) = (_mm512_loadu_ps(at.cast()), _mm512_loadu_ps(at.add(LANES * 4).cast()));
            let centred = _mm512_sub_ps(_mm512_cvtepi32_ps(sum), offset);
            let key = _mm512_add_ps(_mm512_add_ps(base, term), _mm512_mul_ps(_mm512_mul_ps(factor, scale), centred));
            _mm512_storeu_ps(keys.as_mut_ptr(), key);
        }
    }
}

/// Four bytes of the query in every lane.
///
/// # Safety
/// Four bytes from `at` on are readable.
#[target_feature(enable = "avx512f")]
unsafe fn four(at: *const i8) -> __m512i {
    // SAFETY: by the caller's promise; the read needs no alignment.
    _mm512_set1_epi32(unsafe { at.cast::<i32>().read_unaligned() })
}

/// # Safety
/// The processor has AVX2; `blocks` holds exactly `keys.len()` blocks of the query's dimensions.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn scan_avx2(width: Width, blocks: &[u8], probe: &Probe<'_>, keys: &mut [[f32; LANES]]) {
    let padded = probe.query.len();
    let query = probe.query.as_ptr();
    let (nibbles, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
    let (base, factor, offset) =
        (_mm256_set1_ps(probe.base), _mm256_set1_ps(probe.factor), _mm256_set1_ps(probe.offset));
    for (block, keys) in blocks.chunks_exact(width.block_bytes(padded)).zip(keys) {
        // The left and the right eight rows.
        for half in [0, 1] {
            let at = block.as_ptr();
            let mut sum = _mm256_setzero_si256();
            // SAFETY: as in `scan_avx512`; a half is 32 of each 64 bytes, and eight of each 16 floats.
            unsafe {
                let codes = at.add(LANES * 8 + half * 32);
                for group in 0..padded / GROUP {
                    let (first, second) = match width {
                        Width::Nibble => {
                            let pair = _mm256_loadu_si256(codes.add(group * 64).cast());
                            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(pair), nibbles);
                            (_mm256_and_si256(pair, nibbles), high)
                        }
                        Width::Byte => (
                            _mm256_loadu_si256(codes.add(group * 128).cast()),
                            _mm256_loadu_si256(codes.add(group * 128 + 64).cast()),
                        ),
                    };
                    let q = query.add(group * GROUP).cast::<i32>();
                    let (low, high) = (q.read_unaligned(), q.add(1).read_unaligned());
                    // Codes are at most 127 and the query at least -127, so no sum of two saturates.
                    let a = _mm256_maddubs_epi16(first, _mm256_set1_epi32(low));
                    let b = _mm256_maddubs_epi16(second, _mm256_set1_epi32(high));
                    let pairs = _mm256_add_epi32(_mm256_madd_epi16(a, ones), _mm256_madd_epi16(b, ones));
                    sum = _mm256_add_epi32(sum, pairs);
                }
                let scale = _mm256_loadu_ps(at.add(half * 32).cast());
                let term = _mm256_loadu_ps(at.add(LANES * 4 + half * 32).cast());
                let centred = _mm256_sub_ps(_mm256_cvtepi32_ps(sum), offset);
                let key =
                    _mm256_add_ps(_mm256_add_ps(base, term), _mm256_mul_ps(_mm256_mul_ps(factor, scale), centred));
                _mm256_storeu_ps(keys.as_mut_ptr().add(half * 8), key);
            }
        }
    }
}

/// # Safety
/// The processor has AVX-512 F; `words` has fewer than 2^26 words.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn allowed_avx512(rows: &[u32; LANES], words: &[u32]) -> u16 {
    // SAFETY: 16 numbers are 64 bytes.
    let rows = unsafe { _mm512_loadu_si512(rows.as_ptr().cast()) };
    let places = _mm512_srli_epi32::<5>(rows);
    let within = _mm512_cmplt_epu32_mask(places, _mm512_set1_epi32(words.len() as i32));
    let zero = _mm512_setzero_si512();
    // SAFETY: lanes whose word is not within the slice are masked out and read nothing.
    let found = unsafe { _mm512_mask_i32gather_epi32::<4>(zero, within, places, words.as_ptr().cast()) };
    let bit = _mm512_sllv_epi32(_mm512_set1_epi32(1), _mm512_and_si512(rows, _mm512_set1_epi32(31)));
    _mm512_test_epi32_mask(found, bit)
}

/// # Safety
/// The processor has AVX-512 F; `table` has fewer than 2^29 words.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn shorts_avx512(rows: &[u32; LANES], table: &[[u8; 4]]) -> [u32; LANES] {
    // SAFETY: 16 numbers are 64 bytes.
    let rows = unsafe { _mm512_loadu_si512(rows.as_ptr().cast()) };
    let places = _mm512_srli_epi32::<1>(rows);
    let within = _mm512_cmplt_epu32_mask(places, _mm512_set1_epi32(table.len() as i32));
    let zero = _mm512_setzero_si512();
    // SAFETY: lanes whose word is not within the slice are masked out and read nothing; a gather needs no alignment.
    let found = unsafe { _mm512_mask_i32gather_epi32::<4>(zero, within, places, table.as_ptr().cast()) };
    let shift = _mm512_slli_epi32::<4>(_mm512_and_si512(rows, _mm512_set1_epi32(1)));
    let found = _mm512_and_si512(_mm512_srlv_epi32(found, shift), _mm512_set1_epi32(0xffff));
    let mut out = [0u32; LANES];
    // SAFETY: 16 numbers are 64 bytes.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), found) };
    out
}

/// # Safety
/// The processor has AVX-512 F and BW.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn within_avx512(codes: &[u16; STRETCH], first: u16, span: u16) -> u64 {
    // SAFETY: 64 codes are two times 64 bytes.
    let (left, right) = unsafe {
        (_mm512_loadu_si512(codes.as_ptr().cast()), _mm512_loadu_si512(codes.as_ptr().add(STRETCH / 2).cast()))
    };
    let (first, span) = (_mm512_set1_epi16(first as i16), _mm512_set1_epi16(span as i16));
    let within = |codes| u64::from(_mm512_cmple_epu16_mask(_mm512_sub_epi16(codes, first), span));
    within(left) | within(right) << 32
}

/// # Safety
/// The processor has AVX-512 F.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn among_avx512(codes: &[u16; STRETCH], words: &[u32]) -> u64 {
    // More than 2^11 words are more than there are codes.
    let count = _mm512_set1_epi32(words.len().min(1 << 11) as i32);
    let (zero, one, low) = (_mm512_setzero_si512(), _mm512_set1_epi32(1), _mm512_set1_epi32(31));
    // SAFETY: lanes beyond the slice are masked out and not read.
    let few = unsafe { _mm512_maskz_loadu_epi32(tail(words.len()), words.as_ptr().cast()) };
    let mut found = 0;
    for (at, codes) in codes.as_chunks::<LANES>().0.iter().enumerate() {
        // SAFETY: 16 codes are 32 bytes.
        let codes = _mm512_cvtepu16_epi32(unsafe { _mm256_loadu_si256(codes.as_ptr().cast()) });
        let places = _mm512_srli_epi32::<5>(codes);
        let within = _mm512_cmplt_epu32_mask(places, count);
        let words = if words.len() <= LANES {
            _mm512_maskz_permutexvar_epi32(within, places, few)
        } else {
            // SAFETY: lanes whose word is not within the slice are masked out and read nothing.
            unsafe { _mm512_mask_i32gather_epi32::<4>(zero, within, places, words.as_ptr().cast()) }
        };
        let bit = _mm512_sllv_epi32(one, _mm512_and_si512(codes, low));
        found |= u64::from(_mm512_test_epi32_mask(words, bit)) << (at * LANES);
    }
    found
}

/// # Safety
/// The processor has AVX-512 F.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn below_avx512(keys: &[f32; LANES], limit: f32) -> u16 {
    // SAFETY: 16 floats are 64 bytes.
    let keys = unsafe { _mm512_loadu_ps(keys.as_ptr()) };
    _mm512_cmp_ps_mask::<_CMP_LT_OQ>(keys, _mm512_set1_ps(limit))
}

/// # Safety
/// The processor has AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn below_avx2(keys: &[f32; LANES], limit: f32) -> u16 {
    let limit = _mm256_set1_ps(limit);
    // SAFETY: 16 floats are two times eight.
    let (left, right) = unsafe { (_mm256_loadu_ps(keys.as_ptr()), _mm256_loadu_ps(keys.as_ptr().add(8))) };
    let mask = |keys| _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(keys, limit)) as u16;
    mask(left) | mask(right) << 8
}

/// # Safety
/// The processor has POPCNT.
#[target_feature(enable = "popcnt")]
pub(super) unsafe fn ones_popcnt(words: &[u32]) -> u32 {
    words.iter().map(|word| word.count_ones()).sum()
}
