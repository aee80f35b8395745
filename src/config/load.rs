//! Loads the configuration from its sources: defaults < program < file < environment < flags.
//!
//! Every source is a TOML table that is merged over the defaults. A key is known if the defaults have it, so the same
//! check applies to every source, and a wrong value is reported with its source.

use std::fmt;
use std::path::PathBuf;

use toml::{Table, Value};

use super::Config;
use super::environment::{read_environment, read_value};
use super::layer::{at, known_keys, merge, set, unknown_key, unknown_keys};
use super::{mount, pool};

/// The documented defaults.
pub const DEFAULTS: &str = include_str!("../config.default.toml");
/// The file in the working directory that is read when no other file is named.
pub const FILE: &str = "pagewire.toml";

/// The problems of a configuration: all that were found, one per line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct InvalidConfig(pub Vec<String>);

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl From<String> for InvalidConfig {
    fn from(problem: String) -> Self {
        Self(vec![problem])
    }
}

/// The sources that are merged over the defaults.
#[derive(Debug, Default)]
pub struct Sources {
    /// The text of a file that the program contains.
    pub program: String,
    /// A named file, which must exist; without one [`FILE`] is read if it exists.
    pub file: Option<PathBuf>,
    /// Environment variables; variables other than `PAGEWIRE_*` are ignored.
    pub environment: Vec<(String, String)>,
    /// Flags: keys such as `node.lane` with their text.
    pub flags: Vec<(&'static str, String)>,
}

impl Sources {
    /// The environment of this process, with a named file and flags.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<(&'static str, String)>) -> Self {
        // no variable of Pagewire needs a name or value that is not UTF-8
        let environment =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        Self { file, environment: environment.collect(), flags, ..Self::default() }
    }
}

/// Loads and checks the configuration.
///
/// # Errors
///
/// [`InvalidConfig`] when a file cannot be read or parsed, a key is unknown, or a value has the wrong type or is out
/// of range.
pub fn load(sources: &Sources) -> Result<Config, InvalidConfig> {
    let defaults: Table = parse(DEFAULTS, "the defaults")?;
    let mut merged = defaults.clone();
    let mut schema = defaults.clone();
    schema.insert("pool".to_owned(), Value::Table(pool::known_keys()));
    schema.insert("mount".to_owned(), Value::Table(mount::known_keys()));
    let known = known_keys(&schema, "");
    let mut problems = Vec::new();
    let program = parse(&sources.program, "the program")?;
    let (file, name) = read_file(sources.file.as_ref())?;
    let environment = read_environment(&sources.environment, &defaults, &mut problems);
    let flags = read_flags(&sources.flags, &defaults, &mut problems);
    let layers = [
        (program, "the program"),
        (file, name.as_str()),
        (environment, "the environment"),
        (flags, "a flag"),
    ];
    for (layer, source) in layers {
        for unknown in unknown_keys(&layer, &schema, "") {
            problems.push(format!("{source}: {}", unknown_key(&unknown, &known, str::to_owned)));
        }
        merge(&mut merged, layer);
        if let Err(error) = Config::try_from_table(merged.clone()) {
            problems.push(format!("{source}: {error}"));
            break;
        }
    }
    if !problems.is_empty() {
        return Err(InvalidConfig(problems));
    }
    let config = Config::try_from_table(merged)?;
    config.check()?;
    Ok(config)
}

/// Loads a configuration from the text of a file.
#[cfg(test)]
pub(super) fn load_text(text: &str) -> Result<Config, String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = directory.path().join("some.toml");
    std::fs::write(&path, text).map_err(|error| error.to_string())?;
    load(&Sources { file: Some(path), ..Sources::default() }).map_err(|error| error.to_string())
}

impl Config {
    fn try_from_table(table: Table) -> Result<Self, String> {
        table.try_into().map_err(|error: toml::de::Error| error.to_string().trim().replace('\n', " "))
    }
}

fn parse(text: &str, source: &str) -> Result<Table, InvalidConfig> {
    text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        format!("{source}, line {line}: {}", error.message().replace('\n', " ")).into()
    })
}

fn read_file(named: Option<&PathBuf>) -> Result<(Table, String), InvalidConfig> {
    let path = named.cloned().unwrap_or_else(|| FILE.into());
    let name = path.display().to_string();
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok((parse(&text, &name)?, name)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => {
            Ok((Table::new(), name))
        }
        Err(error) => Err(format!("{name}: {error}").into()),
    }
}

fn read_flags(flags: &[(&str, String)], defaults: &Table, problems: &mut Vec<String>) -> Table {
    let mut table = Table::new();
    for (key, text) in flags {
        match read_value(text, at(defaults, key)) {
            Ok(value) => set(&mut table, key, value),
            Err(problem) => problems.push(format!("{key}: {problem}")),
        }
    }
    table
}

#[cfg(test)]
mod tests;
