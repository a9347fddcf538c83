//! Every level against plain Rust. Also run under valgrind, which reports no AVX-512: there the lower levels are tested.

use proptest::prelude::*;

use super::*;

fn levels() -> Vec<(Level, &'static Kernel)> {
    let all = [Level::Scalar, Level::Avx2, Level::Avx512].into_iter();
    all.filter_map(|level| Some((level, Kernel::at(level)?))).collect()
}

fn floats(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<(f32, f32)>> {
    prop::collection::vec((-100f32..100.0, -100f32..100.0), len)
}

/// Blocks with any codes that their width allows, and a query of `groups * GROUP` bytes.
fn blocks(width: Width) -> impl Strategy<Value = (Vec<u8>, Vec<i8>)> {
    (1usize..20, 1usize..4).prop_flat_map(move |(groups, count)| {
        let top = if width == Width::Nibble { 255u8 } else { 127 };
        let codes = prop::collection::vec(0..=top, count * width.code_bytes(groups * GROUP));
        let heads = prop::collection::vec((-10f32..10.0, -10f32..10.0), count * LANES);
        let query = prop::collection::vec(-127i8..=127, groups * GROUP);
        (codes, heads, query).prop_map(move |(codes, heads, query)| {
            let mut out = Vec::new();
            for (codes, heads) in codes.chunks(width.code_bytes(query.len())).zip(heads.chunks(LANES)) {
                heads.iter().for_each(|(scale, _)| out.extend(scale.to_le_bytes()));
                heads.iter().for_each(|(_, term)| out.extend(term.to_le_bytes()));
                out.extend(codes);
            }
            (out, query)
        })
    })
}

fn check_scan(width: Width, blocks: &[u8], query: &[i8]) {
    let probe = Probe { query, offset: 12.5, factor: -0.25, base: 3.0 };
    let mut expected = vec![[0f32; LANES]; blocks.len() / width.block_bytes(query.len())];
    SCALAR.scan(width, blocks, &probe, &mut expected);
    for (level, kernel) in levels() {
        let mut keys = vec![[0f32; LANES]; expected.len()];
        kernel.scan(width, blocks, &probe, &mut keys);
        let bits = |keys: &[[f32; LANES]]| keys.as_flattened().iter().map(|key| key.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&keys), bits(&expected), "{level:?} {width:?}");
    }
}

