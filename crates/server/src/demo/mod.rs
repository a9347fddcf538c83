//! `knarr demo`: the main job on real data, through the same commands and the same HTTP as any user, and checked.
//!
//! A server of its own runs on a free loopback port over a temporary directory. What is printed after `$` is what a
//! user would type. Every claim the story makes is compared with the sample file; a claim that fails ends the demo with
//! exit code 1.

mod sample;
mod server;

use std::collections::BTreeSet;
use std::io::{IsTerminal, stdout};
use std::path::{Path, PathBuf};

use clap::Parser;
use serde_json::json;

use crate::cli::{Cli, Command};
use crate::client::Client;
use crate::commands::bucket;
use crate::failure::{Failure, Result};
use crate::output::{Output, Row, count, rows_table};
use sample::Digits;
use server::Server;

/// See the main job on real data: create, upsert, export, delete by filter.
///
/// 1,797 handwritten digits, 8 x 8 pixels each, go into a collection; the threes and eights are exported to parquet,
/// then deleted after a look; a crash and a restart later the others are still there, bit for bit.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  knarr demo
  knarr demo --keep      # leaves the data directory for a look around")]
pub(crate) struct Args {
    /// Leave the data directory and the exported files.
    #[arg(long)]
    keep: bool,
}

/// The digits that are exported and deleted.
const CHOSEN: [i64; 2] = [3, 8];
const FILTER: &str = r#"{"digit":[3,8]}"#;

pub(crate) fn run(args: &Args, out: &Output) -> Result<()> {
    if out.json() {
        return Err(Failure::usage("demo tells a story, which has no JSON form"));
    }
    let dir = tempfile::Builder::new().prefix("knarr-demo-").tempdir()?;
    let home = dir.path().to_path_buf();
    server::clean_on_interrupt((!args.keep).then(|| home.clone()))?;
    let told = Story::new(&home)?.tell(out);
    if args.keep {
        let kept = dir.keep();
        let data = kept.join("data");
        say(&format!(
            "\nKept in {}. To look around:\n  knarr serve --data {} &\n  . {}",
            kept.display(),
            data.display(),
            data.join("admin.key").display()
        ));
    }
    told
}

struct Story {
    home: PathBuf,
    data: PathBuf,
    digits: Digits,
}

impl Story {
    fn new(home: &Path) -> Result<Self> {
        Ok(Self {
            home: home.to_path_buf(),
            data: home.join("data"),
            digits: Digits::unpack(&home.join("digits.parquet"))?,
        })
    }

    fn tell(&self, out: &Output) -> Result<()> {
        head("A server on an empty directory");
        let (server, client) = self.start()?;
        self.write(&client, out)?;
        self.export(&client, out)?;
        self.delete(&client, out)?;

        head("The server is killed (SIGKILL) and started again");
        server.kill()?;
        let (server, client) = self.start()?;
        self.prove(&client)?;
        server.kill()?;
        head("Done: exported, shown, confirmed, deleted, and it survived a crash");
        Ok(())
    }

    fn start(&self) -> Result<(Server, Client)> {
        shell(&format!("knarr serve --data {} --listen 127.0.0.1:0", self.data.display()));
        let server = Server::start(&self.data)?;
        let client = server.client()?;
        say(&format!("knarr ready on {}", client.server()));
        Ok((server, client))
    }

    fn write(&self, client: &Client, out: &Output) -> Result<()> {
        head("A collection with a vector per row, filled from a parquet file");
        knarr(
            client,
            out,
            "collection create digits --key id --field id:int64 --field digit:int64 --field image:vector:64",
        )?;
        knarr(client, out, &format!("upsert digits {}", self.digits.file))?;
        let rows = self.digits.rows.len();
        let missing = self.fetch(client)?.iter().filter(|row| row.is_none()).count();
        check(missing == 0, &format!("all {} rows answer to their keys", count(rows as u64)))
    }

