//! V2's flat requests in the service's words.
//!
//! Arguments come in the body alone; a query string is not read. A member that is not known is refused, since a filter
//! under a misspelt name would widen an answer. A member that the clients know and that has no effect here is refused
//! where it asks for one.

use knarr_base::value::Key;
use knarr_base::{Error, Kind, Result, limit};
use knarr_service::collections::{CollectionRef, RowWrite, Unknown};
use knarr_service::embedding::Material;
use knarr_service::indexes::{AggregateRequest, IndexRef, Partition};

use super::routes::By;
use crate::http::request::{missing, required};
use crate::json::{self, Members, Object, Value, invalid};
use crate::vikingdb::convert::rows;
use crate::vikingdb::convert::search::{self, AggForm, DEFAULT_LIMIT, Form, Order, known, optional_object};
use crate::vikingdb::convert::tuning::{self, Tuning, most_input, size};

/// Where the rows of a write are.
pub(super) const ROWS: &str = "data";

/// What names a collection. Its `resource_id` is the vendor's, and names are unique in an account.
const COLLECTION: &[&str] = &["collection_name", "resource_id", "project_name"];
const INDEX: &[&str] = &["index_name"];
/// What every search has.
const SEARCH: &[&str] = &[
    "filter",
    "partition",
    "output_fields",
    "limit",
    "offset",
    "advance",
    "return_schema",
    "return_download_url",
    "return_analyzed_result",
    "return_detail_info",
    "ignore_unknown_fields",
];
/// What `advance` has beside [`tuning::MEMBERS`].
const ADVANCE: &[&str] = &["ids_in", "ids_not_in"];
/// Rows that operations after a search look at for one of the answer, when nothing is said; the vendor's default.
const INPUT_PER_ROW: usize = 3;

fn only(args: &Object<'_>, names: &[&[&str]]) -> Result<()> {
    known("the request", args, &names.concat())
}

fn not_offered(name: &str) -> Error {
    Error::new(Kind::Unsupported, format!("{name} is not offered"))
}

/// Refuses flags that are set.
fn refuse_flags(args: &Object<'_>, names: &[&str]) -> Result<()> {
    names.iter().try_for_each(|name| if args.flag(name)? == Some(true) { Err(not_offered(name)) } else { Ok(()) })
}

/// Refuses members that are there.
fn refuse_members(args: &Object<'_>, names: &[&str]) -> Result<()> {
    match names.iter().find(|name| given(args, name).is_some()) {
        None => Ok(()),
        Some(name) => Err(not_offered(name)),
    }
}

/// The raw text of a member that is not `null`.
fn given<'a>(args: &Object<'a>, name: &str) -> Option<&'a str> {
    args.raw(name).filter(|raw| *raw != "null")
}

fn some_text(args: &Object<'_>, name: &str) -> Result<Option<String>> {
    Ok(args.text(name)?.filter(|text| !text.is_empty()))
}

fn collection(args: &Object<'_>) -> Result<CollectionRef> {
    some_text(args, "project_name")?;
    match (some_text(args, "collection_name")?, some_text(args, "resource_id")?) {
        (Some(name), _) => Ok(CollectionRef::Name(name)),
        (None, None) => Err(missing("collection_name is required")),
        (None, Some(_)) => Err(missing("collection_name is required: collections have no resource_id here")),
    }
}

fn index(args: &Object<'_>) -> Result<IndexRef> {
    let collection = collection(args)?;
    Ok(IndexRef { collection, name: Some(required("index_name", some_text(args, "index_name")?)?) })
}

fn ids(args: &Object<'_>) -> Result<Option<Vec<Key>>> {
    args.value("ids")?.map(|value| rows::some_keys("ids", value)).transpose()
}

/// Absent means every partition, where v1 means the one called `default`.
fn partition(args: &Object<'_>) -> Result<Partition> {
    args.value("partition")?.map_or(Ok(Partition::All), |value| search::partition(Some(value)))
}

/// data/upsert and data/update.
#[derive(Debug)]
pub(super) struct Write<'a> {
    pub(super) collection: CollectionRef,
    pub(super) rows: RowWrite<'a>,
}

impl<'a> Write<'a> {
    /// `async` is read and has no effect: every write is durable and visible when it is answered.
    pub(super) fn upsert(args: &Object<'a>) -> Result<Self> {
        args.flag("async")?;
        Self::parse(args, &["async"])
    }

    pub(super) fn update(args: &Object<'a>) -> Result<Self> {
        Self::parse(args, &[])
    }