proptest! {
    #[test]
    fn products_and_distances_agree(pairs in floats(0..300)) {
        let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
        let dot: f64 = a.iter().zip(&b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
        let l2: f64 = a.iter().zip(&b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum();
        // The bound of any order of additions: one rounding per element, of the sum of absolute terms.
        let size: f64 = a.iter().zip(&b).map(|(x, y)| f64::from(x * y).abs()).sum();
        for (level, kernel) in levels() {
            let error = (f64::from(kernel.dot(&a, &b)) - dot).abs();
            prop_assert!(error <= size * 1e-5 + 1e-6, "{level:?} {error}");
            let error = (f64::from(kernel.l2(&a, &b)) - l2).abs();
            prop_assert!(error <= l2 * 1e-5 + 1e-6, "{level:?} {error}");
        }
    }

    #[test]
    fn scans_of_nibbles_agree((blocks, query) in blocks(Width::Nibble)) {
        check_scan(Width::Nibble, &blocks, &query);
    }

    #[test]
    fn scans_of_bytes_agree((blocks, query) in blocks(Width::Byte)) {
        check_scan(Width::Byte, &blocks, &query);
    }

    #[test]
    fn tests_of_rows_agree(words in prop::collection::vec(any::<u32>(), 0..40), rows: [u32; LANES], near: bool) {
        let rows = if near { rows.map(|row| row % 1400) } else { rows };
        let expected = scalar::allowed(&rows, &words);
        levels().iter().for_each(|(level, kernel)| assert_eq!(kernel.allowed(&rows, &words), expected, "{level:?}"));
    }

    #[test]
    fn tables_of_shorts_agree(table in prop::collection::vec(any::<[u8; 4]>(), 0..40), rows: [u32; LANES], near: bool) {
        let rows = if near { rows.map(|row| row % 90) } else { rows };
        let expected = rows.map(|row| match table.as_flattened().get(row as usize * 2..row as usize * 2 + 2) {
            Some(short) => u32::from(u16::from_le_bytes([short[0], short[1]])),
            None => 0,
        });
        levels().iter().for_each(|(level, kernel)| assert_eq!(kernel.shorts(&rows, &table), expected, "{level:?}"));
    }

    #[test]
    fn tests_of_codes_agree(
        words in prop::collection::vec(any::<u32>(), 0..40),
        codes in prop::collection::vec(any::<u16>(), STRETCH),
        near: bool,
        first: u16,
        span: u16,
    ) {
        let (most, span) = if near { (600, span % 300) } else { (u16::MAX, span) };
        let first = first % most;
        let codes: [u16; STRETCH] = std::array::from_fn(|lane| codes[lane] % most);
        let expected = |set: &dyn Fn(u32) -> bool| {
            codes.iter().enumerate().fold(0, |mask, (lane, code)| mask | u64::from(set(u32::from(*code))) << lane)
        };
        let (from, to) = (u32::from(first), u32::from(first) + u32::from(span));
        // Past the last code the first ones follow.
        let within = expected(&|code| (from..=to).contains(&code) || code + (1 << 16) <= to);
        let among = expected(&|code| words.get(code as usize / 32).is_some_and(|word| word >> (code % 32) & 1 == 1));
        for (level, kernel) in levels() {
            prop_assert_eq!(kernel.within(&codes, first, span), within, "{:?}", level);
            prop_assert_eq!(kernel.among(&codes, &words), among, "{:?}", level);
        }
    }

    #[test]
    fn limits_agree(keys: [f32; LANES], limit: f32) {
        let expected = scalar::below(&keys, limit);
        levels().iter().for_each(|(level, kernel)| assert_eq!(kernel.below(&keys, limit), expected, "{level:?}"));
    }

    #[test]
    fn ones_agree(words in prop::collection::vec(any::<u32>(), 0..100)) {
        let expected = words.iter().map(|word| word.count_ones()).sum::<u32>();
        levels().iter().for_each(|(level, kernel)| assert_eq!(kernel.ones(&words), expected, "{level:?}"));
    }
}

#[test]
fn the_least_is_found_wherever_it_is() {
    for len in [0, 1, 15, 16, 17, 40] {
        for at in 0..len {
            let mut numbers = vec![1.0; len];
            numbers[at] = -2.0;
            numbers[(at + 1) % len] = if len > 1 { f32::NAN } else { -2.0 };
            assert_eq!(least(&numbers), -2.0, "{at} of {len}");
        }
    }
    assert_eq!(least(&[]), f32::INFINITY);
}

/// The greatest sums of the largest dimension stay within their integers at every level.
#[test]
fn extremes_do_not_saturate() {
    for (width, code) in [(Width::Nibble, 255), (Width::Byte, 127)] {
        for sign in [-127, 127] {
            let query = vec![sign; 4096];
            let mut block = vec![code; width.block_bytes(query.len())];
            (0..LANES).for_each(|lane| block[lane * 4..lane * 4 + 4].copy_from_slice(&1f32.to_le_bytes()));
            (LANES..2 * LANES).for_each(|lane| block[lane * 4..lane * 4 + 4].fill(0));
            let probe = Probe { query: &query, offset: 0.0, factor: 1.0, base: 0.0 };
            let most = if width == Width::Nibble { 15 } else { 127 };
            for (level, kernel) in levels() {
                let mut keys = [[0f32; LANES]];
                kernel.scan(width, &block, &probe, &mut keys);
                let expected = (i32::from(sign) * most * 4096) as f32;
                assert_eq!(keys, [[expected; LANES]], "{level:?} {width:?}");
            }
        }
    }
}

#[test]
fn the_best_level_is_the_highest_of_this_processor() {
    assert!(levels().last().is_some_and(|(_, kernel)| std::ptr::eq(*kernel, Kernel::best())));
}
