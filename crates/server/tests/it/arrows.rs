//! The rules of the house that no compiler keeps: which crate may name what, how long a file may be, where names from
//! outside may become paths, and where our dependencies come from. Reads manifests and sources; every rule has a line
//! that breaks it on purpose, so that a test which stops seeing is noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use figment::Figment;
use figment::providers::{Format, Toml};
use serde::Deserialize;

/// Who may depend on whom, inside.
const ARROWS: [(&str, &[&str]); 6] = [
    ("base", &[]),
    ("engine", &["base"]),
    ("catalog", &["base"]),
    ("service", &["base", "engine", "catalog"]),
    ("wire", &["base", "service"]),
    ("server", &["base", "engine", "catalog", "service", "wire"]),
];
/// The files of the server that may look below `wire`: what opens the layers, what the service calls out through, and
/// what reads the user's own files.
const SERVER_BELOW_WIRE: [&str; 4] = ["wiring.rs", "embedding.rs", "commands/upsert.rs", "demo/sample.rs"];
/// Libraries that one crate alone may name.
const OWNED: [(&str, &str); 8] = [
    ("arrow", "engine"),
    ("parquet", "engine"),
    ("object_store", "engine"),
    ("memmap2", "engine"),
    ("sqlx", "catalog"),
    ("axum", "wire"),
    ("ureq", "server"),
    ("clap", "server"),
];
/// Lines of a file that are not tests.
const PRODUCTION_LINES: usize = 500;
/// Types that hold a name which came with a request.
const OUTSIDE_NAMES: [&str; 5] = ["ObjectKey", "ObjectPath", "BucketName", "KeyId", "Principal"];
/// The one module that turns such names into places.
const PATH_OWNER: &str = "engine/src/objects/";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A source file: its crate, its path below `crates/`, and its lines up to the tests at its end.
struct Source {
    owner: &'static str,
    path: String,
    production: String,
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for (owner, _) in ARROWS {
        let mut files = Vec::new();
        list(&root().join("crates").join(owner).join("src"), &mut files);
        let tests: Vec<PathBuf> = files.iter().flat_map(|(path, text)| test_modules(path, text)).collect();
        files.retain(|(path, _)| !tests.iter().any(|test| path.starts_with(test) || path.with_extension("") == *test));
        found.extend(files.iter().map(|(path, text)| {
            let below = path.strip_prefix(root().join("crates")).expect("below it").display().to_string();
            Source { owner, path: below, production: production(text).to_owned() }
        }));
    }
    assert!(found.len() > 40, "only {} sources were found", found.len());
    found
}

fn list(dir: &Path, files: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
        let path = entry.expect("listed").path();
        if path.is_dir() {
            list(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = read(&path);
            files.push((path, text));
        }
    }
}

/// Modules in files of their own that are compiled for tests only, as paths without `.rs`.
fn test_modules(path: &Path, text: &str) -> Vec<PathBuf> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let home = match stem.as_str() {
        "mod" | "lib" | "main" => path.parent().expect("in a directory").to_path_buf(),
        _ => path.with_extension(""),
    };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let after =
        lines.iter().enumerate().filter(|(_, line)| **line == "#[cfg(test)]").filter_map(|(at, _)| lines.get(at + 1));
    let name = |line: &&str| line.strip_suffix(';')?.rsplit_once("mod ").map(|(_, name)| name.to_owned());
    after.filter_map(name).map(|name| home.join(name)).collect()
}

/// A file up to the tests at its end.
fn production(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod tests {").map_or(text, |at| &text[..at])
}

/// Every identifier that is followed by `::`, outside comments and strings on lines of their own.
fn named(text: &str) -> BTreeSet<&str> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| {
        line.match_indices("::").map(move |(at, _)| {
            let head = &line[..at];
            let start = head.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |at| at + 1);
            &head[start..]
        })
    })
    .collect()
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    dependencies: BTreeMap<String, figment::value::Value>,
}

fn wrong_dependency(owner: &str, dependency: &str) -> bool {
    let (_, allowed) = ARROWS.iter().find(|(name, _)| *name == owner).expect("a crate of ours");
    match dependency.strip_prefix("knarr-").or(dependency.strip_prefix("knarr_")) {
        Some(inside) => inside != owner && !allowed.contains(&inside),
        None => {
            let name = dependency.replace('-', "_");
            OWNED.iter().any(|(lib, home)| *home != owner && (name == *lib || name.starts_with(&format!("{lib}_"))))
        }
    }
}

