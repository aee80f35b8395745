//! The limits of an HTTP connection.
//!
//! Owns: their values. Never: their enforcement (`http` for heads, `body` for bodies).

use pagewire_cluster::timing::Timing;

use crate::config::Config;

/// Limits of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct HttpLimits {
    /// Maximum bytes of a request head.
    pub(super) head: usize,
    /// Maximum bytes of a request body.
    pub(super) body: usize,
    /// Time limits of each phase.
    pub(super) timing: Timing,
}

impl HttpLimits {
    /// The limits of a configuration.
    pub(super) fn new(config: &Config, timing: Timing) -> Self {
        Self { head: config.limits.max_header_bytes, body: config.limits.max_body_bytes, timing }
    }
}
