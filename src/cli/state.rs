//! `pagewire state`: reads and writes state trees from a terminal.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::api_client::{ApiClient, escape};
use super::sse::{SseEvent, SseReader};
use super::target_args::TargetArgs;
use super::{CommandFailure, Exit, json_arg, output};

/// Arguments of `state`.
#[derive(Args)]
pub(super) struct StateArgs {
    #[command(subcommand)]
    command: StateCommand,
}

#[derive(Subcommand)]
enum StateCommand {
    /// Print the value at a path, or the whole tree.
    Get {
        #[command(flatten)]
        of: TargetArgs,
        /// Path of the value, e.g. `wizard.form.name`; `\.` is a dot in a key, `#2` the child at position 2.
        path: Option<String>,
        #[command(flatten)]
        server: ApiClient,
    },
    /// Write a value.
    Set {
        #[command(flatten)]
        of: TargetArgs,
        /// Path of the value.
        path: String,
        /// The value, as JSON; - reads it from standard input.
        value: String,
        /// Fail unless the tree is at this revision.
        #[arg(long)]
        if_revision: Option<u64>,
        #[command(flatten)]
        server: ApiClient,
    },
    /// Delete the value at a path.
    Delete {
        #[command(flatten)]
        of: TargetArgs,
        /// Path of the value.
        path: String,
        /// Fail unless the tree is at this revision.
        #[arg(long)]
        if_revision: Option<u64>,
        #[command(flatten)]
        server: ApiClient,
    },
    /// Print the value at a path, then each change, until interrupted.
    Watch {
        #[command(flatten)]
        of: TargetArgs,
        /// Path of the value; the whole tree by default.
        path: Option<String>,
        #[command(flatten)]
        server: ApiClient,
    },
}

/// Returns the server API's path for a path of a tree.
fn at(of: &TargetArgs, path: Option<&str>) -> String {
    let below = path.filter(|path| !path.is_empty()).map(|path| format!("/{}", escape(path)));
    format!("{}/data{}", of.path(), below.unwrap_or_default())
}

impl StateArgs {
    /// Sends the request and prints the response.
    pub(super) async fn run(self) -> Result<(), CommandFailure> {
        match self.command {
            StateCommand::Get { of, path, server } => {
                output::print_json(&server.get(&at(&of, path.as_deref())).await?);
                Ok(())
            }
            StateCommand::Set { of, path, value, if_revision, server } => {
                let value = json_arg::json(value, "the value")?;
                written(&server, &server.write(&at(&of, Some(&path)), Some(&value), if_revision).await?);
                Ok(())
            }
            StateCommand::Delete { of, path, if_revision, server } => {
                written(&server, &server.write(&at(&of, Some(&path)), None, if_revision).await?);
                Ok(())
            }
            StateCommand::Watch { of, path, server } => watch(&server, &at(&of, path.as_deref())).await,
        }
    }
}

fn written(server: &ApiClient, response: &Value) {
    if server.json {
        output::print_json(response);
    } else {
        output::print(&format!("revision {}", response["revision"]));
    }
}

/// Prints every event until the server closes the stream.
async fn watch(server: &ApiClient, path: &str) -> Result<(), CommandFailure> {
    let mut stream = server.stream(path).await?;
    let mut reader = SseReader::default();
    while let Ok(Some(bytes)) = stream.chunk().await {
        for SseEvent { name, data } in reader.feed(&bytes) {
            if name == "slow" {
                return Err(Exit::Failed.with_message("this terminal was too slow: updates were lost"));
            }
            output::print(&if server.json { data.to_string() } else { describe(&data) });
        }
    }
    Err(Exit::Unreachable.with_message("the server closed the stream"))
}

fn describe(update: &Value) -> String {
    let revision = &update["revision"];
    if let Some(snapshot) = update.get("snapshot") {
        return format!("revision {revision}\n{snapshot:#}");
    }
    if update.get("missing").is_some() {
        return format!("revision {revision}: no value");
    }
    if update.get("removed").is_some() {
        return "the tree was removed".to_owned();
    }
    let changes = update["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let line = |change: &Value| {
        let what = change.get("value").map_or_else(|| "deleted".to_owned(), |value| format!("= {value}"));
        let from = change["from"].as_str().map(|page| format!("  (from {page})")).unwrap_or_default();
        format!("  {} {what}{from}", change["path"].as_str().unwrap_or_default())
    };
    let lines: Vec<String> = changes.iter().map(line).collect();
    format!("revision {revision}\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn news_read_like_a_log() {
        let changes = json!({"revision": 8, "base": 7, "changes": [
            {"path": "a.b", "value": [1, 2], "from": "0000000000000000000000|p01"},
            {"path": "c", "delete": true},
        ]});
        assert_eq!(
            describe(&changes),
            "revision 8\n  a.b = [1,2]  (from 0000000000000000000000|p01)\n  c deleted"
        );
        assert_eq!(describe(&json!({"revision": 7, "missing": true})), "revision 7: no value");
    }
}
