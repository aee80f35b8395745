//! `pagewire unregister`: closes every page below a user, connection, session or page, on every node.

use clap::Args;
use serde_json::Value;

use super::api_client::ApiClient;
use super::target_args::TargetArgs;
use super::{CommandFailure, output};

/// Arguments of `unregister`.
#[derive(Args)]
pub(super) struct Unregister {
    #[command(flatten)]
    of: TargetArgs,
    #[command(flatten)]
    server: ApiClient,
}

impl Unregister {
    /// Closes the pages and prints how many there were.
    pub(super) async fn run(self) -> Result<(), CommandFailure> {
        let outcome = self.server.remove(&self.of.path()).await?;
        if self.server.json {
            output::print_json(&outcome);
        } else {
            output::print(&describe(&outcome));
        }
        output::check_unreachable(&outcome)
    }
}

fn describe(outcome: &Value) -> String {
    format!("closed {}", output::count(outcome["closed"].as_u64().unwrap_or_default(), "page"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::Exit;

    #[test]
    fn it_says_how_many_pages_were_closed_and_fails_when_a_node_did_not_answer() {
        let outcome = json!({"closed": 1, "nodes": ["p01"], "unreachable": ["p02"]});
        assert_eq!(describe(&outcome), "closed 1 page");
        let failure = output::check_unreachable(&outcome).unwrap_err();
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Failed, "no response from p02"));
        assert!(output::check_unreachable(&json!({"closed": 0, "unreachable": []})).is_ok());
    }
}
