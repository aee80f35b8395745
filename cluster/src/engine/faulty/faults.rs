//! The faults that can be injected.
//!
//! Owns: the rates. Never: when a fault happens.

use crate::engine::Bucket;

/// How often each fault happens, in 1/1000 of the calls that can show it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Any call: `Down`, nothing was sent.
    pub down: u16,
    /// Any call: the link breaks, for this call and some more, and subscriptions have a gap.
    pub cut: u16,
    /// A publish: `Full`.
    pub full: u16,
    /// A message to one subscriber is lost, and the subscriber is notified of the gap; a lost reply causes no gap.
    pub lost: u16,
    /// A request: `NoResponder`, no subscriber received it.
    pub no_responder: u16,
    /// A request: `Deadline`; half of these requests had reached their subscriber.
    pub deadline: u16,
    /// A request is sent, and then the link breaks: `Down`.
    pub broken: u16,
    /// A write or an operation of the queue: `Unknown`; it happened, or did not, or a write happens later.
    pub unknown: u16,
    /// A write: `Unknown` as above, and the link breaks with it, so that the read that would resolve the outcome fails
    /// as well.
    pub severed: u16,
    /// A conflict does not return the revision.
    pub hidden_conflict: u16,
    /// A read with [`Consistency::Any`](super::Consistency::Any) returns the entry that this process read before.
    pub stale: u16,
    /// An event of a watch is late, and intermediate versions are skipped.
    pub late: u16,
    /// A work item is delivered twice.
    pub duplicate: u16,
    /// A write of that bucket: `Unknown`, and the following reads of that bucket return `Unavailable`, so that the
    /// outcome cannot be resolved at once. Most of these writes happen. It has a random generator of its own, so that
    /// it changes no other fault.
    pub blind: Option<(Bucket, u16)>,
    /// Each read and write of a key waits once before it happens and once before it returns, so that a test that polls
    /// several operations decides their order.
    pub pauses: bool,
    /// Each operation takes up to so many milliseconds before it happens, and again before it returns.
    pub latency_ms: u16,
}

impl Faults {
    /// All faults with the same rate.
    pub const fn all(per_mille: u16) -> Self {
        Self {
            down: per_mille,
            cut: per_mille,
            full: per_mille,
            lost: per_mille,
            no_responder: per_mille,
            deadline: per_mille,
            broken: per_mille,
            unknown: per_mille,
            severed: per_mille,
            hidden_conflict: per_mille,
            stale: per_mille,
            late: per_mille,
            duplicate: per_mille,
            blind: None,
            pauses: false,
            latency_ms: 0,
        }
    }
}
