//! The command line, as a person uses it.

use serde_json::Value;
use tokio::process::Command;

use super::Node;

/// The output of a command.
#[derive(Debug)]
pub(crate) struct CommandOutput {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl CommandOutput {
    /// Parses the output of `--json`.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// Runs `pagewire <arguments>` against a node.
pub(crate) async fn pagewire(node: &Node, arguments: &[&str]) -> CommandOutput {
    output_of(Command::new(env!("CARGO_BIN_EXE_pagewire")).args(arguments).env("PAGEWIRE_URL", node.url()))
        .await
}

/// Runs `pagewire <arguments>` without a node.
pub(crate) async fn pagewire_alone(arguments: &[&str]) -> CommandOutput {
    output_of(Command::new(env!("CARGO_BIN_EXE_pagewire")).args(arguments)).await
}

async fn output_of(command: &mut Command) -> CommandOutput {
    command.kill_on_drop(true);
    let output = command.output().await.expect("the command ran");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    CommandOutput {
        code: output.status.code().unwrap_or(-1),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}
