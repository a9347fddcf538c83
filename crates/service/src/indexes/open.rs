//! From the names in a request to an index that can be asked.

use std::sync::Arc;

use knarr_base::filter::{Filter, Values};
use knarr_base::index::{Distance, VectorIndex};
use knarr_base::right::Right;
use knarr_base::schema::{FieldType, Schema};
use knarr_base::value::{Key, KeyType};
use knarr_base::{Error, Kind, Result, limit};
use knarr_catalog::indexes::Index;
use knarr_engine::rows::Projection;

use super::{IndexRef, Partition, Shown};
use crate::collections::{Opened, typed_key};
use crate::{Inner, Principal, Service};

/// An index that the caller may read.
pub struct OpenIndex {
    pub(super) inner: Arc<Inner>,
    pub(super) opened: Opened,
    pub(super) index: Index,
    schema: Arc<Schema>,
}

impl Service {
    /// Resolves an index. Needs read on its collection.
    ///
    /// # Errors
    /// `Kind::Forbidden`, `Kind::CollectionMissing`, `Kind::AliasMissing`, `Kind::IndexMissing`; `Kind::Invalid`
    /// without a name where there is not exactly one index.
    pub async fn open_index(&self, by: &Principal, index: &IndexRef) -> Result<OpenIndex> {
        let opened = self.inner.collection(by, Right::Read, &index.collection).await?;
        let found = match &index.name {
            Some(name) => opened.index(name)?,
            None => opened.only_index()?,
        };
        let (index, schema) = (found.clone(), opened.table.schema());
        Ok(OpenIndex { inner: self.inner.clone(), opened, index, schema })
    }
}

impl Opened {
    pub(super) fn index(&self, name: &str) -> Result<&Index> {
        let found = self.indexes.iter().find(|index| index.name.as_str() == name);
        found.ok_or_else(|| Error::new(Kind::IndexMissing, "index not exist"))
    }

    /// One documented call omits the name.
    fn only_index(&self) -> Result<&Index> {
        match self.indexes.as_slice() {
            [only] => Ok(only),
            _ => Err(Error::new(Kind::Invalid, "index_name is required unless the collection has exactly one index")),
        }
    }
}

impl OpenIndex {
    /// The collection's present fields.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Its vector side.
    ///
    /// # Errors
    /// `Kind::Invalid` if it has none.
    pub fn vector_index(&self) -> Result<&VectorIndex> {
        self.index.spec.vector.as_ref().ok_or_else(|| Error::new(Kind::Invalid, "the index has no vector_index"))
    }

    /// True if it answers vectors at length 1.
    fn normalises(&self) -> bool {
        self.index.spec.vector.as_ref().is_some_and(|vector| vector.distance == Distance::Cosine)
    }

    /// A query vector from its JSON text: a list of numbers, or base64 of packed floats. Exact: one rounding.
    ///
    /// # Errors
    /// `Kind::InvalidVector`; `Kind::Invalid` where the collection has no vectors.
    pub fn query_vector(&self, json: &str) -> Result<Vec<f32>> {
        let Some((_, dim)) = self.schema.vector() else {
            return Err(Error::new(Kind::Invalid, "the collection has no vector field"));
        };
        let parsed = knarr_engine::rows::parse_query(json, dim as usize);
        parsed.map_err(|why| Error::new(Kind::InvalidVector, format!("query vector: {why}")))
    }

    /// The columns that an answer shows; `None` for no fields at all.
    ///
    /// # Errors
    /// `Kind::Invalid` for a name that the collection does not have.
    pub fn projection(&self, shown: Shown<'_>, with_vector: bool) -> Result<Option<Projection>> {
        let key = self.schema.key_name();
        let vector = |kind| matches!(kind, FieldType::Vector { .. } | FieldType::SparseVector);
        let mut names: Vec<&str> = match shown {
            Shown::Fields(names) => names.iter().map(String::as_str).collect(),
            Shown::Scalars | Shown::ScalarsAndKey => {
                let fields = self.schema.fields().iter().filter(|field| !vector(field.kind));
                let names = fields.map(|field| field.name.as_str());
                names.filter(|name| *name != key || matches!(shown, Shown::ScalarsAndKey)).collect()
            }
        };
        if let (true, Some((at, _))) = (with_vector, self.schema.vector()) {
            names.push(self.schema.fields()[at].name.as_str());
        }
        // A name that comes twice is shown once: two members of one name could be read in two ways.
        let mut chosen: Vec<(&str, &str)> = Vec::with_capacity(names.len());
        for name in names {
            if !chosen.iter().any(|(before, _)| *before == name) {
                chosen.push((name, name));
            }
        }
        match (shown, chosen.as_slice()) {
            (Shown::Fields(_), []) => Ok(None),
            _ => self.columns(&chosen).map(Some),
        }
    }

