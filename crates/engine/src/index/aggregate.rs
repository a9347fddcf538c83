//! Counting rows, by the value of a field where one is named.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_buffer::BooleanBuffer;
use arrow_schema::DataType;
use knarr_base::filter::Filter;
use knarr_base::search::Aggregate;
use knarr_base::value::Value;
use knarr_base::{Kind, limit};

use super::spread::{Work, spread};
use crate::columns;
use crate::compute::Cancel;
use crate::error::{Error, Result};
use crate::filter::Predicate;
use crate::table::Table;
use crate::table::moment::{Block, Moment};

/// Blocks that are worth another thread: counting one takes some hundred microseconds.
const BLOCKS_PER_THREAD: usize = 8;

/// How many rows there are.
#[derive(Debug, Clone, PartialEq)]
pub struct Groups {
    /// Rows that pass the filter.
    pub total: u64,
    /// By value, ascending, where a field is named; those that are not shown are left out.
    pub groups: Vec<Group>,
}

/// Rows with one value.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// `Int`, `Str` or `Bool`.
    pub value: Value,
    /// At least 1.
    pub rows: u64,
}

impl Table {
    /// Counts rows as of now. Exact, whatever is in memory. Blocking; call it on a compute thread.
    ///
    /// # Errors
    /// `Search` also for more than `limit::AGG_GROUPS` values, `Filter`, `Cancelled`, `Corrupt`.
    pub fn aggregate(&self, question: &Aggregate, cancel: &Cancel) -> Result<Groups> {
        self.aggregate_at(Arc::new(self.moment()), question, cancel)
    }

    fn aggregate_at(&self, moment: Arc<Moment>, question: &Aggregate, cancel: &Cancel) -> Result<Groups> {
        let schema = moment.schema().clone();
        question.check(&schema).map_err(Error::Search)?;
        let predicate = Predicate::compile(&question.filter, &schema)?;
        let blocks = moment.blocks(|bounds| predicate.may_match(bounds))?;
        let column = question.group_by.as_deref().and_then(|field| columns::named_column(&schema, field));
        let counting = Arc::new(Counting { moment, blocks, predicate, column, cancel: cancel.clone() });
        let steps = counting.blocks.len();
        let parts = spread(&self.pool, Arc::clone(&counting), steps, steps, BLOCKS_PER_THREAD)?;
        let mut all = Part::default();
        for part in parts {
            all.merge(part)?;
        }
        let mut groups = all.into_groups();
        groups.groups.retain(|group| {
            let rows = i64::try_from(group.rows).unwrap_or(i64::MAX);
            question.more_than.is_none_or(|bound| bound.cmp_int(rows).is_gt())
        });
        Ok(groups)
    }

    /// Rows that pass a filter.
    pub(super) fn count_at(&self, moment: Arc<Moment>, filter: &Filter, cancel: &Cancel) -> Result<u64> {
        let question = Aggregate { filter: filter.clone(), group_by: None, more_than: None };
        Ok(self.aggregate_at(moment, &question, cancel)?.total)
    }
}

struct Counting {
    moment: Arc<Moment>,
    blocks: Vec<Block>,
    predicate: Predicate,
    column: Option<usize>,
    cancel: Cancel,
}

/// What one thread has counted.
#[derive(Default)]
struct Part {
    total: u64,
    ints: HashMap<i64, u64>,
    texts: HashMap<Box<str>, u64>,
    /// Of false and true.
    bools: [u64; 2],
}

impl Work for Arc<Counting> {
    type Part = Part;

    fn start(&self) -> Part {
        Part::default()
    }

    fn step(&self, part: &mut Part, step: usize) -> Result<()> {
        self.cancel.check()?;
        let block = self.blocks[step];
        let batch = self.moment.scalars(block)?;
        let live = self.moment.live(block)?;
        let passed = self.predicate.evaluate(&batch, live.as_ref());
        let seen = self.moment.visible(block, passed)?;
        part.total += seen.count_set_bits() as u64;
        match self.column {
            Some(column) => part.add(batch.column(column), &seen),
            None => Ok(()),
        }
    }
}

impl Part {
    fn add(&mut self, column: &dyn Array, rows: &BooleanBuffer) -> Result<()> {
        match column.data_type() {
            DataType::Int64 => {
                let values = column.as_primitive::<Int64Type>().values();
                rows.set_indices().for_each(|row| *self.ints.entry(values[row]).or_default() += 1);
            }
            DataType::Boolean => {
                let values = column.as_boolean().values();
                rows.set_indices().for_each(|row| self.bools[usize::from(values.value(row))] += 1);
            }
            _ => {
                let values = column.as_string::<i32>();
                rows.set_indices().for_each(|row| self.add_text(values.value(row), 1));
            }
        }
        self.check()
    }

    fn add_text(&mut self, text: &str, rows: u64) {
        match self.texts.get_mut(text) {
            Some(count) => *count += rows,
            None => {
                self.texts.insert(text.into(), rows);
            }
        }
    }

    /// A batch adds at most 2^16 values, so looking once per batch bounds the memory.
    fn check(&self) -> Result<()> {
        if self.ints.len() + self.texts.len() <= limit::AGG_GROUPS {
            return Ok(());
        }
        let text = format!("the field has more than {} values to group by", limit::AGG_GROUPS);
        Err(Error::Search(knarr_base::Error::new(Kind::Invalid, text)))
    }

    fn merge(&mut self, other: Self) -> Result<()> {
        self.total += other.total;
        other.ints.into_iter().for_each(|(value, rows)| *self.ints.entry(value).or_default() += rows);
        other.texts.into_iter().for_each(|(text, rows)| *self.texts.entry(text).or_default() += rows);
        (0..2).for_each(|at| self.bools[at] += other.bools[at]);
        self.check()
    }

    fn into_groups(self) -> Groups {
        let mut ints: Vec<_> = self.ints.into_iter().collect();
        ints.sort_unstable();
        let mut texts: Vec<_> = self.texts.into_iter().collect();
        texts.sort_unstable();
        let bools = [(false, self.bools[0]), (true, self.bools[1])].into_iter().filter(|(_, rows)| *rows > 0);
        let ints = ints.into_iter().map(|(n, rows)| Group { value: Value::Int(n), rows });
        let texts = texts.into_iter().map(|(text, rows)| Group { value: Value::Str(text.into()), rows });
        let bools = bools.map(|(value, rows)| Group { value: Value::Bool(value), rows });
        Groups { total: self.total, groups: ints.chain(texts).chain(bools).collect() }
    }
}
