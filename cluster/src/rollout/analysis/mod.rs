//! Whether a lane does worse than the base lane beside it, found while both do work.
//!
//! Owns: which finished work counts ([`OutcomeLog`]), the digests of it that each process publishes, the evidence that every
//! node derives from them, and the step that follows ([`decide_step`]). Never: taking the step.
//!
//! A process publishes a digest of each lane once in an interval, if it has something to tell. Every node listens, so that
//! another leader goes on with the same numbers. A node that starts asks all processes to publish again what they have told
//! before, because no user is named twice otherwise. The leader publishes a report, from which every process learns what is slow
//! and every node answers questions.

mod compared;
mod confidence;
mod decision;
mod digest;
mod evidence;
mod metric;
mod outcomes;
mod report;
mod sequential_test;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, MissedTickBehavior, interval};

pub(super) use compared::is_by_hash;
pub use decision::{RolloutDecision, decide_step};
pub use digest::{DigestRow, LaneDigest};
pub use metric::{LaneWork, Metric};
pub use outcomes::{FinishedWork, LaneRelease, OutcomeLog, WorkOutcome};
pub use report::{LaneReport, MetricReport, PoolReport, REGRESSION};

use super::active::ActiveRollout;
use super::{RolloutSpec, Rollouts};
use crate::engine::{BusEvent, Engine, Message, Subscription, Unavailable};
use crate::subject::Subjects;
use crate::wire;
use evidence::PoolEvidence;

/// Maximum unread bytes of digests and reports; above it they are dropped, which loses evidence and adds none.
const INBOX_BYTES: usize = 16 * 1024 * 1024;
/// Number of intervals after which a report is out of date.
const REPORT_KEPT: u32 = 5;

/// The analysis of this process. Cheap to clone.
#[derive(Clone)]
pub struct LaneAnalysis {
    engine: Engine,
    subjects: Subjects,
    rollouts: Rollouts,
    interval: Duration,
    outcomes: OutcomeLog,
    evidence: Arc<Mutex<BTreeMap<String, PoolEvidence>>>,
    reports: Arc<RwLock<HashMap<String, (Instant, PoolReport)>>>,
}

impl LaneAnalysis {
    /// Creates an analysis without numbers. `interval` is the time between two digests.
    pub fn new(engine: &Engine, subjects: &Subjects, rollouts: &Rollouts, interval: Duration) -> Self {
        Self {
            engine: engine.clone(),
            subjects: subjects.clone(),
            rollouts: rollouts.clone(),
            interval,
            outcomes: OutcomeLog::new(rollouts.clone()),
            evidence: Arc::default(),
            reports: Arc::default(),
        }
    }

    /// Returns the log of finished work.
    pub fn outcomes(&self) -> &OutcomeLog {
        &self.outcomes
    }

    /// Returns the time between two digests.
    pub const fn interval(&self) -> Duration {
        self.interval
    }

    /// Publishes the digests of this process. Never returns.
    pub async fn publish_digests(self) {
        let mut ticks = interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for digest in self.outcomes.take() {
                self.publish(self.subjects.lane_digests(), wire::encode(&digest)).await;
            }
        }
    }

    /// Follows the reports of the leader. The returned future ends when the engine is gone.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the engine is unavailable.
    pub async fn follow_reports(&self) -> Result<impl Future<Output = ()> + use<>, Unavailable> {
        let reports = self.engine.subscribe(&self.subjects.lane_reports(), None, INBOX_BYTES).await?;
        let this = self.clone();
        Ok(each_message(reports, move |message| {
            if let Ok(report) = serde_json::from_slice::<PoolReport>(&message) {
                this.outcomes.follow(&report);
                let mut reports = this.reports.write().unwrap_or_else(PoisonError::into_inner);
                reports.insert(report.pool.clone(), (Instant::now(), report));
            }
        }))
    }

    /// Publishes everything again when a node asks for it. The returned future ends when the engine is gone.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the engine is unavailable.
    pub async fn follow_requests(&self) -> Result<impl Future<Output = ()> + use<>, Unavailable> {
        let subject = self.subjects.lane_digest_requests();
        let requests = self.engine.subscribe(&subject, None, INBOX_BYTES).await?;
        let outcomes = self.outcomes.clone();
        Ok(each_message(requests, move |_| outcomes.tell_again()))
    }

    /// Collects the digests of all processes, those of the time before included. The returned future ends when the engine is
    /// gone.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the engine is unavailable.
    pub async fn collect_digests(&self) -> Result<impl Future<Output = ()> + use<>, Unavailable> {
        let digests = self.engine.subscribe(&self.subjects.lane_digests(), None, INBOX_BYTES).await?;
        self.publish(self.subjects.lane_digest_requests(), Bytes::new()).await;
        let this = self.clone();
        Ok(each_message(digests, move |message| {
            if let Ok(digest) = serde_json::from_slice::<LaneDigest>(&message) {
                this.with_evidence(&digest.pool, |evidence| evidence.add(&digest));
            }
        }))
    }

    /// Returns the evidence of a pool that has a document, after applying the current one.
    fn with_evidence<T>(&self, pool: &str, read: impl FnOnce(&mut PoolEvidence) -> T) -> Option<T> {
        let split = self.rollouts.split(pool);
        let mut pools = self.evidence.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(split) = split else {
            pools.remove(pool);
            return None;
        };
        let evidence = pools.entry(pool.to_owned()).or_default();
        evidence.apply(&split.document);
        Some(read(evidence))
    }

    /// Applies each document that this process applies, so that the weights of its revision are known when work that it
    /// decided ends. Never returns while the rollouts are followed.
    pub async fn follow_documents(self) {
        let mut changes = self.rollouts.document_changes();
        loop {
            for split in self.rollouts.applied.splits() {
                self.with_evidence(&split.document.pool, |_| ());
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Returns the document of each pool with lanes to compare, and the numbers of this node.
    pub fn current(&self) -> Vec<(RolloutSpec, PoolReport)> {
        let report = |split: Arc<ActiveRollout>| {
            let ActiveRollout { document, .. } = &*split;
            let report = self.with_evidence(&document.pool, |evidence| evidence.report(document.margin()))?;
            (!report.lanes.is_empty()).then(|| (document.clone(), report))
        };
        self.rollouts.applied.splits().into_iter().filter_map(report).collect()
    }

    /// Publishes a report to all processes.
    pub async fn publish_report(&self, report: &PoolReport) {
        self.publish(self.subjects.lane_reports(), wire::encode(report)).await;
    }

    /// Returns the last report of the leader about a pool, unless it is out of date.
    pub fn report(&self, pool: &str) -> Option<PoolReport> {
        let reports = self.reports.read().unwrap_or_else(PoisonError::into_inner);
        let (at, report) = reports.get(pool)?;
        (at.elapsed() <= self.interval * REPORT_KEPT).then(|| report.clone())
    }

    async fn publish(&self, subject: String, payload: Bytes) {
        if let Err(error) = self.engine.publish(Message::new(subject, payload)).await {
            tracing::debug!(%error, "evidence of lanes not sent");
        }
    }
}

async fn each_message(mut messages: Subscription, read: impl Fn(Bytes)) {
    while let Some(event) = messages.next().await {
        if let BusEvent::Message(message) = event {
            read(message.payload);
        }
    }
}
