//! Settings: plain data from a file, the environment and flags, checked as a whole before anything starts.

mod places;

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use figment::value::{Dict, Value};
use knarr_base::limit;
use knarr_wire::FetchShape;
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use crate::embedding::{Authorities, Model};
use crate::failure::{Failure, Result};
use places::Places;

/// The defaults, and the manual.
pub(crate) const DEFAULT: &str = include_str!("config.default.toml");
/// Every setting; true where the value is text even if it looks like a number; what it accepts.
const SETTINGS: [(&str, bool, &str); 19] = [
    ("data", true, "the path of a directory"),
    ("listen", true, "HOST:PORT"),
    ("admin_listen", true, "HOST:PORT, or empty"),
    ("log", true, "a level or a filter such as info,knarr_engine=debug"),
    ("threads", false, "0 to 1024"),
    ("memtable_mib", false, "1 to 65536"),
    ("structure_rows", false, "1 to 4294967295"),
    ("confirm_days", false, "1 to 36500"),
    ("task_days", false, "1 to 36500"),
    ("undo_days", false, "0 to 36500"),
    ("confirm_by_another", false, "true or false"),
    ("key_requests_at_once", false, "1 to 512"),
    ("key_requests_per_second", false, "0 to 4294967295"),
    ("clock_skew_seconds", false, "0 to 4294967295"),
    ("regions", false, "a list of names: [\"cn-north-1\", \"cn-beijing\"]"),
    ("trust_forwarded_host", false, "true or false"),
    ("single_fetch_shape", true, "array, map or auto"),
    ("embedding_default", true, "the name of an [embedding.NAME], or empty"),
    ("embedding", false, "tables [embedding.NAME] with url, model, key_env, images and ca_file"),
];
const MIB: usize = 1024 * 1024;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Settings as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    data: PathBuf,
    listen: String,
    admin_listen: String,
    log: String,
    threads: usize,
    memtable_mib: usize,
    structure_rows: u32,
    confirm_days: u32,
    task_days: u32,
    undo_days: u32,
    confirm_by_another: bool,
    key_requests_at_once: usize,
    key_requests_per_second: u32,
    clock_skew_seconds: u32,
    regions: Vec<String>,
    trust_forwarded_host: bool,
    single_fetch_shape: String,
    embedding_default: String,
    embedding: BTreeMap<String, ModelSettings>,
}

/// An embedding model as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelSettings {
    url: String,
    model: String,
    #[serde(default)]
    key_env: String,
    #[serde(default)]
    images: bool,
    #[serde(default)]
    ca_file: String,
}

/// Settings as meant.
#[derive(Debug)]
pub(crate) struct Config {
    /// The data directory; not empty.
    pub(crate) data: PathBuf,
    /// Port 0 takes a free one.
    pub(crate) listen: SocketAddr,
    /// `None`: no health and metrics port.
    pub(crate) admin_listen: Option<SocketAddr>,
    /// A valid filter.
    pub(crate) log: String,
    /// At least 1.
    pub(crate) threads: usize,
    /// At least 1 MiB.
    pub(crate) memtable_bytes: usize,
    /// At least 1.
    pub(crate) structure_rows: u32,
    /// Time that a task waits for its confirmation.
    pub(crate) confirm_wait: Duration,
    /// Time that a final task is kept.
    pub(crate) task_retention: Duration,
    /// Time in which a finished delete can be undone; zero: it cannot.
    pub(crate) undo_window: Duration,
    /// Whether a task's creator may not confirm it.
    pub(crate) confirm_by_another: bool,
    /// Requests of one access key at once; at least 1.
    pub(crate) key_requests_at_once: usize,
    /// 0: no bound.
    pub(crate) key_requests_per_second: u32,
    /// 0: any date.
    pub(crate) clock_skew_ms: u64,
    /// Accepted regions; empty: any.
    pub(crate) regions: Vec<String>,
    /// Behind a proxy that sets X-Forwarded-Host.
    pub(crate) trust_forwarded_host: bool,
    /// `data` of index/fetch_data for a single key.
    pub(crate) single_fetch_shape: FetchShape,
    /// The model of collections that name none; one of those below.
    pub(crate) embedding_default: Option<String>,
    /// Embedding models by the names that clients use.
    pub(crate) embedding: BTreeMap<String, Model>,
}

impl Config {
    /// How requests are checked.
    pub(crate) fn wire(&self) -> knarr_wire::Options {
        knarr_wire::Options {
            key_requests_at_once: self.key_requests_at_once,
            key_requests_per_second: self.key_requests_per_second,
            clock_skew_ms: self.clock_skew_ms,
            regions: self.regions.clone(),
            trust_forwarded_host: self.trust_forwarded_host,
            vikingdb: knarr_wire::Dialect { single_fetch_shape: self.single_fetch_shape },
        }
    }
}

/// Joins defaults, `file`, the `KNARR_` variables among `environment`, and `flags` (set ones only), and checks the result.
pub(crate) fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    flags: impl IntoIterator<Item = (&'static str, Option<String>)>,
) -> Result<Config> {
    let flags = flags.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?)))).collect();
    let places = Places::new(DEFAULT, file, from_environment(environment), flags);
    let settings = places.extract().map_err(|why| Failure::usage(format!("settings: {why}")))?;
    check(settings, &places)
}

/// The defaults as JSON.
pub(crate) fn defaults() -> Result<String> {
    let places = Places::new(DEFAULT, None, Dict::new(), Dict::new());
    places.extract().map(|all: serde_json::Value| all.to_string()).map_err(Failure::failed)
}