#[test]
fn arrows_point_down_in_manifests() {
    for (owner, _) in ARROWS {
        let text = read(&root().join("crates").join(owner).join("Cargo.toml"));
        let manifest: Manifest = Figment::from(Toml::string(&text)).extract().expect("a manifest");
        for dependency in manifest.dependencies.keys() {
            assert!(!wrong_dependency(owner, dependency), "crates/{owner} must not depend on {dependency}");
        }
    }
    for (owner, dependency) in [
        ("engine", "knarr-catalog"),
        ("base", "knarr-engine"),
        ("wire", "knarr-engine"),
        ("service", "arrow-array"),
        ("server", "axum"),
        ("service", "sqlx"),
    ] {
        assert!(wrong_dependency(owner, dependency), "{owner} -> {dependency} is not seen");
    }
}

fn below_wire(path: &str, name: &str) -> bool {
    let below = matches!(name, "knarr_engine" | "knarr_catalog" | "knarr_service");
    path.strip_prefix("server/src/").is_some_and(|file| below && !SERVER_BELOW_WIRE.contains(&file))
}

#[test]
fn arrows_point_down_in_sources() {
    for Source { owner, path, production } in sources() {
        for name in named(&production) {
            // A crate's own modules may bear the name of a library: `bulk::parquet` names nothing outside.
            let outside = name.starts_with("knarr_") || !production.contains(&format!("mod {name}"));
            assert!(
                !(outside && wrong_dependency(owner, name) && uses(&production, name)),
                "{path} must not name {name}"
            );
            assert!(!below_wire(&path, name), "{path} must not name {name}: only {SERVER_BELOW_WIRE:?} may");
        }
    }
    assert!(named("use sqlx::query;\nlet a = axum::Router::new();").is_superset(&BTreeSet::from(["sqlx", "axum"])));
    assert!(named("// sqlx::query").is_empty());
    assert!(
        below_wire("server/src/serve/mod.rs", "knarr_engine") && !below_wire("server/src/wiring.rs", "knarr_engine")
    );
}

/// True if `name` stands at the head of a path somewhere, not after another part (`decode::parquet::...`).
fn uses(text: &str, name: &str) -> bool {
    let path = format!("{name}::");
    text.match_indices(&path).any(|(at, _)| {
        let before = text[..at].chars().next_back().unwrap_or(' ');
        let inner = text[..at].ends_with("::") && !text[..at].ends_with(" ::");
        !before.is_alphanumeric() && before != '_' && !inner
    })
}

#[test]
fn files_stay_short() {
    let long: Vec<String> = sources()
        .iter()
        .map(|source| (source.production.lines().count(), &source.path))
        .filter(|(lines, _)| *lines > PRODUCTION_LINES)
        .map(|(lines, path)| format!("{path}: {lines}"))
        .collect();
    assert!(long.is_empty(), "more than {PRODUCTION_LINES} production lines: {long:?}");
    assert_eq!(production("a\nb\n#[cfg(test)]\nmod tests {\nc\n}\n").lines().count(), 2);
    assert_eq!(production("#[cfg(test)]\nmod tests;\na\n").lines().count(), 3);
    let tests = test_modules(Path::new("x/mod.rs"), "mod a;\n#[cfg(test)]\npub(crate) mod b;\n");
    assert_eq!(tests, [PathBuf::from("x/b")]);
}

/// Calls of `join` whose argument is not a literal: paths made of something computed. (`[..].join(", ")` and the `join()`
/// of a thread are not such.)
fn computed_joins(text: &str) -> Vec<&str> {
    let code = text.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    code.filter(|line| {
        line.match_indices(".join(").any(|(at, call)| {
            let argument = line[at + call.len()..].trim_start_matches('&');
            !argument.starts_with(['"', '\'', ')'])
        })
    })
    .collect()
}

