//! The atomic batches that the processes of a measurement have sent to NATS.
//!
//! Owns: their count over all processes. Never: whether a measured path may send one.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use pagewire_cluster::engine::batches_sent;
use reqwest::RequestBuilder;

/// The name of the counter in the metrics of a node or worker.
const METRIC: &str = "pagewire_nats_batches_total";

/// Atomic batches of other processes.
static REPORTED: AtomicU64 = AtomicU64::new(0);
/// Nodes and workers with batches that are not in [`REPORTED`].
static UNCOUNTED: AtomicU64 = AtomicU64::new(0);

/// Adds the atomic batches that a helper process has sent.
pub(crate) fn count_batches(sent: u64) {
    REPORTED.fetch_add(sent, Ordering::Relaxed);
}

/// Returns the atomic batches of this process, and those of the other processes that have been counted.
pub(crate) fn counted_batches() -> u64 {
    batches_sent() + REPORTED.load(Ordering::Relaxed)
}

/// Returns the number of `pagewire` processes with batches that have not been counted.
pub(crate) fn uncounted_processes() -> u64 {
    UNCOUNTED.load(Ordering::Relaxed)
}

/// The atomic batches of a running `pagewire serve` or `pagewire worker`. The process counts as unknown until they have
/// been counted.
pub(crate) struct ProcessBatches(RequestBuilder);

impl ProcessBatches {
    /// Takes the request for the metrics of a process that has just been started.
    pub(crate) fn of(metrics: RequestBuilder) -> Self {
        UNCOUNTED.fetch_add(1, Ordering::Relaxed);
        Self(metrics)
    }

    /// Adds the batches that the process has sent since its start. A program without the metric stays unknown:
    /// `PAGEWIRE_SERVER` may name an earlier build.
    ///
    /// # Errors
    /// If the process does not respond.
    pub(crate) async fn count(self) -> io::Result<()> {
        let response = self.0.send().await.and_then(reqwest::Response::error_for_status);
        let page = response.map_err(io::Error::other)?.text().await.map_err(io::Error::other)?;
        if let Some(sent) = batches_in(&page) {
            count_batches(sent);
            UNCOUNTED.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Reads the counter, with or without labels, from metrics.
fn batches_in(metrics: &str) -> Option<u64> {
    let mut lines = metrics.lines().filter_map(|line| line.strip_prefix(METRIC));
    let line = lines.find(|rest| rest.starts_with([' ', '{']))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_of_a_node_and_of_a_worker_is_read() {
        let node = "# TYPE pagewire_nats_batches counter\npagewire_nats_batches_total 7\n# EOF\n";
        assert_eq!(batches_in(node), Some(7));
        let worker = "pagewire_nats_batches_total{pool=\"a b\",lane=\"stable\",release=\"dev\"} 12\n";
        assert_eq!(batches_in(worker), Some(12));
        let earlier = "pagewire_nats_batches_total_of_another 3\npagewire_nats_reconnects_total 1\n";
        assert_eq!(batches_in(earlier), None);
    }
}
