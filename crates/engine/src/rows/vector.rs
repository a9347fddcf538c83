//! Numbers and dense vectors from JSON text, bit-exact: decimal digits become float32 in one rounding.

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde_json::value::RawValue;

/// Standard alphabet; clients differ in whether they pad.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A finite float32 from the text of one JSON value, whose grammar somebody has checked.
pub(super) fn parse_float(json: &str) -> Result<f32, String> {
    match fast_float2::parse::<f32, _>(json) {
        Ok(x) if x.is_finite() => Ok(x),
        Ok(_) => Err("the number does not fit a float32".to_owned()),
        Err(_) => Err("expected a number".to_owned()),
    }
}

/// A finite float32 from the text of one JSON value.
pub(super) fn parse_number(json: &str) -> Result<f32, String> {
    serde_json::from_str::<&RawValue>(json).map_err(|_| "expected a number")?;
    parse_float(json)
}

/// Appends the `dim` elements of the array of numbers at the beginning of `json`; returns its bytes. On an error `out` may
/// hold some of them.
pub(super) fn parse_array(json: &str, dim: usize, out: &mut Vec<f32>) -> Result<usize, String> {
    let (text, end) = (json.as_bytes(), out.len() + dim);
    out.reserve(dim);
    let mut at = 1 + blanks(&text[1..]);
    let mut closed = text.get(at) == Some(&b']');
    while !closed {
        let (x, used) = match plain_number(&text[at..]) {
            Some(read) => read,
            None => any_number(&json[at..])?,
        };
        if out.len() == end {
            return Err(mismatch(dim, "more"));
        }
        out.push(x);
        at += used + blanks(&text[at + used..]);
        match text.get(at) {
            Some(b',') => at += 1 + blanks(&text[at + 1..]),
            Some(b']') => closed = true,
            _ => return Err("elements must be numbers".to_owned()),
        }
    }
    if out.len() == end { Ok(at + 1) } else { Err(mismatch(dim, "fewer")) }
}

/// The number at the beginning and its bytes, whatever its form.
fn any_number(json: &str) -> Result<(f32, usize), String> {
    let used = json.bytes().take_while(|b| matches!(b, b'+' | b'-' | b'.' | b'0'..=b'9' | b'e' | b'E')).count();
    let number = &json[..used];
    serde_json::from_str::<&RawValue>(number).map_err(|_| "elements must be numbers")?;
    match fast_float2::parse::<f32, _>(number) {
        Ok(x) if x.is_finite() => Ok((x, used)),
        _ => Err("an element does not fit a float32".to_owned()),
    }
}

/// Most often none, sometimes one.
#[inline]
fn blanks(json: &[u8]) -> usize {
    match json.first() {
        Some(b' ' | b'\n' | b'\r' | b'\t') => json.iter().take_while(|b| b.is_ascii_whitespace()).count(),
        _ => 0,
    }
}

const TENS: [f64; 16] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// The JSON number at the beginning and its bytes, if it has at most 15 digits and no exponent; otherwise, or when the
/// rounding is not certain, nothing.
///
/// Such digits and the power of ten are exact doubles, so their quotient is the double nearest to the decimal. Rounding
/// it once more gives the float32 nearest to the decimal, unless it lies exactly between two of them: the decimal may
/// then lie on either side.
#[inline]
fn plain_number(json: &[u8]) -> Option<(f32, usize)> {
    let negative = json.first() == Some(&b'-');
    let first = usize::from(negative);
    let (mut digits, mut at) = (0u64, first);
    while let Some(digit) = digit(json, at) {
        digits = digits.wrapping_mul(10).wrapping_add(digit);
        at += 1;
    }
    let whole = at - first;
    let mut decimals = 0;
    if json.get(at) == Some(&b'.') {
        at += 1;
        let point = at;
        if let Some(eight) = eight_digits(&json[at..]) {
            digits = digits.wrapping_mul(100_000_000).wrapping_add(eight);
            at += 8;
        }
        while let Some(digit) = digit(json, at) {
            digits = digits.wrapping_mul(10).wrapping_add(digit);
            at += 1;
        }
        decimals = at - point;
    }
    let short = whole > 0 && whole + decimals <= 15 && (whole == 1 || json[first] != b'0');
    if !short || json[at - 1] == b'.' || matches!(json.get(at), Some(b'e' | b'E')) {
        return None;
    }
    let value = digits as f64 / TENS[decimals];
    // The lower 29 bits of a double are those that a float32 has not.
    if value.to_bits() & 0x1fff_ffff == 0x1000_0000 {
        return None;
    }
    let value = value as f32;
    Some((if negative { -value } else { value }, at))
}

