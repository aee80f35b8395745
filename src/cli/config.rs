//! `pagewire config`: checks, prints and explains the configuration.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{CommandFailure, Exit, Program, output};
use crate::config::{self, Config, DEFAULTS, Sources};

/// The configuration file; environment variables always apply.
#[derive(Args)]
pub(super) struct ConfigFile {
    /// Configuration file to read instead of pagewire.toml.
    #[arg(long, value_name = "FILE", env = "PAGEWIRE_CONFIG")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    /// Reads and checks the configuration. `flags` override it.
    pub(super) fn load(&self, flags: Vec<(&'static str, String)>) -> Result<Config, CommandFailure> {
        self.load_of(&Program::default(), flags)
    }

    /// Reads and checks the configuration of a program, which this file overrides.
    pub(super) fn load_of(
        &self,
        program: &Program,
        flags: Vec<(&'static str, String)>,
    ) -> Result<Config, CommandFailure> {
        let program = program.configuration.clone();
        config::load(&Sources { program, ..Sources::of_process(self.config.clone(), flags) })
            .map_err(|error| Exit::Usage.with_message(error))
    }
}

/// Arguments of `config`.
#[derive(Args)]
pub(super) struct ConfigCommand {
    #[command(subcommand)]
    command: ConfigAction,
}

#[derive(Subcommand)]
enum ConfigAction {
    /// Check the configuration and report its errors.
    Check(Shown),
    /// Print every effective value; secrets are hidden.
    Print(Shown),
    /// Print every key with its default and its meaning.
    Docs,
}

#[derive(Args)]
struct Shown {
    #[command(flatten)]
    file: ConfigFile,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl ConfigCommand {
    /// Checks or prints the configuration.
    pub(super) fn run(self, program: &Program) -> Result<(), CommandFailure> {
        match self.command {
            ConfigAction::Check(shown) => check(&shown, program),
            ConfigAction::Print(shown) => print(&shown, program),
            ConfigAction::Docs => {
                output::print(DEFAULTS);
                Ok(())
            }
        }
    }
}

fn check(shown: &Shown, program: &Program) -> Result<(), CommandFailure> {
    let checked = shown.file.load_of(program, Vec::new());
    if shown.json {
        let problems: Vec<&str> =
            checked.as_ref().err().map_or_else(Vec::new, |f| f.message.lines().collect());
        let warnings = checked.as_ref().map(Config::warnings).unwrap_or_default();
        output::print_json(&json!({"valid": checked.is_ok(), "problems": problems, "warnings": warnings}));
    }
    let warnings = checked?.warnings();
    if !shown.json {
        for warning in &warnings {
            output::print_stderr(&format!("warning: {warning}"));
        }
        output::print("the configuration is valid");
    }
    Ok(())
}

fn print(shown: &Shown, program: &Program) -> Result<(), CommandFailure> {
    let config = shown.file.load_of(program, Vec::new())?;
    if shown.json {
        output::print_json(&json!(config));
    } else {
        output::print(&toml::to_string(&config).map_err(|error| Exit::Failed.with_message(error))?);
    }
    Ok(())
}
