//! `knarr bucket`: the files that tasks write and read.

use std::fs::File;
use std::io::{self, Read};

use clap::Subcommand;
use knarr_base::limit;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::client::Client;
use crate::failure::{Failure, Result};
use crate::output::{Output, bytes, table};

/// Look into buckets and move files in and out.
#[derive(Debug, Subcommand)]
pub(crate) enum Args {
    /// Make a bucket; one that is already yours is fine.
    #[command(after_help = "Example:\n  knarr bucket create exports")]
    Create {
        /// 3 to 63 lower-case letters, digits or '-'.
        name: String,
    },
    /// List buckets.
    #[command(after_help = "Example:\n  knarr bucket list")]
    List,
    /// List the objects whose key starts with a prefix.
    #[command(after_help = "\
With --json: an array of {key, size, etag, last_modified}.

Examples:
  knarr bucket ls exports
  knarr bucket ls exports/books/ --json | jq -r '.[].key'")]
    Ls {
        /// BUCKET, or BUCKET/PREFIX.
        path: String,
    },
    /// Copy an object to a local file.
    #[command(
        after_help = "Examples:\n  knarr bucket get exports/books/TASK_ID/0.parquet books.parquet\n  knarr bucket get exports/books/TASK_ID/_manifest.json - | jq ."
    )]
    Get {
        /// BUCKET/KEY.
        path: String,
        /// Where to; `-` is stdout. An existing file is replaced.
        file: String,
    },
    /// Copy a local file to an object; an existing one is replaced.
    #[command(after_help = "Example:\n  knarr bucket put notes.txt exports/books/notes.txt")]
    Put {
        /// A local file.
        file: String,
        /// BUCKET/KEY.
        path: String,
    },
}

/// An object as objects/list shows it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Object {
    pub(crate) key: String,
    pub(crate) size: u64,
    etag: String,
    last_modified: String,
}

#[derive(Deserialize)]
struct Bucket {
    bucket: String,
    #[serde(default)]
    create_time: String,
}

pub(crate) fn run(args: Args, client: &Client, out: &Output) -> Result<()> {
    match args {
        Args::Create { name } => {
            let data = client.call("/knarr/v1/buckets/create", &json!({"bucket": name}))?;
            out.show(data.text(), || format!("bucket {name}"))
        }
        Args::List => {
            let data = client.call("/knarr/v1/buckets/list", &json!({}))?;
            let found: Vec<Bucket> = data.read()?;
            out.show(data.text(), || table(["bucket", "created"], found.into_iter().map(|b| [b.bucket, b.create_time])))
        }
        Args::Ls { path } => {
            let (bucket, prefix) = path.split_once('/').unwrap_or((&path, ""));
            let found = list(client, bucket, prefix)?;
            let text = serde_json::to_string(&found).map_err(|e| Failure::failed(e.to_string()))?;
            out.show(&text, || {
                table(["key", "size", "changed"], found.into_iter().map(|o| [o.key, bytes(o.size), o.last_modified]))
            })
        }
        Args::Get { path, file } => {
            let (bucket, key) = split(&path)?;
            let mut body = client.download("/knarr/v1/objects/get", &[("bucket", bucket), ("key", key)])?;
            if file == "-" {
                let copied = io::copy(&mut body, &mut io::stdout().lock());
                return copied.map(drop).map_err(|e| Failure::failed(format!("{path}: {e}")));
            }
            let size = save(body, &path, &file)?;
            out.show(&json!({"file": file, "size": size}).to_string(), || format!("wrote {file}"))
        }
        Args::Put { file, path } => {
            let (bucket, key) = split(&path)?;
            let data = client.upload("/knarr/v1/objects/put", &[("bucket", bucket), ("key", key)], &file)?;
            out.show(data.text(), || format!("wrote {path}"))
        }
    }
}

/// Every object under a prefix, page by page.
pub(crate) fn list(client: &Client, bucket: &str, prefix: &str) -> Result<Vec<Object>> {
    let page = limit::LIST_PAGE.to_string();
    let mut found: Vec<Object> = Vec::new();
    loop {
        let after = found.last().map_or("", |o| o.key.as_str());
        let mut query = vec![("bucket", bucket), ("prefix", prefix), ("limit", page.as_str())];
        if !after.is_empty() {
            query.push(("after", after));
        }
        let objects: Vec<Object> = client.get("/knarr/v1/objects/list", &query)?.read()?;
        let more = objects.len() == limit::LIST_PAGE;
        found.extend(objects);
        if !more {
            return Ok(found);
        }
    }
}

fn split(path: &str) -> Result<(&str, &str)> {
    let both = path.split_once('/').filter(|(bucket, key)| !bucket.is_empty() && !key.is_empty());
    both.ok_or_else(|| Failure::usage(format!("{path}: write BUCKET/KEY")))
}

/// Writes beside the target and renames at the end, so that half a download never bears the final name. The bytes.
fn save(mut body: impl Read, path: &str, file: &str) -> Result<u64> {
    let part = format!("{file}.part");
    let copied = File::create(&part)
        .and_then(|mut to| io::copy(&mut body, &mut to))
        .and_then(|size| std::fs::rename(&part, file).map(|()| size));
    copied.map_err(|e| {
        // Nothing to add if the rest cannot be removed either: the first failure is the one to tell.
        let _ = std::fs::remove_file(&part);
        Failure::failed(format!("{path} to {file}: {e}"))
    })
}
