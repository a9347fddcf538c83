//! Single values: primary keys, field defaults and filter constants. Bulk rows never take this form.

use std::cmp::Ordering;
use std::fmt;

/// A primary key. Order is that of a segment: integers by value, strings by bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// int64 field or generated key.
    Int(i64),
    /// string field, at most [`crate::limit::KEY_BYTES`] bytes.
    Str(Box<str>),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Int(n) => n.fmt(f),
            Key::Str(s) => s.fmt(f),
        }
    }
}

/// Which of the two a collection's keys are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// 64-bit signed integers.
    Int,
    /// UTF-8 strings.
    Str,
}

/// A field's default.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// int64
    Int(i64),
    /// float32, never NaN or infinite
    Float(f32),
    /// string
    Str(String),
    /// bool
    Bool(bool),
    /// list<int64>
    IntList(Vec<i64>),
    /// list<string>
    StrList(Vec<String>),
}

/// A bound of a range: kept as it was written, so that an int64 is compared exactly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// Written without fraction or exponent, within 64 bits.
    Int(i64),
    /// Anything else, finite.
    Float(f64),
}

impl Number {
    /// As a double, rounding large integers.
    pub fn as_f64(self) -> f64 {
        match self {
            Number::Int(n) => n as f64,
            Number::Float(x) => x,
        }
    }

    /// Mathematical comparison of an integer with this bound; never through a rounded double.
    pub fn cmp_int(self, value: i64) -> Ordering {
        match self {
            Number::Int(n) => value.cmp(&n),
            // i64 spans [-2^63, 2^63): bounds outside decide at once, the rest have an exact integer part.
            Number::Float(x) if x >= 9_223_372_036_854_775_808.0 => Ordering::Less,
            Number::Float(x) if x < -9_223_372_036_854_775_808.0 => Ordering::Greater,
            Number::Float(x) => {
                let whole = x.floor();
                value.cmp(&(whole as i64)).then(if x > whole { Ordering::Less } else { Ordering::Equal })
            }
        }
    }

    /// Comparison of a float32, widened, with this bound. Integers beyond 2^53 are compared exactly.
    pub fn cmp_float(self, value: f32) -> Ordering {
        match self {
            // Both are finite by construction, so the comparison cannot fail.
            Number::Float(x) => f64::from(value).partial_cmp(&x).unwrap_or(Ordering::Equal),
            Number::Int(n) => Number::Float(f64::from(value)).cmp_int(n).reverse(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_compare_mathematically() {
        let big = (1i64 << 53) + 1;
        assert_eq!(Number::Int(big - 1).cmp_int(big), Ordering::Greater);
        assert_eq!(Number::Float(1.5).cmp_int(1), Ordering::Less);
        assert_eq!(Number::Float(1.5).cmp_int(2), Ordering::Greater);
        assert_eq!(Number::Float(-1.5).cmp_int(-1), Ordering::Greater);
        assert_eq!(Number::Float(-1.5).cmp_int(-2), Ordering::Less);
        assert_eq!(Number::Float(2.0).cmp_int(2), Ordering::Equal);
        assert_eq!(Number::Float(1e300).cmp_int(i64::MAX), Ordering::Less);
        assert_eq!(Number::Float(9_223_372_036_854_775_808.0).cmp_int(i64::MAX), Ordering::Less);
        assert_eq!(Number::Float(-9_223_372_036_854_775_808.0).cmp_int(i64::MIN), Ordering::Equal);
        assert_eq!(Number::Float(-1e300).cmp_int(i64::MIN), Ordering::Greater);
    }

    #[test]
    fn floats_compare_after_widening() {
        assert_eq!(Number::Float(0.1).cmp_float(0.1f32), Ordering::Greater);
        assert_eq!(Number::Float(0.0).cmp_float(-0.0), Ordering::Equal);
        assert_eq!(Number::Int((1 << 53) + 1).cmp_float(9_007_199_254_740_992.0), Ordering::Less);
        assert_eq!(Number::Int(3).cmp_float(3.0), Ordering::Equal);
        assert_eq!(Number::Int(i64::MAX).cmp_float(f32::MAX), Ordering::Greater);
    }
}
