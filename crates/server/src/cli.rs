//! The command line: what exists, and the help that teaches it. What a command takes stands beside its code.

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::failure::Failure;
use crate::{commands, demo, serve};

const AFTER: &str = "\
First steps:
  knarr serve --data ./data --listen 127.0.0.1:8080 &
  . ./data/admin.key                      # KNARR_ACCESS_KEY and KNARR_SECRET_KEY of the first start
  knarr collection create books --key id --field id:int64 --field lang:string --field v:vector:4
  knarr upsert books rows.jsonl
  knarr index create books main --distance cosine
  knarr search books main --key 1
  knarr export books --filter '{\"lang\":[\"de\"]}' --to exports/books --wait
  knarr delete books --filter '{\"lang\":[\"de\"]}'

Filters are the vendor's two forms:
  {\"lang\":[\"de\",\"nl\"],\"id\":[1,2]}                              every field is among its values
  [{\"op\":\"range\",\"field\":\"year\",\"gte\":1990,\"lt\":2000}]         must, must_not, range, range_out, and, or

Exit codes:
  0 done   1 the operation or task failed, or the answer was no   2 wrong use   3 server unreachable
  4 keys missing, unknown or without the right   5 not found   130 interrupted";

/// Where help puts what every command takes, apart from the command's own.
const GLOBAL: &str = "For every command";

/// Serves and moves vector collections: search, and export and delete by filter as tasks that survive a crash.
#[derive(Debug, Parser)]
#[command(name = "knarr", version, propagate_version = true, after_help = AFTER, max_term_width = 110)]
pub(crate) struct Cli {
    /// Server that the client commands talk to. Keys come from KNARR_ACCESS_KEY and KNARR_SECRET_KEY only.
    #[arg(long, global = true, env = "KNARR_SERVER", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    #[arg(help_heading = GLOBAL)]
    pub(crate) server: String,

    /// Print JSON: results on stdout, errors on stderr, no progress.
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(serve::Args),
    /// Print every setting with its default and its meaning; with --json the defaults only.
    #[command(after_help = "Example:\n  knarr config > knarr.toml; knarr serve --config knarr.toml --data ./data")]
    Config,
    Demo(demo::Args),
    #[command(flatten)]
    Client(commands::Command),
}

/// The command line of this process. What is wrong with it is told in the form that it asks for.
pub(crate) fn parse() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|error| {
        let json = std::env::args_os().any(|arg| arg == "--json");
        if json && error.use_stderr() { usage(&error).report(true) } else { error.exit() }
    })
}

/// The first paragraph, without what leads it in.
fn usage(error: &clap::Error) -> Failure {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Failure::usage("a command is missing: `--help` lists them");
    }
    let text = error.render().to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = first.strip_prefix("error:").unwrap_or(first).split_whitespace().collect();
    Failure::usage(words.join(" "))
}

#[cfg(test)]
mod tests;
