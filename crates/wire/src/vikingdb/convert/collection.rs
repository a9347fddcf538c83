//! Collections and their schemas.

use knarr_base::clock::rfc3339;
use knarr_base::id::Name;
use knarr_base::schema::{self, FieldType, PrimaryKey, Schema};
use knarr_base::value;
use knarr_base::{Result, limit};
use knarr_service::collections::{CollectionInfo, CollectionRef, CreateCollection, UpdateCollection};

use super::stored;
use crate::http::request::{Args, required};
use crate::json::{self, Members, Value, invalid};
use crate::vikingdb::model;

const DEFAULT_PROJECT: &str = "default";

/// `collection_name`, else `collection_alias`.
pub(crate) fn reference(args: &Args<'_>) -> Result<CollectionRef> {
    from_texts(args.text("collection_name")?, args.text("collection_alias")?)
}

pub(super) fn from_texts(name: Option<String>, alias: Option<String>) -> Result<CollectionRef> {
    let given = |text: Option<String>| text.filter(|t| !t.is_empty());
    let alias = || given(alias).map(CollectionRef::Alias);
    required("collection_name", given(name).map(CollectionRef::Name).or_else(alias))
}

/// collection/create.
pub(crate) fn create(args: &Args<'_>) -> Result<CreateCollection> {
    let name = Name::parse("collection_name", &required("collection_name", args.text("collection_name")?)?)?;
    let primary_key = required("primary_key", args.text("primary_key")?)?;
    let fields = fields(required("fields", args.value("fields")?)?, &primary_key)?;
    let schema = Schema::new(fields, &primary_key)?;
    let vectorize = vectorize(args)?;
    if vectorize.is_some() && schema.vector().is_some() {
        return Err(invalid("vectorize and a vector field exclude each other"));
    }
    let project = args.text("project")?.filter(|p| !p.is_empty()).unwrap_or_else(|| DEFAULT_PROJECT.to_owned());
    if project.len() > limit::NAME_BYTES {
        return Err(invalid(format!("project has at most {} bytes", limit::NAME_BYTES)));
    }
    Ok(CreateCollection {
        name,
        aliases: aliases(args)?.unwrap_or_default(),
        description: description(args)?.unwrap_or_default(),
        project,
        schema,
        vectorize,
    })
}

/// collection/update.
pub(crate) fn update(args: &Args<'_>) -> Result<UpdateCollection> {
    let fields = match args.value("fields")? {
        Some(value) => fields(value, "")?,
        None => Vec::new(),
    };
    Ok(UpdateCollection { description: description(args)?, aliases: aliases(args)?, fields })
}

fn description(args: &Args<'_>) -> Result<Option<String>> {
    let text = args.text("description")?;
    if text.as_ref().is_some_and(|t| t.len() > limit::DESCRIPTION_BYTES) {
        return Err(invalid(format!("description has at most {} bytes", limit::DESCRIPTION_BYTES)));
    }
    Ok(text)
}

fn aliases(args: &Args<'_>) -> Result<Option<Vec<Name>>> {
    const WHAT: &str = "collection_aliases";
    match args.value(WHAT)? {
        None => Ok(None),
        Some(Value::List(list)) if list.len() <= limit::ALIASES_PER_COLLECTION => {
            let name = |value| Name::parse(WHAT, &required(WHAT, json::text(WHAT, Some(value))?)?);
            list.into_iter().map(name).collect::<Result<_>>().map(Some)
        }
        Some(_) => Err(invalid(format!("{WHAT} must be a list of at most {} names", limit::ALIASES_PER_COLLECTION))),
    }
}

/// Entries that can be read back by every client: objects with at least `dense.model_name`.
fn vectorize(args: &Args<'_>) -> Result<Option<String>> {
    let Some(raw) = args.raw("vectorize") else {
        return Ok(None);
    };
    let (entries, text) = match json::parse("vectorize", raw)? {
        Value::List(entries) => (entries, raw.to_owned()),
        single => (vec![single], format!("[{raw}]")),
    };
    if text.len() > limit::DESCRIPTION_BYTES {
        return Err(invalid(format!("vectorize has at most {} bytes", limit::DESCRIPTION_BYTES)));
    }
    for entry in &entries {
        let Value::Map(Members(members)) = entry else {
            return Err(invalid("vectorize must be a list of objects"));
        };
        let dense = members.iter().find(|(name, _)| name == "dense");
        let named = |m: &Members| m.0.iter().any(|(n, v)| n == "model_name" && matches!(v, Value::Text(_)));
        if !matches!(dense, Some((_, Value::Map(dense))) if named(dense)) {
            return Err(invalid("each entry of vectorize needs dense with a model_name"));
        }
    }
    Ok((!entries.is_empty()).then_some(text))
}

fn fields(value: Value, primary_key: &str) -> Result<Vec<schema::Field>> {
    match value {
        Value::List(list) if list.len() <= limit::FIELDS => {
            list.into_iter().map(|value| field(value, primary_key)).collect()
        }
        Value::List(_) => Err(invalid(format!("a collection has at most {} fields", limit::FIELDS))),
        _ => Err(invalid("fields must be a list")),
    }
}

