//! What a process is told: by flags, the environment, a file, and defaults, in this order. Each setting is one row of a table, which
//! names it everywhere: `--policy-store`, `COUNTERSIGN_POLICY_STORE`, `policy_store = "…"`.
//!
//! A key that no table has is refused, wherever it stands, with the one that was probably meant: a setting that is silently ignored is one
//! that somebody relies on. What a value means is the business of who asks for it.

mod table;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt::{self, Write},
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::ArgMatches;
use toml::{Table, Value};

pub use table::{Kind, Setting, command};

/// What every variable of ours begins with.
const PREFIX: &str = "COUNTERSIGN_";
/// What is shown of a secret.
const MASK: &str = "***";
/// The name of the file, as a flag and in the environment.
pub const CONFIG: &str = "config";

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Flag,
    Environment,
    File(PathBuf),
    Default,
}

/// Why settings are refused.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file.
    #[error("cannot read the configuration `{}`: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's word.
        error: std::io::Error,
    },
    /// The file is no TOML.
    #[error("`{}` is no TOML: {error}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// The library's word.
        error: String,
    },
    /// Nobody knows the key.
    #[error("{place} has `{key}`, which is no setting{}", suggested(suggestion))]
    Unknown {
        /// The file, or the environment.
        place: String,
        /// The key.
        key: String,
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// A value of the wrong kind.
    #[error("{place} has `{key}` as {found}; {expected}")]
    Kind {
        /// The file, or the environment.
        place: String,
        /// The key.
        key: String,
        /// What is there.
        found: &'static str,
        /// What should be.
        expected: &'static str,
    },
    /// A value that says nothing.
    #[error("{place}: `{value}`: {error}")]
    Value {
        /// The setting, and where its value comes from.
        place: String,
        /// The value.
        value: String,
        /// What is wrong with it.
        error: String,
    },
    /// Nothing was said.
    #[error("`{name}` is not set: give --{name}, {variable}, or `{key}` in the file of --config")]
    Missing {
        /// As a flag.
        name: &'static str,
        /// In the environment.
        variable: String,
        /// In the file.
        key: String,
    },
    /// Settings that contradict each other.
    #[error("{0}")]
    Together(String),
}

fn suggested(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// The settings of one process.
#[derive(Clone)]
pub struct Settings {
    table: Vec<Setting>,
    values: BTreeMap<&'static str, (Vec<String>, Source)>,
}

/// Without its secrets.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.print())
    }
}

