//! Types of the Queue.
//!
//! Owns: pushes and deliveries. Never: what a delivery means (the record in Kv decides).

use std::time::Duration;

use bytes::Bytes;

/// A hint to add.
#[derive(Debug, Clone)]
pub struct Push {
    /// The id of the record it points to; a `SubjectToken`'s text or a key.
    pub id: String,
    /// Who pulls it, in subject tokens joined by dots.
    pub route: String,
    /// Small: the record carries the content.
    pub payload: Bytes,
    /// Not delivered before this time has passed.
    pub not_before: Option<Duration>,
}

/// A hint taken from a route.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The id that was pushed.
    pub id: String,
    /// The payload that was pushed.
    pub payload: Bytes,
    /// 1 for the first delivery.
    pub attempt: u64,
    /// The engine's own handle for `done`, `retry`, `touch`.
    pub(super) receipt: String,
}

/// Why a queue operation is not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// It may have happened. Repeating it is safe: duplicates are expected.
    #[error("the outcome of the queue operation is unknown")]
    Unknown,
    /// Not connected: nothing was sent.
    #[error("the cluster's engine is unavailable")]
    Down,
    /// An illegal id or route, or an oversized payload.
    #[error("the hint breaks a limit of the engine")]
    Invalid,
}
