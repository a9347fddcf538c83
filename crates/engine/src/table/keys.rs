//! Key columns and ordered look-ups in them.

use std::cmp::Ordering;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, StringArray};
use knarr_base::value::{Key, KeyType};

/// A borrowed [`Key`], in the order of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum KeyRef<'a> {
    Int(i64),
    Str(&'a str),
}

impl KeyRef<'_> {
    pub(crate) fn to_key(self) -> Key {
        match self {
            KeyRef::Int(n) => Key::Int(n),
            KeyRef::Str(s) => Key::Str(s.into()),
        }
    }
}

pub(crate) fn key_ref(key: &Key) -> KeyRef<'_> {
    match key {
        Key::Int(n) => KeyRef::Int(*n),
        Key::Str(s) => KeyRef::Str(s),
    }
}

/// The key column of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) enum KeyColumn<'a> {
    Int(&'a [i64]),
    Str(&'a StringArray),
}

impl<'a> KeyColumn<'a> {
    /// The column must be Int64 or Utf8, which the schema guarantees.
    pub(crate) fn new(column: &'a ArrayRef) -> Self {
        match column.as_primitive_opt::<Int64Type>() {
            Some(ints) => KeyColumn::Int(ints.values()),
            None => KeyColumn::Str(column.as_string()),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            KeyColumn::Int(keys) => keys.len(),
            KeyColumn::Str(keys) => keys.len(),
        }
    }

    pub(crate) fn get(&self, row: usize) -> KeyRef<'a> {
        match self {
            KeyColumn::Int(keys) => KeyRef::Int(keys[row]),
            KeyColumn::Str(keys) => KeyRef::Str(keys.value(row)),
        }
    }

    /// Position of `key` in an ascending column.
    pub(crate) fn find(&self, key: KeyRef<'_>) -> Option<usize> {
        match (self, key) {
            (KeyColumn::Int(keys), KeyRef::Int(key)) => keys.binary_search(&key).ok(),
            (KeyColumn::Str(keys), KeyRef::Str(key)) => {
                let at = partition(0, keys.len(), |row| keys.value(row) < key);
                (at < keys.len() && keys.value(at) == key).then_some(at)
            }
            (KeyColumn::Int(_), KeyRef::Str(_)) | (KeyColumn::Str(_), KeyRef::Int(_)) => None,
        }
    }

    /// Calls `hit(index in wanted, row)` for every key of ascending `wanted` that is in this ascending column. Gallops
    /// over both sides, so it costs the shorter one times the logarithm of the gaps.
    pub(crate) fn intersect(&self, wanted: &KeyList, from: usize, to: usize, mut hit: impl FnMut(usize, usize)) {
        match (self, wanted) {
            (KeyColumn::Int(keys), KeyList::Int(wanted)) => {
                gallop_both(to - from, keys.len(), |a, b| wanted[from + a].cmp(&keys[b]), |a, b| hit(from + a, b));
            }
            (KeyColumn::Str(keys), KeyList::Str(wanted)) => gallop_both(
                to - from,
                keys.len(),
                |a, b| (*wanted[from + a]).cmp(keys.value(b)),
                |a, b| hit(from + a, b),
            ),
            (KeyColumn::Int(_), KeyList::Str(_)) | (KeyColumn::Str(_), KeyList::Int(_)) => {}
        }
    }
}

