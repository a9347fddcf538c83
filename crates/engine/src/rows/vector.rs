//! Numbers and dense vectors from JSON text, bit-exact: decimal digits become float32 in one rounding.

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

/// Standard alphabet; clients differ in whether they pad.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A finite float32 from one JSON value, whose grammar the JSON reader has checked.
pub(super) fn parse_float(json: &str) -> Result<f32, String> {
    match fast_float2::parse::<f32, _>(json) {
        Ok(x) if x.is_finite() => Ok(x),
        Ok(_) => Err("the number does not fit a float32".to_owned()),
        Err(_) => Err("expected a number".to_owned()),
    }
}

/// Appends the `dim` elements of a JSON array of numbers or of a base64 text, whose grammar the JSON reader has checked.
/// On an error `out` may hold some of them.
pub(super) fn parse_vector(json: &str, dim: usize, out: &mut Vec<f32>) -> Result<(), String> {
    match json.as_bytes().first() {
        Some(b'[') => parse_array(json.as_bytes(), dim, out),
        Some(b'"') => parse_base64(json, dim, out),
        _ => Err("expected an array of numbers, or base64 text of packed floats".to_owned()),
    }
}

fn parse_array(json: &[u8], dim: usize, out: &mut Vec<f32>) -> Result<(), String> {
    let end = out.len() + dim;
    out.reserve(dim);
    let mut rest = json[1..].trim_ascii_start();
    while rest.first() != Some(&b']') {
        let (x, used) =
            fast_float2::parse_partial::<f32, _>(rest).map_err(|_| "elements must be numbers".to_owned())?;
        if !x.is_finite() {
            return Err("an element does not fit a float32".to_owned());
        }
        if out.len() == end {
            return Err(mismatch(dim, "more"));
        }
        out.push(x);
        rest = &rest[used..];
        // Between two elements stands a comma, most often alone or with one blank.
        if let Some((b' ' | b'\n' | b'\r' | b'\t', _)) = rest.split_first() {
            rest = rest.trim_ascii_start();
        }
        if let Some((b',', tail)) = rest.split_first() {
            rest = tail;
            if let Some((b' ' | b'\n' | b'\r' | b'\t', _)) = rest.split_first() {
                rest = rest.trim_ascii_start();
            }
        }
    }
    if out.len() == end { Ok(()) } else { Err(mismatch(dim, "fewer")) }
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