/// Threat model H7: a file that handles names from outside builds no paths, and the dialects know no paths at all.
#[test]
fn names_from_outside_become_paths_in_one_module() {
    for Source { owner, path, production } in sources() {
        if path.starts_with(PATH_OWNER) {
            continue;
        }
        if let Some(name) = OUTSIDE_NAMES.iter().find(|name| production.contains(**name)) {
            let joins = computed_joins(&production);
            assert!(joins.is_empty(), "{path} handles {name} and builds paths: {joins:?}");
        }
        if matches!(owner, "wire" | "service") {
            for word in ["std::path", "std::fs", "tokio::fs", "PathBuf"] {
                let code = production.lines().filter(|line| !line.trim_start().starts_with("//"));
                let lines: Vec<&str> = code.filter(|line| line.contains(word)).collect();
                assert!(lines.is_empty(), "{path} must not know files: {lines:?}");
            }
        }
    }
    assert_eq!(
        computed_joins("dir.join(key.as_str())\ndir.join(\"LOCK\")\nwords.join(\", \")\nthread.join()\n").len(),
        1
    );
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Banned>,
}

#[derive(Deserialize)]
struct Banned {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

fn deny() -> Deny {
    Figment::from(Toml::string(&read(&root().join("deny.toml")))).extract().expect("deny.toml")
}

/// Threat model H16, as far as the lock file tells.
#[test]
fn dependencies_come_from_the_registry_and_none_is_banned() {
    let lock: Lock = Figment::from(Toml::string(&read(&root().join("Cargo.lock")))).extract().expect("Cargo.lock");
    let Deny { bans, sources, .. } = deny();
    assert!(lock.package.len() > 100 && !bans.deny.is_empty());
    for Package { name, source } in &lock.package {
        match source {
            None => assert!(name == "knarr" || name.starts_with("knarr-"), "{name} comes from a path outside"),
            Some(source) => {
                let known = sources.allow_registry.iter().any(|url| source.strip_prefix("registry+") == Some(url));
                assert!(known, "{name} comes from {source}");
            }
        }
        assert!(!bans.deny.iter().any(|banned| banned.name == *name), "{name} is banned by deny.toml");
    }
    for single in ["arrow-array", "arrow-schema", "parquet", "object_store", "sqlx", "axum"] {
        let versions = lock.package.iter().filter(|package| package.name == single).count();
        assert_eq!(versions, 1, "versions of {single} in Cargo.lock");
    }
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Licensed>,
}

#[derive(Deserialize)]
struct Licensed {
    name: String,
    license: Option<String>,
}

/// True if some choice within the SPDX expression is made of allowed licences only.
fn permitted(expression: &str, allowed: &[String]) -> bool {
    let text = expression.trim();
    for (operator, all) in [(" OR ", false), ("/", false), (" AND ", true)] {
        let parts = split_outside_brackets(text, operator);
        if parts.len() > 1 {
            let mut parts = parts.into_iter().map(|part| permitted(part, allowed));
            return if all { parts.all(|ok| ok) } else { parts.any(|ok| ok) };
        }
    }
    match text.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) => permitted(inner, allowed),
        None => allowed.iter().any(|licence| licence == text),
    }
}

fn split_outside_brackets<'a>(text: &'a str, operator: &str) -> Vec<&'a str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 && at >= start && text[at..].starts_with(operator) {
            parts.push(&text[start..at]);
            start = at + operator.len();
        }
    }
    parts.push(&text[start..]);
    parts
}

#[test]
fn licences_are_among_the_allowed() {
    let host = host_triple();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", &host])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let Metadata { packages } = serde_json::from_slice(&output.stdout).expect("metadata");
    let allowed = deny().licenses.allow;
    let wrong: Vec<String> = packages
        .iter()
        .filter(|package| !permitted(package.license.as_deref().unwrap_or("none"), &allowed))
        .map(|package| format!("{}: {:?}", package.name, package.license))
        .collect();
    assert!(packages.len() > 100 && wrong.is_empty(), "licences that deny.toml does not allow: {wrong:?}");

    let allowed = ["MIT".to_owned(), "Zlib".to_owned()];
    for (expression, ok) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("MIT/Apache-2.0", true),
        ("(GPL-3.0 OR MIT) AND Zlib", true),
        ("(GPL-3.0 OR MIT) AND Unicode-3.0", false),
        ("none", false),
    ] {
        assert_eq!(permitted(expression, &allowed), ok, "{expression}");
    }
}

fn host_triple() -> String {
    let output = Command::new("rustc").arg("-vV").current_dir(root()).output().expect("rustc runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host").to_owned()
}