    /// A row's vectors under the names that an answer gives them; `None` where there are none.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub fn vector_columns(&self, dense_name: &str, sparse_name: &str) -> Result<Option<Projection>> {
        let field = |at: usize| self.schema.fields()[at].name.as_str();
        let dense = self.schema.vector().map(|(at, _)| (field(at), dense_name));
        let sparse = self.schema.sparse_vector().map(|at| (field(at), sparse_name));
        let columns: Vec<_> = dense.into_iter().chain(sparse).collect();
        if columns.is_empty() { Ok(None) } else { self.columns(&columns).map(Some) }
    }

    fn columns(&self, columns: &[(&str, &str)]) -> Result<Projection> {
        Projection::new(&self.schema, columns, self.normalises())
            .map_err(|name| Error::new(Kind::Invalid, format!("output_fields names the unknown field {name:?}")))
    }

    /// Rows of the partitions that a call means (docs/wire/vikingdb.md section 3.5).
    pub(super) fn partition(&self, partition: &Partition) -> Result<Filter> {
        let wrong = |text: &str| Err(Error::new(Kind::InvalidPartition, text));
        let count = match partition {
            Partition::All | Partition::Default => 1,
            Partition::Texts(texts) => texts.len(),
            Partition::Ints(numbers) => numbers.len(),
        };
        if !(1..=limit::PARTITIONS_PER_CALL).contains(&count) {
            return wrong("a call names between 1 and 1000 partitions");
        }
        let Some(field) = &self.index.spec.partition_by else {
            return match partition {
                Partition::All | Partition::Default => Ok(Filter::All),
                Partition::Texts(texts) if texts.iter().any(|text| text == DEFAULT) => Ok(Filter::All),
                Partition::Texts(texts) if texts.iter().all(|text| well_formed(text)) => Ok(self.nothing()),
                Partition::Texts(_) | Partition::Ints(_) => wrong("the index has no partitions but default"),
            };
        };
        let ints = matches!(
            self.schema.field(field).map(|(_, found)| found.kind),
            Some(FieldType::Int64 | FieldType::Int64List)
        );
        let values = match partition {
            Partition::All => return Ok(Filter::All),
            Partition::Default if ints => Values::Empty,
            Partition::Default => Values::Str(vec![DEFAULT.to_owned()]),
            Partition::Ints(numbers) if ints => Values::Int(numbers.clone()),
            Partition::Ints(_) => return wrong("partitions of this index are texts"),
            Partition::Texts(texts) if ints => {
                let numbers = texts.iter().filter(|text| *text != DEFAULT).map(|text| text.parse().ok());
                match numbers.collect::<Option<Vec<i64>>>() {
                    Some(numbers) => Values::Int(numbers),
                    None => return wrong("partitions of this index are integers"),
                }
            }
            Partition::Texts(texts) if texts.iter().all(|text| well_formed(text)) => Values::Str(texts.clone()),
            Partition::Texts(_) => return wrong("a partition has 1 to 256 letters, digits, dots or underscores"),
        };
        Ok(Filter::In { field: field.clone(), values, negated: false })
    }

    /// A filter of the caller, whose fields must be in the scalar index.
    pub(super) fn check_filter(&self, filter: &Filter) -> Result<()> {
        filter.check(&self.schema)?;
        let outside = filter.fields().into_iter().find(|field| !self.index.spec.indexes(&self.schema, field));
        match outside {
            None => Ok(()),
            Some(field) => Err(Error::new(Kind::InvalidFilter, format!("field {field} is not in the scalar index"))),
        }
    }

    /// A filter on the primary key; an empty list is none.
    pub(super) fn keys_filter(&self, keys: &[Key], negated: bool) -> Result<Filter> {
        if keys.is_empty() {
            return Ok(Filter::All);
        }
        let typed = keys.iter().map(|key| typed_key(&self.schema, key.clone())).collect::<Result<Vec<_>>>()?;
        let int = |key| if let Key::Int(n) = key { Some(n) } else { None };
        let text = |key| if let Key::Str(s) = key { Some(String::from(s)) } else { None };
        let values = match self.schema.key_type() {
            KeyType::Int => Values::Int(typed.into_iter().filter_map(int).collect()),
            KeyType::Str => Values::Str(typed.into_iter().filter_map(text).collect()),
        };
        Ok(Filter::In { field: self.schema.key_name().to_owned(), values, negated })
    }

    fn nothing(&self) -> Filter {
        Filter::In { field: self.schema.key_name().to_owned(), values: Values::Empty, negated: false }
    }
}

const DEFAULT: &str = "default";

/// `^[a-zA-Z0-9._]+$`, bounded.
fn well_formed(partition: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'_';
    (1..=limit::PARTITION_BYTES).contains(&partition.len()) && partition.bytes().all(fits)
}
