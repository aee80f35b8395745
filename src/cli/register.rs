//! `pagewire register`: moves the users and connections of an application from one register to another one.
//!
//! A file has one item per line, as JSON: `{"level", "id", "fields"}`, the users first.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::api_client::{ApiClient, escape};
use super::file_arg::read_file;
use super::{CommandFailure, Exit, output};

/// Items in one request.
const PART: usize = 500;

/// Arguments of `register`.
#[derive(Args)]
pub(super) struct RegisterArgs {
    #[command(subcommand)]
    command: RegisterCommand,
}

#[derive(Subcommand)]
enum RegisterCommand {
    /// Print the users and connections of a register, one JSON object per line. They are secrets: a connection is a login.
    Export {
        /// The name of the register.
        register: String,
        #[command(flatten)]
        server: ApiClient,
    },
    /// Create users and connections; those that exist stay as they are.
    Import {
        /// The name of the register.
        register: String,
        /// A file as `export` writes it; `-` for the standard input.
        file: PathBuf,
        #[command(flatten)]
        server: ApiClient,
    },
}

impl RegisterArgs {
    /// Sends the requests and prints the items, or what has become of them.
    pub(super) async fn run(self) -> Result<(), CommandFailure> {
        match self.command {
            RegisterCommand::Export { register, server } => {
                for level in ["user", "connection"] {
                    export(&server, &register, level).await?;
                }
                Ok(())
            }
            RegisterCommand::Import { register, file, server } => {
                let items = items(&file)?;
                let done = import(&server, &register, &items).await?;
                if server.json {
                    output::print_json(&done);
                } else {
                    output::print(&format!(
                        "{} created, {} were there already",
                        done["created"], done["kept"]
                    ));
                }
                Ok(())
            }
        }
    }
}

fn path(register: &str) -> String {
    format!("/registers/{}/items", escape(register))
}

/// Prints all items of a level.
async fn export(server: &ApiClient, register: &str, level: &str) -> Result<(), CommandFailure> {
    let first = format!("{}?level={level}&limit={PART}", path(register));
    let mut next = Some(first.clone());
    while let Some(path) = next {
        let part = server.get(&path).await?;
        for item in part["items"].as_array().into_iter().flatten() {
            output::print(&item.to_string());
        }
        next = part["next_cursor"].as_str().map(|cursor| format!("{first}&cursor={}", escape(cursor)));
    }
    Ok(())
}

/// Reads the items of a file.
fn items(file: &Path) -> Result<Vec<Value>, CommandFailure> {
    let text = read_file(file)?;
    let wrong = |what: String| Exit::Usage.with_message(format!("{}: {what}", file.display()));
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let read = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| wrong(format!("line {}: {error}", number + 1)))
    };
    lines.map(read).collect()
}

/// Creates items, and returns how many are new and how many existed.
async fn import(server: &ApiClient, register: &str, items: &[Value]) -> Result<Value, CommandFailure> {
    let (mut created, mut kept) = (0, 0);
    for part in items.chunks(PART) {
        let done = server.post(&path(register), &json!({"items": part})).await?;
        created += done["created"].as_u64().unwrap_or_default();
        kept += done["kept"].as_u64().unwrap_or_default();
    }
    Ok(json!({"created": created, "kept": kept}))
}
