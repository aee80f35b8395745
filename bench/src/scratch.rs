//! Directories, addresses and waits of a measurement.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use pagewire_cluster::engine::Engine;
use tempfile::TempDir;

/// The longest wait for a process to start or for a condition to hold.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The interval between two checks of a condition.
const AGAIN: Duration = Duration::from_millis(50);
/// How often the queue is checked for work items that are not acknowledged.
const DEPTH_INTERVAL: Duration = Duration::from_millis(5);

/// Creates an empty directory that is removed when the returned value is dropped.
pub(crate) fn scratch_directory() -> io::Result<TempDir> {
    tempfile::Builder::new().prefix("pagewire-bench-").tempdir()
}

/// Repeats a check until it holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> io::Result<bool>) -> io::Result<()> {
    let started = Instant::now();
    while !holds().await? {
        if started.elapsed() > PATIENCE {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("{what} did not get there in time")));
        }
        tokio::time::sleep(AGAIN).await;
    }
    Ok(())
}

/// Waits until no work item of a route waits for its acknowledgement.
pub(crate) async fn until_acknowledged(engine: &Engine, route: &str) -> io::Result<()> {
    while engine.depth(route).await.map_err(io::Error::other)? > 0 {
        tokio::time::sleep(DEPTH_INTERVAL).await;
    }
    Ok(())
}

/// Returns a free loopback address.
pub(crate) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}
