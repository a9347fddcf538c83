//! The binary `knarr`: the server, and the commands that talk to one.
//!
//! Owns process concerns only: the command line, configuration, ports, signals, logs and exit codes. `serve` opens the
//! layers below and runs the router that `knarr_wire` returns; every other command is a client of the signed HTTP API and
//! knows nothing of a data directory.

mod cli;
mod client;
mod commands;
mod config;
mod demo;
mod embedding;
mod failure;
mod keyfile;
mod output;
mod serve;
mod telemetry;
mod wiring;

use std::process::ExitCode;

use crate::cli::{Cli, Command};
use crate::client::Client;
use crate::failure::Result;
use crate::output::Output;

/// Bodies and batches of some hundred KiB come and go with every request, and the system's allocator returns their pages
/// each time: upserts gain a tenth from this one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _scenario = failpoints::arm();
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(exit) => return exit,
    };
    let json = cli.json;
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(json),
    }
}

/// For the kill tests: what FAILPOINTS says happens, and a panic at a failpoint ends the process there and then, as
/// SIGKILL would, not one task of it.
#[cfg(feature = "failpoints")]
mod failpoints {
    use std::{panic, process};

    pub(super) fn arm() -> fail::FailScenario<'static> {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            usual(info);
            if info.payload_as_str().is_some_and(|text| text.starts_with("failpoint ")) {
                process::abort();
            }
        }));
        fail::FailScenario::setup()
    }
}

fn run(cli: Cli) -> Result<()> {
    let Cli { server, json, command } = cli;
    let out = Output::new(json);
    match command {
        Command::Serve(args) => serve::run(args, &out),
        Command::Config => out.show(&config::defaults()?, || config::DEFAULT.trim_end().to_owned()),
        Command::Demo(args) => demo::run(&args, &out),
        Command::Client(command) => command.run(&Client::from_env(&server)?, &out),
    }
}
