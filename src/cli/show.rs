//! `pagewire show`: prints one user, connection, session or page with its descendants.

use clap::Args;
use serde_json::{Value, json};

use super::CommandFailure;
use super::api_client::{ApiClient, escape};
use super::output::{self, plain};
use pagewire_cluster::id::Level;

use super::target_args::TargetArgs;
use super::users::rows;

/// Arguments of `show`.
#[derive(Args)]
pub(super) struct Show {
    #[command(flatten)]
    of: TargetArgs,
    /// Continue after this entry: the cursor that the previous list of sessions or pages ended with.
    #[arg(long)]
    cursor: Option<String>,
    /// The most sessions or pages to list.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1000))]
    limit: u64,
    #[command(flatten)]
    server: ApiClient,
}

impl Show {
    /// Prints the entity and one page of the list of its descendants.
    pub(super) async fn run(self) -> Result<(), CommandFailure> {
        let path = self.of.path();
        let mut found = self.server.get(&path).await?;
        let below = match self.of.named() {
            Some((Level::User | Level::Connection, _)) => Some("sessions"),
            Some((Level::Session, _)) => Some("pages"),
            Some((Level::Page, _)) | None => None,
        };
        let mut list = Value::Null;
        if let Some(below) = below {
            let cursor = self.cursor.as_deref().map(|cursor| format!("&cursor={}", escape(cursor)));
            let cursor = cursor.unwrap_or_default();
            list = self.server.get(&format!("{path}/{below}?limit={}{cursor}", self.limit)).await?;
        }
        if self.server.json {
            found["below"] = json!(list);
            output::print_json(&found);
            return Ok(());
        }
        output::print(&describe(&found, below, &list));
        if let Some(next) = list["next_cursor"].as_str() {
            output::print_stderr(&format!("there are more: --cursor {next}"));
        }
        Ok(())
    }
}

fn describe(found: &Value, below: Option<&str>, list: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), plain);
    let members = found.as_object().into_iter().flatten();
    let width = members.clone().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> = members.map(|(name, value)| format!("{name:width$}  {}", text(value))).collect();
    let table = match below {
        Some("sessions") => output::table(
            &["SESSION", "CONNECTION", "PAGES", "IDLE UNTIL"],
            &rows(list, &["session_id", "connection_id", "pages", "idle_until"]),
        ),
        Some(_) => output::table(
            &["PAGE", "NODE", "USER", "OPENED"],
            &rows(list, &["page_id", "node", "user", "opened_at"]),
        ),
        None => return lines.join("\n"),
    };
    format!("{}\n\n{table}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_is_comes_first_and_then_what_is_below() {
        let user = json!({"user": "ann", "online": false, "pages": 0});
        let session = json!({
            "session_id": "1|p01", "connection_id": "2|p01", "pages": 0, "idle_until": "2026-01-02T03:04:05Z"
        });
        assert_eq!(
            describe(&user, Some("sessions"), &json!({"items": [session]})),
            "user    ann\nonline  false\npages   0\n\n\
             SESSION  CONNECTION  PAGES  IDLE UNTIL\n1|p01    2|p01       0      2026-01-02T03:04:05Z"
        );
        assert_eq!(describe(&json!({"page_id": "1|p01"}), None, &Value::Null), "page_id  1|p01");
    }
}