    fn parse(args: &Object<'a>, own: &[&str]) -> Result<Self> {
        only(args, &[COLLECTION, &[ROWS, "ttl", "ignore_unknown_fields"], own])?;
        let ignored = args.flag("ignore_unknown_fields")?.unwrap_or(false);
        let rows = RowWrite {
            rows: rows::list(ROWS, given(args, ROWS))?,
            ttl: rows::seconds(args.int("ttl")?)?,
            unknown: if ignored { Unknown::Ignored } else { Unknown::Refused },
        };
        Ok(Self { collection: collection(args)?, rows })
    }
}

/// data/delete.
#[derive(Debug)]
pub(super) struct Delete {
    pub(super) collection: CollectionRef,
    /// `None`: every row.
    pub(super) ids: Option<Vec<Key>>,
}

impl Delete {
    pub(super) fn parse(args: &Object<'_>) -> Result<Self> {
        only(args, &[COLLECTION, &["ids", "del_all", "async"]])?;
        args.flag("async")?;
        let collection = collection(args)?;
        match (ids(args)?, args.flag("del_all")?.unwrap_or(false)) {
            (ids @ Some(_), false) => Ok(Self { collection, ids }),
            (None, true) => Ok(Self { collection, ids: None }),
            (Some(_), true) => Err(invalid("ids and del_all exclude each other")),
            (None, false) => Err(missing("ids is required, or del_all")),
        }
    }
}

/// data/fetch_in_collection.
pub(super) fn fetch(args: &Object<'_>) -> Result<(CollectionRef, Vec<Key>)> {
    const OPTIONS: &[&str] = &["return_download_url", "return_analyzed_result"];
    only(args, &[COLLECTION, &["ids"], OPTIONS])?;
    refuse_flags(args, OPTIONS)?;
    Ok((collection(args)?, required("ids", ids(args)?)?))
}

/// data/fetch_in_index.
#[derive(Debug)]
pub(super) struct IndexFetch {
    pub(super) index: IndexRef,
    pub(super) ids: Vec<Key>,
    pub(super) partition: Partition,
    /// `None`: every scalar field.
    pub(super) output_fields: Option<Vec<String>>,
}

impl IndexFetch {
    pub(super) fn parse(args: &Object<'_>) -> Result<Self> {
        only(args, &[COLLECTION, INDEX, &["ids", "partition", "output_fields"]])?;
        Ok(Self {
            index: index(args)?,
            ids: required("ids", ids(args)?)?,
            partition: partition(args)?,
            output_fields: search::output_fields(args.value("output_fields")?)?,
        })
    }
}

/// data/search/….
pub(super) fn search<'a>(by: By, args: &Object<'a>) -> Result<(IndexRef, Form<'a>)> {
    let own: &[&str] = match by {
        By::Vector => &["dense_vector", "sparse_vector", "tensor_rerank"],
        By::Id => &["id"],
        By::MultiModal => &["text", "image", "video", "need_instruction", "instruction", "tensor_rerank", "rerank"],
        By::Scalar => &["field", "order"],
        By::Random => &[],
    };
    only(args, &[COLLECTION, INDEX, SEARCH, own])?;
    refuse_flags(args, &["return_schema", "return_download_url", "return_analyzed_result", "ignore_unknown_fields"])?;
    refuse_members(args, &["tensor_rerank", "rerank", "video"])?;
    let advance = optional_object("advance", args)?;
    known("advance", &advance, &[tuning::MEMBERS, ADVANCE].concat())?;
    let limit = size("limit", args)?.unwrap_or(DEFAULT_LIMIT);
    let mut tuning = Tuning::parse(&advance)?;
    tuning.ops_input.get_or_insert(limit.saturating_mul(INPUT_PER_ROW).min(most_input(limit)));
    let form = Form {
        order: order(by, args)?,
        filter: args.value("filter")?,
        partition: partition(args)?,
        keys_in: search::keys("ids_in", &advance)?,
        keys_not_in: search::keys("ids_not_in", &advance)?,
        limit,
        offset: size("offset", args)?.unwrap_or(0),
        tuning,
        count: args.flag("return_detail_info")?.unwrap_or(false),
        output_fields: search::output_fields(args.value("output_fields")?)?,
        with_vector: false,
        replace_primary: false,
        explain: false,
    };
    Ok((index(args)?, form))
}

