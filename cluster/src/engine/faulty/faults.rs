//! What can go wrong.
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
    /// A message to one listener is lost, and the listener told of the gap; an answer is just lost.
    pub lost: u16,
    /// A request: `NoResponder`, nobody got it.
    pub no_responder: u16,
    /// A request: `Deadline`; half of them had reached their listener.
    pub deadline: u16,
    /// A request is sent, and then the link breaks: `Down`.
    pub broken: u16,
    /// A write or an operation of the queue: `Unknown`; it happened, or did not, or a write happens later.
    pub unknown: u16,
    /// A write: `Unknown` as above, and the link breaks with it, so that the read that would settle it fails as well.
    pub severed: u16,
    /// A conflict does not tell the revision.
    pub untold: u16,
    /// A read with [`Consistency::Any`](super::Consistency::Any) answers what this process read before.
    pub stale: u16,
    /// An event of a watch is late, and intermediate versions are skipped.
    pub late: u16,
    /// A hint comes twice.
    pub duplicate: u16,
    /// A write of that bucket: `Unknown`, and the reads of that bucket that follow are `Down`, so that nothing settles
    /// the outcome at once. Most of these writes happen. It has dice of its own, so that it changes no other fault.
    pub blind: Option<(Bucket, u16)>,
}

impl Faults {
    /// All of them, equally often.
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
            untold: per_mille,
            stale: per_mille,
            late: per_mille,
            duplicate: per_mille,
            blind: None,
        }
    }
}
