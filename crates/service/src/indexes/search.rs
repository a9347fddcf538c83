//! search, search/agg and sort.

use std::collections::HashSet;

use knarr_base::filter::Filter;
use knarr_base::index::{Distance, IndexKind, VectorIndex};
use knarr_base::schema::FieldType;
use knarr_base::search::{Aggregate, Effort, Order, Search, Sparse};
use knarr_base::value::{Key, Value};
use knarr_base::{Error, Kind, Result, limit};
use knarr_engine::compute::{Cancel, Lane};
use knarr_engine::index::{self, Groups};
use uuid::Uuid;

use super::{AggregateRequest, Found, Group, OpenIndex, OrderBy, SearchRequest, Sorted};
use crate::Principal;
use crate::collections::typed_key;
use crate::embedding::{Material, model_of};

impl OpenIndex {
    /// The best rows of each query, as of the beginning of the call.
    ///
    /// # Errors
    /// `Kind::Invalid`, `Kind::InvalidVector`, `Kind::InvalidFilter`, `Kind::InvalidKey`, `Kind::InvalidPartition`,
    /// `Kind::RowMissing` for a search by a key that has no row, `Kind::Busy`, `Kind::Corrupt`.
    pub async fn search(&self, request: SearchRequest) -> Result<Found> {
        let SearchRequest { order, filter, partition, keys_in, keys_not_in, .. } = &request;
        self.check_filter(filter)?;
        let parts = [
            filter.clone(),
            self.partition(partition)?,
            self.keys_filter(keys_in, false)?,
            self.keys_filter(keys_not_in, true)?,
        ];
        let search = Search {
            order: self.order(order)?,
            filter: Filter::all_of(parts),
            limit: request.limit,
            offset: request.offset,
            post: request.post.clone(),
            count: request.count,
            effort: self.effort(&request)?,
        };
        self.compute(move |table, cancel| table.search(&search, cancel)).await
    }

    /// The query vector of a text, an image, or both, by the collection's model.
    ///
    /// # Errors
    /// `Kind::EmbeddingFailed`, `Kind::InvalidVector` if the model's vectors do not fit the field, `Kind::Busy`; for an
    /// image `Kind::Invalid`, and `Kind::Forbidden` in a bucket that the key may not read.
    pub async fn embed(&self, by: &Principal, material: Material) -> Result<Vec<f32>> {
        let model = model_of(self.opened.record.vectorize.as_deref(), &self.inner.models)?;
        self.inner.check_model(&model, material.image.is_some())?;
        self.searchable()?;
        let vector = self.inner.vector_of(by, &model, material).await?;
        match self.schema().vector() {
            Some((_, dim)) if dim as usize == vector.len() => Ok(vector),
            _ => {
                let text =
                    format!("model {model:?} makes vectors of {} elements, which the field has not", vector.len());
                Err(Error::new(Kind::InvalidVector, text))
            }
        }
    }

    /// Counts rows.
    ///
    /// # Errors
    /// `Kind::Invalid`, `Kind::InvalidFilter`, `Kind::InvalidPartition`, `Kind::Busy`, `Kind::Corrupt`.
    pub async fn aggregate(&self, request: AggregateRequest) -> Result<Groups> {
        let AggregateRequest { filter, partition, group_by, more_than } = request;
        self.check_filter(&filter)?;
        if let Some(field) = &group_by
            && self.schema().field(field).is_some()
            && !self.index.spec.indexes(self.schema(), field)
        {
            return Err(Error::new(Kind::InvalidFilter, format!("field {field} is not in the scalar index")));
        }
        let filter = Filter::all_of([filter, self.partition(&partition)?]);
        let question = Aggregate { filter, group_by, more_than };
        self.compute(move |table, cancel| table.aggregate(&question, cancel)).await
    }

