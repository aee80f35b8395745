//! `pagewire keys`: lists and rotates the keys that sign page tokens.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::CommandFailure;
use super::api_client::ApiClient;
use super::output::{self, plain};

/// Arguments of `keys`.
#[derive(Args)]
pub(super) struct KeysArgs {
    #[command(subcommand)]
    command: Option<Subcommands>,
    #[command(flatten)]
    server: ApiClient,
}

#[derive(Subcommand)]
enum Subcommands {
    /// List the keys without their secrets (the default).
    List,
    /// Create a new signing key; tokens signed with older keys stay valid.
    Rotate,
}

impl KeysArgs {
    /// Sends the request to a node and prints the response.
    pub(super) async fn run(self) -> Result<(), CommandFailure> {
        let server = &self.server;
        let (response, words) = match self.command {
            None | Some(Subcommands::List) => {
                let list = server.get("/keys").await?;
                let words = table(&list);
                (list, words)
            }
            Some(Subcommands::Rotate) => {
                let response = server.post("/keys/rotate", &json!({})).await?;
                let words = format!("key {} signs page tokens from now on", response["key"]);
                (response, words)
            }
        };
        if server.json {
            output::print_json(&response);
        } else {
            output::print(&words);
        }
        Ok(())
    }
}

fn table(list: &Value) -> String {
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        value => value.as_str().map_or_else(|| value.to_string(), plain),
    };
    let keys = list["items"].as_array().into_iter().flatten();
    let columns = ["key", "signs", "since", "retired_at"];
    let rows: Vec<Vec<String>> =
        keys.map(|key| columns.iter().map(|name| text(&key[*name])).collect()).collect();
    output::table(&["KEY", "SIGNS", "SINCE", "RETIRED"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_line() {
        let old = json!({"key": 1, "signs": false, "retired_at": "2026-01-02T03:04:05Z"});
        let new = json!({"key": 2, "signs": true, "since": "2026-01-02T03:04:05Z"});
        assert_eq!(
            table(&json!({"items": [old, new]})),
            "KEY  SIGNS  SINCE                 RETIRED\n\
             1    false  -                     2026-01-02T03:04:05Z\n\
             2    true   2026-01-02T03:04:05Z  -"
        );
    }
}
