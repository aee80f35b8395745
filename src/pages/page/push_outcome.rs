//! What a frame does to a page.
//!
//! Owns: the result for the sender, and whether the socket must be notified. Never: the frame.

use pagewire_cluster::wire::PushCounts;
use tokio::sync::oneshot;

/// Result of a push to one page.
#[derive(Debug)]
pub enum PushOutcome {
    /// An open socket takes the frame.
    Reached,
    /// The frame is buffered for the resume window.
    Held,
    /// The frame is forwarded to another node; the receiver gets the counts from there. A sender that waits for them
    /// keeps its messages in order.
    Forwarded(oneshot::Receiver<PushCounts>),
    /// The frame is not delivered: the page is gone, or its outbox overflowed.
    Missed,
}

/// What a frame did to a page.
#[must_use]
pub(super) struct PushEffect {
    pub(super) outcome: PushOutcome,
    /// The socket must be notified.
    pub(super) wakes: bool,
}

impl From<PushOutcome> for PushEffect {
    /// An effect that the socket need not know.
    fn from(outcome: PushOutcome) -> Self {
        Self { outcome, wakes: false }
    }
}