fn order<'a>(by: By, args: &Object<'a>) -> Result<Order<'a>> {
    match by {
        By::Vector => {
            let dense = required("dense_vector", given(args, "dense_vector"))?;
            let sparse = args.value("sparse_vector")?.map(search::sparse_vector).transpose()?;
            Ok(Order::Vectors(vec![dense], sparse.into_iter().collect()))
        }
        By::Id => Ok(Order::Keys(vec![rows::key(required("id", args.value("id")?)?)?])),
        By::MultiModal => {
            // Read and checked; what is searched for is the same with and without.
            args.flag("need_instruction")?;
            optional_object("instruction", args)?.flag("auto_fill")?;
            match (some_text(args, "text")?, some_text(args, "image")?) {
                (None, None) => Err(missing("text or image is required")),
                (text, image) => Ok(Order::Raw(Material { text, image })),
            }
        }
        By::Scalar => {
            let field = required("field", some_text(args, "field")?)?;
            let descending = search::descending(args.text("order")?)?.unwrap_or(true);
            Ok(Order::Scalar { field, descending })
        }
        By::Random => Ok(Order::Random),
    }
}

/// data/agg.
#[derive(Debug)]
pub(super) struct Count {
    pub(super) index: IndexRef,
    pub(super) form: AggForm,
    /// By the number of rows; `None`: by value.
    pub(super) descending: Option<bool>,
}

impl Count {
    pub(super) fn parse(args: &Object<'_>) -> Result<Self> {
        const OTHER_OPS: &[&str] = &["calc_value_on", "ids", "weights"];
        only(
            args,
            &[COLLECTION, INDEX, &["op", "field", "group_by", "cond", "order", "filter", "partition"], OTHER_OPS],
        )?;
        let field = match (some_text(args, "group_by")?, some_text(args, "field")?) {
            (Some(one), Some(other)) if one != other => return Err(invalid("group_by and field name two fields")),
            (group_by, field) => group_by.or(field),
        };
        let form = AggForm::counted(args, field, args.value("filter")?, partition(args)?)?;
        if let Some(name) = OTHER_OPS.iter().find(|name| given(args, name).is_some()) {
            return Err(invalid(format!("{name} does not go with op count")));
        }
        Ok(Self { index: index(args)?, form, descending: search::descending(args.text("order")?)? })
    }

    /// What the index is asked for.
    pub(super) fn request(&self) -> Result<AggregateRequest> {
        self.form.request()
    }
}

/// embedding.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Embedding {
    pub(super) model: String,
    /// Length that the vectors shall have.
    pub(super) dim: Option<i64>,
    pub(super) materials: Vec<Material>,
}

impl Embedding {
    pub(super) fn parse(args: &Object<'_>) -> Result<Self> {
        const MODELS: &[&str] = &["dense_model", "sparse_model", "tensor_model"];
        only(args, &[MODELS, &["data", "project_name", "max_retry_time"]])?;
        refuse_members(args, &MODELS[1..])?;
        args.text("project_name")?;
        args.int("max_retry_time")?;
        let model = object("dense_model", required("dense_model", args.value("dense_model")?)?)?;
        let (model, dim) = dense_model(model)?;
        let items = match required("data", args.value("data")?)? {
            Value::List(items) if (1..=limit::EMBEDDING_ITEMS_V2).contains(&items.len()) => items,
            _ => return Err(invalid(format!("data must be a list of 1 to {} items", limit::EMBEDDING_ITEMS_V2))),
        };
        Ok(Self { model, dim, materials: items.into_iter().map(material).collect::<Result<_>>()? })
    }
}

/// Name and dimension. A model is configured by its name, so its version is read and has no effect.
fn dense_model(mut model: Members) -> Result<(String, Option<i64>)> {
    let name = required("name", json::text("name", model.take("name"))?)?;
    json::text("version", model.take("version"))?;
    let dim = json::int("dim", model.take("dim"))?;
    match model.0.iter().find(|(_, value)| *value != Value::Null) {
        None => Ok((name, dim)),
        Some((member, _)) => Err(not_offered(&format!("{member} of dense_model"))),
    }
}

fn material(item: Value) -> Result<Material> {
    let mut item = object("an item of data", item)?;
    let (text, image) = (json::text("text", item.take("text"))?, json::text("image", item.take("image"))?);
    match item.0.iter().find(|(_, value)| *value != Value::Null) {
        Some((member, _)) => Err(not_offered(&format!("{member} of data"))),
        None if text.is_none() && image.is_none() => Err(missing("an item of data needs text or image")),
        None => Ok(Material { text, image }),
    }
}

fn object(name: &str, value: Value) -> Result<Members> {
    if let Value::Map(members) = value { Ok(members) } else { Err(invalid(format!("{name} must be an object"))) }
}

#[cfg(test)]
mod tests;
