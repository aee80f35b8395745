//! How many operations a measurement runs.

use serde::{Deserialize, Serialize};

/// The number of operations and their concurrency.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The number of operations.
    pub(crate) pieces: u64,
    /// The most concurrent operations, each in a task of its own.
    pub(crate) in_flight: u64,
    /// Pause of a task before each of its operations, in milliseconds.
    pub(crate) rest_ms: u64,
}

impl Plan {
    /// Returns a plan with concurrent operations and no pauses.
    pub(crate) const fn together(pieces: u64, in_flight: u64) -> Self {
        Self { pieces, in_flight, rest_ms: 0 }
    }

    /// Returns a plan with one operation at a time, each after a pause.
    pub(crate) const fn alone(pieces: u64, rest_ms: u64) -> Self {
        Self { pieces, in_flight: 1, rest_ms }
    }
}