    /// The values of the partition field, if the index has partitions whose values can be listed.
    pub(super) async fn partitions(&self) -> Result<Option<Vec<String>>> {
        let Some(field) = &self.index.spec.partition_by else { return Ok(None) };
        let listed = |kind| matches!(kind, FieldType::Int64 | FieldType::String | FieldType::Bool);
        if !self.schema().field(field).is_some_and(|(_, field)| listed(field.kind)) {
            return Ok(None);
        }
        let question = Aggregate { filter: Filter::All, group_by: Some(field.clone()), more_than: None };
        match self.compute(move |table, cancel| table.aggregate(&question, cancel)).await {
            Ok(groups) if groups.groups.len() <= limit::PARTITIONS_LISTED => {
                Ok(Some(groups.groups.into_iter().filter_map(name_of).collect()))
            }
            Ok(_) => Ok(None),
            // More values than a count names.
            Err(error) if error.kind() == Kind::Invalid => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Scores given rows with a vector, best first; of a key that comes twice the second is left out.
    ///
    /// # Errors
    /// `Kind::Invalid` unless the index is of type sort, `Kind::InvalidKey`, `Kind::Corrupt`.
    pub async fn sort(&self, query: Vec<f32>, keys: Vec<Key>) -> Result<Sorted> {
        let vector = self.vector_index()?;
        if vector.kind != IndexKind::Sort {
            return Err(Error::new(Kind::Invalid, "only an index of type sort serves index/sort"));
        }
        if !(1..=limit::SORT_KEYS).contains(&keys.len()) {
            return Err(Error::new(Kind::Invalid, format!("primary_keys must hold 1 to {} keys", limit::SORT_KEYS)));
        }
        let mut keys = keys.into_iter().map(|key| typed_key(self.schema(), key)).collect::<Result<Vec<_>>>()?;
        let mut seen = HashSet::new();
        keys.retain(|key| seen.insert(key.clone()));
        let distance = vector.distance;
        self.compute(move |table, _| {
            let fetched = table.fetch(keys)?;
            let mut sorted = Sorted { rows: Vec::new(), missing: Vec::new() };
            for (at, score) in index::scores(&query, distance, &fetched).into_iter().enumerate() {
                let key = fetched.key(at).clone();
                match score {
                    Some(score) => sorted.rows.push((key, score)),
                    None => sorted.missing.push(key),
                }
            }
            sorted.rows.sort_by(|(a, x), (b, y)| y.total_cmp(x).then_with(|| a.cmp(b)));
            Ok(sorted)
        })
        .await
    }

    /// Runs work on a compute thread; it is cancelled when the caller goes away.
    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce(&knarr_engine::table::Table, &Cancel) -> knarr_engine::Result<T> + Send + 'static,
    ) -> Result<T> {
        let table = self.opened.table.clone();
        let cancel = CancelOnDrop(Cancel::new());
        let seen = cancel.0.clone();
        Ok(self.inner.pool.run(Lane::Serve, move || work(&table, &seen)).await??)
    }

    fn effort(&self, request: &SearchRequest) -> Result<Option<Effort>> {
        let (low, high) = (limit::SEARCH_SCALE.start(), limit::SEARCH_SCALE.end());
        if !limit::SEARCH_SCALE.contains(&request.scale) {
            return Err(Error::new(Kind::Invalid, format!("scale_k must be between {low} and {high}")));
        }
        let vector = self.index.spec.vector.as_ref().filter(|vector| vector.kind.approximate());
        Ok(vector.map(|vector| Effort {
            candidates: (f64::from(vector.hnsw_sef) * request.scale) as usize,
            exact_up_to: request.exact_up_to,
            exact_up_to_ratio: request.exact_up_to_ratio,
        }))
    }

    fn order(&self, order: &OrderBy) -> Result<Order> {
        match order {
            OrderBy::Vectors { dense, sparse, dense_weight } => {
                let vector = self.searchable()?;
                check_count(dense.len())?;
                if sparse.is_empty() {
                    return Ok(Order::Dense { queries: dense.clone(), distance: vector.distance });
                }
                self.hybrid(vector, dense, sparse, *dense_weight)
            }
            OrderBy::Keys(keys) => {
                let vector = self.searchable()?;
                if vector.kind == IndexKind::HnswHybrid {
                    return invalid("an index of type hnsw_hybrid has no search by key");
                }
                Ok(Order::Dense { queries: self.vectors_of(keys)?, distance: vector.distance })
            }
            OrderBy::Scalar { field, descending } => {
                if self.schema().field(field).is_some() && !self.index.spec.indexes(self.schema(), field) {
                    return invalid(format!("field {field} is not in the range index"));
                }
                Ok(Order::Scalar { field: field.clone(), descending: *descending })
            }
            OrderBy::Random => Ok(Order::Random { seed: Uuid::new_v4().as_u64_pair().0 }),
        }
    }

    fn searchable(&self) -> Result<&VectorIndex> {
        let vector = self.vector_index()?;
        if vector.kind == IndexKind::Sort {
            invalid("an index of type sort serves only index/sort")
        } else {
            Ok(vector)
        }
    }

    fn hybrid(&self, vector: &VectorIndex, dense: &[Vec<f32>], sparse: &[Sparse], dense_weight: f32) -> Result<Order> {
        if vector.kind != IndexKind::HnswHybrid {
            return invalid("sparse vectors need an index of type hnsw_hybrid");
        }
        if dense.len() != sparse.len() {
            return invalid("sparse vectors must be as many as vectors");
        }
        let distance: Distance = vector.distance;
        let queries = dense.iter().cloned().zip(sparse.iter().cloned()).collect();
        Ok(Order::Hybrid { queries, distance, dense_weight })
    }

    /// The vectors of rows, to search for their neighbours.
    fn vectors_of(&self, keys: &[Key]) -> Result<Vec<Vec<f32>>> {
        check_count(keys.len())?;
        let keys = keys.iter().map(|key| typed_key(self.schema(), key.clone())).collect::<Result<Vec<_>>>()?;
        let fetched = self.opened.table.fetch(keys)?;
        let vector = |at| match fetched.vector(at) {
            Some(vector) => Ok(vector.to_vec()),
            None => Err(Error::new(Kind::RowMissing, format!("primary key {} data not exist", fetched.key(at)))),
        };
        (0..fetched.len()).map(vector).collect()
    }
}

/// A partition as requests name it.
fn name_of(group: Group) -> Option<String> {
    match group.value {
        Value::Str(text) => Some(text),
        Value::Int(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Float(_) | Value::IntList(_) | Value::StrList(_) => None,
    }
}

fn check_count(queries: usize) -> Result<()> {
    if (1..=limit::SEARCH_QUERIES).contains(&queries) {
        Ok(())
    } else {
        invalid(format!("a search has 1 to {} vectors or keys", limit::SEARCH_QUERIES))
    }
}

fn invalid<T>(text: impl Into<String>) -> Result<T> {
    Err(Error::new(Kind::Invalid, text))
}

/// Stops work whose caller went away.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