/// First index in `low..high` for which `below` is false.
fn partition(mut low: usize, mut high: usize, below: impl Fn(usize) -> bool) -> usize {
    while low < high {
        let middle = low + (high - low) / 2;
        if below(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// First index in `at..len` for which `below` is false, looking near `at` first.
fn gallop(at: usize, len: usize, below: impl Fn(usize) -> bool) -> usize {
    let mut step = 1;
    let (mut low, mut high) = (at, at);
    while high < len && below(high) {
        low = high + 1;
        high += step;
        step *= 2;
    }
    partition(low, high.min(len), below)
}

fn gallop_both(
    a_len: usize,
    b_len: usize,
    compare: impl Fn(usize, usize) -> Ordering,
    mut hit: impl FnMut(usize, usize),
) {
    let (mut a, mut b) = (0, 0);
    while a < a_len && b < b_len {
        match compare(a, b) {
            Ordering::Equal => {
                hit(a, b);
                a += 1;
                b += 1;
            }
            Ordering::Less => a = gallop(a + 1, a_len, |i| compare(i, b).is_lt()),
            Ordering::Greater => b = gallop(b + 1, b_len, |i| compare(a, i).is_gt()),
        }
    }
}

/// Owned keys of one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyList {
    Int(Vec<i64>),
    Str(Vec<Box<str>>),
}

impl KeyList {
    pub(crate) fn new(kind: KeyType) -> Self {
        match kind {
            KeyType::Int => KeyList::Int(Vec::new()),
            KeyType::Str => KeyList::Str(Vec::new()),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            KeyList::Int(keys) => keys.len(),
            KeyList::Str(keys) => keys.len(),
        }
    }

    pub(crate) fn get(&self, at: usize) -> KeyRef<'_> {
        match self {
            KeyList::Int(keys) => KeyRef::Int(keys[at]),
            KeyList::Str(keys) => KeyRef::Str(&keys[at]),
        }
    }

    /// A key of the other type is left out: no row can have it.
    pub(crate) fn push(&mut self, key: KeyRef<'_>) {
        match (self, key) {
            (KeyList::Int(keys), KeyRef::Int(key)) => keys.push(key),
            (KeyList::Str(keys), KeyRef::Str(key)) => keys.push(key.into()),
            (KeyList::Int(_), KeyRef::Str(_)) | (KeyList::Str(_), KeyRef::Int(_)) => {}
        }
    }

    /// First position whose key is not below `key`, in an ascending list.
    pub(crate) fn lower_bound(&self, key: KeyRef<'_>) -> usize {
        partition(0, self.len(), |at| self.get(at) < key)
    }

    /// First position whose key is above `key`, in an ascending list.
    pub(crate) fn upper_bound(&self, key: KeyRef<'_>) -> usize {
        partition(0, self.len(), |at| self.get(at) <= key)
    }

    /// All keys of lists of one type, ascending, once each.
    pub(crate) fn union(lists: impl Iterator<Item = Self>) -> Self {
        let joined = lists.reduce(|a, b| match (a, b) {
            (KeyList::Int(mut a), KeyList::Int(b)) => {
                a.extend(b);
                KeyList::Int(a)
            }
            (KeyList::Str(mut a), KeyList::Str(b)) => {
                a.extend(b);
                KeyList::Str(a)
            }
            (a, KeyList::Int(_) | KeyList::Str(_)) => a,
        });
        match joined {
            Some(KeyList::Int(mut keys)) => {
                keys.sort_unstable();
                keys.dedup();
                KeyList::Int(keys)
            }
            Some(KeyList::Str(mut keys)) => {
                keys.sort_unstable();
                keys.dedup();
                KeyList::Str(keys)
            }
            None => KeyList::Int(Vec::new()),
        }
    }

    pub(crate) fn from_keys<'a>(kind: KeyType, keys: impl Iterator<Item = KeyRef<'a>>) -> Self {
        let mut list = Self::new(kind);
        keys.for_each(|key| list.push(key));
        list
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::Int64Array;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn intersection_is_that_of_sets(a in proptest::collection::btree_set(-50i64..50, 0..60),
                                        b in proptest::collection::btree_set(-50i64..50, 0..60)) {
            let column: ArrayRef = Arc::new(Int64Array::from_iter_values(b.iter().copied()));
            let wanted = KeyList::Int(a.iter().copied().collect());
            let mut found = Vec::new();
            KeyColumn::new(&column).intersect(&wanted, 0, wanted.len(), |w, row| {
                assert_eq!(wanted.get(w), KeyColumn::new(&column).get(row));
                found.push(wanted.get(w).to_key());
            });
            let expected: Vec<_> = a.intersection(&b).map(|n| Key::Int(*n)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
