//! Cutting a scan's result into units.

use knarr_base::limit;

use super::{RowRange, UnitSpec};

/// A run of rows with at least one match. Runs are cut apart only between two of these.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    pub(super) rows: RowRange,
    pub(super) matched: u64,
    /// Share of the segment's bytes that the matches have.
    pub(super) bytes: u64,
}

/// Units of at most `limit::UNIT_ROWS` matches and `limit::UNIT_BYTES`, about equally large, so that workers finish
/// together; an even number of them when there is enough work for two. At least one. The same blocks give the same units.
pub(super) fn plan(blocks: &[Block]) -> Vec<UnitSpec> {
    let matched: u64 = blocks.iter().map(|block| block.matched).sum();
    let bytes: u64 = blocks.iter().map(|block| block.bytes).sum();
    let mut units = matched.div_ceil(limit::UNIT_ROWS).max(bytes.div_ceil(limit::UNIT_BYTES)).max(1);
    if units == 1 && bytes > limit::UNIT_SPLIT_BYTES {
        units = 2;
    }
    loop {
        if units > 1 {
            units = units.next_multiple_of(2);
        }
        let cut = cut(blocks, bytes, units);
        // Blocks are not divided: a cut into more units than blocks is the finest there is.
        if units >= blocks.len() as u64 || cut.iter().all(within_bounds) {
            return cut.into_iter().map(|(unit, _)| unit).collect();
        }
        units += 1;
    }
}

fn within_bounds((unit, bytes): &(UnitSpec, u64)) -> bool {
    unit.matched <= limit::UNIT_ROWS && *bytes <= limit::UNIT_BYTES
}

/// Up to `units` units with their bytes: a block goes to the unit that its middle falls into.
fn cut(blocks: &[Block], bytes: u64, units: u64) -> Vec<(UnitSpec, u64)> {
    let mut cut: Vec<(UnitSpec, u64)> = Vec::new();
    let (mut before, mut present) = (0, None);
    for block in blocks {
        let middle = u128::from(before + block.bytes / 2);
        let place = middle * u128::from(units) / u128::from(bytes.max(1));
        if present != Some(place) {
            present = Some(place);
            cut.push((UnitSpec::default(), 0));
        }
        let (unit, size) = cut.last_mut().expect("the first block began a unit");
        match unit.ranges.last_mut() {
            Some(last) if last.segment == block.rows.segment && last.end == block.rows.start => {
                last.end = block.rows.end
            }
            _ => unit.ranges.push(block.rows),
        }
        unit.matched += block.matched;
        *size += block.bytes;
        before += block.bytes;
    }
    if cut.is_empty() {
        cut.push((UnitSpec::default(), 0));
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `count` blocks of one segment side by side, each with `matched` rows of `size` bytes.
    fn even(count: u32, matched: u64, size: u64) -> Vec<Block> {
        let rows = |n: u32| RowRange { segment: 1, start: n * 4096, end: (n + 1) * 4096 };
        (0..count).map(|n| Block { rows: rows(n), matched, bytes: matched * size }).collect()
    }

    #[test]
    fn a_little_is_one_unit_and_more_an_even_number() {
        assert_eq!(plan(&[]), [UnitSpec::default()]);
        assert_eq!(plan(&even(10, 100, 500)).len(), 1);
        let halves = plan(&even(20, 4096, 500));
        assert_eq!(halves.len(), 2);
        assert_eq!(halves[0].ranges, [RowRange { segment: 1, start: 0, end: 40_960 }]);
        // The bench table: 1,000,000 rows of 560 bytes.
        let units = plan(&even(245, 4082, 560));
        assert_eq!(units.len(), 4);
        let sizes: Vec<_> = units.iter().map(|unit| unit.matched).collect();
        assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 2 * 4096, "{sizes:?}");
    }

    #[test]
    fn limit_plus_one() {
        let exactly = |rows: u64| {
            let mut blocks = even((rows / 4000) as u32, 4000, 1);
            blocks[0].matched += rows % 4000;
            plan(&blocks).len()
        };
        assert_eq!((exactly(limit::UNIT_ROWS), exactly(limit::UNIT_ROWS + 1)), (1, 2));
        let rows = limit::UNIT_BYTES / 4096;
        assert_eq!((plan(&even(16, rows, 256)).len(), plan(&even(17, rows, 512)).len()), (2, 4));
    }

    proptest! {
        #[test]
        fn plans_cover_everything_once_and_keep_the_bounds(
            sizes in prop::collection::vec((1u64..=4096, 1u64..=65_535, any::<bool>()), 0..400)
        ) {
            let mut start = 0;
            let blocks: Vec<_> = sizes.iter().map(|(matched, size, gap)| {
                start += 4096 * u32::from(*gap);
                let rows = RowRange { segment: u64::from(start >> 19), start, end: start + 4096 };
                start += 4096;
                Block { rows, matched: *matched, bytes: matched * size }
            }).collect();
            let units = plan(&blocks);
            prop_assert!(!units.is_empty());
            prop_assert_eq!(units.iter().map(|u| u.matched).sum::<u64>(), sizes.iter().map(|s| s.0).sum::<u64>());
            let covered: Vec<_> = units.iter().flat_map(|u| &u.ranges).flat_map(|r| {
                (r.start..r.end).step_by(4096).map(|start| (r.segment, start))
            }).collect();
            let expected: Vec<_> = blocks.iter().map(|b| (b.rows.segment, b.rows.start)).collect();
            prop_assert_eq!(covered, expected, "in order, each once");
            for unit in &units {
                let bytes: u64 = blocks.iter().filter(|b| unit.ranges.iter().any(|r| {
                    r.segment == b.rows.segment && r.start <= b.rows.start && b.rows.end <= r.end
                })).map(|b| b.bytes).sum();
                prop_assert!(unit.matched <= limit::UNIT_ROWS && bytes <= limit::UNIT_BYTES);
            }
        }
    }
}
