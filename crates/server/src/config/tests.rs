use std::fs;

use super::*;

type Pair = (&'static str, &'static str);

fn join(file: Option<&str>, environment: &[Pair], flags: &[Pair]) -> Result<Config> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = file.map(|text| {
        let path = dir.path().join("knarr.toml");
        fs::write(&path, text).expect("written");
        path
    });
    let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    load(path.as_deref(), environment, flags.iter().map(|(k, v)| (*k, Some((*v).to_owned()))))
}

fn refusal(file: Option<&str>, environment: &[Pair], flags: &[Pair]) -> String {
    join(file, environment, flags).expect_err("refused").to_string()
}

#[test]
fn defaults_need_only_a_directory() {
    let config = join(None, &[], &[("data", "/d")]).expect("valid");
    assert_eq!(config.data, PathBuf::from("/d"));
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.admin_listen, None);
    assert!(config.threads >= 1);
    assert_eq!(config.memtable_bytes, limit::MEMTABLE_BYTES);
    assert_eq!(config.structure_rows, limit::INDEX_SEGMENT_ROWS);
    assert_eq!((config.confirm_wait, config.task_retention), (limit::CONFIRM_WAIT, limit::TASK_RETENTION));
    assert_eq!(config.undo_window, limit::UNDO_WINDOW);
    assert_eq!(config.key_requests_at_once, limit::REQUESTS_PER_KEY);
    assert_eq!(u128::from(config.clock_skew_ms), limit::CLOCK_SKEW.as_millis());
    assert!(config.regions.is_empty() && !config.trust_forwarded_host);
    assert!(refusal(None, &[], &[]).contains("--data"));
}

#[test]
fn flags_beat_variables_beat_the_file_beats_defaults() {
    let file = "data = \"/file\"\nlisten = \"127.0.0.1:1\"\nthreads = 1\nmemtable_mib = 7\n";
    let environment = [("KNARR_LISTEN", "127.0.0.1:2"), ("KNARR_THREADS", "2"), ("OTHER", "x"), ("KNARR_SERVER", "y")];
    let config = join(Some(file), &environment, &[("listen", "127.0.0.1:3")]).expect("valid");
    assert_eq!(config.data, PathBuf::from("/file"));
    assert_eq!(config.listen.port(), 3);
    assert_eq!((config.threads, config.memtable_bytes), (2, 7 * MIB));
}

#[test]
fn text_that_looks_like_a_number_stays_text() {
    let config = join(None, &[("KNARR_DATA", "2024")], &[]).expect("valid");
    assert_eq!(config.data, PathBuf::from("2024"));
}

#[test]
fn zero_turns_the_clock_check_off() {
    let config = join(Some("data = \"d\"\nclock_skew_seconds = 0"), &[], &[]).expect("valid");
    assert_eq!(config.wire().clock_skew_ms, 0);
}

#[test]
fn lists_and_switches_come_from_variables_too() {
    let environment = [("KNARR_REGIONS", "[cn-north-1, cn-beijing]"), ("KNARR_TRUST_FORWARDED_HOST", "true")];
    let wire = join(None, &environment, &[("data", "d")]).expect("valid").wire();
    assert_eq!(wire.regions, ["cn-north-1", "cn-beijing"]);
    assert!(wire.trust_forwarded_host);
}

