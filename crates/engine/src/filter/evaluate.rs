//! The loops over rows.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use arrow_buffer::{BooleanBuffer, Buffer};
use arrow_schema::DataType;

use super::set::{IntForm, IntSet, bitmap_contains};
use super::{Leaf, Node, Test};
use crate::rows::span;

/// The rows among `selected` (`None`: all) for which the node holds.
pub(super) fn node(node: &Node, batch: &RecordBatch, selected: Option<&BooleanBuffer>) -> BooleanBuffer {
    let rows = batch.num_rows();
    match node {
        Node::Const(true) => selected.cloned().unwrap_or_else(|| BooleanBuffer::new_set(rows)),
        Node::Const(false) => BooleanBuffer::new_unset(rows),
        Node::And(parts) => all_of(parts, batch, selected),
        Node::Or(parts) => any_of(parts, batch, selected),
        Node::Leaf(condition) => leaf(condition, batch, selected),
    }
}

/// The rows among `selected` for which every part holds.
pub(super) fn all_of<'a>(
    parts: impl IntoIterator<Item = &'a Node>,
    batch: &RecordBatch,
    selected: Option<&BooleanBuffer>,
) -> BooleanBuffer {
    let mut left = selected.cloned();
    for part in parts {
        let matched = node(part, batch, left.as_ref());
        let none = matched.count_set_bits() == 0;
        left = Some(matched);
        if none {
            break;
        }
    }
    left.unwrap_or_else(|| BooleanBuffer::new_set(batch.num_rows()))
}

fn any_of(parts: &[Node], batch: &RecordBatch, selected: Option<&BooleanBuffer>) -> BooleanBuffer {
    let mut found = BooleanBuffer::new_unset(batch.num_rows());
    let mut left = selected.cloned();
    for part in parts {
        let matched = node(part, batch, left.as_ref());
        found = &found | &matched;
        left = Some(match left {
            Some(left) => &left & &!&matched,
            None => !&matched,
        });
        if left.as_ref().is_some_and(|left| left.count_set_bits() == 0) {
            break;
        }
    }
    found
}

/// How a condition's cost compares with walking the set bits of a selection.
#[derive(Clone, Copy, PartialEq)]
enum Cost {
    /// A comparison or two: looking at every row is cheaper unless few are selected.
    Small,
    /// Strings and lists: only selected rows are looked at.
    Large,
}

fn leaf(leaf: &Leaf, batch: &RecordBatch, selected: Option<&BooleanBuffer>) -> BooleanBuffer {
    let not = leaf.negated;
    let rows = Rows { count: batch.num_rows(), selected };
    match &leaf.test {
        Test::IntRange { column, range } => {
            let values: &[i64] = batch.column(*column).as_primitive::<Int64Type>().values();
            let (low, high) = (*range.start(), *range.end());
            rows.filter(Cost::Small, |row| (low <= values[row] && values[row] <= high) != not)
        }
        Test::FloatRange { column, range } => {
            let values: &[f32] = batch.column(*column).as_primitive::<Float32Type>().values();
            let (low, high) = (*range.start(), *range.end());
            rows.filter(Cost::Small, |row| (low <= values[row] && values[row] <= high) != not)
        }
        Test::IntIn { column, set } => {
            int_in(batch.column(*column).as_primitive::<Int64Type>().values(), set, not, rows)
        }
        Test::BoolIs { column, value } => {
            let values = batch.column(*column).as_boolean().values();
            let matched = if *value != not { values.clone() } else { !values };
            selected.map_or_else(|| matched.clone(), |selected| &matched & selected)
        }
        Test::Circle { columns, center, radius } => {
            let [x, y] = columns.map(|column| Numbers::of(batch.column(column)));
            // `hypot` neither overflows nor loses small distances, as squares would.
            let within = |row| (x.at(row) - center[0]).hypot(y.at(row) - center[1]) <= *radius;
            rows.filter(Cost::Large, |row| within(row) != not)
        }
        Test::StrIn { column, set } => {
            let values = batch.column(*column).as_string::<i32>();
            let (offsets, bytes) = (values.value_offsets(), values.value_data());
            rows.filter(Cost::Large, |row| set.contains(&bytes[span(offsets, row)]) != not)
        }
        Test::IntListIn { column, set } => {
            let list = batch.column(*column).as_list::<i32>();
            let (offsets, values) = (list.value_offsets(), list.values().as_primitive::<Int64Type>().values());
            rows.filter(Cost::Large, |row| values[span(offsets, row)].iter().any(|v| set.contains(*v)) != not)
        }
        Test::StrListIn { column, set } => {
            let list = batch.column(*column).as_list::<i32>();
            let values = list.values().as_string::<i32>();
            let (lists, offsets, bytes) = (list.value_offsets(), values.value_offsets(), values.value_data());
            let any = |row| span(lists, row).any(|at| set.contains(&bytes[span(offsets, at)]));
            rows.filter(Cost::Large, |row| any(row) != not)
        }
    }
}

fn int_in(values: &[i64], set: &IntSet, not: bool, rows: Rows<'_>) -> BooleanBuffer {
    match set.form() {
        IntForm::Bitmap { least, words } => {
            rows.filter(Cost::Small, |row| bitmap_contains(*least, words, values[row]) != not)
        }
        IntForm::Hash(set) => rows.filter(Cost::Large, |row| set.contains(&values[row]) != not),
    }
}

/// The rows a condition is asked about.
struct Rows<'a> {
    count: usize,
    selected: Option<&'a BooleanBuffer>,
}

impl Rows<'_> {
    fn filter(&self, cost: Cost, test: impl Fn(usize) -> bool) -> BooleanBuffer {
        let Some(selected) = self.selected else { return BooleanBuffer::collect_bool(self.count, test) };
        if cost == Cost::Small && selected.count_set_bits() > self.count / 8 {
            return &BooleanBuffer::collect_bool(self.count, test) & selected;
        }
        let mut words = vec![0u64; self.count.div_ceil(64)];
        for row in selected.set_indices() {
            words[row / 64] |= u64::from(test(row)) << (row % 64);
        }
        BooleanBuffer::new(Buffer::from_vec(words), 0, self.count)
    }
}

/// A numeric column, read as doubles.
enum Numbers<'a> {
    Int(&'a [i64]),
    Float(&'a [f32]),
}

impl<'a> Numbers<'a> {
    fn of(column: &'a dyn Array) -> Self {
        match column.data_type() {
            DataType::Int64 => Numbers::Int(column.as_primitive::<Int64Type>().values()),
            _ => Numbers::Float(column.as_primitive::<Float32Type>().values()),
        }
    }

    fn at(&self, row: usize) -> f64 {
        match self {
            Numbers::Int(values) => values[row] as f64,
            Numbers::Float(values) => f64::from(values[row]),
        }
    }
}
