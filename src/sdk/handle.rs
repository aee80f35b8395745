//! A node that runs inside a program.
//!
//! Owns: its address and its end. Never: what a node does (`roles`).

use std::fmt;
use std::net::SocketAddr;

use pagewire_cluster::timing::Timing;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::client::Client;
use super::fail::RequestError;
use crate::config::{Config, local_url};
use crate::roles::{OwnProgram, StartError, run_with};

/// A running node. It drains when this is dropped.
#[derive(Debug)]
pub struct Handle {
    address: SocketAddr,
    stop: DropGuard,
    running: JoinHandle<Result<(), StartError>>,
}

/// Why a node does not start, or does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeError(String);

impl NodeError {
    pub(crate) fn new(reason: impl ToString) -> Self {
        Self(reason.to_string())
    }
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NodeError {}

impl Handle {
    /// Starts a node and waits until it takes traffic.
    pub(super) async fn start(config: Config, own: OwnProgram, timing: Timing) -> Result<Self, NodeError> {
        let (ready, address) = oneshot::channel();
        let stopping = CancellationToken::new();
        let (stop, stopped) = (stopping.clone().drop_guard(), stopping.cancelled_owned());
        let announce = |address| {
            // an error means that the start is not waited for any more
            let _ = ready.send(address);
        };
        let running = tokio::spawn(run_with(config, own, timing, announce, stopped));
        match address.await {
            Ok(address) => Ok(Self { address, stop, running }),
            Err(_) => {
                Err(ended(running).await.err().unwrap_or_else(|| NodeError::new("the node has stopped")))
            }
        }
    }

    /// Returns the address at which the node listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL at which a program of this machine reaches the node.
    pub fn url(&self) -> String {
        local_url(self.address)
    }

    /// Returns a client of the server API of the node.
    ///
    /// # Errors
    ///
    /// As for [`Client::new`].
    pub fn client(&self) -> Result<Client, RequestError> {
        Client::new(&self.url())
    }

    /// Drains the node and waits for its end: pages move to other nodes, and running work ends.
    ///
    /// # Errors
    ///
    /// When a task that the node needs has ended before.
    pub async fn shutdown(self) -> Result<(), NodeError> {
        drop(self.stop);
        ended(self.running).await
    }

    /// Waits until the node ends by itself: an operator has drained it, or it has failed.
    ///
    /// # Errors
    ///
    /// When a task that the node needs has ended.
    pub async fn wait(self) -> Result<(), NodeError> {
        let Self { running, stop, .. } = self;
        let end = ended(running).await;
        drop(stop);
        end
    }
}

async fn ended(running: JoinHandle<Result<(), StartError>>) -> Result<(), NodeError> {
    running.await.map_err(NodeError::new)?.map_err(NodeError::new)
}
