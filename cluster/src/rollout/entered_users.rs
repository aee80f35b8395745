//! Users who have got a lane in which they stay.
//!
//! Owns: which of them wait to be written. Never: the rows (`enrolment`).

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::active::{LaneAssignment, LaneInputs, Reason};
use super::enrolment_rules::EnrolmentMode;
use super::lane::RoutingKey;

/// Maximum number of users who wait to be written.
const MAX_ENTERED: usize = 1024;

/// Users who have work in a lane in which they stay from now on, until that is written.
#[derive(Debug, Default)]
pub(super) struct EnteredUsers {
    /// Pool, lane and user.
    waiting: Mutex<BTreeSet<(String, String, String)>>,
    arrived: Notify,
}

impl EnteredUsers {
    /// Notes a user who has got a lane by the bucket, unless that is written already. Above a number, users are noted by their
    /// next work.
    pub(super) fn note(&self, inputs: LaneInputs<'_>, unit: RoutingKey<'_>, assigned: &LaneAssignment) {
        let document = inputs.document;
        let RoutingKey::User(user) = unit else { return };
        if document.enrolment.mode != EnrolmentMode::Latched || assigned.reason != Reason::Weight {
            return;
        }
        let has_start = document.enrolment.started.contains_key(&assigned.lane);
        if !has_start || inputs.is_in(&assigned.lane, unit) {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MAX_ENTERED {
            waiting.insert((document.pool.clone(), assigned.lane.clone(), user.to_owned()));
            self.arrived.notify_one();
        }
    }

    /// Waits for the next one: pool, lane and user. Cancel-safe.
    pub(super) async fn next(&self) -> (String, String, String) {
        loop {
            let arrived = self.arrived.notified();
            let first = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_first();
            if let Some(first) = first {
                return first;
            }
            arrived.await;
        }
    }
}
