//! Bounds of any kind of number, as exact intervals of the column's type.
//!
//! All the care about fractions, rounding and overflow is here, once per filter; the loop over rows then compares
//! plain integers or floats. `None` is the empty interval.

use std::ops::RangeInclusive;

use knarr_base::filter::Bounds;
use knarr_base::value::Number;

/// Beyond every i64, and exact as a double.
const BEYOND: f64 = 36_893_488_147_419_103_232.0;

/// Integers within all bounds.
pub(crate) fn int(bounds: &Bounds) -> Option<RangeInclusive<i64>> {
    let low = [bounds.gte.map(at_least), bounds.gt.map(|b| at_most(b) + 1)].into_iter().flatten().max();
    let high = [bounds.lte.map(at_most), bounds.lt.map(|b| at_least(b) - 1)].into_iter().flatten().min();
    clip(low, high)
}

/// Integers that no bound of a `range_out` admits: below every lower bound and above every upper one.
pub(super) fn int_hole(bounds: &Bounds) -> Option<RangeInclusive<i64>> {
    let high = [bounds.gte.map(|b| at_least(b) - 1), bounds.gt.map(at_most)].into_iter().flatten().min();
    let low = [bounds.lte.map(|b| at_most(b) + 1), bounds.lt.map(at_least)].into_iter().flatten().max();
    clip(low, high)
}

fn clip(low: Option<i128>, high: Option<i128>) -> Option<RangeInclusive<i64>> {
    let low = low.unwrap_or(i128::MIN).max(i64::MIN.into());
    let high = high.unwrap_or(i128::MAX).min(i64::MAX.into());
    let fits = "clipped to 64 bits, or the interval is empty";
    (low <= high).then(|| i64::try_from(low).expect(fits)..=i64::try_from(high).expect(fits))
}

/// The least integer >= the bound.
fn at_least(bound: Number) -> i128 {
    match bound {
        Number::Int(n) => n.into(),
        Number::Float(x) => x.ceil().clamp(-BEYOND, BEYOND) as i128,
    }
}

/// The greatest integer <= the bound.
fn at_most(bound: Number) -> i128 {
    match bound {
        Number::Int(n) => n.into(),
        Number::Float(x) => x.floor().clamp(-BEYOND, BEYOND) as i128,
    }
}

/// Finite floats within all bounds. An end may be infinite.
pub(crate) fn float(bounds: &Bounds) -> Option<RangeInclusive<f32>> {
    let low = [bounds.gte.map(|b| first(b, false)), bounds.gt.map(|b| first(b, true))];
    let high = [bounds.lte.map(|b| last(b, false)), bounds.lt.map(|b| last(b, true))];
    span(low, high)
}

/// Finite floats that no bound of a `range_out` admits.
pub(super) fn float_hole(bounds: &Bounds) -> Option<RangeInclusive<f32>> {
    let high = [bounds.gte.map(|b| last(b, true)), bounds.gt.map(|b| last(b, false))];
    let low = [bounds.lte.map(|b| first(b, true)), bounds.lt.map(|b| first(b, false))];
    span(low, high)
}

fn span(low: [Option<f32>; 2], high: [Option<f32>; 2]) -> Option<RangeInclusive<f32>> {
    let low = low.into_iter().flatten().fold(f32::NEG_INFINITY, f32::max);
    let high = high.into_iter().flatten().fold(f32::INFINITY, f32::min);
    (low <= high).then_some(low..=high)
}

/// The least float >= the bound, or > it.
fn first(bound: Number, strict: bool) -> f32 {
    // Rounding to nearest lands on the wrong side by at most one float.
    let near = bound.as_f64() as f32;
    let short = |x| if strict { bound.cmp_float(x).is_le() } else { bound.cmp_float(x).is_lt() };
    if short(near) { near.next_up() } else { near }
}

/// The greatest float <= the bound, or < it.
fn last(bound: Number, strict: bool) -> f32 {
    let near = bound.as_f64() as f32;
    let over = |x| if strict { bound.cmp_float(x).is_ge() } else { bound.cmp_float(x).is_gt() };
    if over(near) { near.next_down() } else { near }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number() -> impl Strategy<Value = Number> {
        let ints = prop_oneof![-3i64..4, any::<i64>(), Just(i64::MIN), Just(i64::MAX), Just((1 << 53) + 1)];
        let floats = prop_oneof![
            (-12i32..13).prop_map(|n| f64::from(n) / 4.0),
            any::<f64>().prop_filter("finite", |x| x.is_finite()),
            Just(0.1f64),
            Just(f64::from(0.1f32)),
            Just(f64::from(f32::MAX)),
            Just(f64::from(f32::MAX) * 1.000_001),
            Just(f64::MAX),
            Just(-f64::MAX),
            Just(9_223_372_036_854_775_808.0),
            Just(-9_223_372_036_854_775_808.0),
        ];
        prop_oneof![ints.prop_map(Number::Int), floats.prop_map(Number::Float)]
    }

    fn some_bounds() -> impl Strategy<Value = Bounds> {
        let end = || prop::option::of(number());
        (end(), end(), end(), end()).prop_map(|(gte, gt, lte, lt)| Bounds { gte, gt, lte, lt })
    }

    fn near_ints(bounds: &Bounds) -> Vec<i64> {
        let mut values = vec![i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
        for (bound, _) in bounds.tests() {
            let at = bound.as_f64() as i64;
            values.extend([at.saturating_sub(1), at, at.saturating_add(1)]);
        }
        values
    }

    fn near_floats(bounds: &Bounds) -> Vec<f32> {
        let mut values = vec![f32::MIN, -0.0, 0.0, f32::MIN_POSITIVE, f32::MAX];
        for (bound, _) in bounds.tests() {
            let at = (bound.as_f64() as f32).clamp(f32::MIN, f32::MAX);
            values.extend([at.next_down(), at, at.next_up()]);
        }
        values.retain(|x| x.is_finite());
        values
    }

    proptest! {
        #[test]
        fn intervals_agree_with_single_comparisons(bounds in some_bounds()) {
            let within = |range: &Option<RangeInclusive<i64>>, v| range.as_ref().is_some_and(|r| r.contains(&v));
            let (inside, hole) = (int(&bounds), int_hole(&bounds));
            for v in near_ints(&bounds) {
                prop_assert_eq!(within(&inside, v), bounds.tests().all(|(b, keep)| keep(b.cmp_int(v))), "{}", v);
                prop_assert_eq!(!within(&hole, v), bounds.tests().any(|(b, keep)| keep(b.cmp_int(v))), "{}", v);
            }
            let within = |range: &Option<RangeInclusive<f32>>, v| range.as_ref().is_some_and(|r| r.contains(&v));
            let (inside, hole) = (float(&bounds), float_hole(&bounds));
            for v in near_floats(&bounds) {
                prop_assert_eq!(within(&inside, v), bounds.tests().all(|(b, keep)| keep(b.cmp_float(v))), "{}", v);
                prop_assert_eq!(!within(&hole, v), bounds.tests().any(|(b, keep)| keep(b.cmp_float(v))), "{}", v);
            }
        }
    }
}
