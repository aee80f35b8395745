//! Weighted canary rollouts: the lane of each user's work, and changes of the split.
//!
//! Owns: the document of each pool (`rollout.<pool>` in the bucket `config`), its history, the function from user to
//! lane (contract of `tests/golden/lanes.json`), aborts that need no quorum, and the proof that every node and worker has
//! applied a change. Never: which worker runs the work of a lane.
//!
//! The lane is not random: while the weights are unchanged, a user has the same lane in every process.
//!
//! One watch per process keeps the documents up to date. A node or worker reports its applied revision in response to a request
//! on its own subject, and a request may wait for a revision. The response comes from this incarnation of the
//! process, so nothing is stored that could become stale, and the requester measures a change with its own clock.

mod active;
mod admission;
mod admission_writer;
pub mod analysis;
mod applied;
mod audience;
mod change;
mod enrolment;
mod enrolment_rules;
mod entered_users;
mod gates;
mod kept;
mod lane;
mod latch;
mod latches;
mod limits;
mod nats_mapping;
mod pins;
mod plan;
mod propagation;
mod spec;
mod split;
mod targeting;
#[cfg(test)]
mod tests;
mod waiting;
mod weight;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub use active::{LaneAssignment, Reason};
pub use admission_writer::Admissions;
pub use audience::{RolloutAudience, WorkerProcess};
pub use change::{ChangeError, RolloutChange};
pub use enrolment::{ChoiceError, Enrolments};
pub use enrolment_rules::{EnrolmentMode, EnrolmentRules, EnrolmentUpdate, LaneStart};
pub use gates::{AutoPromotion, OnRegression};
pub use kept::{EDGE, LaneRule};
pub use lane::{RoutingKey, bucket};
pub use latches::{Abort, AbortOutcome, AbortWrite, LatchProcess, Latches};
pub use limits::{InvalidLimits, LaneDemand, LaneLimits, LimitShare, LimitsByLane, UserLimitError};
pub use nats_mapping::{MappedLane, NatsMapping, NotWhole};
pub use pins::LanePins;
pub use plan::{PlanState, RolloutPlan, RolloutStep, StepError};
pub use propagation::Propagation;
pub use spec::{BASE, Fallback, LaneSpec, RolloutSpec, RolloutUpdate, SpecError, is_name};
pub use split::set_weights;
pub use targeting::{NamedValue, PageFacts, TargetError, TargetMatch, TargetRule, with_rule, without};
pub use waiting::{LaneMove, WaitingWork};
pub use weight::{BUCKETS, InvalidWeight, Weight};

use crate::engine::{Bucket, Engine, Kv, Unavailable, WatchEvent, WatchMode};
use crate::peer::PeerClient;
use crate::subject::config_key;
use crate::wire::{AbortLatch, RolloutState};
use active::{ActiveRollout, LaneInputs, decide};
use applied::AppliedRollouts;