fn field(value: Value, primary_key: &str) -> Result<schema::Field> {
    let Value::Map(mut members) = value else {
        return Err(invalid("a field must be an object"));
    };
    let name = required("field_name", json::text("field_name", members.take("field_name"))?)?;
    let kind = required("field_type", json::text("field_type", members.take("field_type"))?)?;
    let dim = match json::int("dim", members.take("dim"))? {
        Some(dim) => Some(u32::try_from(dim).map_err(|_| invalid("dim must not be negative"))?),
        None => None,
    };
    let kind = FieldType::parse(&kind, dim)?;
    let default = match members.take("default_val") {
        // Ignored and unchecked, as the vendor documents.
        Some(_) if name == primary_key => None,
        Some(value) => Some(default(&name, kind, value)?),
        None => None,
    };
    let pipeline = json::text("pipeline_name", members.take("pipeline_name"))?.filter(|p| !p.is_empty());
    if pipeline.as_ref().is_some_and(|p| p.len() > limit::NAME_BYTES) {
        return Err(invalid(format!("pipeline_name has at most {} bytes", limit::NAME_BYTES)));
    }
    Ok(schema::Field { name: Name::parse("field_name", &name)?, kind, default, pipeline })
}

fn default(name: &str, kind: FieldType, value: Value) -> Result<value::Value> {
    let wrong = || invalid(format!("field {name:?}: default_val is not a {}", kind.name()));
    let int = |v| if let Value::Int(n) = v { Some(n) } else { None };
    let text = |v| if let Value::Text(t) = v { Some(t) } else { None };
    let list = |v| if let Value::List(l) = v { Some(l) } else { None };
    let converted = match kind {
        FieldType::Int64 => int(value).map(value::Value::Int),
        FieldType::Float32 => float32(&value).map(value::Value::Float),
        FieldType::String => text(value).map(value::Value::Str),
        FieldType::Bool => {
            if let Value::Bool(b) = value {
                Some(value::Value::Bool(b))
            } else {
                None
            }
        }
        FieldType::Int64List => list(value).and_then(|l| l.into_iter().map(int).collect()).map(value::Value::IntList),
        FieldType::StringList => list(value).and_then(|l| l.into_iter().map(text).collect()).map(value::Value::StrList),
        FieldType::Vector { .. } | FieldType::SparseVector | FieldType::Text | FieldType::Image => {
            return Err(invalid(format!("field {name:?}: a {} takes no default_val", kind.name())));
        }
    };
    let converted = converted.ok_or_else(wrong)?;
    let elements = match &converted {
        value::Value::IntList(list) => list.len(),
        value::Value::StrList(list) => list.len(),
        value::Value::Int(_) | value::Value::Float(_) | value::Value::Str(_) | value::Value::Bool(_) => 1,
    };
    let bytes = match &converted {
        value::Value::Str(text) => text.len(),
        value::Value::StrList(list) => list.iter().map(String::len).sum(),
        value::Value::Int(_) | value::Value::Float(_) | value::Value::Bool(_) | value::Value::IntList(_) => 0,
    };
    if elements > limit::LIST_ELEMENTS || bytes > limit::ROW_BYTES {
        return Err(invalid(format!("field {name:?}: default_val is too long")));
    }
    Ok(converted)
}

fn float32(value: &Value) -> Option<f32> {
    let narrow = match value {
        Value::Int(n) => *n as f32,
        Value::Float(x) => *x as f32,
        _ => return None,
    };
    narrow.is_finite().then_some(narrow)
}

/// collection/info, and an element of collection/list.
///
/// # Errors
/// `Kind::Corrupt` if what was stored cannot be echoed.
pub(crate) fn view(info: &CollectionInfo) -> Result<model::Collection<'_>> {
    let schema = &info.schema;
    Ok(model::Collection {
        collection_name: info.name.as_str(),
        description: &info.description,
        collection_aliases: info.aliases.iter().map(Name::as_str).collect(),
        primary_key: schema.key_name(),
        project: &info.project,
        fields: schema.shown().map(|(at, f)| field_view(schema, at, f)).collect(),
        vectorize: stored("vectorize", info.vectorize.as_deref().unwrap_or("[]"))?,
        indexes: &info.indexes,
        stat: model::Stat { data_number: info.rows, data_storage: info.bytes },
        create_time: rfc3339(info.created_ms),
        update_time: rfc3339(info.updated_ms),
        update_person: &info.updated_by,
    })
}

fn field_view<'a>(schema: &Schema, at: usize, field: &'a schema::Field) -> model::Field<'a> {
    let is_key = schema.primary_key() == PrimaryKey::Field(at);
    model::Field {
        field_name: field.name.as_str(),
        field_type: field.kind.name(),
        default_val: if is_key { None } else { field.default_value().map(default_view) },
        dim: if let FieldType::Vector { dim } = field.kind { Some(dim) } else { None },
        pipeline_name: field.pipeline.as_deref(),
    }
}

fn default_view(value: value::Value) -> model::Default {
    match value {
        value::Value::Int(n) => model::Default::Int(n),
        value::Value::Float(x) => model::Default::Float(x),
        value::Value::Str(t) => model::Default::Text(t),
        value::Value::Bool(b) => model::Default::Bool(b),
        value::Value::IntList(l) => model::Default::Ints(l),
        value::Value::StrList(l) => model::Default::Texts(l),
    }
}

#[cfg(test)]
mod tests;
