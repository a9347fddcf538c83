//! The command line from outside: what scripts rely on.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Output, Stdio};

use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};

use crate::process::Server;
use crate::world::{World, alive, create_collection, eventually, fill, near, row};

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
fn document(output: &Output) -> Value {
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
        .map(|child| document(&child.wait_with_output().unwrap())["task_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), COMMANDS, "{ids:?}");
    world.stop(server);
}

/// With --json a command prints one document on stdout when it succeeds, one on stderr when it fails, and both where some
/// rows were found; its exit code says which of the few things a script can do about it.
#[test]
fn every_command_answers_one_document_and_its_exit_code() {
    let world = World::new();
    let server = world.start();
    let home = tempfile::tempdir().unwrap();
    let rows = "{\"id\":1,\"lang\":\"de\",\"v\":[1,2,3,4]}\n{\"id\":2,\"lang\":\"en\",\"v\":[4,3,2,1]}\n";
    std::fs::write(home.path().join("rows.jsonl"), rows).unwrap();
    std::fs::write(home.path().join("q.json"), "[1,2,3,4]").unwrap();
    let absent = "00000000-0000-4000-8000-000000000000";
    let create = "collection create books --key id --field id:int64 --field lang:string --field v:vector:4";
    let cases = format!(
        "0 {create}\n1 {create}\n0 collection list\n0 collection info books\n5 collection info absent\n\
         0 upsert books rows.jsonl\n2 upsert books absent.jsonl\n2 upsert books q.txt\n5 upsert absent rows.jsonl\n\
         2 upsert books q.json\n0 fetch books 1 2\n5 fetch books 1 9\n1 fetch books word\n5 fetch absent 1\n\
         0 index create books main\n0 index list books\n0 index info books main\n5 index info books absent\n\
         0 search books main --vector q.json\n0 search books main --key 1\n5 search books main --key 9\n\
         2 search books main --vector absent.json\n5 search books absent\n2 search books main --filter x\n\
         0 export books --all --to files/out\n0 export books --all --to files/out --wait\n1 export books --all --to files\n\
         2 export books --filter x --to files/out\n5 export absent --all --to files/out\n\
         2 delete books --filter {{\"lang\":[\"de\"]}}\n0 delete books --filter {{\"lang\":[\"de\"]}} --yes\n\
         1 delete books --filter {{\"absent\":[1]}} --yes\n5 delete absent --filter {{\"lang\":[\"de\"]}} --yes\n\
         0 task list --type filter_delete\n2 task list --type absent\n2 task list --status absent\n5 task info {absent}\n\
         5 task watch {absent}\n5 task confirm {absent}\n5 task cancel {absent}\n5 task drop {absent}\n\
         5 task undo {absent}\n2 task undo\n\
         0 key create --grant read:books\n0 key list\n5 key revoke absent\n2 key create --grant fly:books\n\
         0 bucket create files\n0 bucket list\n0 bucket ls files\n5 bucket ls absent\n0 bucket put rows.jsonl files/rows\n\
         2 bucket put absent files/rows\n0 bucket get files/rows copy\n5 bucket get files/absent copy\n2 bucket get files copy\n\
         2 index drop books main\n0 index drop books main --yes\n2 collection drop books\n0 collection drop books --yes\n\
         5 collection drop books --yes\n0 config\n2 demo\n2 fly\n2 fetch books\n2 serve --listen nowhere"
    );
    for case in cases.lines() {
        let (code, line) = case.split_once(' ').unwrap();
        let output = knarr(&server, line).arg("--json").current_dir(home.path()).output().unwrap();
        check(&output, code.parse().unwrap(), line);
    }
    assert_eq!(std::fs::read_to_string(home.path().join("copy")).unwrap(), rows);

    let list = || knarr(&server, "task list --json");
    check(&list().env("KNARR_SECRET_KEY", "wrong").output().unwrap(), 4, "a wrong secret");
    check(&list().env_remove("KNARR_ACCESS_KEY").env_remove("KNARR_SECRET_KEY").output().unwrap(), 4, "no keys");
    check(&list().env_remove("KNARR_SECRET_KEY").output().unwrap(), 2, "half a key");
    let mut gone = list();
    world.stop(server);
    check(&gone.output().unwrap(), 3, "no server");
}

fn check(output: &Output, code: i32, what: &str) {
    let texts = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{what}: {texts:?}");
    let document = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|e| panic!("{what}: {e}: {text}"));
    if code == 0 {
        document(&texts.0);
        assert!(texts.1.is_empty(), "{what}: {texts:?}");
    } else {
        let error = document(&texts.1);
        assert_eq!(error["error"]["exit"], code, "{what}");
        let told = error["error"]["message"].as_str().unwrap();
        assert!(!told.is_empty() && !told.contains('\n'), "{what}: {told}");
        assert!(texts.0.is_empty() || what.starts_with("fetch"), "{what}: {texts:?}");
    }
}

/// Whoever answers no has the same from every command: nothing done, and an exit code that is not that of success.
#[test]
fn an_answer_of_no_does_nothing_and_exits_with_1() {
    let world = World::new();
    let server = world.start();
    let mut client = server.client();
    create_collection(&mut client, "books");
    fill(&mut client, "books", (0..3).map(|id| row(id, 1, id)));
    client.must("/api/index/create", &near("books"));
    for line in ["delete books --filter {\"grp\":[1]}", "collection drop books", "index drop books near"] {
        for answer in ["n\n", "\n", "what\n"] {
            let (mut person, terminal) = terminal();
            person.write_all(answer.as_bytes()).unwrap();
            let asked = knarr(&server, line).stdin(terminal.try_clone().unwrap()).stderr(terminal).status().unwrap();
            assert_eq!(asked.code(), Some(1), "{line} {answer:?}");
        }
    }
    assert_eq!(alive(&mut client, "books", 0..3), [0, 1, 2]);
    let tasks = client.must("/api/task/list", &json!({"task_type": "filter_delete"}));
    assert_eq!(tasks.as_array().unwrap().len(), 3);
    eventually("the tasks to be cancelled", || {
        let tasks = client.must("/api/task/list", &json!({"task_type": "filter_delete"}));
        tasks.as_array().unwrap().iter().all(|task| task["task_status"] == "fail").then_some(())
    });
    let (mut person, terminal) = terminal();
    person.write_all(b"y\n").unwrap();
    let mut agreed = knarr(&server, "collection drop books");
    agreed.stdin(terminal.try_clone().unwrap()).stderr(terminal);
    assert_eq!(agreed.status().unwrap().code(), Some(0));
    world.stop(server);
}

/// A terminal, and whoever sits before it.
fn terminal() -> (File, File) {
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&person).unwrap();
    unlockpt(&person).unwrap();
    let name = ptsname(&person, Vec::new()).unwrap().into_string().unwrap();
    let flags = OFlags::NOCTTY.bits().cast_signed();
    let terminal = OpenOptions::new().read(true).write(true).custom_flags(flags).open(name).unwrap();
    (File::from(person), terminal)
}

