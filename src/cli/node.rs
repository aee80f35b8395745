//! `pagewire node drain`: sends the pages of a node to other nodes and stops it.

use clap::{Args, Subcommand};
use serde_json::json;

use super::api_client::{ApiClient, escape};
use super::{CommandFailure, output};

/// Arguments of `node`.
#[derive(Args)]
pub(super) struct NodeArgs {
    #[command(subcommand)]
    command: NodeCommand,
    #[command(flatten)]
    server: ApiClient,
}

#[derive(Subcommand)]
enum NodeCommand {
    /// Drain a node: it takes no new pages, moves its pages to other nodes, finishes its work and exits.
    Drain {
        /// Number of the node, e.g. p02.
        node: String,
    },
}

impl NodeArgs {
    /// Sends the request to a node and prints the response.
    pub(super) async fn run(self) -> Result<(), CommandFailure> {
        let NodeCommand::Drain { node } = self.command;
        let response = self.server.post(&format!("/nodes/{}/drain", escape(&node)), &json!({})).await?;
        if self.server.json {
            output::print_json(&response);
        } else {
            output::print(&format!("node {node} moves its pages to other nodes and exits"));
        }
        Ok(())
    }
}
