//! Types of the Queue.
//!
//! Owns: pushes and deliveries. Never: the meaning of a delivery (the record in Kv decides).

use std::time::Duration;

use bytes::Bytes;

/// A work item to add.
#[derive(Debug, Clone)]
pub struct Enqueue {
    /// The id of the record that the work item refers to: the text of a `SubjectToken`, or a key.
    pub id: String,
    /// The route from which it is pulled: subject tokens joined by dots.
    pub route: String,
    /// A small payload; the record carries the content.
    pub payload: Bytes,
    /// The delay before the first delivery.
    pub not_before: Option<Duration>,
}

/// A work item taken from a route.
#[derive(Debug, Clone)]
pub struct QueueMessage {
    /// The id that was pushed.
    pub id: String,
    /// The payload that was pushed.
    pub payload: Bytes,
    /// The number of this delivery, from 1.
    pub attempt: u64,
    /// Whether further work items were ready on the pulled routes. A work item that is delivered again may not count.
    pub more: bool,
    /// The engine's handle of the delivery for `ack`, `nak` and `extend`.
    pub(super) receipt: String,
}

/// Returns whether a text names one route, or several by `*` in the place of a token. `is_route` checks one token.
pub(super) fn is_route_pattern(pattern: &str, is_route: fn(&str) -> bool) -> bool {
    pattern.split('.').all(|token| token == "*" || is_route(token))
}

/// The reason why a queue operation is not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The operation may have happened. Repeating it is safe, because duplicates are expected.
    #[error("the outcome of the queue operation is unknown")]
    Unknown,
    /// Not connected: nothing was sent.
    #[error("the cluster's engine is unavailable")]
    Down,
    /// The id or the route is illegal, or the payload is too large.
    #[error("the work item breaks a limit of the engine")]
    Invalid,
}
