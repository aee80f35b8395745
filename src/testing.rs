//! Nodes for the tests of a program.
//!
//! Owns: their start on free ports and their end. Never: the configuration file and the variables of this machine.

mod nats;

use std::net::SocketAddr;

use pagewire_cluster::timing::Timing;

use self::nats::TestNats;
use crate::config::Sources;
use crate::sdk::{App, Client, Handle, NodeError, RequestError};

/// The time-outs of these nodes. Waits and pauses are short. Leases are those of production, because a test may block the
/// threads on which they are renewed.
const TIMING: Timing = Timing {
    retry_first: Timing::TEST.retry_first,
    retry_longest: Timing::TEST.retry_longest,
    progress: Timing::TEST.progress,
    handover: Timing::TEST.handover,
    hop_drain: Timing::TEST.hop_drain,
    reconnect_jitter: Timing::TEST.reconnect_jitter,
    ..Timing::PRODUCTION
};

/// Nodes in the process of a test: one on the embedded engine, or several over a NATS server of their own.
///
/// ```no_run
/// # async fn test() -> Result<(), Box<dyn std::error::Error>> {
/// use pagewire::testing::Cluster;
/// use pagewire::{App, Ctx, Fail};
///
/// let app = App::new().handler("double", async |_: Ctx, n: u32| Ok::<_, Fail>(2 * n));
/// let cluster = Cluster::start(app).await?;
/// assert_eq!(cluster.client()?.call::<u32>("double", &4).await?, 8);
/// cluster.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Handle>,
    nats: Option<TestNats>,
}

impl Cluster {
    /// Starts one node on the embedded engine, without NATS. Its data is in memory.
    ///
    /// # Errors
    ///
    /// When the configuration of the program is wrong.
    pub async fn start(app: App) -> Result<Self, NodeError> {
        Ok(Self { nodes: vec![node(app, Vec::new()).await?], nats: None })
    }

    /// Starts several nodes over a NATS server, which is `NATS_SERVER` or `nats-server` in `PATH`.
    ///
    /// # Errors
    ///
    /// As for [`Cluster::start`], and when there is no NATS server or it does not start.
    pub async fn start_nodes(app: App, nodes: usize) -> Result<Self, NodeError> {
        let nats = TestNats::start().await?;
        let mut cluster = Self { nodes: Vec::new(), nats: None };
        for _ in 0..nodes {
            cluster.nodes.push(node(app.clone(), vec![("nats.urls", nats.url())]).await?);
        }
        cluster.nats = Some(nats);
        Ok(cluster)
    }

    /// Returns whether this machine has a NATS server for [`Cluster::start_nodes`].
    pub fn has_nats() -> bool {
        nats::program().is_some()
    }

    /// Returns the addresses of the nodes.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(Handle::address).collect()
    }

    /// Returns the URL of the first node.
    pub fn url(&self) -> String {
        self.nodes.first().map(Handle::url).unwrap_or_default()
    }

    /// Returns a client of the first node.
    ///
    /// # Errors
    ///
    /// As for [`Client::new`].
    pub fn client(&self) -> Result<Client, RequestError> {
        Client::new(&self.url())
    }

    /// Returns a client of each node.
    ///
    /// # Errors
    ///
    /// As for [`Client::new`].
    pub fn clients(&self) -> Result<Vec<Client>, RequestError> {
        self.nodes.iter().map(Handle::client).collect()
    }

    /// Drains the nodes one after the other, and ends the NATS server.
    ///
    /// # Errors
    ///
    /// When a node has failed before.
    pub async fn shutdown(self) -> Result<(), NodeError> {
        let mut end = Ok(());
        for node in self.nodes {
            end = end.and(node.shutdown().await);
        }
        drop(self.nats);
        end
    }
}

async fn node(app: App, flags: Vec<(&'static str, String)>) -> Result<Handle, NodeError> {
    let own = [("listen", "127.0.0.1:0".to_owned())];
    // an empty file, so that the one of the working directory is not read
    let file = Some("/dev/null".into());
    let flags = own.into_iter().chain(flags).collect();
    app.start_with(Sources { file, flags, ..Sources::default() }, TIMING).await
}
