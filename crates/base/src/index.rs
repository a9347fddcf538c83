//! What an index is asked to be (docs/wire/vikingdb.md sections 2.5 and 3.4).
//!
//! An index is a serving view of a collection. What its owner asks for is kept and echoed; which structure answers is
//! the engine's choice. Partitions are no structure either: a partition is a filter on one field.

use std::collections::BTreeSet;

use crate::limit;
use crate::schema::{AUTO_ID, FieldType, Schema};
use crate::{Error, Kind, Result};

/// Everything that creation fixes or update changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexSpec {
    /// Free text.
    pub description: String,
    /// Cores asked for; kept and echoed.
    pub cpu_quota: u32,
    /// Kept and echoed.
    pub shard_policy: ShardPolicy,
    /// Kept and echoed.
    pub shard_count: u32,
    /// The field whose values are the partitions; `None`: there is one, `default`.
    pub partition_by: Option<String>,
    /// Fields that filters of a search may name.
    pub scalar_index: ScalarIndex,
    /// `None`: the index serves scalars only.
    pub vector: Option<VectorIndex>,
}

/// How rows were to be spread, had this server shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardPolicy {
    /// Nothing was said.
    Unset,
    /// `auto`
    Auto,
    /// `custom`
    Custom,
}

/// Fields that filters of a search may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScalarIndex {
    /// Every scalar field, also those added later.
    All,
    /// These; may be none.
    Fields(Vec<String>),
}

impl IndexKind {
    /// True for kinds that are served by search structures; the others look at every row.
    pub fn approximate(self) -> bool {
        match self {
            IndexKind::Hnsw | IndexKind::HnswHybrid | IndexKind::Ivf | IndexKind::DiskAnn => true,
            IndexKind::Flat | IndexKind::Sort => false,
        }
    }
}

impl IndexSpec {
    /// The fields whose values filters of a search may name, and the key.
    pub fn filtered(&self, schema: &Schema) -> BTreeSet<String> {
        if self.structured().is_none() {
            return BTreeSet::new();
        }
        let named = schema.fields().iter().map(|field| field.name.as_str());
        let named = named.filter(|name| self.indexes(schema, name)).chain([schema.key_name()]);
        named.map(str::to_owned).collect()
    }

    /// The distance that search structures are wanted for.
    pub fn structured(&self) -> Option<Distance> {
        self.vector.as_ref().filter(|vector| vector.kind.approximate()).map(|vector| vector.distance)
    }
}

/// The dense vector's side of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VectorIndex {
    /// What was asked for.
    pub kind: IndexKind,
    /// The kind as its owner spelt it: clients differ in case, and read it back.
    pub spelling: String,
    /// How far two vectors are apart.
    pub distance: Distance,
    /// Precision of the codes a structure may keep. Answers always have full precision.
    pub quant: Quant,
    /// Links per node of a graph.
    pub hnsw_m: u32,
    /// Candidates looked at while a graph is built.
    pub hnsw_cef: u32,
    /// Candidates looked at by a search: a budget for recall.
    pub hnsw_sef: u32,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $what:literal, { $($(#[$item_doc:meta])* $item:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$item_doc])* $item,)*
        }

        impl $name {
            /// Every one of them.
            pub const ALL: &[$name] = &[$($name::$item),*];

            /// The vendor's word, in lower case.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($name::$item => $word,)*
                }
            }

            /// From the vendor's word, in any case.
            ///
            /// # Errors
            /// `Kind::Invalid` for any other word.
            pub fn parse(text: &str) -> Result<Self> {
                let found = Self::ALL.iter().find(|one| one.as_str().eq_ignore_ascii_case(text));
                found.copied().ok_or_else(|| {
                    let known: Vec<_> = Self::ALL.iter().map(|one| one.as_str()).collect();
                    Error::new(Kind::Invalid, format!(concat!($what, " must be one of {}"), known.join(", ")))
                })
            }
        }
    };
}

