//! Leases: at most one running process holds a slot at a time.
//!
//! Owns: the rules of a lease (`model`), its keeper for every kind of process (`keeper`), node numbers (`node`), the
//! check of wire versions at a claim (`proto`) and the check that a holder is dead (`death`). Never: the use of a slot.
//! Workers add their row in `worker::lease`. The epoch is the revision of the claim. Every write of a node and every
//! request to it carries the epoch. Duties of one node have no lease of their own: see `roles::leader`.

mod death;
mod keeper;
mod model;
mod node;
mod proto;
mod row;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

pub(crate) use death::evict_silent;
pub use keeper::{LeaseContent, LeaseKeeper, LeaseKind};
pub use model::{FoundLease, HeldLease, LeaseAnswer, LeaseModel, LeaseTerms, LeaseWrite};
pub use node::{ClaimRequest, NodeNumbers, claim_node, evict_dead_node, living_nodes, next_in_ring};
pub use proto::{Incompatible, PROTO_MAX, PROTO_MIN, Proto};
pub use row::{MountLanes, MountPlaces, NodeNote, NodeRow};

use crate::clock;
use crate::id::Holder;

/// The lease of this process: its identity with the epoch, and whether it may act.
#[derive(Clone)]
pub struct Lease<H> {
    holder: watch::Receiver<Option<H>>,
    fenced_at_ms: Arc<AtomicU64>,
}

/// The lease of a node.
pub type NodeLease = Lease<Holder>;

impl<H: Copy> Lease<H> {
    /// Returns the identity of this process, or `None` if it may not act now. Reads the clock once, which is cheap
    /// enough to do for every batch; the clock includes the time in which the machine is suspended.
    pub fn holder(&self) -> Option<H> {
        let now_ms = clock::boot().as_millis() as u64;
        (now_ms < self.fenced_at_ms.load(Ordering::Acquire)).then(|| *self.holder.borrow()).flatten()
    }

    /// Returns the changes of the holder: `None` while fenced, another epoch after a new claim.
    pub fn changes(&self) -> watch::Receiver<Option<H>> {
        self.holder.clone()
    }
}

#[cfg(test)]
mod tests;
