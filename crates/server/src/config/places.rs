//! Where a setting was written and what it accepts: for errors that say what to change.

use figment::error::{Error, Kind};
use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Map};
use figment::{Figment, Metadata, Profile, Provider, Source};

use super::SETTINGS;

const ENVIRONMENT: &str = "environment";
const FLAGS: &str = "flags";

/// All places, joined; later ones win.
pub(super) struct Places(Figment);

/// Settings of one place without a file.
struct Layer(&'static str, Dict);

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.0)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Serialized::from(&self.1, Profile::Default).data()
    }
}

impl Places {
    pub(super) fn new(defaults: &str, file: Option<&std::path::Path>, environment: Dict, flags: Dict) -> Self {
        let defaults = Figment::from(Toml::string(defaults));
        let written = file.map(|path| defaults.clone().merge(Toml::file_exact(path))).unwrap_or(defaults);
        Self(written.merge(Layer(ENVIRONMENT, environment)).merge(Layer(FLAGS, flags)))
    }

    /// All settings, typed.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn extract<T: for<'a> serde::Deserialize<'a>>(&self) -> Result<T, String> {
        self.0.extract().map_err(|error| self.explain(error))
    }

    /// A value that is not among what its setting accepts.
    pub(super) fn wrong(&self, path: &str) -> String {
        let value = self.0.find_value(path).ok().and_then(|value| serde_json::to_string(&value).ok());
        self.because(path, &format!("must be {}, not {}", accepted(path), value.as_deref().unwrap_or("absent")))
    }

    /// What is wrong with a setting.
    pub(super) fn because(&self, path: &str, why: &str) -> String {
        format!("{}: {why}", self.place(path))
    }

    /// The variable, flag, or file and key.
    fn place(&self, path: &str) -> String {
        let found = self.0.find_metadata(path);
        let file = found.and_then(|m| m.source.as_ref()).and_then(Source::file_path);
        let (name, below) = path.split_once('.').unwrap_or((path, ""));
        let below = if below.is_empty() { String::new() } else { format!(" ({below})") };
        match (found.map(|m| &*m.name), file) {
            (Some(ENVIRONMENT), _) => format!("KNARR_{}{below}", name.to_ascii_uppercase()),
            (Some(FLAGS), _) => format!("--{}", name.replace('_', "-")),
            (_, Some(file)) => format!("{}: {path}", file.display()),
            _ => path.to_owned(),
        }
    }

    fn explain(&self, error: Error) -> String {
        let path = error.path.join(".");
        match &error.kind {
            Kind::UnknownField(..) => {
                self.because(&path, "there is no such setting (`knarr config` prints all of them)")
            }
            Kind::MissingField(name) => self.because(&path, &format!("{name} is missing")),
            _ if path.is_empty() => error.to_string(),
            _ => self.wrong(&path),
        }
    }
}

/// What a setting accepts, in words.
fn accepted(path: &str) -> &'static str {
    match path.rsplit_once('.') {
        Some((_, "url")) => "http://HOST:PORT/PATH or https://HOST/PATH",
        Some((_, "model")) => "the endpoint's name of the model",
        Some((_, "key_env")) => "the name of an environment variable",
        Some((_, "images")) => "true or false",
        Some((_, "ca_file")) => "the path of a PEM file of certificates",
        Some((parent, _)) => accepted(parent),
        None => SETTINGS.iter().find(|(name, ..)| *name == path).map_or("a known setting", |(.., accepted)| *accepted),
    }
}
