//! What a reader of exported files can rely on.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

/// Directories below `objects` that hold a `_SUCCESS`.
pub(crate) fn sealed(objects: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(objects).into_iter().flatten().map_while(Result::ok) {
        if entry.path().is_dir() {
            found.extend(sealed(&entry.path()));
        } else if entry.file_name() == "_SUCCESS" {
            found.push(objects.to_owned());
        }
    }
    found
}

/// Checks every data file against the manifest, which is returned.
pub(crate) fn verify(dir: &Path) -> Value {
    let text = fs::read(dir.join("_manifest.json")).expect("a sealed export has a manifest");
    let manifest: Value = serde_json::from_slice(&text).expect("a manifest is JSON");
    let files = manifest["files"].as_array().expect("a manifest lists files");
    for file in files {
        let bytes = fs::read(dir.join(file["name"].as_str().unwrap())).expect("a listed file is there");
        let hash: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            (file["bytes"].as_u64(), file["sha256"].as_str()),
            (Some(bytes.len() as u64), Some(&*hash)),
            "{file}"
        );
    }
    let on_disk = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name());
    let data = on_disk.filter(|name| !name.as_encoded_bytes().starts_with(b"_")).count();
    assert_eq!(data, files.len(), "files beside those of the manifest in {}", dir.display());
    manifest
}

/// Rows of a sealed JSON export by id; every id once.
pub(crate) fn rows(dir: &Path) -> BTreeMap<i64, Value> {
    let manifest = verify(dir);
    let mut rows = BTreeMap::new();
    for file in manifest["files"].as_array().unwrap() {
        let text = fs::read_to_string(dir.join(file["name"].as_str().unwrap())).unwrap();
        for line in text.lines() {
            let row: Value = serde_json::from_str(line).expect("a line is a row");
            let id = row["id"].as_i64().unwrap();
            assert!(rows.insert(id, row).is_none(), "row {id} twice");
        }
    }
    assert_eq!(manifest["rows"], rows.len());
    rows
}

/// Where a finished task put its files.
pub(crate) fn dir(data: &Path, path: &str, task: &str) -> PathBuf {
    data.join("objects").join(path).join(task)
}
