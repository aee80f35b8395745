//! `pagewire types`: writes the types of a program's handlers for callers in other languages.
//!
//! Owns: arguments and output. Never: what a schema means (`shape`), or how a type is written (`typescript`, `python`).

mod method;
mod python;
mod shape;
mod typescript;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use pagewire_worker::runtime::child::check::{self, CheckOptions};

use self::method::MethodTypes;
use super::{CommandFailure, Exit, output};

/// Arguments of `types`.
#[derive(Args)]
pub(super) struct TypesArgs {
    /// Write an interface of TypeScript, for `new Pagewire<Api>()` in the browser client.
    #[arg(long, group = "language")]
    ts: bool,
    /// Write TypedDicts of Python.
    #[arg(long, group = "language")]
    python: bool,
    /// File to write instead of standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Name of the interface of TypeScript.
    #[arg(long, value_name = "NAME", default_value = "Api", value_parser = interface_name)]
    name: String,
    /// How long the program may take to start.
    #[arg(long, value_name = "MS", default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(100..=600_000))]
    start_ms: u64,
    /// The program and its arguments. It is started as a child, and reports its handlers with their schemas.
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    program: Vec<String>,
}

fn interface_name(text: &str) -> Result<String, String> {
    if typescript::is_identifier(text) {
        Ok(text.to_owned())
    } else {
        Err("not a name of TypeScript".to_owned())
    }
}

impl TypesArgs {
    /// Starts the program and writes the types of its handlers.
    pub(super) async fn run(self) -> Result<(), CommandFailure> {
        if !self.ts && !self.python {
            return Err(Exit::Usage.with_message("name a language: --ts or --python"));
        }
        let start = Duration::from_millis(self.start_ms);
        let options = CheckOptions { command: self.program, only: Vec::new(), start, within: start };
        let methods = check::methods(options).await.map_err(|reason| Exit::Failed.with_message(reason))?;
        let mut methods: Vec<MethodTypes> = methods.iter().filter_map(MethodTypes::of).collect();
        methods.sort_by(|one, other| one.name.cmp(&other.name));
        let text = if self.ts { typescript::module(&self.name, &methods) } else { python::module(&methods) };
        let Some(file) = self.output else {
            output::print(&text);
            return Ok(());
        };
        std::fs::write(&file, text)
            .map_err(|error| Exit::Failed.with_message(format!("{}: {error}", file.display())))?;
        let untyped = methods.iter().filter(|method| method.result.is_none()).count() as u64;
        let written = output::count(methods.len() as u64, "handler");
        let hint = match untyped {
            0 => String::new(),
            untyped => format!("; {} without a type of its result", output::count(untyped, "handler")),
        };
        output::print_stderr(&format!("{}: {written}{hint}", file.display()));
        Ok(())
    }
}