#[test]
fn the_shape_of_a_single_fetch_is_one_of_three() {
    let shape =
        |text| join(None, &[("KNARR_SINGLE_FETCH_SHAPE", text)], &[("data", "d")]).map(|c| c.single_fetch_shape);
    assert_eq!(join(None, &[], &[("data", "d")]).expect("valid").single_fetch_shape, FetchShape::Array);
    assert_eq!(shape("map").expect("valid"), FetchShape::Map);
    assert_eq!(shape("auto").expect("valid"), FetchShape::Auto);
    let refused = shape("list").expect_err("refused").to_string();
    assert_eq!(refused, r#"settings: KNARR_SINGLE_FETCH_SHAPE: must be array, map or auto, not "list""#);
}

#[test]
fn models_have_addresses_that_are_checked() {
    let file = "data = \"d\"\nembedding_default = \"m\"\n[embedding.m]\nurl = \"http://h:1/v1\"\nmodel = \"x\"\n";
    let config = join(Some(file), &[], &[]).expect("valid");
    assert_eq!(config.embedding["m"].url, "http://h:1/v1");
    assert_eq!(config.embedding_default.as_deref(), Some("m"));
    let text = refusal(
        Some("data = \"d\"\nembedding_default = \"n\"\n[embedding.m]\nurl = \"ftp://h\"\nmodel = \"\""),
        &[],
        &[],
    );
    for name in ["embedding_default:", "embedding.m.url:", "embedding.m.model:"] {
        assert!(text.contains(name), "{name} in {text}");
    }
    let ca = |url: &str, file: &str| {
        let text = format!("data = \"d\"\n[embedding.m]\nurl = \"{url}\"\nmodel = \"x\"\nca_file = \"{file}\"");
        join(Some(&text), &[], &[]).map(|config| config.embedding["m"].trusted.is_some()).map_err(|e| e.to_string())
    };
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/tls/");
    assert_eq!(ca("https://h/v1", &format!("{tests}ca.pem")), Ok(true));
    assert_eq!(ca("https://h/v1", ""), Ok(false));
    for (url, file, why) in [
        ("https://h/v1", "absent.pem", "No such file"),
        ("https://h/v1", "server.key", "holds no PEM certificate"),
        ("http://h/v1", "ca.pem", "only an https url"),
    ] {
        let refused = ca(url, &format!("{tests}{file}")).expect_err("refused");
        assert!(refused.contains("embedding.m.ca_file: ") && refused.contains(why), "{refused}");
    }
    assert!(
        refusal(Some("data = \"d\"\n[embedding.m]\nurl = \"http://h\"\nmodel = \"x\"\nsecret = \"s\""), &[], &[])
            .contains("secret")
    );
}

#[test]
fn every_wrong_setting_is_named_at_once() {
    let flags = [("listen", "nowhere"), ("admin_listen", "1"), ("log", "a=b=c")];
    let text = refusal(
        Some(
            "memtable_mib = 0\nstructure_rows = 0\nthreads = 5000\nconfirm_days = 0\ntask_days = 36501\nkey_requests_at_once = 0",
        ),
        &[],
        &flags,
    );
    for part in [
        "data: must name a directory",
        "--listen: must be HOST:PORT, not \"nowhere\"",
        "--admin-listen: must be HOST:PORT, or empty, not \"1\"",
        "--log: must be a level",
        "knarr.toml: memtable_mib: must be 1 to 65536, not 0",
        "knarr.toml: structure_rows: must be 1 to 4294967295, not 0",
        "knarr.toml: threads: must be 0 to 1024, not 5000",
        "knarr.toml: confirm_days: must be 1 to 36500, not 0",
        "knarr.toml: task_days: must be 1 to 36500, not 36501",
        "knarr.toml: key_requests_at_once: must be 1 to 512, not 0",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let same = [("data", "d"), ("listen", "127.0.0.1:9"), ("admin_listen", "127.0.0.1:9")];
    assert!(refusal(None, &[], &same).contains("must differ"));
}

#[test]
fn a_file_with_unknown_names_or_wrong_types_is_refused() {
    let unknown = refusal(Some("data = \"d\"\nlisten_on = \"x\""), &[], &[]);
    assert!(unknown.contains("knarr.toml: listen_on: there is no such setting"), "{unknown}");
    let typed = refusal(Some("data = \"d\"\nthreads = \"many\""), &[], &[]);
    assert!(typed.ends_with("knarr.toml: threads: must be 0 to 1024, not \"many\""), "{typed}");
    let syntax = refusal(Some("data = "), &[], &[]);
    assert!(syntax.contains("knarr.toml"), "{syntax}");
    let absent = load(Some(Path::new("/does/not/exist")), std::iter::empty(), []).expect_err("refused").to_string();
    assert!(absent.contains("/does/not/exist"), "{absent}");
}

/// Whoever set it finds it again, whatever is wrong with it.
#[test]
fn a_wrong_variable_is_named_as_it_was_set() {
    let refused = |name, value| refusal(None, &[(name, value)], &[("data", "d")]);
    for (name, value, expected) in [
        ("KNARR_THREADS", "many", "must be 0 to 1024, not \"many\""),
        ("KNARR_THREADS", "-1", "must be 0 to 1024, not -1"),
        ("KNARR_TASK_DAYS", "1.5", "must be 1 to 36500, not 1.5"),
        ("KNARR_TASK_DAYS", "", "must be 1 to 36500, not \"\""),
        ("KNARR_CONFIRM_BY_ANOTHER", "yes", "must be true or false, not \"yes\""),
        (
            "KNARR_REGIONS",
            "cn-north-1",
            "must be a list of names: [\"cn-north-1\", \"cn-beijing\"], not \"cn-north-1\"",
        ),
        ("KNARR_LISTEN", "8080", "must be HOST:PORT, not \"8080\""),
        (
            "KNARR_EMBEDDING",
            "bge",
            "must be tables [embedding.NAME] with url, model, key_env, images and ca_file, not \"bge\"",
        ),
    ] {
        assert_eq!(refused(name, value), format!("settings: {name}: {expected}"));
    }
}

/// What the errors say is accepted is.
#[test]
fn ranges_are_what_the_errors_say() {
    let mut ranges = 0;
    for (name, _, accepted) in SETTINGS {
        let Some((least, most)) = accepted.split_once(" to ") else { continue };
        let (Ok(least), Ok(most)) = (least.parse::<i64>(), most.parse::<i64>()) else { continue };
        ranges += 1;
        let set = |value: i64| join(Some(&format!("data = \"d\"\n{name} = {value}")), &[], &[]);
        for fits in [least, most] {
            assert!(set(fits).is_ok(), "{name} = {fits}: {:?}", set(fits).map(drop));
        }
        for over in [least - 1, most + 1] {
            let refused = set(over).expect_err("refused").to_string();
            assert!(refused.ends_with(&format!("{name}: must be {accepted}, not {over}")), "{refused}");
        }
    }
    assert_eq!(ranges, 9);
}

#[test]
fn the_manual_has_every_setting_and_no_other() {
    let written: Dict = Places::new(DEFAULT, None, Dict::new(), Dict::new()).extract().expect("TOML");
    let mut known: Vec<&str> = SETTINGS.iter().map(|(name, ..)| *name).collect();
    known.sort_unstable();
    assert_eq!(written.keys().map(String::as_str).collect::<Vec<_>>(), known);
}
