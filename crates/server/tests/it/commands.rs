//! The command line from outside: what scripts rely on.

use std::collections::BTreeSet;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::process::Server;
use crate::world::{World, create_collection, fill, row};

/// `knarr LINE`, against this server with its administrator's key.
fn knarr(server: &Server, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_knarr"));
    command
        .args(["--server", &format!("http://{}", server.host())])
        .args(line.split(' '))
        .env("KNARR_ACCESS_KEY", &server.keys().access)
        .env("KNARR_SECRET_KEY", &server.keys().secret)
        .stdin(Stdio::null());
    command
}

/// The one JSON document that a command printed.
fn json(output: &Output) -> Value {
    let shown = || (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{:?}: {:?}", output.status, shown());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {:?}", shown()))
}

/// A date has whole seconds, so an equal request within one second counts as sent twice and answers the same task. A
/// command that somebody starts twice is no such thing.
#[test]
fn equal_commands_within_one_second_are_tasks_of_their_own() {
    const COMMANDS: usize = 8;
    let world = World::new();
    let server = world.start();
    create_collection(&mut server.client(), "books");
    fill(&mut server.client(), "books", (0..10).map(|id| row(id, 1, 1)));
    let start = |_| {
        let mut command = knarr(&server, "export books --all --to files/books --json");
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    // All at once, so that most of them share a second however busy the machine is.
    let running: Vec<_> = (0..COMMANDS).map(start).collect();
    let ids: BTreeSet<String> = running
        .into_iter()
        .map(|child| json(&child.wait_with_output().unwrap())["task_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), COMMANDS, "{ids:?}");
    world.stop(server);
}
