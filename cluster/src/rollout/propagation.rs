//! Proof that a change was applied by all nodes, and by all workers of its pool.
//!
//! A worker inside a node applies what its node does; it is not asked beside it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};

use super::Rollouts;
use super::audience::RolloutAudience;
use super::change::RolloutChange;
use crate::id::{Key, NodeNumber};
use crate::peer::{PeerClient, PeerError};
use crate::wire::{RolloutQuery, RolloutState};

/// The propagation of a revision of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Propagation {
    /// Revision that is measured.
    pub revision: u64,
    /// State of each living node; `None` for a node that did not respond, or does not support the request.
    pub nodes: Vec<(NodeNumber, Option<RolloutState>)>,
    /// State of each living worker of the pool that is a process of its own; `None` as for a node.
    pub workers: Vec<(Key, Option<RolloutState>)>,
    /// Time from sending the change until the last process had applied it, if the node that sent it still runs.
    pub took: Option<Duration>,
    /// Node or id of the worker that reported it last.
    pub slowest: Option<String>,
}

impl Propagation {
    /// Returns the number of nodes that have applied the revision.
    pub fn applied(&self) -> usize {
        count(&self.nodes, self.revision)
    }

    /// Returns the number of workers that have applied the revision.
    pub fn applied_by_workers(&self) -> usize {
        count(&self.workers, self.revision)
    }

    /// Returns whether all nodes and workers have applied the revision.
    pub fn is_complete(&self) -> bool {
        self.applied() == self.nodes.len() && self.applied_by_workers() == self.workers.len()
    }
}

fn count<T>(states: &[(T, Option<RolloutState>)], revision: u64) -> usize {
    let applied = |state: &RolloutState| state.revision >= revision;
    states.iter().filter(|(_, state)| state.as_ref().is_some_and(applied)).count()
}

/// The propagation of the last change of each pool that this process sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Measured(Arc<Mutex<HashMap<String, Measurement>>>);

#[derive(Debug)]
struct Measurement {
    revision: u64,
    took: Duration,
    slowest: Option<String>,
}

impl Measured {
    fn record(&self, pool: &str, measurement: Measurement) {
        let mut measured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        measured.insert(pool.to_owned(), measurement);
    }

    /// Returns how long the propagation of a revision took, in microseconds, and the process that was last.
    pub(super) fn of(&self, pool: &str, revision: u64) -> (Option<u64>, Option<String>) {
        let measured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match measured.get(pool).filter(|found| found.revision == revision) {
            Some(found) => {
                let took = u64::try_from(found.took.as_micros()).unwrap_or(u64::MAX);
                (Some(took), found.slowest.clone())
            }
            None => (None, None),
        }
    }
}

impl Rollouts {
    /// Waits until all have applied a change, or their responses time out.
    pub async fn wait_until_applied(&self, changed: &RolloutChange, by: &RolloutAudience) -> Propagation {
        let (pool, revision) = (&changed.document.pool, changed.document.rev);
        let (mut propagation, slowest) = query(&self.peers, pool, revision, revision, by).await;
        if propagation.is_complete() {
            let took = Instant::now().saturating_duration_since(changed.sent);
            self.measured.record(pool, Measurement { revision, took, slowest: slowest.clone() });
            (propagation.took, propagation.slowest) = (Some(took), slowest);
        }
        propagation
    }

    /// Returns the propagation of a revision at this moment.
    pub async fn propagation(&self, pool: &str, revision: u64, by: &RolloutAudience) -> Propagation {
        query(&self.peers, pool, revision, 0, by).await.0
    }
}

/// Asks all for their state as soon as they have applied the revision `awaited`. Returns also which one replied last.
async fn query(
    peers: &PeerClient,
    pool: &str,
    revision: u64,
    awaited: u64,
    by: &RolloutAudience,
) -> (Propagation, Option<String>) {
    let request = RolloutQuery { pool: pool.to_owned(), revision: awaited };
    let last = Mutex::new(None);
    let state = |reply, who: String| {
        *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(who);
        match reply {
            Ok(state) => Some(Some(state)),
            // it left during the request
            Err(PeerError::Gone) => None,
            Err(_) => Some(None),
        }
    };
    let nodes = by.nodes.iter().map(async |node| {
        let reply = peers.request(*node, &request, None).await;
        state(reply, node.node.to_string()).map(|state| (node.node, state))
    });
    let workers = by.workers.iter().map(async |(worker, _)| {
        let reply = peers.request_worker(*worker, &request).await;
        state(reply, worker.to_string()).map(|state| (*worker, state))
    });
    let (nodes, workers) = join(join_all(nodes), join_all(workers)).await;
    let nodes: Vec<_> = nodes.into_iter().flatten().collect();
    let mut states = nodes.iter().filter_map(|(_, state)| state.as_ref());
    let measured = states.find(|state| state.revision == revision && state.took_us.is_some());
    let propagation = Propagation {
        revision,
        took: measured.and_then(|state| state.took_us).map(Duration::from_micros),
        slowest: measured.and_then(|state| state.slowest.clone()),
        nodes,
        workers: workers.into_iter().flatten().collect(),
    };
    (propagation, last.into_inner().unwrap_or_else(PoisonError::into_inner))
}