words! {
    /// The search structure asked for.
    IndexKind, "index_type", {
        /// Exact.
        Flat = "flat",
        /// A graph.
        Hnsw = "hnsw",
        /// A graph, and sparse vectors beside it.
        HnswHybrid = "hnsw_hybrid",
        /// Cells around centroids.
        Ivf = "ivf",
        /// A graph for disks.
        DiskAnn = "diskann",
        /// No structure: index/sort orders given keys.
        Sort = "sort",
    }
}

words! {
    /// How far two vectors are apart.
    Distance, "distance", {
        /// Inner product: greater is nearer.
        Ip = "ip",
        /// Euclidean distance: smaller is nearer.
        L2 = "l2",
        /// Cosine of the angle: greater is nearer.
        Cosine = "cosine",
    }
}

words! {
    /// Precision of a structure's codes.
    Quant, "quant", {
        /// One byte an element.
        Int8 = "int8",
        /// Four bytes an element.
        Float = "float",
        /// Two bytes an element.
        Fix16 = "fix16",
        /// Product quantisation.
        Pq = "pq",
    }
}

impl VectorIndex {
    /// The vendor's defaults of everything that is not given.
    ///
    /// # Errors
    /// `Kind::Invalid` for a combination that section 3.4 does not have.
    pub fn new(spelling: &str, distance: Option<Distance>, quant: Option<Quant>) -> Result<Self> {
        let kind = IndexKind::parse(spelling)?;
        let distance = distance.unwrap_or(Distance::Ip);
        // int8 is the default where it is allowed at all.
        let quant = quant.unwrap_or(if allows(kind, distance, Quant::Int8) { Quant::Int8 } else { Quant::Float });
        if !allows(kind, distance, quant) {
            let (kind, distance, quant) = (kind.as_str(), distance.as_str(), quant.as_str());
            return invalid(format!("an index of type {kind} cannot have distance {distance} with quant {quant}"));
        }
        Ok(Self { kind, spelling: spelling.to_owned(), distance, quant, hnsw_m: 20, hnsw_cef: 400, hnsw_sef: 800 })
    }
}

/// Section 3.4 as a predicate.
fn allows(kind: IndexKind, distance: Distance, quant: Quant) -> bool {
    let kind_allows = match kind {
        IndexKind::Flat | IndexKind::Hnsw | IndexKind::HnswHybrid => quant != Quant::Pq,
        IndexKind::Ivf => quant != Quant::Pq && distance != Distance::L2,
        IndexKind::DiskAnn => matches!(quant, Quant::Float | Quant::Pq),
        IndexKind::Sort => quant == Quant::Float && distance == Distance::Ip,
    };
    kind_allows && (quant != Quant::Int8 || distance != Distance::L2)
}

impl IndexSpec {
    /// Checks names, types and bounds against the collection's fields.
    ///
    /// # Errors
    /// `Kind::Invalid` naming what is wrong.
    pub fn check(&self, schema: &Schema) -> Result<()> {
        if self.description.len() > limit::DESCRIPTION_BYTES {
            return invalid(format!("description has at most {} bytes", limit::DESCRIPTION_BYTES));
        }
        within("cpu_quota", self.cpu_quota, limit::INDEX_CPU_QUOTA)?;
        within("shard_count", self.shard_count, limit::INDEX_SHARDS)?;
        if let Some(field) = &self.partition_by {
            check_partition_field(schema, field)?;
        }
        if let ScalarIndex::Fields(fields) = &self.scalar_index {
            fields.iter().try_for_each(|field| check_scalar_field(schema, field))?;
        }
        match &self.vector {
            None => Ok(()),
            Some(vector) => check_vector(schema, vector),
        }
    }

