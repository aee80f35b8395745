//! The handlers that a program says it has.
//!
//! Owns: starting a program for its `ready` alone. Never: what the members of a method mean.

use serde_json::Value;

use super::CheckOptions;
use super::case::Deviation;
use super::handshake::Starter;

/// Starts a program, and returns the methods of its `ready` as it has sent them.
///
/// # Errors
///
/// The reason why the program does not start.
pub async fn methods(options: CheckOptions) -> Result<Vec<Value>, String> {
    let mut starter = Starter::new(options).map_err(|error| format!("no directory for sockets: {error}"))?;
    let mut program = match starter.connect().await {
        Ok(program) => program,
        Err(Deviation::Failed(reason) | Deviation::Skipped(reason)) => return Err(reason),
    };
    let methods = program.members["methods"].take();
    program.kill().await;
    // always an array: it was parsed
    Ok(match methods {
        Value::Array(methods) => methods,
        _ => Vec::new(),
    })
}
