use clap::CommandFactory;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("knarr").chain(line.split_whitespace()))
}

#[test]
fn the_definition_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_parses() {
    for line in [
        "serve --data d --listen 127.0.0.1:0",
        "serve --data d --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 --config f --log debug",
        "config",
        "demo --keep",
        "collection create c --key id --field id:int64 --field v:vector:4",
        "collection create c --schema f.json --description x",
        "collection list --json",
        "collection info c",
        "collection drop c --yes",
        "upsert c f.jsonl --ttl 60 --in-flight 8",
        "upsert c -",
        "fetch c 1 -2 three",
        "fetch c 1 --index i --partition p --fields a,b",
        "index create c i",
        "index create c i --type flat --distance l2 --quant float --scalars a,b --partition-by p --description d",
        "index create c i --no-vector --scalars none",
        "index list c --json",
        "index info c i",
        "index drop c i --yes",
        "search c i",
        "search c i --vector f.json --limit 5 --offset 2 --filter {\"op\":\"must\"} --partition p --fields a,b --json",
        "search c i --key -7",
        "search c i --by n --ascending",
        "export c --all --to b/d",
        "export c --filter {\"a\":[1]} --to b/d --format json --wait",
        "delete c --filter {\"a\":[1]} --yes --backup-to b/d --format parquet",
        "task list --collection c --type data_export --status done --limit 5",
        "task info i",
        "task watch i",
        "task confirm i",
        "task cancel i",
        "task undo i --json",
        "task drop i",
        "key create --label l --grant read:c --grant all:*",
        "key list",
        "key revoke AKLT",
        "bucket create b",
        "bucket list",
        "bucket ls b/p --json",
        "bucket get b/k f",
        "bucket put f b/k",
        "--server http://h:1 task list",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for line in [
        "",
        "fly",
        "export c --to b/d",
        "fetch c 1 --partition p",
        "index create c",
        "index create c i --no-vector --type flat",
        "search c",
        "search c i --key 1 --vector f",
        "search c i --ascending",
        "export c --all --filter {} --to b/d",
        "export c --all",
        "export c --all --to b/d --format csv",
        "delete c",
        "delete c --filter {} --format json",
        "fetch c",
        "collection create c",
        "collection create c --field id:int64",
        "collection create c --key id --field nonsense",
        "collection create c --key id --field id:int64 --schema f",
        "upsert c f.jsonl --ttl -1",
        "upsert c f.jsonl --in-flight 0",
        "key create",
        "key create --grant fly:*",
        "task list --type import",
        "task list --status ready",
    ] {
        let error = parse(line).expect_err(line);
        let shown = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
        assert!(!shown, "{line}");
        assert_eq!(error.exit_code(), 2, "{line}");
        let told = usage(&error).to_string();
        assert!(!told.is_empty() && !told.contains(['\n']) && !told.contains("Usage:"), "{line}: {told}");
    }
}

/// Help that teaches: every command that does something shows how.
#[test]
fn every_command_has_an_example() {
    fn visit(command: &clap::Command) {
        let name = command.get_name();
        assert!(command.get_about().is_some(), "{name} has no description");
        command.get_subcommands().for_each(visit);
        if command.has_subcommands() && name != "knarr" {
            return;
        }
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(after.contains("knarr "), "{name} has no example");
    }
    visit(&Cli::command());
}