    /// True if a filter of a search may name `field`.
    pub fn indexes(&self, schema: &Schema, field: &str) -> bool {
        match &self.scalar_index {
            ScalarIndex::All => field == AUTO_ID || schema.field(field).is_some_and(|(_, found)| found.kind.scalar()),
            ScalarIndex::Fields(fields) => fields.iter().any(|one| one == field),
        }
    }

    /// Adds fields to the scalar index; nothing is ever taken out of it.
    pub fn add_scalars(&mut self, added: &[String]) {
        if let ScalarIndex::Fields(fields) = &mut self.scalar_index {
            for field in added {
                if !fields.contains(field) {
                    fields.push(field.clone());
                }
            }
        }
    }
}

fn check_vector(schema: &Schema, vector: &VectorIndex) -> Result<()> {
    if schema.vector().is_none() {
        return invalid("vector_index needs a vector field in the collection");
    }
    if vector.kind == IndexKind::HnswHybrid && schema.sparse_vector().is_none() {
        return invalid("an index of type hnsw_hybrid needs a sparse_vector field in the collection");
    }
    within("hnsw_m", vector.hnsw_m, limit::HNSW_M)?;
    within("hnsw_cef", vector.hnsw_cef, limit::HNSW_CANDIDATES)?;
    within("hnsw_sef", vector.hnsw_sef, limit::HNSW_CANDIDATES)
}

fn check_scalar_field(schema: &Schema, name: &str) -> Result<()> {
    match schema.field(name) {
        Some((_, field)) if field.kind.scalar() => Ok(()),
        Some((_, field)) => invalid(format!("scalar_index: field {name} is a {}", field.kind.name())),
        None => invalid(format!("scalar_index names the unknown field {name:?}")),
    }
}

fn check_partition_field(schema: &Schema, name: &str) -> Result<()> {
    match schema.field(name).map(|(_, field)| field.kind) {
        Some(FieldType::Int64 | FieldType::String | FieldType::Int64List | FieldType::StringList) => Ok(()),
        Some(kind) => invalid(format!("partition_by: field {name} is a {}, which has no partitions", kind.name())),
        None => invalid(format!("partition_by names the unknown field {name:?}")),
    }
}

fn within(what: &str, value: u32, range: std::ops::RangeInclusive<u32>) -> Result<()> {
    if range.contains(&value) {
        Ok(())
    } else {
        invalid(format!("{what} must be between {} and {}", range.start(), range.end()))
    }
}

