//! The limits of an HTTP connection.
//!
//! Owns: their values. Never: their enforcement (`http` for heads, `body` for bodies).

use pagewire_cluster::timing::Timing;

use crate::config::Config;

/// Maximum number of header fields in a request head of a client.
const MAX_HEADERS: usize = 100;
/// What a node adds to the head of a request that it sends to another node: what is said about the client, and a ticket.
const ADDED_HEADERS: usize = 16;
const ADDED_BYTES: usize = 4096;

/// Limits of a connection.
#[derive(Debug)]
pub(super) struct HttpLimits {
    /// Maximum bytes of a request head.
    pub(super) head: usize,
    /// Maximum number of header fields in a request head.
    pub(super) headers: usize,
    /// Maximum bytes of a request body.
    pub(super) body: usize,
    /// Time limits of each phase.
    pub(super) timing: Timing,
}

impl HttpLimits {
    /// The limits of a configuration.
    pub(super) fn new(config: &Config, timing: Timing) -> Self {
        let (head, body) = (config.limits.max_header_bytes, config.limits.max_body_bytes);
        Self { head, headers: MAX_HEADERS, body, timing }
    }

    /// The limits of a connection of another node, which has added some headers to those of its client.
    pub(super) fn of_nodes(config: &Config, timing: Timing) -> Self {
        let limits = Self::new(config, timing);
        Self { head: limits.head + ADDED_BYTES, headers: limits.headers + ADDED_HEADERS, ..limits }
    }
}
