//! The directory and the configuration of a development set-up.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use pagewire_cluster::id::Key;
use toml::{Table, Value};

use super::super::{CommandFailure, Exit};
use super::failed;
use crate::config::FILE;

/// Name of the pool of the application.
const POOL: &str = "default";

/// A directory for what the processes of a set-up need. It is removed at the end.
pub(super) struct DevDirectory(PathBuf);

impl DevDirectory {
    /// Creates the directory with a configuration file: that of the user, and the pool of the application.
    ///
    /// # Errors
    /// When a file cannot be read or written, or when the pool of the application is in the file already.
    pub(super) fn create(file: Option<&Path>, command: &[String]) -> Result<Self, CommandFailure> {
        let text = match file {
            Some(file) => std::fs::read_to_string(file)
                .map_err(|error| Exit::Usage.with_message(format!("{}: {error}", file.display())))?,
            None => std::fs::read_to_string(FILE).unwrap_or_default(),
        };
        let name = file.map_or_else(|| FILE.to_owned(), |file| file.display().to_string());
        let table = text.parse().map_err(|error| Exit::Usage.with_message(format!("{name}: {error}")))?;
        let table = with_application(table, command).map_err(|problem| Exit::Usage.with_message(problem))?;
        let path = std::env::temp_dir().join(format!("pagewire-dev-{}", Key::random()));
        std::fs::DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        let this = Self(path);
        std::fs::write(this.file(), table.to_string()).map_err(failed)?;
        Ok(this)
    }

    /// Returns the configuration file.
    pub(super) fn file(&self) -> PathBuf {
        self.0.join(FILE)
    }

    /// Returns the directory for the data of NATS.
    pub(super) fn nats(&self) -> PathBuf {
        self.0.join("nats")
    }
}

impl Drop for DevDirectory {
    fn drop(&mut self) {
        // an error leaves a directory behind in the temporary directory of the system
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Adds a pool that runs the application, with one child for any work and one for users.
fn with_application(mut table: Table, command: &[String]) -> Result<Table, String> {
    if command.is_empty() {
        return Ok(table);
    }
    let pools = table.entry("pool").or_insert_with(|| Value::Array(Vec::new()));
    let Value::Array(pools) = pools else { return Err("pool is a list: [[pool]]".to_owned()) };
    if pools.iter().any(|pool| pool.get("name").and_then(Value::as_str) == Some(POOL)) {
        let problem =
            "the configuration has a pool \"default\" already: leave out the application, or the pool";
        return Err(problem.to_owned());
    }
    let mut pool = Table::new();
    pool.insert("name".to_owned(), POOL.into());
    pool.insert("command".to_owned(), command.iter().map(String::as_str).collect::<Vec<_>>().into());
    pool.insert("free".to_owned(), 1.into());
    pool.insert("assigned".to_owned(), 1.into());
    pools.push(Value::Table(pool));
    Ok(table)
}

/// Returns the command that runs an application in a Python module.
pub(super) fn python(app: &str) -> Result<Vec<String>, CommandFailure> {
    if !app.contains(':') {
        let message = format!("an application is written MODULE:NAME, e.g. {app}:app");
        return Err(Exit::Usage.with_message(message));
    }
    let command = [interpreter().as_str(), "-m", "pagewire", app].map(str::to_owned);
    Ok(command.to_vec())
}

/// Returns the interpreter of the active virtual environment, or of `.venv`, or of the system.
fn interpreter() -> String {
    let active = std::env::var_os("VIRTUAL_ENV").map(PathBuf::from);
    let environments = active.into_iter().chain([PathBuf::from(".venv")]);
    let mut programs = environments.map(|environment| environment.join("bin/python"));
    let found = programs.find(|program| program.exists());
    found.map_or_else(|| "python3".to_owned(), |program| program.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_application_is_a_pool_beside_those_of_the_file() {
        let file = "listen = \"127.0.0.1:1\"\n[[pool]]\nname = \"other\"\n".parse().unwrap();
        let command = ["python3", "-m", "pagewire", "app:app"].map(str::to_owned);
        let table = with_application(file, &command).unwrap();
        let pools = table["pool"].as_array().unwrap();
        assert_eq!(pools.len(), 2);
        assert_eq!(pools[1]["command"].as_array().unwrap().len(), 4);
        assert_eq!(table["listen"].as_str(), Some("127.0.0.1:1"));
        assert!(with_application(table, &command).unwrap_err().contains("already"));
    }
}
