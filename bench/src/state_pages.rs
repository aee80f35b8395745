//! One tree that all pages of a node watch: time until the last of them has a change, and what it costs their node.
//!
//! The clock starts in another node when it is asked to write, and stops in the clients' process when the last socket has
//! its frame: the outboxes are behind it, and so are the sockets.

use std::io;
use std::time::Instant;

use crate::clients::Clients;
use crate::cluster::Cluster;
use crate::cpu_affinity::Cores;
use crate::helper_protocol::Manner;
use crate::measure::cpu;
use crate::report::Times;
use crate::server::Node;

/// Has no result, so the snapshot is its one answer.
const WATCH: &str = r#"{"type":"watch","level":"user"}"#;
/// Pages that begin to watch at a time.
const WATCHING: u64 = 64;

/// Pages of one user, each with a socket of its own.
pub(crate) struct Pages {
    clients: Clients,
    node: Node,
}

impl Pages {
    /// Opens them at a node of that cluster; each has its snapshot.
    pub(crate) async fn open(cluster: &Cluster, pages: u64) -> io::Result<Self> {
        let cores = Cores::find()?;
        let node = Node::join(cluster, cores.server).await?;
        let tokens = cluster.tokens(0..1)?.into_iter().cycle().take(pages as usize).collect();
        let mut clients = Clients::open(node.address, tokens, Manner::Prompt, cores.clients).await?;
        clients.ask(WATCH.to_owned(), pages, WATCHING).await?;
        Ok(Self { clients, node })
    }

    /// Writes one after the other: how long each took to the last page, and microseconds of the node's CPU per page.
    pub(crate) async fn measure<W>(&mut self, writes: u64, write: impl Fn() -> W) -> io::Result<(Times, f64)>
    where
        W: Future<Output = io::Result<u64>>,
    {
        let pages = self.clients.pages.len() as u64;
        let (before, mut each) = (cpu(self.node.pid)?, Vec::new());
        for _ in 0..writes {
            self.clients.expect(pages).await?;
            let started = Instant::now();
            write().await?;
            self.clients.arrived().await?;
            each.push(started.elapsed().as_secs_f64() * 1e6);
        }
        let used = cpu(self.node.pid)?.saturating_sub(before).as_secs_f64() * 1e6;
        Ok((Times::of(each), used / (writes * pages) as f64))
    }
}
