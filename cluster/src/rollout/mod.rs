//! Weighted canary rollouts: the lane of each user's work, and changes of the split.
//!
//! Owns: the document of each pool (`rollout.<pool>` in the bucket `config`), its history, the function from user to
//! lane (contract of `tests/golden/lanes.json`), and the proof that every node has applied a change. Never: which
//! worker runs the work of a lane.
//!
//! The lane is not random: while the weights are unchanged, a user has the same lane in every process.
//!
//! One watch per process keeps the documents up to date. A node reports its applied revision in response to a request
//! on its own subject, and a request may wait for a revision. The response comes from this incarnation (epoch) of the
//! node, so nothing is stored that could become stale, and the requester measures a change with its own clock.

mod active;
mod change;
mod kept;
mod lane;
mod nats_mapping;
mod plan;
mod propagation;
mod spec;
#[cfg(test)]
mod tests;
mod waiting;
mod weight;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;

pub use active::{LaneAssignment, Reason};
pub use change::{ChangeError, RolloutChange};
pub use kept::{EDGE, LaneRule};
pub use lane::{RoutingKey, bucket};
pub use nats_mapping::{MappedLane, NatsMapping, NotWhole};
pub use plan::{PlanState, RolloutPlan, RolloutStep, StepError};
pub use propagation::Propagation;
pub use spec::{BASE, Fallback, LaneSpec, RolloutSpec, RolloutUpdate, SpecError, is_name, set_weights};
pub use waiting::{LaneMove, WaitingWork};
pub use weight::{BUCKETS, InvalidWeight, Weight};

use crate::engine::{Bucket, Engine, Kv, Unavailable, WatchEvent, WatchMode};
use crate::peer::PeerClient;
use crate::subject::config_key;
use crate::wire::RolloutState;
use active::{ActiveRollout, AssignmentCounts, decide};

/// The rollouts of all pools, as this process has applied them. Cheap to clone.
#[derive(Clone)]
pub struct Rollouts {
    store: Kv,
    peers: PeerClient,
    /// Maximum time that a request waits here for a revision.
    revision_wait: Duration,
    splits: Arc<RwLock<HashMap<String, Arc<ActiveRollout>>>>,
    counts: Arc<AssignmentCounts>,
    applied: watch::Sender<u64>,
    measured: propagation::Measured,
}

impl Rollouts {
    /// Creates a handle with no document applied; call [`Rollouts::follow`]. `within` is the time that `peers` waits
    /// for a response.
    pub fn new(engine: &Engine, peers: PeerClient, within: Duration) -> Self {
        Self {
            store: engine.kv(Bucket::Config),
            peers,
            // half of it, so that a node that lags can still respond
            revision_wait: within / 2,
            splits: Arc::default(),
            counts: Arc::default(),
            applied: watch::Sender::new(0),
            measured: propagation::Measured::default(),
        }
    }

    /// Starts the watch and returns when all existing documents are applied. The returned future applies changes; it
    /// ends only when the engine is gone.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the engine is unavailable.
    pub async fn follow(&self) -> Result<impl Future<Output = ()> + use<>, Unavailable> {
        let mut watch = self.store.watch(config_key::ROLLOUTS, WatchMode::Value).await?;
        while !self.apply(watch.next().await.ok_or(Unavailable)?) {}
        let this = self.clone();
        Ok(async move {
            while let Some(event) = watch.next().await {
                this.apply(event);
            }
        })
    }

    /// Applies an event. Returns `true` for [`WatchEvent::Live`].
    fn apply(&self, event: WatchEvent) -> bool {
        match event {
            WatchEvent::Live => return true,
            WatchEvent::Put(entry) => match RolloutSpec::decode(&entry.value) {
                Some(document) => self.install(document),
                None => tracing::error!(key = entry.key, "rollout of an unknown shape not applied"),
            },
            WatchEvent::Delete { key, .. } => {
                self.write(|splits| splits.retain(|pool, _| config_key::rollout(pool) != key));
            }
        }
        false
    }

    fn install(&self, document: RolloutSpec) {
        // after a reconnect the same document arrives again; keep its counts
        if self.split(&document.pool).is_some_and(|split| split.document == document) {
            return;
        }
        tracing::info!(pool = document.pool, revision = document.rev, "rollout applied");
        let split = Arc::new(ActiveRollout::new(document, &self.counts));
        self.write(|splits| {
            splits.insert(split.document.pool.clone(), split);
        });
    }

    fn write(&self, change: impl FnOnce(&mut HashMap<String, Arc<ActiveRollout>>)) {
        change(&mut self.splits.write().unwrap_or_else(PoisonError::into_inner));
        self.applied.send_modify(|count| *count += 1);
    }

    fn split(&self, pool: &str) -> Option<Arc<ActiveRollout>> {
        self.splits.read().unwrap_or_else(PoisonError::into_inner).get(pool).cloned()
    }

    /// Returns the lane for work of a user or connection: the single entry point of calls and jobs. `serves` returns
    /// whether a lane of that pool has a living worker. The result is counted, except for pools without a document,
    /// because a client can choose any name for those.
    pub fn lane_for(
        &self,
        pool: &str,
        unit: RoutingKey<'_>,
        serves: impl FnOnce(&str) -> bool,
    ) -> LaneAssignment {
        match self.split(pool) {
            Some(split) => split.assign(unit, serves),
            None => decide(&RolloutSpec::unwritten(pool), unit, serves),
        }
    }

    /// Returns the same as [`Rollouts::lane_for`] without counting it.
    pub fn explain(
        &self,
        pool: &str,
        unit: RoutingKey<'_>,
        serves: impl FnOnce(&str) -> bool,
    ) -> LaneAssignment {
        match self.split(pool) {
            Some(split) => decide(&split.document, unit, serves),
            None => decide(&RolloutSpec::unwritten(pool), unit, serves),
        }
    }

    /// Returns a counter of applied changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// Whether this process has applied a document of the pool.
    pub fn has_pool(&self, pool: &str) -> bool {
        self.split(pool).is_some()
    }

    /// Returns the documents that this process has applied, sorted by pool.
    pub fn documents(&self) -> Vec<RolloutSpec> {
        let splits = self.splits.read().unwrap_or_else(PoisonError::into_inner);
        let mut documents: Vec<_> = splits.values().map(|split| split.document.clone()).collect();
        documents.sort_by(|a, b| a.pool.cmp(&b.pool));
        documents
    }

    /// Returns how often this process has assigned each pool, lane and reason since it started.
    pub fn assignments(&self) -> Vec<(String, String, Reason, u64)> {
        self.counts.list()
    }

    /// Returns the state of a pool in this process as soon as it has applied `revision` or a later one, or the
    /// current state after a timeout.
    pub async fn state(&self, pool: &str, revision: u64) -> RolloutState {
        let mut applied = self.applied.subscribe();
        let revised = applied.wait_for(|_| self.revision(pool) >= revision);
        // after a timeout the state shows the older revision
        let _ = tokio::time::timeout(self.revision_wait, revised).await;
        let split = self.split(pool);
        RolloutState {
            revision: split.as_ref().map_or(0, |split| split.document.rev),
            observed: split.map(|split| split.observed()).unwrap_or_default(),
            took_us: self.measured.of(pool, self.revision(pool)),
        }
    }

    /// Returns the revision of a pool's rollout that this process has applied; 0 for none.
    pub fn revision(&self, pool: &str) -> u64 {
        self.split(pool).map_or(0, |split| split.document.rev)
    }
}