impl Settings {
    /// The settings of `table` from flags, the environment and the file that either names.
    ///
    /// # Errors
    /// See [`SettingsError`].
    pub fn read(
        table: Vec<Setting>,
        flags: &ArgMatches,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self, SettingsError> {
        let mut settings = Self { table, values: BTreeMap::new() };
        let named = settings.read_environment(environment)?;
        let path = flags.get_one::<String>(CONFIG).cloned().or(named).map(PathBuf::from);
        // What comes later wins.
        let environment = std::mem::take(&mut settings.values);
        settings.read_defaults();
        if let Some(path) = path {
            let text = std::fs::read_to_string(&path)
                .map_err(|error| SettingsError::Read { path: path.clone(), error })?;
            settings.read_file(&path, &text)?;
        }
        settings.values.extend(environment);
        settings.read_flags(flags);
        Ok(settings)
    }

    fn read_defaults(&mut self) {
        for Setting { name, default, .. } in self.table.clone() {
            if let Some(default) = default {
                self.values.insert(name, (vec![default.to_owned()], Source::Default));
            }
        }
    }

    fn read_file(&mut self, path: &Path, text: &str) -> Result<(), SettingsError> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| SettingsError::Toml {
            path: path.to_owned(),
            error: error.to_string(),
        })?;
        let place = format!("`{}`", path.display());
        for (key, value) in table {
            let Some(setting) = self.table.iter().find(|setting| setting.key() == key).copied()
            else {
                let suggestion = self.like(&key).map(|setting| setting.key());
                return Err(SettingsError::Unknown { place, key, suggestion });
            };
            let wrong = |key, (found, expected)| SettingsError::Kind {
                place: place.clone(),
                key,
                found,
                expected,
            };
            if setting.secret {
                return Err(wrong(key, ("a secret", "give it in the environment")));
            }
            let values = from_toml(&setting, value).map_err(|kinds| wrong(key, kinds))?;
            self.values.insert(setting.name, (values, Source::File(path.to_owned())));
        }
        Ok(())
    }

    /// Returns the file that the environment names.
    fn read_environment(
        &mut self,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Option<String>, SettingsError> {
        let place = || "the environment".to_owned();
        let mut file = None;
        for (name, value) in environment {
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
                continue;
            };
            if is_service_link(name) {
                continue;
            }
            let kind = |found, expected| SettingsError::Kind {
                place: place(),
                key: name.to_owned(),
                found,
                expected,
            };
            let value = value.into_string().map_err(|_| kind("bytes", "give UTF-8"))?;
            if name == format!("{PREFIX}CONFIG") {
                file = Some(value);
                continue;
            }
            let Some(setting) =
                self.table.iter().find(|setting| setting.variable() == name).copied()
            else {
                let key = name.trim_start_matches(PREFIX).to_lowercase();
                let suggestion = self.like(&key).map(|setting| setting.variable());
                return Err(SettingsError::Unknown {
                    place: place(),
                    key: name.to_owned(),
                    suggestion,
                });
            };
            let values = match setting.kind {
                Kind::One => vec![value],
                Kind::Many => value.split_whitespace().map(str::to_owned).collect(),
                Kind::Switch if value == "true" || value == "false" => vec![value],
                Kind::Switch => return Err(kind("a text", "give `true` or `false`")),
            };
            self.values.insert(setting.name, (values, Source::Environment));
        }
        Ok(file)
    }

    fn read_flags(&mut self, flags: &ArgMatches) {
        for Setting { name, kind, secret, .. } in self.table.clone() {
            // No flag has it.
            if secret {
                continue;
            }
            let values = match kind {
                Kind::Switch if flags.get_flag(name) => vec!["true".to_owned()],
                Kind::Switch => continue,
                Kind::One | Kind::Many => match flags.get_many::<String>(name) {
                    Some(values) => values.cloned().collect(),
                    None => continue,
                },
            };
            self.values.insert(name, (values, Source::Flag));
        }
    }

    /// The setting whose key is most like `key`, if one is.
    fn like(&self, key: &str) -> Option<&Setting> {
        let key = key.replace('-', "_").to_lowercase();
        let alike = |setting: &Setting| strsim::jaro_winkler(&setting.key(), &key);
        self.table
            .iter()
            .filter(|setting| alike(setting) > 0.8)
            .max_by(|one, other| alike(one).total_cmp(&alike(other)))
    }

    fn setting(&self, name: &str) -> Option<&Setting> {
        self.table.iter().find(|setting| setting.name == name)
    }

    /// All values; none when nothing was said.
    #[must_use]
    pub fn all(&self, name: &str) -> &[String] {
        debug_assert!(self.setting(name).is_some(), "no setting `{name}`");
        self.values.get(name).map(|(values, _)| values.as_slice()).unwrap_or_default()
    }

    /// The value; none when nothing was said, or nothing is what was said.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.all(name).first().map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The value as a path.
    #[must_use]
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    /// Whether the switch is on.
    #[must_use]
    pub fn is_on(&self, name: &str) -> bool {
        self.text(name) == Some("true")
    }

    /// The value, which there must be.
    ///
    /// # Errors
    /// When there is none.
    pub fn required(&self, name: &'static str) -> Result<&str, SettingsError> {
        self.text(name).ok_or_else(|| {
            let named = Setting::one(name, "", "");
            SettingsError::Missing { name, variable: named.variable(), key: named.key() }
        })
    }

    /// The value, as its type has it.
    ///
    /// # Errors
    /// When it says nothing of that type.
    pub fn parsed<T>(&self, name: &'static str) -> Result<Option<T>, SettingsError>
    where
        T: FromStr<Err: fmt::Display>,
    {
        self.text(name).map(|value| self.parse(name, value)).transpose()
    }

    /// The value, which there must be, as its type has it.
    ///
    /// # Errors
    /// When there is none, or it says nothing of that type.
    pub fn required_parsed<T>(&self, name: &'static str) -> Result<T, SettingsError>
    where
        T: FromStr<Err: fmt::Display>,
    {
        self.parse(name, self.required(name)?)
    }

    /// All values, as their type has them.
    ///
    /// # Errors
    /// When one says nothing of that type.
    pub fn all_parsed<T>(&self, name: &'static str) -> Result<Vec<T>, SettingsError>
    where
        T: FromStr<Err: fmt::Display>,
    {
        self.all(name).iter().map(|value| self.parse(name, value)).collect()
    }

    fn parse<T>(&self, name: &'static str, value: &str) -> Result<T, SettingsError>
    where
        T: FromStr<Err: fmt::Display>,
    {
        value.parse().map_err(|error: T::Err| self.wrong(name, error))
    }

    /// An error about the value of `name`.
    #[must_use]
    pub fn wrong(&self, name: &'static str, error: impl fmt::Display) -> SettingsError {
        let place = match self.values.get(name) {
            Some((_, Source::Flag)) => format!("--{name}"),
            Some((_, Source::Environment)) => Setting::one(name, "", "").variable(),
            Some((_, Source::File(path))) => {
                format!("`{}` in `{}`", Setting::one(name, "", "").key(), path.display())
            }
            Some((_, Source::Default)) | None => format!("`{name}`"),
        };
        let is_secret = self.setting(name).is_some_and(|setting| setting.secret);
        let value = if is_secret { MASK.to_owned() } else { self.all(name).join(" ") };
        SettingsError::Value { place, value, error: error.to_string() }
    }

    /// All of them as the file would have them, each with where it comes from. Secrets are masked, and what stands before an `@` in an
    /// address.
    #[must_use]
    pub fn print(&self) -> String {
        let mut text = String::new();
        for setting in &self.table {
            let key = setting.key();
            let Some((values, source)) = self.values.get(setting.name) else {
                let _ = writeln!(text, "# {key} is not set");
                continue;
            };
            if setting.secret {
                // As a remark, since the file may not have it.
                let _ = writeln!(text, "# {key} = {MASK}  # the environment");
                continue;
            }
            let strings = || values.iter().map(|value| quoted(&masked(value)));
            let value = match setting.kind {
                Kind::Switch => values.concat(),
                Kind::One => strings().collect(),
                Kind::Many => format!("[{}]", strings().collect::<Vec<_>>().join(", ")),
            };
            let source = match source {
                Source::Flag => "a flag".to_owned(),
                Source::Environment => "the environment".to_owned(),
                Source::File(path) => path.display().to_string(),
                Source::Default => "default".to_owned(),
            };
            let _ = writeln!(text, "{key} = {value}  # {source}");
        }
        text
    }
}

fn from_toml(setting: &Setting, value: Value) -> Result<Vec<String>, (&'static str, &'static str)> {
    let found = value.type_str();
    let scalar = |value: Value| match value {
        Value::String(text) => Some(text),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_)
        | Value::Array(_)
        | Value::Table(_) => None,
    };
    match (setting.kind, value) {
        (Kind::Switch, Value::Boolean(on)) => Ok(vec![on.to_string()]),
        (Kind::Switch, _) => Err((found, "give true or false")),
        (Kind::Many, Value::Array(values)) => values
            .into_iter()
            .map(|value| scalar(value).ok_or((found, "give a list of texts")))
            .collect(),
        (Kind::Many, _) => Err((found, "give a list of texts")),
        (Kind::One, value) => scalar(value).map(|text| vec![text]).ok_or((found, "give a text")),
    }
}

/// Kubernetes puts the addresses of services into the environment of every pod, in the manner of Docker's links:
/// `COUNTERSIGN_GATEWAY_SERVICE_HOST`, `COUNTERSIGN_GATEWAY_PORT_7403_TCP`.
fn is_service_link(name: &str) -> bool {
    let is_port = |rest: &str| rest.is_empty() || rest.starts_with('_');
    name.ends_with("_SERVICE_HOST")
        || name.rsplit_once("_SERVICE_PORT").is_some_and(|(_, rest)| is_port(rest))
        || name.rsplit_once("_PORT").is_some_and(|(_, rest)| is_port(rest))
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn masked(value: &str) -> String {
    let parts: Vec<String> = value
        .split(',')
        .map(|part| match part.split_once("://") {
            Some((scheme, rest)) if rest.contains('@') => {
                let host = rest.rsplit_once('@').map(|(_, host)| host).unwrap_or_default();
                format!("{scheme}://{MASK}@{host}")
            }
            Some(_) | None => part.to_owned(),
        })
        .collect();
    parts.join(",")
}
