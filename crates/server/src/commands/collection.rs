//! `knarr collection`: the typed shapes rows live in.

use std::fs;

use clap::Subcommand;
use knarr_base::schema::AUTO_ID;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::client::Client;
use crate::failure::{Failure, Result};
use crate::output::{self, Output, bytes, count, table};

/// Create, list, describe and drop collections.
#[derive(Debug, Subcommand)]
pub(crate) enum Args {
    /// Create a collection from fields, or from a schema file.
    #[command(after_help = "\
Field types: int64 float32 string bool list<int64> list<string> vector:DIM sparse_vector text image
A default follows '='; for lists and numbers it is JSON.

Examples:
  knarr collection create books --key id --field id:int64 --field lang:string=en --field v:vector:128
  knarr collection create notes --key auto --field body:text --field tags:'list<string>=[\"new\"]'
  knarr collection create books --schema books.json     # {\"primary_key\":..., \"fields\":[...]} as /api/collection/create takes")]
    Create {
        /// A letter, then letters, digits or underscores.
        name: String,
        /// NAME:TYPE[:DIM][=DEFAULT]; once per field, in order.
        #[arg(long = "field", value_name = "FIELD", value_parser = FieldSpec::parse, required_unless_present = "schema", conflicts_with = "schema")]
        fields: Vec<FieldSpec>,
        /// The field that is the primary key (int64 or string); `auto` lets the server number the rows.
        #[arg(long, value_name = "FIELD", required_unless_present = "schema", conflicts_with = "schema")]
        key: Option<String>,
        /// A JSON file with `primary_key` and `fields`.
        #[arg(long, value_name = "FILE")]
        schema: Option<String>,
        /// Free text.
        #[arg(long)]
        description: Option<String>,
    },
    /// List the collections that the key may read.
    #[command(after_help = "Example:\n  knarr collection list --json")]
    List,
    /// Show fields, key, size and times of a collection.
    #[command(after_help = "Example:\n  knarr collection info books")]
    Info {
        /// Its name.
        name: String,
    },
    /// Drop a collection with all its rows.
    #[command(after_help = "Example:\n  knarr collection drop books --yes")]
    Drop {
        /// Its name.
        name: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// A field as the wire writes it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct FieldSpec {
    field_name: String,
    field_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    dim: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_val: Option<Value>,
}

impl FieldSpec {
    fn parse(text: &str) -> Result<Self, String> {
        let (shape, default) = match text.split_once('=') {
            Some((shape, default)) => (shape, Some(default)),
            None => (text, None),
        };
        let mut parts = shape.split(':');
        let (Some(name), Some(kind), dim, None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err("write NAME:TYPE[:DIM][=DEFAULT], for example id:int64 or v:vector:128".to_owned());
        };
        let dim = dim.map(|d| d.parse().map_err(|_| format!("{d} is not a dimension"))).transpose()?;
        if (kind == "vector") != dim.is_some() {
            return Err("a vector field has a dimension, and only a vector field: v:vector:128".to_owned());
        }
        let default_val = default.map(|d| default_of(kind, d)).transpose()?;
        Ok(Self { field_name: name.to_owned(), field_type: kind.to_owned(), dim, default_val })
    }
}

/// Bare text for strings, JSON for everything else.
fn default_of(kind: &str, text: &str) -> Result<Value, String> {
    if kind == "string" {
        return Ok(Value::String(text.to_owned()));
    }
    serde_json::from_str(text).map_err(|e| format!("default of a {kind} must be JSON: {e}"))
}

pub(crate) fn run(args: Args, client: &Client, out: &Output) -> Result<()> {
    match args {
        Args::Create { name, fields, key, schema, description } => {
            let mut body = match schema {
                Some(file) => read_schema(&file)?,
                None => shape(&fields, &key.unwrap_or_default()),
            };
            body.insert("collection_name".to_owned(), json!(name));
            if let Some(text) = description {
                body.insert("description".to_owned(), json!(text));
            }
            client.call("/api/collection/create", &body)?;
            out.show(&json!({"collection_name": name}).to_string(), || format!("created {name}"))
        }
        Args::List => list(client, out),
        Args::Info { name } => info(client, out, &name),
        Args::Drop { name, yes } => {
            output::agree(yes, &format!("Drop {name} with all its rows? There is no way back."))?;
            client.call("/api/collection/drop", &json!({"collection_name": name}))?;
            out.show(&json!({"collection_name": name}).to_string(), || format!("dropped {name}"))
        }
    }
}

fn shape(fields: &[FieldSpec], key: &str) -> Map<String, Value> {
    let key = if key == "auto" { AUTO_ID } else { key };
    Map::from_iter([("primary_key".to_owned(), json!(key)), ("fields".to_owned(), json!(fields))])
}

fn read_schema(file: &str) -> Result<Map<String, Value>> {
    let text = fs::read_to_string(file).map_err(|e| Failure::file(file, e))?;
    serde_json::from_str(&text).map_err(|e| Failure::file(file, e))
}

/// A collection as /api/collection/info shows it.
#[derive(Deserialize)]
struct View {
    collection_name: String,
    primary_key: String,
    #[serde(default)]
    description: String,
    fields: Vec<FieldView>,
    #[serde(default)]
    stat: Stat,
    #[serde(default)]
    update_time: String,
    #[serde(default)]
    create_time: String,
}

#[derive(Deserialize, Default)]
struct Stat {
    #[serde(default)]
    data_number: u64,
    #[serde(default)]
    data_storage: u64,
}

#[derive(Deserialize)]
struct FieldView {
    field_name: String,
    field_type: String,
    dim: Option<u32>,
    default_val: Option<Value>,
}

fn list(client: &Client, out: &Output) -> Result<()> {
    let data = client.call("/api/collection/list", &json!({}))?;
    let found: Vec<View> = data.read()?;
    out.show(data.text(), || {
        let rows = found.iter().map(|c| {
            let Stat { data_number, data_storage } = c.stat;
            let fields = c.fields.len().to_string();
            [&c.collection_name, &c.primary_key, &fields, &count(data_number), &bytes(data_storage), &c.update_time]
                .map(String::clone)
        });
        table(["collection", "key", "fields", "rows", "size", "changed"], rows)
    })
}

fn info(client: &Client, out: &Output, name: &str) -> Result<()> {
    let data = client.call("/api/collection/info", &json!({"collection_name": name}))?;
    let c: View = data.read()?;
    out.show(data.text(), || {
        let rows = c.fields.iter().map(|f| {
            let dim = f.dim.map_or_else(String::new, |d| format!("({d})"));
            let default = f.default_val.as_ref().map_or_else(String::new, Value::to_string);
            let key = if f.field_name == c.primary_key { "key" } else { "" };
            [f.field_name.clone(), format!("{}{dim}", f.field_type), default, key.to_owned()]
        });
        let fields = table(["field", "type", "default", ""], rows);
        format!(
            "{}  {}\nkey {}, about {} rows, {}; created {}, changed {}\n{fields}",
            c.collection_name,
            c.description,
            c.primary_key,
            count(c.stat.data_number),
            bytes(c.stat.data_storage),
            c.create_time,
            c.update_time
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_written_as_the_wire_takes_them() {
        let json = |text: &str| serde_json::to_value(FieldSpec::parse(text).expect("valid")).expect("JSON");
        assert_eq!(json("id:int64"), json!({"field_name": "id", "field_type": "int64"}));
        assert_eq!(json("v:vector:8"), json!({"field_name": "v", "field_type": "vector", "dim": 8}));
        assert_eq!(
            json("city:string=a=b:c"),
            json!({"field_name": "city", "field_type": "string", "default_val": "a=b:c"})
        );
        assert_eq!(
            json(r#"t:list<string>=["x"]"#),
            json!({"field_name": "t", "field_type": "list<string>", "default_val": ["x"]})
        );
        for bad in ["", "id", "v:vector", "id:int64:4", "a:b:1:2", "n:int64=x", "v:vector:four"] {
            assert!(FieldSpec::parse(bad).is_err(), "{bad}");
        }
    }
}
