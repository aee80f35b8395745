//! Measures the memory of connections that stay open after a request to a mount, in turns with nginx.
//!
//! The memory is that of the process alone: the buffers of a socket are the kernel's, and both servers have the same.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::load::{Address, KeptConnections};
use super::servers::{Gunicorn, Nginx};
use crate::cluster::Cluster;
use crate::measure::{anonymous, rss_at_rest};
use crate::report::{Report, progress};
use crate::scratch::scratch_directory;
use crate::server::Node;

/// Pause before the memory is read.
const REST: Duration = Duration::from_secs(2);
/// Connections that are opened and closed before the first measurement, so that what a server allocates once is not
/// counted.
const WARM_UP: u64 = 16;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// A Python interpreter of a virtualenv with gunicorn.
    #[arg(long)]
    python: PathBuf,
    /// Number of connections.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=16_000))]
    connections: u64,
    /// Number of runs, each with new processes; the servers take turns.
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

pub(crate) async fn run(options: Options) -> io::Result<Report> {
    let directory = scratch_directory()?;
    let socket = directory.path().join("application.sock");
    let _application = Gunicorn::start(&options.python, 0, directory.path(), &socket).await?;
    let mount =
        format!("[[mount]]\nhttp = \"unix:{}\"\n[limits]\nconnections_per_ip = 20000\n", socket.display());
    let (mut node_kb, mut nginx_kb) = (Vec::new(), Vec::new());
    for number in 1..=options.runs {
        progress(&format!("run {number} of {}", options.runs));
        let node = Node::with_file(&Cluster::new(None), &mount).await?;
        node_kb.push(kept(&Address::Tcp(node.address), node.pid, options.connections).await?);
        node.stop().await?;
        if let Some(nginx) = Nginx::start(directory.path(), &socket).await? {
            nginx_kb.push(kept(&Address::Tcp(nginx.address), nginx.pid, options.connections).await?);
        }
    }
    progress("");
    let mut report = Report::new(format!("Memory of {} kept connections", options.connections));
    report.row("mount", "KB/1,000 connections", &node_kb);
    report.row("nginx", "KB/1,000 connections", &nginx_kb);
    Ok(report)
}

/// Returns what connections cost a process that each have had one request, in kilobytes for a thousand.
async fn kept(address: &Address, pid: u32, connections: u64) -> io::Result<f64> {
    drop(KeptConnections::open(address, WARM_UP).await?);
    rss_at_rest(pid, REST).await?;
    let before = anonymous(pid)?;
    let kept = KeptConnections::open(address, connections).await?;
    rss_at_rest(pid, REST).await?;
    let after = anonymous(pid)?;
    drop(kept);
    Ok((after as f64 - before as f64) / 1_000.0 * 1_000.0 / connections as f64)
}
