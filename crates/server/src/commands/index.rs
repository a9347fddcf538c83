//! `knarr index`: what searches are answered by.

use clap::Subcommand;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::client::Client;
use crate::failure::{Failure, Result};
use crate::output::{self, Output, bytes, count, table};

/// Create, list, describe and drop indexes.
#[derive(Debug, Subcommand)]
pub(crate) enum Args {
    /// Create an index of a collection.
    #[command(after_help = "\
Types: flat hnsw hnsw_hybrid ivf diskann sort     Distances: ip l2 cosine     Quant: int8 float fix16 pq

Examples:
  knarr index create books main --distance cosine
  knarr index create books byteam --type flat --distance l2 --quant float --partition-by team --scalars lang,year
  knarr index create notes plain --no-vector --scalars all")]
    Create {
        /// Its collection.
        collection: String,
        /// A letter, then letters, digits or underscores.
        name: String,
        /// What kind of structure to ask for; what serves it is the server's choice.
        #[arg(long = "type", value_name = "TYPE", default_value = "hnsw")]
        kind: String,
        /// How near two vectors are.
        #[arg(long, default_value = "ip")]
        distance: String,
        /// Precision of codes; the server's default fits the distance.
        #[arg(long)]
        quant: Option<String>,
        /// No vectors: the index serves scalars only.
        #[arg(long, conflicts_with_all = ["kind", "distance", "quant"])]
        no_vector: bool,
        /// Fields that filters may name, separated by commas; `all` is every scalar field, `none` is none.
        #[arg(long, value_name = "FIELDS", default_value = "all")]
        scalars: String,
        /// The field whose values are partitions.
        #[arg(long, value_name = "FIELD")]
        partition_by: Option<String>,
        /// Free text.
        #[arg(long)]
        description: Option<String>,
    },
    /// List the indexes of a collection.
    #[command(after_help = "Example:\n  knarr index list books --json")]
    List {
        /// The collection.
        collection: String,
    },
    /// Show what was asked of an index and what it serves.
    #[command(after_help = "Example:\n  knarr index info books main")]
    Info {
        /// Its collection.
        collection: String,
        /// Its name.
        name: String,
    },
    /// Drop an index; the rows stay.
    #[command(after_help = "Example:\n  knarr index drop books main --yes")]
    Drop {
        /// Its collection.
        collection: String,
        /// Its name.
        name: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

pub(crate) fn run(args: Args, client: &Client, out: &Output) -> Result<()> {
    match args {
        Args::Create { collection, name, kind, distance, quant, no_vector, scalars, partition_by, description } => {
            let mut body = named(&collection, &name);
            if !no_vector {
                let mut vector = json!({"index_type": kind, "distance": distance});
                if let Some(quant) = quant {
                    vector["quant"] = json!(quant);
                }
                body.insert("vector_index".to_owned(), vector);
            }
            body.insert("scalar_index".to_owned(), scalar_index(&scalars));
            let texts = [("partition_by", partition_by), ("description", description)];
            body.extend(texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), json!(text?)))));
            client.call("/api/index/create", &body)?;
            out.show(&Value::Object(named(&collection, &name)).to_string(), || format!("created {name}"))
        }
        Args::List { collection } => list(client, out, &collection),
        Args::Info { collection, name } => info(client, out, &collection, &name),
        Args::Drop { collection, name, yes } => {
            output::agree(yes, &format!("Drop the index {name} of {collection}? The rows stay."))?;
            let body = named(&collection, &name);
            client.call("/api/index/drop", &body)?;
            out.show(&Value::Object(body).to_string(), || format!("dropped {name}"))
        }
    }
}

fn named(collection: &str, index: &str) -> Map<String, Value> {
    Map::from_iter([("collection_name".to_owned(), json!(collection)), ("index_name".to_owned(), json!(index))])
}

/// `null` is every scalar field.
fn scalar_index(fields: &str) -> Value {
    match fields {
        "all" => Value::Null,
        "none" => json!([]),
        fields => json!(fields.split(',').map(str::trim).collect::<Vec<_>>()),
    }
}

/// An index as /api/index/info shows it.
#[derive(Deserialize)]
struct View {
    index_name: String,
    status: String,
    partition_by: String,
    vector_index: Option<VectorView>,
    range_index: Vec<String>,
    enum_index: Vec<String>,
    data_number: u64,
    data_storage: u64,
    lag_writes: u64,
    create_time: String,
    update_time: String,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
struct VectorView {
    index_type: String,
    distance: String,
    quant: String,
}

impl View {
    fn vector(&self) -> String {
        let shown = |v: &VectorView| format!("{} {} {}", v.index_type, v.distance, v.quant);
        self.vector_index.as_ref().map_or_else(|| "none".to_owned(), shown)
    }

    fn scalars(&self) -> String {
        let ranges_only = self.range_index.iter().filter(|field| !self.enum_index.contains(field));
        self.enum_index.iter().chain(ranges_only).cloned().collect::<Vec<_>>().join(" ")
    }
}

fn list(client: &Client, out: &Output, collection: &str) -> Result<()> {
    let data = client.call("/api/index/list", &json!({"collection_name": collection}))?;
    let found: Vec<View> = data.read()?;
    out.show(data.text(), || {
        let rows = found.iter().map(|index| {
            [
                index.index_name.clone(),
                index.status.clone(),
                index.vector(),
                index.partition_by.clone(),
                index.scalars(),
            ]
        });
        table(["index", "status", "vectors", "partitions", "scalars"], rows)
    })
}

fn info(client: &Client, out: &Output, collection: &str, name: &str) -> Result<()> {
    let data = client.call("/api/index/info", &named(collection, name))?;
    let index: View = data.read().map_err(|e: Failure| e.during(name))?;
    out.show(data.text(), || {
        let View { index_name, status, description, data_number, data_storage, lag_writes, .. } = &index;
        let partitions = if index.partition_by.is_empty() { "none" } else { &index.partition_by };
        format!(
            "{index_name}  {status}  {description}\nvectors {}; partitions by {partitions}; scalars {}\n\
             about {} rows, {}, {lag_writes} writes behind; created {}, changed {}",
            index.vector(),
            index.scalars(),
            count(*data_number),
            bytes(*data_storage),
            index.create_time,
            index.update_time
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_have_two_words_and_lists() {
        assert_eq!(scalar_index("all"), Value::Null);
        assert_eq!(scalar_index("none"), json!([]));
        assert_eq!(scalar_index("a, b"), json!(["a", "b"]));
    }
}
