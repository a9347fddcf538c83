//! The client commands. Each file: what the command takes, and what it does through the signed HTTP API.

pub(crate) mod bucket;
pub(crate) mod collection;
pub(crate) mod delete;
pub(crate) mod export;
pub(crate) mod fetch;
pub(crate) mod index;
pub(crate) mod key;
pub(crate) mod search;
pub(crate) mod task;
pub(crate) mod upsert;

use clap::{Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::client::Client;
use crate::failure::{Failure, Result};
use crate::output::Output;

/// What runs against a server.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(subcommand)]
    Collection(collection::Args),
    #[command(subcommand)]
    Index(index::Args),
    Upsert(upsert::Args),
    Fetch(fetch::Args),
    Search(search::Args),
    Export(export::Args),
    Delete(delete::Args),
    #[command(subcommand)]
    Task(task::Args),
    #[command(subcommand)]
    Key(key::Args),
    #[command(subcommand)]
    Bucket(bucket::Args),
}

impl Command {
    /// Does it.
    pub(crate) fn run(self, client: &Client, out: &Output) -> Result<()> {
        match self {
            Command::Collection(args) => collection::run(args, client, out),
            Command::Index(args) => index::run(args, client, out),
            Command::Upsert(args) => upsert::run(&args, client, out),
            Command::Fetch(args) => fetch::run(&args, client, out),
            Command::Search(args) => search::run(&args, client, out),
            Command::Export(args) => export::run(&args, client, out),
            Command::Delete(args) => delete::run(&args, client, out),
            Command::Task(args) => task::run(args, client, out),
            Command::Key(args) => key::run(args, client, out),
            Command::Bucket(args) => bucket::run(args, client, out),
        }
    }
}

/// A filter in one of the vendor's two forms, sent exactly as typed.
#[derive(Debug, Serialize)]
pub(crate) struct FilterText {
    /// The map form, or a single condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<Box<RawValue>>,
    /// A list of conditions.
    #[serde(skip_serializing_if = "Option::is_none")]
    filter_conds: Option<Box<RawValue>>,
}

impl FilterText {
    /// Checks that it is JSON and says something; the server checks the rest against the schema.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let not_json = |e| Failure::usage(format!("--filter is not JSON: {e}"));
        let raw: Box<RawValue> = serde_json::from_str(text).map_err(not_json)?;
        match serde_json::from_str(text).map_err(not_json)? {
            Value::Object(members) if !members.is_empty() => Ok(Self { filter: Some(raw), filter_conds: None }),
            Value::Array(nodes) if !nodes.is_empty() => Ok(Self { filter: None, filter_conds: Some(raw) }),
            _ => Err(Failure::usage("--filter must be a JSON object or list of conditions, and not empty")),
        }
    }

    /// No filter at all.
    pub(crate) fn none() -> Self {
        Self { filter: None, filter_conds: None }
    }
}

/// Format of the files of an export or backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FileFormat {
    /// Columns, for pandas, DuckDB, Spark, `knarr upsert`.
    Parquet,
    /// One JSON object per line.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_sent_as_typed_under_the_right_name() {
        let body = |text: &str| serde_json::to_string(&FilterText::parse(text).expect("valid")).expect("JSON");
        assert_eq!(body(r#"{"b":[1],"a":[2]}"#), r#"{"filter":{"b":[1],"a":[2]}}"#);
        assert_eq!(body(r#"[{"op":"must"}]"#), r#"{"filter_conds":[{"op":"must"}]}"#);
        for bad in ["", "{}", "[]", "null", "7", "{", "user_id=5"] {
            assert!(FilterText::parse(bad).is_err(), "{bad}");
        }
    }
}
