//! Measures one tree that all pages of a node watch: the time until the last page has a change, and the CPU time of the
//! node.
//!
//! The clock starts when another node receives the write, and stops when the last socket in the clients' process has
//! its frame, so that outboxes and sockets are included.

use std::io;
use std::time::Instant;

use crate::clients::Clients;
use crate::cluster::Cluster;
use crate::cpu_affinity::Cores;
use crate::helper_protocol::Manner;
use crate::measure::cpu;
use crate::report::Times;
use crate::server::Node;

/// A frame without a result, so that the snapshot is its only reply.
const WATCH: &str = r#"{"type":"watch","level":"user"}"#;
/// Number of pages that begin to watch at the same time.
const WATCHING: u64 = 64;

/// Pages of one user, each with a socket of its own.
pub(crate) struct Pages {
    clients: Clients,
    node: Node,
}

impl Pages {
    /// Opens the pages at a node of that cluster. Each has its snapshot.
    pub(crate) async fn open(cluster: &Cluster, pages: u64) -> io::Result<Self> {
        let cores = Cores::find()?;
        let node = Node::join(cluster, cores.server).await?;
        let tokens = cluster.tokens(0..1)?.into_iter().cycle().take(pages as usize).collect();
        let mut clients = Clients::open(node.address, tokens, Manner::Prompt, cores.clients).await?;
        clients.send_requests(WATCH.to_owned(), pages, WATCHING).await?;
        Ok(Self { clients, node })
    }

    /// Writes sequentially. Returns the time of each write until the last page has it, and microseconds of the node's
    /// CPU per page.
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

    /// Stops the node of the pages.
    pub(crate) async fn stop(self) -> io::Result<()> {
        self.node.stop().await
    }
}
