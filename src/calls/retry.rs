//! Runs jobs again that have ended.
//!
//! Owns: the lane of the new run. Never: which jobs may run again (`pagewire_cluster::job`).

use pagewire_cluster::engine::Unavailable;
use pagewire_cluster::id::Key;
use pagewire_cluster::job::{Affinity, Record, TransitionFailure};
use pagewire_cluster::rollout::{LaneMove, RoutingKey, is_name};

use super::Executors;
use crate::protocol::{CommandError, ErrorCode};

/// Why a job does not run again.
#[derive(Debug)]
pub enum RetryError {
    /// The lane is refused.
    Lane(CommandError),
    /// The record is not changed.
    Record(TransitionFailure),
}

impl From<TransitionFailure> for RetryError {
    fn from(failure: TransitionFailure) -> Self {
        Self::Record(failure)
    }
}

impl Executors {
    /// Runs a job again that has failed, was cancelled or is dead. Without a lane the rollout decides it anew; a named
    /// lane is valid until the rollout changes.
    ///
    /// # Errors
    /// - [`RetryError::Lane`] (`malformed`) for an invalid name, and for any lane of an assigned job,
    /// - [`RetryError::Record`] if there is no such job, if its state does not allow it, or without the engine.
    pub async fn retry(&self, job: Key, lane: Option<String>) -> Result<Record, RetryError> {
        let read = self.jobs.records.get(job).await;
        let stored = read.map_err(|Unavailable| TransitionFailure::Unavailable)?;
        let record = stored.ok_or(TransitionFailure::Gone)?.record;
        let to = match lane {
            Some(lane) => self.named_lane(&record, lane).map_err(RetryError::Lane)?,
            None => self.lane_of(&record).await,
        };
        Ok(self.jobs.retry(job, Some(to)).await?)
    }

    fn named_lane(&self, record: &Record, lane: String) -> Result<LaneMove, CommandError> {
        let malformed = |message: &'static str| CommandError::new(ErrorCode::Malformed, message);
        if !is_name(&lane) {
            return Err(malformed("a lane's name has letters, digits, -, _ and ."));
        }
        if record.affinity == Affinity::Assigned {
            return Err(malformed(
                "this job is assigned, and a user is in one lane of a pool at a time: retry it without a lane",
            ));
        }
        // the current revision: a worker moves waiting work only by a later one
        let revision = self.rollouts.revision(&record.pool);
        Ok(LaneMove { lane, revision })
    }

    async fn lane_of(&self, record: &Record) -> LaneMove {
        let owner = record.owner();
        let unit = owner.as_deref().map_or_else(|| record.routing_key(), RoutingKey::of_owner);
        self.lanes.admit(&record.pool, unit, None).await;
        let assigned = self.lanes.of(&record.pool, unit);
        LaneMove { lane: assigned.lane, revision: assigned.revision }
    }
}
