//! `knarr search`: the rows nearest to a vector or to a row, the greatest, or any.

use std::fs;
use std::io::{self, Read};

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::client::Client;
use crate::failure::{Failure, Result};
use crate::output::{Output, Row, rows_table};

/// Find rows through an index.
///
/// By nearness to the vectors of a file or of a row, by the value of a field, or, with none of these, at random. Sees
/// every write that was answered before.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The file holds one vector ([0.1, 0.2]) or a list of up to 10 of them; `-` reads stdin.

Examples:
  knarr search books main --vector q.json --limit 5
  knarr search books main --key 42 --filter '{\"op\":\"must\",\"field\":\"lang\",\"conds\":[\"de\"]}'
  knarr search books main --by year --ascending --fields lang,year --json | jq '.[0][0]'")]
pub(crate) struct Args {
    /// Where the rows are.
    collection: String,
    /// The index.
    index: String,
    /// A JSON file with the query vectors.
    #[arg(long, value_name = "FILE", group = "order")]
    vector: Option<String>,
    /// Neighbours of the row with this key.
    #[arg(long, value_name = "KEY", group = "order", allow_negative_numbers = true)]
    key: Option<String>,
    /// Order by a numeric field.
    #[arg(long, value_name = "FIELD", group = "order")]
    by: Option<String>,
    /// The least first instead of the greatest.
    #[arg(long, requires = "by")]
    ascending: bool,
    /// A condition on fields of the scalar index, as JSON.
    #[arg(long, value_name = "JSON")]
    filter: Option<String>,
    /// Only this partition.
    #[arg(long, value_name = "NAME")]
    partition: Option<String>,
    /// Fields to show, separated by commas; default: every scalar field.
    #[arg(long, value_name = "FIELDS")]
    fields: Option<String>,
    /// Rows for each query.
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: u32,
    /// Rows to leave out first.
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: u32,
}

pub(crate) fn run(args: &Args, client: &Client, out: &Output) -> Result<()> {
    let body = body(args)?;
    let data = client.call("/api/index/search", &body)?;
    let lists: Vec<Vec<Row>> = data.read()?;
    out.show(data.text(), || {
        let many = lists.len() > 1;
        let rows: Vec<Row> = lists
            .into_iter()
            .zip(1..)
            .flat_map(|(list, query)| list.into_iter().map(move |row| flat(row, query, many)))
            .collect();
        rows_table(&rows)
    })
}

fn body(args: &Args) -> Result<Value> {
    let mut search =
        Map::from_iter([("limit".to_owned(), json!(args.limit)), ("offset".to_owned(), json!(args.offset))]);
    if let Some(file) = &args.vector {
        search.insert("order_by_vector".to_owned(), json!({"vectors": vectors(&read(file)?, file)?}));
    } else if let Some(key) = &args.key {
        // Text fits both key types: the server reads numeric text as an integer where the key is one.
        search.insert("order_by_vector".to_owned(), json!({"primary_keys": key}));
    } else if let Some(field) = &args.by {
        let order = if args.ascending { "asc" } else { "desc" };
        search.insert("order_by_scalar".to_owned(), json!({"field_name": field, "order": order}));
    }
    if let Some(filter) = &args.filter {
        let filter: Value =
            serde_json::from_str(filter).map_err(|e| Failure::usage(format!("--filter is not JSON: {e}")))?;
        search.insert("filter".to_owned(), filter);
    }
    if let Some(partition) = &args.partition {
        search.insert("partition".to_owned(), json!(partition));
    }
    if let Some(fields) = &args.fields {
        search.insert("output_fields".to_owned(), json!(fields.split(',').map(str::trim).collect::<Vec<_>>()));
    }
    Ok(json!({"collection_name": args.collection, "index_name": args.index, "search": search}))
}

fn read(file: &str) -> Result<String> {
    if file != "-" {
        return fs::read_to_string(file).map_err(|e| Failure::file(file, e));
    }
    let mut text = String::new();
    io::stdin().lock().read_to_string(&mut text)?;
    Ok(text)
}

/// A list of vectors, each as it was written; a single one stands for a list of it.
fn vectors(text: &str, file: &str) -> Result<Vec<Value>> {
    let wrong = |e| Failure::file(file, format!("not a JSON vector or list of vectors: {e}"));
    let items: Vec<&RawValue> = serde_json::from_str(text).map_err(wrong)?;
    let many = items.first().is_some_and(|item| item.get().starts_with(['[', '"']));
    let value: Value = serde_json::from_str(text).map_err(wrong)?;
    match value {
        Value::Array(list) if many => Ok(list),
        single => Ok(vec![single]),
    }
}

/// One table row: the query where there are several, key and score, then the fields.
fn flat(row: Row, query: usize, many: bool) -> Row {
    let mut members = Vec::new();
    members.extend(many.then(|| ("query".to_owned(), json!(query))));
    for (name, value) in row.0 {
        match value {
            Value::Object(fields) if name == "fields" => members.extend(fields),
            value => members.push((name, value)),
        }
    }
    Row(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_hold_one_vector_or_several() {
        assert_eq!(vectors("[1, 2.5]", "f").expect("valid"), [json!([1, 2.5])]);
        assert_eq!(vectors("[[1], [2]]", "f").expect("valid"), [json!([1]), json!([2])]);
        assert_eq!(vectors("[\"AAAA\"]", "f").expect("valid"), [json!("AAAA")]);
        for bad in ["", "{}", "1", "[1"] {
            assert!(vectors(bad, "f").is_err(), "{bad}");
        }
    }

    #[test]
    fn rows_are_flat_and_say_which_query_found_them() {
        let row: Row = serde_json::from_str(r#"{"id":1,"score":0.5,"fields":{"a":2}}"#).expect("JSON");
        let flat = flat(row, 2, true);
        let names: Vec<_> = flat.0.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["query", "id", "score", "a"]);
    }
}
