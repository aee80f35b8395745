//! `pagewire push`: sends a message to pages.

use clap::Args;
use serde_json::{Value, json};

use super::api_client::ApiClient;
use super::{CommandFailure, json_arg, output};

/// Arguments of `push`.
#[derive(Args)]
pub(super) struct PushArgs {
    #[command(flatten)]
    to: PushTarget,
    /// Payload of the message, as JSON; - reads it from standard input.
    payload: String,
    #[command(flatten)]
    server: ApiClient,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct PushTarget {
    /// Send to one page, by its ID.
    #[arg(long, value_name = "ID")]
    page: Option<String>,
    /// Send to all pages of a session, by its ID.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Send to all pages of a connection (a browser), by its ID.
    #[arg(long, value_name = "ID")]
    connection: Option<String>,
    /// Send to all pages of a user.
    #[arg(long)]
    user: Option<String>,
    /// Send to all pages that subscribe to a topic.
    #[arg(long)]
    topic: Option<String>,
    /// Send to all pages.
    #[arg(long)]
    all: bool,
}

impl PushTarget {
    fn json(&self) -> Value {
        let named = [
            ("page", &self.page),
            ("session", &self.session),
            ("connection", &self.connection),
            ("user", &self.user),
            ("topic", &self.topic),
        ];
        match named.into_iter().find_map(|(level, id)| Some((level, id.as_ref()?))) {
            Some((level, id)) => json!({level: id}),
            None => json!({"all": self.all}),
        }
    }
}

impl PushArgs {
    /// Sends the message and prints how many pages it reached.
    pub(super) async fn run(self) -> Result<(), CommandFailure> {
        let body = json!({"to": self.to.json(), "payload": json_arg::json(self.payload, "the payload")?});
        let report = self.server.post("/send", &body).await?;
        if self.server.json {
            output::print_json(&report);
        } else {
            output::print(&describe(&report));
        }
        output::check_unreachable(&report)
    }
}

fn describe(report: &Value) -> String {
    let pages = |count: &Value| output::count(count.as_u64().unwrap_or_default(), "page");
    format!("reached {}, held for {}", pages(&report["reached"]), pages(&report["held"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_reads_like_a_sentence() {
        assert_eq!(describe(&json!({"reached": 1, "held": 0})), "reached 1 page, held for 0 pages");
    }
}
