//! `pagewire rollout status --watch`.

use std::io::{IsTerminal, stdout};
use std::time::Duration;

use serde_json::Value;

use super::super::{CommandFailure, output};
use super::{ApiClient, table};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(500);
/// Clears a terminal and goes to its upper left corner.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Shows a rollout again whenever it changes. Ends only with an error of the server.
pub(super) async fn watch(server: &ApiClient, path: &str) -> Result<(), CommandFailure> {
    let clear = if stdout().is_terminal() && !server.json { CLEAR } else { "" };
    let mut shown = Value::Null;
    loop {
        let status = server.get(path).await?;
        if status != shown {
            match server.json {
                true => output::print(&status.to_string()),
                false => {
                    output::print(&format!("{clear}{}\n\n{}", table::bars(&status), table::status(&status)))
                }
            }
            shown = status;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