    fn export(&self, client: &Client, out: &Output) -> Result<()> {
        head("Export by filter: every 3 and every 8, as parquet");
        knarr(client, out, &format!("export digits --filter {FILTER} --to exports/digits --format parquet --wait"))?;
        knarr(client, out, "bucket ls exports/digits")?;
        let found = bucket::list(client, "exports", "digits/")?;
        let keys = || found.iter().map(|object| object.key.as_str());
        check(keys().any(|key| key.ends_with("/_SUCCESS")), "_SUCCESS is there, so the files are whole")?;
        let mut rows = Vec::new();
        for (n, key) in keys().filter(|key| key.ends_with(".parquet")).enumerate() {
            let local = self.home.join(format!("{n}.parquet"));
            knarr(client, out, &format!("bucket get exports/{key} {}", local.display()))?;
            rows.extend(sample::read(&local)?);
        }
        say(&rows_table(&rows[..rows.len().min(5)]));
        let wanted = self.digits.chosen(&CHOSEN);
        let ids: BTreeSet<i64> = rows.iter().filter_map(sample::id).collect();
        check(
            rows.len() == wanted.len() && ids == wanted,
            &format!("exactly the {} threes and eights are in the files", wanted.len()),
        )?;
        check(rows.iter().all(|row| self.digits.same(row)), "their pixels are equal, bit for bit")
    }

    fn delete(&self, client: &Client, out: &Output) -> Result<()> {
        head("Delete by filter: shown first, then confirmed (--yes answers the question)");
        knarr(client, out, &format!("delete digits --filter {FILTER} --yes"))?;
        self.prove(client)
    }

    /// The chosen digits are gone, the others are what they were.
    fn prove(&self, client: &Client) -> Result<()> {
        let wanted = self.digits.chosen(&CHOSEN);
        let found = self.fetch(client)?;
        let (mut gone, mut kept) = (0, 0);
        for (id, row) in found.iter().enumerate() {
            let doomed = wanted.contains(&(id as i64));
            gone += usize::from(doomed && row.is_none());
            kept += usize::from(!doomed && row.as_ref().is_some_and(|row| self.digits.same(row)));
        }
        let others = self.digits.rows.len() - wanted.len();
        check(gone == wanted.len(), &format!("the {} threes and eights are gone", wanted.len()))?;
        check(kept == others, &format!("the other {} are there, bit for bit", count(others as u64)))
    }

    /// Every row by its key, in order; `None` where there is none.
    fn fetch(&self, client: &Client) -> Result<Vec<Option<Row>>> {
        let keys: Vec<i64> = (0..self.digits.rows.len() as i64).collect();
        let mut rows = Vec::new();
        for keys in keys.chunks(knarr_base::limit::ROWS_PER_CALL) {
            let body = json!({"collection_name": "digits", "primary_keys": keys});
            let data = client.call("/api/collection/fetch_data", &body)?;
            rows.extend(data.read::<Vec<Row>>()?.into_iter().map(|row| row.get("image").is_some().then_some(row)));
        }
        Ok(rows)
    }
}

/// Shows a command and runs it.
fn knarr(client: &Client, out: &Output, line: &str) -> Result<()> {
    shell(&format!("knarr {line}"));
    let parsed = Cli::try_parse_from(std::iter::once("knarr").chain(line.split(' ')));
    match parsed.map_err(|e| Failure::failed(e.to_string()))?.command {
        Command::Client(command) => command.run(client, out),
        Command::Serve(_) | Command::Config | Command::Demo(_) => Err(Failure::failed("not a step of the demo")),
    }
}

/// A claim, compared with the truth.
fn check(holds: bool, claim: &str) -> Result<()> {
    if holds {
        say(&paint("32", &format!("  ok: {claim}")));
        Ok(())
    } else {
        Err(Failure::failed(format!("not true: {claim}")))
    }
}

fn head(text: &str) {
    say(&format!("\n{}", paint("1", text)));
}

fn shell(line: &str) {
    say(&paint("36", &format!("$ {}", quoted(line))));
}

/// The line as a shell needs it.
fn quoted(line: &str) -> String {
    line.replace(FILTER, &format!("'{FILTER}'"))
}

fn say(text: &str) {
    println!("{text}");
}

/// Colour on a terminal.
fn paint(code: &str, text: &str) -> String {
    if stdout().is_terminal() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}
