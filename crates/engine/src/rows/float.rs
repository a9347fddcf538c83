//! float32 as text, both ways, exact.
//!
//! Vectors are most of the bytes that a collection sends and receives, and most of their elements are of ordinary size.
//! For those both directions are a handful of integer operations; everything else goes to `zmij` and `fast_float2`,
//! which are right for every float and serve as the measure in the tests.

use std::ops::RangeInclusive;

/// Bytes of the longest text.
pub(super) const TEXT_BYTES: usize = 24;

/// Exponents `e` of floats `m * 2^-e` (m of 24 bits) whose product with a power of ten fits 64 bits: 2^-14 to 2^23.
const SHIFTS: RangeInclusive<u32> = 1..=37;

/// For each of [`SHIFTS`] the least number of decimals whose unit is smaller than the float's: 10^-k < 2^-e.
const DECIMALS: [u8; 38] = {
    let mut table = [0; 38];
    let mut e = 1;
    while e < table.len() {
        while TENS[table[e] as usize] <= 1 << e {
            table[e] += 1;
        }
        e += 1;
    }
    table
};

const TENS: [u64; 17] = {
    let mut table = [1; 17];
    let mut k = 1;
    while k < table.len() {
        table[k] = table[k - 1] * 10;
        k += 1;
    }
    table
};

/// Writes the shortest text that reads back as `value` to the beginning of `out`; returns its length. Of several the
/// nearest to the value. `value` is finite, `out` holds [`TEXT_BYTES`].
pub(super) fn write(value: f32, out: &mut [u8]) -> usize {
    let bits = value.to_bits();
    let (exponent, fraction) = ((bits >> 23) & 0xff, bits & 0x7f_ffff);
    let shift = 150u32.wrapping_sub(exponent);
    // Without a fraction the float below is nearer than the one above.
    if !SHIFTS.contains(&shift) || fraction == 0 {
        let mut buffer = zmij::Buffer::new();
        let text = buffer.format_finite(value).as_bytes();
        out[..text.len()].copy_from_slice(text);
        return text.len();
    }
    let (decimals, m) = (usize::from(DECIMALS[shift as usize]), u64::from(fraction | 0x80_0000));
    let (digits, ten) = (shortest(m, shift, TENS[decimals]), TENS[decimals]);
    // The whole part is known without a division, but for rounding up to the next.
    let whole = (m >> shift) + u64::from(digits >= ((m >> shift) + 1) * ten);
    out[0] = b'-';
    let sign = (bits >> 31) as usize;
    sign + write_fixed(whole, digits - whole * ten, decimals, &mut out[sign..])
}

/// The decimal nearest to `m * 2^-shift` among the shortest that lie within half a unit of it, times `ten`, which is the
/// least power of ten that makes a decimal lie there for certain. A shorter one ends in zeros.
fn shortest(m: u64, shift: u32, ten: u64) -> u64 {
    let scaled = m * ten;
    let (digits, rest) = (scaled >> shift, scaled & ((1 << shift) - 1));
    // With one digit less there is at most one candidate; if it is near enough, no longer one is needed.
    let (below, last) = (digits / 10, digits % 10);
    let (over, unit) = ((last << shift) + rest, 10 << shift);
    let up = over > unit / 2;
    let distance = if up { unit - over } else { over };
    // An even float is also read from the middle between it and its neighbour.
    let near = distance < ten / 2 + u64::from(m.is_multiple_of(2));
    let half = 1 << (shift - 1);
    let nearest = digits + u64::from(rest > half || (rest == half && digits % 2 == 1));
    // Both are at hand so that the choice, which nobody can predict, needs no jump.
    if near { (below + u64::from(up)) * 10 } else { nearest }
}

/// `whole.fraction` without zeros at the end, but with one decimal.
fn write_fixed(whole: u64, fraction: u64, decimals: usize, out: &mut [u8]) -> usize {
    let mut at = if whole < 10 {
        out[0] = b'0' + whole as u8;
        1
    } else {
        // At most 2^23: seven digits.
        let text = eight_digits(whole);
        let skip = text.trailing_zeros() as usize / 8;
        let text = (text | ASCII_ZEROS).to_le_bytes();
        out[..8 - skip].copy_from_slice(&text[skip..]);
        8 - skip
    };
    out[at] = b'.';
    at += 1;
    if decimals <= 8 {
        let text = eight_digits(fraction * TENS[8 - decimals]);
        out[at..at + 8].copy_from_slice(&(text | ASCII_ZEROS).to_le_bytes());
        return at + significant(text).max(1);
    }
    let fraction = fraction * TENS[16 - decimals];
    let (high, low) = (eight_digits(fraction / 100_000_000), eight_digits(fraction % 100_000_000));
    out[at..at + 8].copy_from_slice(&(high | ASCII_ZEROS).to_le_bytes());
    out[at + 8..at + 16].copy_from_slice(&(low | ASCII_ZEROS).to_le_bytes());
    at + if low == 0 { significant(high).max(1) } else { 8 + significant(low) }
}

const ASCII_ZEROS: u64 = 0x3030_3030_3030_3030;

/// The eight digits of a number below 10^8, the first in the lowest byte.
fn eight_digits(number: u64) -> u64 {
    let fours = (number / 10_000) | ((number % 10_000) << 32);
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let twos = hundreds | ((fours - hundreds * 100) << 16);
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | ((twos - tens * 10) << 8)
}

/// How many of eight digits remain when the zeros at the end are cut off.
fn significant(digits: u64) -> usize {
    8 - digits.leading_zeros() as usize / 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(value: f32) -> String {
        let mut out = [0; TEXT_BYTES];
        let len = write(value, &mut out);
        String::from_utf8(out[..len].to_vec()).unwrap()
    }

    fn check(value: f32) {
        let found = text(value);
        assert_eq!(found.parse::<f32>().unwrap().to_bits(), value.to_bits(), "{found}");
        assert_eq!(found, zmij::Buffer::new().format_finite(value), "{value:e}");
    }

    #[test]
    fn floats_of_every_exponent_print_as_the_library_does() {
        for exponent in 0..255u32 {
            for fraction in [0, 1, 2, 3, 0x7f_fffe, 0x7f_ffff, 0x40_0000, 0x3f_ffff, 0x12_3456] {
                check(f32::from_bits((exponent << 23) | fraction));
                check(-f32::from_bits((exponent << 23) | fraction));
            }
        }
        for whole in 0..100_000u32 {
            check(whole as f32);
            check(whole as f32 / 8.0);
            check(whole as f32 / 1000.0);
            check(whole as f32 / 100_000.0);
        }
    }

    #[test]
    fn ordinary_floats_print_as_the_library_does() {
        // A walk through all floats of 2^-15 to 2^24, in steps that meet every exponent and most low bits.
        let mut bits = 0x3800_0000u32;
        while bits < 0x4b80_0000 {
            check(f32::from_bits(bits));
            bits += 997;
        }
    }

    proptest! {
        #[test]
        fn any_float_prints_as_the_library_does(bits in any::<u32>()) {
            let value = f32::from_bits(bits);
            prop_assume!(value.is_finite());
            check(value);
        }
    }
}
