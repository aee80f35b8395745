//! Offers a new job to an idle worker before its record exists.
//!
//! Owns: which jobs are offered, and for how long a lane without an idle worker is not asked. Never: the record; the worker
//! that takes the job creates it as running. Such a job needs no work item and no claim. Any other job, and any job
//! without an answer in time, is written and enqueued by its submitter.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::record::{JobState, Record};
use super::stored::MAX_HINT;
use crate::engine::{Engine, Message, RequestError};
use crate::subject::Subjects;
use crate::timing::Timing;
use crate::wire::{self, NewJobAnswer};
use crate::worker::{Affinity, WorkerGroup, Workers};

/// The offers of this process.
pub(super) struct IdleOffers {
    pub(super) engine: Engine,
    pub(super) subjects: Subjects,
    pub(super) timing: Timing,
    pub(super) workers: Workers,
    /// The lanes that are not asked now, and until when. Only lanes with workers are in it.
    pub(super) paused: Mutex<HashMap<WorkerGroup, Instant>>,
}

/// The outcome of an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    /// A worker has created the job, and runs it.
    Taken,
    /// No worker has the job, and none will have it.
    Declined,
    /// No answer: a worker may have created the job, or still does.
    Unknown,
}

impl IdleOffers {
    /// Offers a new job that is not written yet.
    pub(super) async fn offer(&self, record: &Record) -> Offer {
        let team = record.team();
        if !may_be_offered(record) || self.is_paused(&team) {
            return Offer::Declined;
        }
        if !self.workers.roster().has_other_candidate(&team, &record.kind, None) {
            return Offer::Declined;
        }
        let payload = wire::encode(record);
        if payload.len() > MAX_HINT {
            return Offer::Declined;
        }
        let message = Message::new(self.subjects.new_jobs(&team.pool, &team.lane), payload);
        let (offer, pause) = match self.engine.request(message, self.timing.idle_offer).await {
            Ok(answer) => match serde_json::from_slice(&answer.payload) {
                Ok(NewJobAnswer { taken: true }) => return Offer::Taken,
                Ok(NewJobAnswer { taken: false }) => (Offer::Declined, self.timing.idle_offer),
                Err(_) => (Offer::Unknown, self.timing.lease_ttl),
            },
            // the workers are of an earlier release, or gone
            Err(RequestError::NoResponder | RequestError::TooLarge) => {
                (Offer::Declined, self.timing.lease_renew)
            }
            // a suspended worker would delay each job
            Err(RequestError::Deadline | RequestError::Down) => (Offer::Unknown, self.timing.lease_ttl),
        };
        self.pause(team, pause);
        offer
    }

    fn is_paused(&self, team: &WorkerGroup) -> bool {
        self.paused().get(team).is_some_and(|until| Instant::now() < *until)
    }

    fn pause(&self, team: WorkerGroup, pause: Duration) {
        self.paused().insert(team, Instant::now() + pause);
    }

    fn paused(&self) -> MutexGuard<'_, HashMap<WorkerGroup, Instant>> {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether a job may run before its submitter knows that it exists. A page has to know its job before it is notified
/// of the end, and the job of an idempotency key may exist already.
fn may_be_offered(record: &Record) -> bool {
    let is_due = record.state == JobState::Queued;
    is_due && record.affinity == Affinity::Free && record.askers.is_empty() && !record.keyed
}
