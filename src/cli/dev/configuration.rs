//! The directory and the configuration of a development set-up.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pagewire_worker::runtime::child::private_directory::PrivateDirectory;
use toml::{Table, Value};

use super::super::{CommandFailure, Exit};
use super::failed;
use crate::config::FILE;

/// Python program that succeeds if the package is installed.
const FIND_PACKAGE: &str =
    "import importlib.util, sys; sys.exit(importlib.util.find_spec('pagewire.__main__') is None)";
/// Name of the pool of the application.
const POOL: &str = "default";

/// A directory for what the processes of a set-up need. It is removed at the end.
pub(super) struct DevDirectory {
    directory: PrivateDirectory,
    has_pools: bool,
}

impl DevDirectory {
    /// Creates the directory with a configuration file: that of the user, and the pool of the application.
    ///
    /// # Errors
    /// When a file cannot be read or written, or when the pool of the application is in the file already.
    pub(super) fn create(file: Option<&Path>, command: &[String]) -> Result<Self, CommandFailure> {
        let text = match file {
            Some(file) => read(file)?,
            None if !Path::new(FILE).exists() => String::new(),
            None => read(Path::new(FILE))?,
        };
        let name = file.map_or_else(|| FILE.to_owned(), |file| file.display().to_string());
        let table: Table =
            text.parse().map_err(|error| Exit::Usage.with_message(format!("{name}: {error}")))?;
        let table = with_application(table, command).map_err(|problem| Exit::Usage.with_message(problem))?;
        let table = with_internal(table);
        let directory = PrivateDirectory::create("-dev").map_err(failed)?;
        let this = Self { directory, has_pools: table.get("pool").is_some() };
        std::fs::write(this.file(), table.to_string()).map_err(failed)?;
        Ok(this)
    }

    /// Returns whether the configuration has pools.
    pub(super) const fn has_pools(&self) -> bool {
        self.has_pools
    }

    /// Returns the configuration file.
    pub(super) fn file(&self) -> PathBuf {
        self.directory.path().join(FILE)
    }

    /// Returns the directory for the data of NATS.
    pub(super) fn nats(&self) -> PathBuf {
        self.directory.path().join("nats")
    }
}

fn read(file: &Path) -> Result<String, CommandFailure> {
    std::fs::read_to_string(file)
        .map_err(|error| Exit::Usage.with_message(format!("{}: {error}", file.display())))
}

/// Lets the nodes send requests of mounts to each other, at ports that the system chooses.
fn with_internal(mut table: Table) -> Table {
    let node = table.entry("node").or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(node) = node {
        node.entry("internal").or_insert_with(|| "127.0.0.1:0".into());
    }
    table
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
///
/// # Errors
/// When the name is that of a file, or when the package is not installed.
pub(super) fn python(app: &str) -> Result<Vec<String>, CommandFailure> {
    if let Some(module) = app.strip_suffix(".py") {
        let message = format!("an application is written MODULE:NAME, e.g. {}:app", module.replace('/', "."));
        return Err(Exit::Usage.with_message(message));
    }
    let interpreter = interpreter();
    let found = Command::new(&interpreter)
        .args(["-c", FIND_PACKAGE])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match found {
        // without its bytecode, a module that is changed twice within a second is loaded as it is
        Ok(status) if status.success() => {
            Ok([interpreter.as_str(), "-B", "-m", "pagewire", app].map(str::to_owned).to_vec())
        }
        Ok(_) => {
            let message = format!(
                "{interpreter} has no package pagewire: install it (pip install pagewire) in .venv or in the active \
                 virtual environment"
            );
            Err(Exit::Usage.with_message(message))
        }
        Err(error) => Err(Exit::Usage.with_message(format!("cannot start {interpreter}: {error}"))),
    }
}

/// Returns the interpreter of the active virtual environment, or of `.venv`, or of the environment that this program is
/// installed in, or of the system.
fn interpreter() -> String {
    let active = std::env::var_os("VIRTUAL_ENV").map(PathBuf::from);
    let environments = active.into_iter().chain([PathBuf::from(".venv")]);
    let programs = environments.map(|environment| environment.join("bin/python"));
    let beside = std::env::current_exe().ok().map(|program| program.with_file_name("python"));
    let mut programs = programs.chain(beside);
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
