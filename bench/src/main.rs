//! Measures a knarr server from outside, one table per command. `bench/README.md` says how to read them.

mod bench;
#[allow(dead_code, reason = "shared with the integration tests, which use the rest")]
mod client;
mod data;
mod delete;
mod engine;
mod export;
mod fetch;
mod index;
mod load;
mod measure;
mod postings;
#[allow(dead_code, reason = "shared with the integration tests, which use the rest")]
mod process;
mod progress;
mod search;
mod size;
mod startup;
mod upsert;

use std::io;

use clap::{Parser, Subcommand};

use crate::bench::Bench;

/// Measures a knarr server from outside; every command prints one table.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    bench: Bench,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write the input as a parquet file, which the peers read.
    Generate,
    /// Make the table that the other commands start from.
    Load,
    /// Export everything, 0.3 % and 30 %.
    Export,
    /// Delete 0.3 % and 30 % by filter.
    Delete,
    /// Upsert half existing and half new keys from 8 clients.
    Upsert(upsert::Args),
    /// The same upserts into the engine alone, in this process.
    Engine(upsert::Args),
    /// Fetch by key from 8 clients.
    Fetch(fetch::Args),
    /// Build indexes over the table.
    IndexBuild(index::build::Args),
    /// Search through indexes from 8 clients, with and without filters.
    IndexSearch(index::search::Args),
    /// Fetch by key through an index from 8 clients.
    IndexFetch(fetch::Args),
    /// Search beside a steady stream of upserts.
    IndexUpsert(index::churn::Args),
    /// Kill the server, start it, and search.
    IndexStartup,
    /// The search structure alone, in this process.
    Search(search::Args),
    /// Filters through the postings of a segment, in this process.
    Postings,
    /// Start on the loaded table.
    Startup,
    /// Sizes of the binary and of what it is made from.
    Size,
}

fn main() -> io::Result<()> {
    let Args { bench, command } = Args::parse();
    std::fs::create_dir_all(&bench.dir)?;
    match command {
        Command::Generate => data::file(&bench.dir, bench.rows).map(|path| println!("{}", path.display())),
        Command::Load => load::run(&bench),
        Command::Export => export::run(&bench),
        Command::Delete => delete::run(&bench),
        Command::Upsert(args) => upsert::run(&bench, &args),
        Command::Engine(args) => engine::run(&bench, &args),
        Command::Fetch(args) => fetch::run(&bench, &args, fetch::From::Table),
        Command::IndexBuild(args) => index::build::run(&bench, &args),
        Command::IndexSearch(args) => index::search::run(&bench, &args),
        Command::IndexFetch(args) => fetch::run(&bench, &args, fetch::From::Index),
        Command::IndexUpsert(args) => index::churn::run(&bench, &args),
        Command::IndexStartup => index::startup::run(&bench),
        Command::Search(args) => search::run(&bench, &args),
        Command::Postings => postings::run(&bench),
        Command::Startup => startup::run(&bench),
        Command::Size => size::run(&bench),
    }
}