/// `knarr ... | head` ends when head has seen enough, without a word.
#[test]
fn a_reader_that_leaves_is_no_failure() {
    let world = World::new();
    let server = world.start();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = knarr(&server, "task list").stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let output = output.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
    world.stop(server);
}

/// The way back from a delete, as a person and as a script walk it.
#[test]
fn a_delete_is_undone_with_the_words_it_ended_with() {
    let world = World::new();
    let server = world.start();
    let mut client = server.client();
    create_collection(&mut client, "books");
    fill(&mut client, "books", (0..10).map(|id| row(id, id % 2, id)));
    let run = |line: &str| knarr(&server, line).output().unwrap();
    let told = |output: &Output| String::from_utf8(output.stdout.clone()).unwrap();
    let deleted = told(&run("delete books --filter {\"grp\":[1]} --yes"));
    let command = deleted.split('`').nth(1).unwrap_or_else(|| panic!("{deleted}"));
    let (_, line) = command.split_once(' ').unwrap();
    let id = line.rsplit(' ').next().unwrap();
    assert_eq!(alive(&mut client, "books", 0..10), [0, 2, 4, 6, 8]);
    let page = told(&run(&format!("task info {id}")));
    assert!(page.contains(&format!("`{command}`")), "{page}");

    fill(&mut client, "books", [row(3, 7, 3)].into_iter());
    let undone = run(line);
    assert_eq!(told(&undone), "4 rows are back; 1 were written since and stay as they are\n");
    assert_eq!(alive(&mut client, "books", 0..10), (0..10).collect::<Vec<_>>());
    let again = document(&run(&format!("{line} --json")));
    assert_eq!((&again["task_id"], &again["restored_count"]), (&json!(id), &json!(4)));
    let page = told(&run(&format!("task info {id}")));
    assert!(page.contains("4 rows are back") && !page.contains(command), "{page}");

    let export = document(&run("export books --all --to files/out --wait --json"));
    let refused = run(&format!("task undo {} --json", export["task_id"].as_str().unwrap()));
    check(&refused, 1, "the undo of an export");
    world.stop(server);
}
