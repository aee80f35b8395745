//! The metric of HTTP requests that are refused for their framing.
//!
//! Owns: one counter per reason, for the whole process: its listener serves requests before its metrics exist. Never:
//! the reasons (`edge::framing`).

use std::sync::LazyLock;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RefusalLabels {
    reason: &'static str,
}

static REFUSED: LazyLock<Family<RefusalLabels, Counter>> = LazyLock::new(Family::default);

/// Returns the counters, to be registered.
pub(super) fn refused_requests() -> Family<RefusalLabels, Counter> {
    REFUSED.clone()
}

/// Counts a request that was refused for its framing. `reason` is one of a fixed set of words, never text from a client.
pub fn count_refused_request(reason: &'static str) {
    REFUSED.get_or_create(&RefusalLabels { reason }).inc();
}