fn invalid<T>(text: impl Into<String>) -> Result<T> {
    Err(Error::new(Kind::Invalid, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::tests::field;

    fn schema(sparse: bool) -> Schema {
        let mut fields = vec![
            field("id", FieldType::Int64),
            field("city", FieldType::String),
            field("price", FieldType::Float32),
            field("tags", FieldType::StringList),
            field("note", FieldType::Text),
            field("v", FieldType::Vector { dim: 4 }),
        ];
        fields.extend(sparse.then(|| field("s", FieldType::SparseVector)));
        Schema::new(fields, "id").expect("valid")
    }

    fn spec(vector: Option<VectorIndex>) -> IndexSpec {
        IndexSpec {
            description: String::new(),
            cpu_quota: 2,
            shard_policy: ShardPolicy::Unset,
            shard_count: 1,
            partition_by: None,
            scalar_index: ScalarIndex::All,
            vector,
        }
    }

    #[test]
    fn combinations_are_those_of_the_table() {
        let ok = |kind: &str, distance, quant| VectorIndex::new(kind, Some(distance), Some(quant)).is_ok();
        use Distance::{Cosine, Ip, L2};
        use Quant::{Fix16, Float, Int8, Pq};
        for kind in ["flat", "hnsw", "hnsw_hybrid"] {
            for distance in [Ip, L2, Cosine] {
                assert!(ok(kind, distance, Float) && ok(kind, distance, Fix16) && !ok(kind, distance, Pq), "{kind}");
            }
            assert!(ok(kind, Ip, Int8) && ok(kind, Cosine, Int8) && !ok(kind, L2, Int8), "{kind}");
        }
        assert!(ok("DiskANN", L2, Pq) && ok("diskann", Ip, Float) && !ok("diskann", Ip, Int8));
        assert!(ok("sort", Ip, Float) && !ok("sort", L2, Float) && !ok("sort", Ip, Int8));
        assert!(ok("ivf", Cosine, Int8) && !ok("ivf", L2, Float));
        assert!(VectorIndex::new("annoy", None, None).is_err());
    }

    #[test]
    fn what_is_not_given_takes_a_default_that_is_allowed() {
        let quant = |kind: &str, distance| VectorIndex::new(kind, distance, None).expect("valid").quant;
        assert_eq!(quant("hnsw", None), Quant::Int8);
        assert_eq!(quant("hnsw", Some(Distance::L2)), Quant::Float);
        assert_eq!(quant("DiskANN", None), Quant::Float);
        assert_eq!(VectorIndex::new("DiskANN", None, None).expect("valid").spelling, "DiskANN");
    }

    #[test]
    fn a_spec_fits_its_collection_or_is_refused() {
        let hybrid = || VectorIndex::new("hnsw_hybrid", None, None).expect("valid");
        assert!(spec(Some(hybrid())).check(&schema(true)).is_ok());
        assert!(spec(Some(hybrid())).check(&schema(false)).is_err());
        let no_vector = Schema::new(schema(false).fields()[..2].to_vec(), "id").expect("valid");
        let flat = || VectorIndex::new("flat", None, None).expect("valid");
        assert!(spec(Some(flat())).check(&no_vector).is_err());
        assert!(spec(None).check(&no_vector).is_ok());
        let scalars = |fields: &[&str]| IndexSpec {
            scalar_index: ScalarIndex::Fields(fields.iter().map(|&f| f.to_owned()).collect()),
            ..spec(Some(flat()))
        };
        assert!(scalars(&["id", "city", "price", "tags"]).check(&schema(false)).is_ok());
        for bad in ["note", "v", "nope", AUTO_ID] {
            assert!(scalars(&[bad]).check(&schema(false)).is_err(), "{bad}");
        }
        let by = |field: &str| IndexSpec { partition_by: Some(field.to_owned()), ..spec(Some(flat())) };
        assert!(by("tags").check(&schema(false)).is_ok());
        for bad in ["price", "v", "nope"] {
            assert!(by(bad).check(&schema(false)).is_err(), "{bad}");
        }
        for (cpu_quota, shard_count) in [(0, 1), (10_241, 1), (1, 0), (1, 257)] {
            assert!(IndexSpec { cpu_quota, shard_count, ..spec(None) }.check(&schema(false)).is_err());
        }
        assert!(IndexSpec { cpu_quota: 10_240, shard_count: 256, ..spec(None) }.check(&schema(false)).is_ok());
        let m = |hnsw_m| VectorIndex { hnsw_m, ..flat() };
        assert!(spec(Some(m(0))).check(&schema(false)).is_err());
        assert!(spec(Some(m(512))).check(&schema(false)).is_ok());
        assert!(spec(Some(m(513))).check(&schema(false)).is_err());
    }

    #[test]
    fn scalars_are_only_added() {
        let schema = schema(false);
        let mut index = spec(None);
        index.add_scalars(&["city".to_owned()]);
        assert!(index.indexes(&schema, "price"), "all stays all");
        index.scalar_index = ScalarIndex::Fields(vec!["price".to_owned()]);
        assert!(!index.indexes(&schema, "city"));
        index.add_scalars(&["city".to_owned(), "price".to_owned()]);
        assert_eq!(index.scalar_index, ScalarIndex::Fields(vec!["price".to_owned(), "city".to_owned()]));
        assert!(!spec(None).indexes(&schema, "note") && !spec(None).indexes(&schema, "nope"));
    }
}