#[inline]
fn digit(json: &[u8], at: usize) -> Option<u64> {
    json.get(at).map(|b| b.wrapping_sub(b'0')).filter(|d| *d < 10).map(u64::from)
}

/// The number that the first eight bytes spell, if all are digits.
#[inline]
fn eight_digits(json: &[u8]) -> Option<u64> {
    let text = u64::from_le_bytes(*json.first_chunk()?);
    let digits = text.wrapping_sub(0x3030_3030_3030_3030);
    // A byte below '0' borrows and one above '9' carries into its highest bit.
    if (digits | text.wrapping_add(0x4646_4646_4646_4646)) & 0x8080_8080_8080_8080 != 0 {
        return None;
    }
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let (low, high) = (pairs & 0x0000_00ff_0000_00ff, (pairs >> 16) & 0x0000_00ff_0000_00ff);
    let spread = low.wrapping_mul((1_000_000 << 32) + 100).wrapping_add(high.wrapping_mul((10_000 << 32) + 1));
    Some(spread >> 32)
}

/// Appends the `dim` elements that a JSON value other than an array holds: base64 text of packed floats.
pub(super) fn parse_text(json: &str, dim: usize, out: &mut Vec<f32>) -> Result<(), String> {
    if json.starts_with('"') {
        parse_base64(json, dim, out)
    } else {
        Err("expected an array of numbers, or base64 text of packed floats".to_owned())
    }
}

fn parse_base64(json: &str, dim: usize, out: &mut Vec<f32>) -> Result<(), String> {
    // The text may hold JSON escapes: `\/` is a usual one.
    let text: String = serde_json::from_str(json).map_err(|e| e.to_string())?;
    let bytes = BASE64.decode(text.as_bytes()).map_err(|_| "the text is not base64".to_owned())?;
    match bytes.len() {
        n if n == 4 * dim => out.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
        n if n == 8 * dim => out.extend(bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32)),
        n if n % 4 == 0 => return Err(mismatch(dim, if n < 4 * dim { "fewer" } else { "more" })),
        _ => return Err("the base64 text does not hold packed float32 or float64".to_owned()),
    }
    if out[out.len() - dim..].iter().all(|x| x.is_finite()) {
        Ok(())
    } else {
        Err("an element is not finite or does not fit a float32".to_owned())
    }
}

fn mismatch(dim: usize, than: &str) -> String {
    format!("dimension mismatch: expected {dim} elements, got {than}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The library's reading, which is right for every decimal.
    fn check(text: &str) {
        let mut out = Vec::new();
        let json = format!("[{text}]");
        let used = parse_array(&json, 1, &mut out).unwrap();
        assert_eq!((out[0].to_bits(), used), (text.parse::<f32>().unwrap().to_bits(), json.len()), "{text}");
    }

    #[test]
    fn decimals_between_two_floats_go_to_the_right_one() {
        // 1 + 2^-24 lies between 1 and its neighbour: exactly, a little below, a little above.
        for text in ["1.000000059604644775390625", "1.00000005960464", "1.00000005960465", "1.0000000596046448"] {
            check(text);
        }
        for m in (1u32 << 23..1 << 24).step_by(99_991) {
            // Halves between whole numbers of 24 bits, and their neighbours at the fifteenth digit.
            let whole = u64::from(m) * 2 + 1;
            check(&format!("{whole}"));
            check(&format!("{whole}.0"));
            check(&format!("{whole}.0000001"));
            check(&format!("{}.9999999", whole - 1));
            check(&format!("-{}", whole * 1024));
        }
    }

    #[test]
    fn numbers_of_every_form() {
        for text in [
            "0",
            "-0",
            "0.0",
            "-0.0",
            "1",
            "-1",
            "12345678",
            "123456789012345",
            "1234567890123456",
            "0.1",
            "0.12345678",
            "0.123456789",
            "-0.00000001",
            "0.000000000000001",
            "1e5",
            "1E-5",
            "12345678.12345678",
            "9.99999999",
        ] {
            check(text);
        }
    }

    proptest! {
        #[test]
        fn any_float_is_read_back(bits in any::<u32>()) {
            let value = f32::from_bits(bits);
            prop_assume!(value.is_finite());
            check(&format!("{value}"));
            check(&format!("{value:e}"));
            check(&format!("{}", f64::from(value)));
        }

        #[test]
        fn any_decimal_is_read_as_the_library_does(
            negative in any::<bool>(), whole in 0u64..1_000_000_000, fraction in "[0-9]{0,18}",
        ) {
            let (sign, point) = (if negative { "-" } else { "" }, if fraction.is_empty() { "" } else { "." });
            check(&format!("{sign}{whole}{point}{fraction}"));
        }
    }
}
