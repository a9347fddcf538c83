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
    assert!(shape("list").expect_err("refused").to_string().contains("single_fetch_shape:"));
}

#[test]
fn models_have_addresses_that_are_checked() {
    let file = "data = \"d\"\nembedding_default = \"m\"\n[embedding.m]\nurl = \"http://h:1/v1\"\nmodel = \"x\"\n";
    let config = join(Some(file), &[], &[]).expect("valid");
    assert_eq!(config.embedding["m"].url, "http://h:1/v1");
    assert_eq!(config.embedding_default.as_deref(), Some("m"));
    let text = refusal(
        Some("data = \"d\"\nembedding_default = \"n\"\n[embedding.m]\nurl = \"https://h\"\nmodel = \"\""),
        &[],
        &[],
    );
    for name in ["embedding_default:", "embedding.m.url:", "embedding.m.model:"] {
        assert!(text.contains(name), "{name} in {text}");
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
    for name in [
        "data:",
        "listen:",
        "admin_listen:",
        "log:",
        "memtable_mib:",
        "structure_rows:",
        "threads:",
        "confirm_days:",
        "task_days:",
        "key_requests_at_once:",
    ] {
        assert!(text.contains(name), "{name} in {text}");
    }
    let same = [("data", "d"), ("listen", "127.0.0.1:9"), ("admin_listen", "127.0.0.1:9")];
    assert!(refusal(None, &[], &same).contains("must differ"));
}

#[test]
fn a_file_with_unknown_names_or_wrong_types_is_refused() {
    assert!(refusal(Some("data = \"d\"\nlisten_on = \"x\""), &[], &[]).contains("listen_on"));
    assert!(refusal(Some("data = \"d\"\nthreads = \"many\""), &[], &[]).contains("threads"));
    assert!(refusal(None, &[("KNARR_THREADS", "many")], &[("data", "d")]).contains("threads"));
    assert!(load(Some(Path::new("/does/not/exist")), std::iter::empty(), []).is_err());
}

#[test]
fn the_manual_has_every_setting_and_no_other() {
    let figment = Figment::from(Toml::string(DEFAULT));
    let written: Dict = figment.extract().expect("TOML");
    let mut known: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
    known.sort_unstable();
    assert_eq!(written.keys().map(String::as_str).collect::<Vec<_>>(), known);
}