fn from_environment(variables: impl Iterator<Item = (String, String)>) -> Dict {
    let setting = |(variable, text): (String, String)| {
        let name = variable.strip_prefix("KNARR_")?.to_ascii_lowercase();
        let (_, is_text, _) = SETTINGS.iter().find(|(known, ..)| *known == name)?;
        let value = if *is_text { Value::from(text) } else { text.parse().unwrap_or_else(|never| match never {}) };
        Some((name, value))
    };
    variables.filter_map(setting).collect()
}

/// Names every setting that is wrong, not just the first.
fn check(settings: Settings, places: &Places) -> Result<Config> {
    let Settings {
        data,
        listen,
        admin_listen,
        log,
        threads,
        memtable_mib,
        structure_rows,
        confirm_days,
        task_days,
        undo_days,
        confirm_by_another,
        key_requests_at_once,
        key_requests_per_second,
        clock_skew_seconds,
        regions,
        trust_forwarded_host,
        single_fetch_shape,
        embedding_default,
        embedding,
    } = settings;
    let mut wrong = Vec::new();
    if data.as_os_str().is_empty() {
        wrong.push(
            places.because("data", "must name a directory: give --data DIR, KNARR_DATA, or data in a --config FILE"),
        );
    }
    let listen = address(&listen).or_else(|| refuse(&mut wrong, places.wrong("listen")));
    let admin = match admin_listen.as_str() {
        "" => None,
        text => address(text).or_else(|| refuse(&mut wrong, places.wrong("admin_listen"))),
    };
    if let (Some(a), Some(b)) = (listen, admin)
        && a == b
        && a.port() != 0
    {
        wrong.push(places.because("admin_listen", "must differ from listen"));
    }
    if let Err(error) = EnvFilter::try_new(&log) {
        wrong.push(format!("{}: {error}", places.wrong("log")));
    }
    for (name, fits) in [
        ("memtable_mib", (1..=65_536).contains(&memtable_mib)),
        ("structure_rows", structure_rows > 0),
        ("confirm_days", (1..=36_500).contains(&confirm_days)),
        ("task_days", (1..=36_500).contains(&task_days)),
        ("undo_days", undo_days <= 36_500),
        ("key_requests_at_once", (1..=limit::REQUESTS_IN_FLIGHT).contains(&key_requests_at_once)),
        ("threads", threads <= 1024),
    ] {
        if !fits {
            wrong.push(places.wrong(name));
        }
    }
    let single_fetch_shape =
        fetch_shape(&single_fetch_shape).or_else(|| refuse(&mut wrong, places.wrong("single_fetch_shape")));
    let embedding = models(embedding, places, &mut wrong);
    let embedding_default = Some(embedding_default).filter(|name| !name.is_empty());
    if let Some(name) = &embedding_default
        && !embedding.contains_key(name)
    {
        wrong.push(places.because("embedding_default", &format!("there is no [embedding.{name}]")));
    }
    match (wrong.as_slice(), listen, single_fetch_shape) {
        ([], Some(listen), Some(single_fetch_shape)) => Ok(Config {
            data,
            listen,
            admin_listen: admin,
            log,
            threads: if threads == 0 { thread::available_parallelism().map_or(1, usize::from) } else { threads },
            memtable_bytes: memtable_mib * MIB,
            structure_rows,
            confirm_wait: DAY * confirm_days,
            task_retention: DAY * task_days,
            undo_window: DAY * undo_days,
            confirm_by_another,
            key_requests_at_once,
            key_requests_per_second,
            clock_skew_ms: u64::from(clock_skew_seconds) * 1000,
            regions,
            trust_forwarded_host,
            single_fetch_shape,
            embedding_default,
            embedding,
        }),
        _ => Err(Failure::usage(format!("settings: {}", wrong.join("; ")))),
    }
}

/// Files of authorities are read here: a setting that cannot be used is wrong.
fn models(
    settings: BTreeMap<String, ModelSettings>,
    places: &Places,
    wrong: &mut Vec<String>,
) -> BTreeMap<String, Model> {
    let mut models = BTreeMap::new();
    for (name, ModelSettings { url, model, key_env, images, ca_file }) in settings {
        let secure = url.strip_prefix("https://");
        let host = secure.or(url.strip_prefix("http://")).and_then(|rest| rest.split('/').next());
        if host.is_none_or(|host| host.is_empty() || host.contains('@')) {
            wrong.push(places.wrong(&format!("embedding.{name}.url")));
        }
        if model.is_empty() {
            wrong.push(places.wrong(&format!("embedding.{name}.model")));
        }
        let trusted = match ca_file.as_str() {
            "" => None,
            file => {
                let read = if secure.is_some() {
                    Authorities::read(Path::new(file))
                } else {
                    Err("only an https url has authorities".to_owned())
                };
                let refused = |why: String| places.because(&format!("embedding.{name}.ca_file"), &why);
                read.map_err(refused).map_or_else(|why| refuse(wrong, why), Some)
            }
        };
        models.insert(name, Model { url, model, key_env, images, trusted });
    }
    models
}

/// The first address of HOST:PORT.
fn address(text: &str) -> Option<SocketAddr> {
    text.to_socket_addrs().ok()?.next()
}

fn fetch_shape(text: &str) -> Option<FetchShape> {
    match text {
        "array" => Some(FetchShape::Array),
        "map" => Some(FetchShape::Map),
        "auto" => Some(FetchShape::Auto),
        _ => None,
    }
}

/// Takes note; nothing can be made of the setting.
fn refuse<T>(wrong: &mut Vec<String>, why: String) -> Option<T> {
    wrong.push(why);
    None
}

#[cfg(test)]
mod tests;
