//! Values as they stand in a file: of fixed width, in an order that does not depend on their type's oddities.

use std::hash::{BuildHasher, RandomState};

use knarr_base::schema::FieldType;
use sha2::{Digest, Sha256};

/// Bytes of a string that is kept as it is.
const SHORT_BYTES: usize = 15;
/// Last byte of the key of a longer one; of a short one it is the length.
const LONG: u8 = 0xff;

/// A value of a field, or of an element of its list.
pub(super) trait Key: Copy + Ord + Send {
    /// Bytes in a file.
    const BYTES: usize;

    /// Appends its bytes.
    fn put(self, out: &mut Vec<u8>);

    /// Number of values below this one, in a file's ascending list of them.
    fn below(self, values: &[u8]) -> u32;

    /// The place of this value in such a list.
    fn find(self, values: &[u8]) -> Option<u32>;

    /// True if each value of a file's list is above the one before.
    fn ascend(values: &[u8]) -> bool;
}

macro_rules! key {
    ($type:ty, $bytes:literal, $get:expr, $put:expr) => {
        impl Key for $type {
            const BYTES: usize = $bytes;

            fn put(self, out: &mut Vec<u8>) {
                let put: fn($type) -> [u8; $bytes] = $put;
                out.extend(put(self));
            }

            fn below(self, values: &[u8]) -> u32 {
                let get: fn([u8; $bytes]) -> $type = $get;
                let (values, _) = values.as_chunks::<$bytes>();
                u32::try_from(values.partition_point(|value| get(*value) < self)).expect("limit::POSTINGS_ENTRIES")
            }

            fn find(self, values: &[u8]) -> Option<u32> {
                let get: fn([u8; $bytes]) -> $type = $get;
                let at = self.below(values);
                let found = values.as_chunks::<$bytes>().0.get(at as usize)?;
                (get(*found) == self).then_some(at)
            }

            fn ascend(values: &[u8]) -> bool {
                let get: fn([u8; $bytes]) -> $type = $get;
                let (values, _) = values.as_chunks::<$bytes>();
                values.windows(2).all(|pair| get(pair[0]) < get(pair[1]))
            }
        }
    };
}

key!(i64, 8, i64::from_le_bytes, i64::to_le_bytes);
key!(u32, 4, u32::from_le_bytes, u32::to_le_bytes);
key!(Text, 16, Text::from_bytes, Text::to_bytes);

/// Stands for a string. Two words, because a 128-bit number would be padded where it stands beside a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Text(u64, u64);

impl Text {
    fn from_bytes(bytes: [u8; 16]) -> Self {
        let number = u128::from_le_bytes(bytes);
        Self((number >> 64) as u64, number as u64)
    }

    fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.0) << 64 | u128::from(self.1)).to_le_bytes()
    }
}

/// The place of an integer among a file's values: at once where these are all integers from the first to the last, as
/// numbered things often are.
pub(super) fn find_int(value: i64, values: &[u8]) -> Option<u32> {
    let (ints, _) = values.as_chunks::<8>();
    let (first, last) = (i64::from_le_bytes(*ints.first()?), i64::from_le_bytes(*ints.last()?));
    if last.abs_diff(first) != ints.len() as u64 - 1 {
        return value.find(values);
    }
    let place = (first..=last).contains(&value).then(|| value.abs_diff(first))?;
    Some(u32::try_from(place).expect("limit::POSTINGS_ENTRIES"))
}

/// Bytes of a key of a field of this type. `None`: such fields have no postings.
pub(super) fn width(kind: FieldType) -> Option<usize> {
    match kind {
        FieldType::Int64 | FieldType::Int64List => Some(i64::BYTES),
        FieldType::Float32 | FieldType::Bool => Some(u32::BYTES),
        FieldType::String | FieldType::StringList => Some(Text::BYTES),
        FieldType::Vector { .. } | FieldType::SparseVector | FieldType::Text | FieldType::Image => None,
    }
}

/// True if filters ask such fields for ranges.
pub(super) fn has_ranges(kind: FieldType) -> bool {
    matches!(kind, FieldType::Int64 | FieldType::Float32)
}

/// True if a row has any number of such values.
pub(super) fn is_list(kind: FieldType) -> bool {
    matches!(kind, FieldType::Int64List | FieldType::StringList)
}

/// Orders as floats compare: both zeros are one, a NaN is above everything and so in no range.
pub(super) fn of_float(x: f32) -> u32 {
    if x.is_nan() {
        return u32::MAX;
    }
    let bits = (x + 0.0).to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// Sixteen random bytes of a file. Strings longer than [`SHORT_BYTES`] are told apart by a digest; who cannot know the
/// salt cannot search for two with the same, and by chance none of a file ever have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Salt(pub(super) [u8; 16]);

impl Salt {
    pub(super) fn random() -> Self {
        let half = || u128::from(RandomState::new().hash_one(0));
        Self((half() << 64 | half()).to_le_bytes())
    }

    pub(super) fn key(&self, text: &[u8]) -> Text {
        let mut bytes = [0; SHORT_BYTES + 1];
        if let Some(start) = bytes[..SHORT_BYTES].get_mut(..text.len()) {
            start.copy_from_slice(text);
            bytes[SHORT_BYTES] = text.len() as u8;
        } else {
            let digest = Sha256::new().chain_update(self.0).chain_update(text).finalize();
            bytes[..SHORT_BYTES].copy_from_slice(&digest[..SHORT_BYTES]);
            bytes[SHORT_BYTES] = LONG;
        }
        Text::from_bytes(bytes)
    }
}
