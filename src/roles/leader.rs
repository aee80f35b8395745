//! Duties that one process of the cluster does.
//!
//! Owns: when a duty has its turn. Never: what a duty does, or which node leads (`registry::leader_in`). Two nodes
//! may both believe for a moment that they lead, so a duty changes things by compare-and-set only.
//!
//! A duty has no lease of its own: leadership is a function of the leases of the living nodes. A second lease would add
//! writes and a second time-out after a death, and still could not exclude that the old leader acts once more, so that
//! compare-and-set would be necessary all the same.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use pagewire_cluster::lease::NodeLease;
use pagewire_cluster::registry::{Registry, leader_in};
use tokio::sync::watch;
use tokio::time::Interval;

use super::tasks::every;

/// Whether this node leads.
#[derive(Clone)]
pub(crate) struct Leadership {
    registry: Registry,
    lease: NodeLease,
}

/// The turns of one duty.
pub(crate) struct Turns {
    leadership: Leadership,
    ticks: Interval,
    changes: Vec<watch::Receiver<u64>>,
    led: bool,
}

/// One turn of a duty on the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeaderTurn {
    /// This node has not led at the turn before: what a duty remembered is out of date.
    pub(crate) is_first: bool,
}

impl Leadership {
    /// Leadership as this node's view shows it.
    pub(crate) fn new(registry: Registry, lease: NodeLease) -> Self {
        Self { registry, lease }
    }

    /// Whether this node's number is the lowest of the living ones.
    pub(crate) fn is_leader(&self) -> bool {
        let leader = leader_in(&self.registry.view());
        leader.is_some() && leader == self.lease.holder()
    }

    /// The turns of a duty, one per period at most.
    pub(crate) fn turns(&self, period: Duration) -> Turns {
        Turns { leadership: self.clone(), ticks: every(period), changes: Vec::new(), led: false }
    }
}

impl Turns {
    /// A turn comes also when one of these counters changes.
    pub(crate) fn or_on_change(self, changes: Vec<watch::Receiver<u64>>) -> Self {
        Self { changes, ..self }
    }

    /// Waits for the next turn: the next tick at which this node leads.
    pub(crate) async fn next(&mut self) -> LeaderTurn {
        loop {
            if let Some(turn) = self.next_or_loss().await {
                return turn;
            }
        }
    }

    /// Waits for the next turn. Returns `None` once when this node does not lead any more.
    pub(crate) async fn next_or_loss(&mut self) -> Option<LeaderTurn> {
        loop {
            tokio::select! {
                _ = self.ticks.tick() => {}
                () = any_changed(&mut self.changes) => {}
            }
            if self.leadership.is_leader() {
                let is_first = !std::mem::replace(&mut self.led, true);
                return Some(LeaderTurn { is_first });
            }
            if std::mem::take(&mut self.led) {
                return None;
            }
        }
    }
}
/// Resolves when a counter has changed. A closed channel never changes.
async fn any_changed(changes: &mut [watch::Receiver<u64>]) {
    let mut each: FuturesUnordered<_> = changes
        .iter_mut()
        .map(async |counter| {
            if counter.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
        .collect();
    if each.next().await.is_none() {
        std::future::pending().await
    }
}