/// The rollouts of all pools, as this process has applied them. Cheap to clone.
#[derive(Clone)]
pub struct Rollouts {
    store: Kv,
    peers: PeerClient,
    /// Maximum time that a request waits here for a revision.
    revision_wait: Duration,
    applied: Arc<AppliedRollouts>,
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
            applied: Arc::default(),
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
        let prefixes = config_key::OF_ROLLOUTS.map(str::to_owned).to_vec();
        let mut watch = self.store.watch_several(prefixes, WatchMode::Value).await?;
        while !self.apply(watch.next().await.ok_or(Unavailable)?) {}
        let this = self.clone();
        Ok(async move {
            let watching = async {
                while let Some(event) = watch.next().await {
                    this.apply(event);
                }
            };
            tokio::select! {
                () = watching => {}
                () = this.enrolments().write_entered() => {}
                () = Admissions::new(&this).answer_asking() => {}
            }
        })
    }

    /// Applies an event. Returns `true` for [`WatchEvent::Live`].
    fn apply(&self, event: WatchEvent) -> bool {
        match event {
            WatchEvent::Live => return true,
            WatchEvent::Put(entry) if entry.key.starts_with(config_key::ENROLLED) => {
                self.applied.enrol(&entry)
            }
            WatchEvent::Put(entry) if entry.key.starts_with(config_key::ADMITTED) => {
                self.applied.admit(&entry)
            }
            WatchEvent::Put(entry) => match RolloutSpec::decode(&entry.value) {
                Some(document) => self.applied.install(document),
                None => tracing::error!(key = entry.key, "rollout of an unknown shape not applied"),
            },
            WatchEvent::Delete { key, .. } => {
                self.applied.unenrol(&key);
                self.applied.remove(&key);
            }
        }
        false
    }

    fn split(&self, pool: &str) -> Option<Arc<ActiveRollout>> {
        self.applied.split(pool)
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
        self.with_inputs(pool, unit, |split, inputs| {
            let assigned = decide(inputs, unit, serves);
            self.applied.entered.note(inputs, unit, &assigned);
            match split {
                Some(split) => split.count(assigned),
                None => assigned,
            }
        })
    }

    /// Runs `decide` with what decides the lane of a unit in a pool.
    fn with_inputs<T>(
        &self,
        pool: &str,
        unit: RoutingKey<'_>,
        decide: impl FnOnce(Option<&ActiveRollout>, LaneInputs<'_>) -> T,
    ) -> T {
        match self.split(pool) {
            Some(split) => {
                let (enrolment, admitted) = self.applied.known_of(pool, unit);
                let inputs = split.inputs(enrolment.as_deref());
                let admitted = admitted.as_deref().unwrap_or(inputs.admitted);
                decide(Some(&split), LaneInputs { admitted, ..inputs })
            }
            None => decide(None, LaneInputs::of(&RolloutSpec::unwritten(pool))),
        }
    }

    /// Returns the same as [`Rollouts::lane_for`] without counting it.
    pub fn explain(
        &self,
        pool: &str,
        unit: RoutingKey<'_>,
        serves: impl FnOnce(&str) -> bool,
    ) -> LaneAssignment {
        self.with_inputs(pool, unit, |_, inputs| decide(inputs, unit, serves))
    }

    /// Returns a counter of applied changes: of documents, aborts, and what is remembered of users.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.applied.changes.subscribe()
    }

    /// Returns a counter of applied documents and aborts only, for what users have no part in.
    pub fn document_changes(&self) -> watch::Receiver<u64> {
        self.applied.document_changes.subscribe()
    }

    /// Whether this process has applied a document of the pool.
    pub fn has_pool(&self, pool: &str) -> bool {
        self.split(pool).is_some()
    }

    /// Returns the documents that this process has applied, sorted by pool.
    pub fn documents(&self) -> Vec<RolloutSpec> {
        self.applied.documents()
    }

    /// Returns the document of a pool that this process has applied.
    pub fn applied_document(&self, pool: &str) -> Option<RolloutSpec> {
        self.split(pool).map(|split| split.document.clone())
    }

    /// Returns the aborts that this process has applied and that are not written yet.
    pub fn latches(&self) -> Vec<AbortLatch> {
        self.applied.latches().into_iter().map(|held| held.latch).collect()
    }

    /// Returns how many aborts this process has refused because no key of the cluster has signed them.
    pub fn latches_refused(&self) -> u64 {
        self.applied.refused()
    }

    /// Returns how often this process has assigned each pool, lane and reason since it started.
    pub fn assignments(&self) -> Vec<(String, String, Reason, u64)> {
        self.applied.counts.list()
    }

    /// Returns the state of a pool in this process as soon as it has applied `revision` or a later one, or the
    /// current state after a timeout.
    pub async fn state(&self, pool: &str, revision: u64) -> RolloutState {
        let mut applied = self.applied.changes.subscribe();
        let revised = applied.wait_for(|_| self.revision(pool) >= revision);
        // after a timeout the state shows the older revision
        let _ = tokio::time::timeout(self.revision_wait, revised).await;
        let split = self.split(pool);
        let (took_us, slowest) = self.measured.of(pool, self.revision(pool));
        RolloutState {
            revision: split.as_ref().map_or(0, |split| split.document.rev),
            observed: split.map(|split| split.observed()).unwrap_or_default(),
            took_us,
            slowest,
        }
    }

    /// Returns the revision of a pool's rollout that this process has applied; 0 for none.
    pub fn revision(&self, pool: &str) -> u64 {
        self.split(pool).map_or(0, |split| split.document.rev)
    }
}
