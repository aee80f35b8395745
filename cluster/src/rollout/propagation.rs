//! Proof that a change was applied by all nodes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::Rollouts;
use super::change::RolloutChange;
use crate::id::{Holder, NodeNumber};
use crate::peer::{PeerClient, PeerError};
use crate::wire::{RolloutQuery, RolloutState};

/// The propagation of a revision of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Propagation {
    /// Revision that is measured.
    pub revision: u64,
    /// State of each living node; `None` for a node that did not respond, or does not support the request.
    pub nodes: Vec<(NodeNumber, Option<RolloutState>)>,
    /// Time from sending the change until the last node had applied it, if the node that sent it still runs.
    pub took: Option<Duration>,
}

impl Propagation {
    /// Returns the number of nodes that have applied the revision.
    pub fn applied(&self) -> usize {
        let applied = |state: &RolloutState| state.revision >= self.revision;
        self.nodes.iter().filter(|(_, state)| state.as_ref().is_some_and(applied)).count()
    }

    /// Returns whether all nodes have applied the revision.
    pub fn is_complete(&self) -> bool {
        self.applied() == self.nodes.len()
    }
}

/// Durations of the changes that this process sent, the last one of each pool.
#[derive(Debug, Clone, Default)]
pub(super) struct Measured(Arc<Mutex<HashMap<String, (u64, Duration)>>>);

impl Measured {
    fn record(&self, pool: &str, revision: u64, took: Duration) {
        let mut measured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        measured.insert(pool.to_owned(), (revision, took));
    }

    pub(super) fn of(&self, pool: &str, revision: u64) -> Option<u64> {
        let measured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (of, took) = measured.get(pool)?;
        (*of == revision).then(|| u64::try_from(took.as_micros()).unwrap_or(u64::MAX))
    }
}

impl Rollouts {
    /// Waits until the nodes have applied a change, or their responses time out.
    pub async fn wait_until_applied(&self, changed: &RolloutChange, nodes: &[Holder]) -> Propagation {
        let (pool, revision) = (&changed.document.pool, changed.document.rev);
        let mut propagation = query_nodes(&self.peers, pool, revision, revision, nodes).await;
        if propagation.is_complete() {
            let took = Instant::now().saturating_duration_since(changed.sent);
            self.measured.record(pool, revision, took);
            propagation.took = Some(took);
        }
        propagation
    }

    /// Returns the propagation of a revision at this moment.
    pub async fn propagation(&self, pool: &str, revision: u64, nodes: &[Holder]) -> Propagation {
        query_nodes(&self.peers, pool, revision, 0, nodes).await
    }
}

async fn query_nodes(
    peers: &PeerClient,
    pool: &str,
    revision: u64,
    awaited: u64,
    nodes: &[Holder],
) -> Propagation {
    let request = RolloutQuery { pool: pool.to_owned(), revision: awaited };
    let replies = nodes.iter().map(async |node| match peers.request(*node, &request, None).await {
        Ok(state) => Some((node.node, Some(state))),
        // the node left during the request
        Err(PeerError::Gone) => None,
        Err(_) => Some((node.node, None)),
    });
    let nodes: Vec<_> = join_all(replies).await.into_iter().flatten().collect();
    let mut states = nodes.iter().filter_map(|(_, state)| state.as_ref());
    let took = states.find(|state| state.revision == revision && state.took_us.is_some());
    let took = took.and_then(|state| state.took_us).map(Duration::from_micros);
    Propagation { revision, nodes, took }
}
