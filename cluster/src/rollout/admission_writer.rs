//! Asks for the admission of users to lanes with a limit on their users, and writes who is admitted.
//!
//! Owns: which users wait for an answer, and the writes. Never: who is admitted (`admission`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::Rollouts;
use super::active::Reason;
use super::admission::AdmittedUsers;
use super::applied::AppliedRollouts;
use super::lane::RoutingKey;
use super::pins::LanePins;
use super::spec::RolloutSpec;
use crate::engine::{Consistency, Kv, Precondition, Put, Unavailable, WriteError};
use crate::subject::config_key;
use crate::timing::ADMISSION_WAIT;

/// Maximum number of questions that wait for an answer.
const MAX_WAITING: usize = 1024;
/// Maximum attempts to change a row that others change at the same time.
const ATTEMPTS: usize = 32;

/// A lane of a pool.
type PoolLane = (String, String);

/// The users who ask for a lane. Each sender is dropped when the question has an answer.
type AskingUsers = BTreeMap<String, Vec<oneshot::Sender<()>>>;

/// The users who ask for a lane, until that has an answer.
#[derive(Debug, Default)]
pub(super) struct AdmissionQueue {
    waiting: Mutex<BTreeMap<PoolLane, AskingUsers>>,
    /// Number of senders.
    count: AtomicUsize,
    arrived: Notify,
    /// The engine did not answer last time: no work waits for it.
    is_stalled: AtomicBool,
}

impl AdmissionQueue {
    /// Asks for a lane, and returns when there is an answer, or after a time-out. Cancel-safe.
    async fn ask(&self, pool: &str, lane: &str, user: &str) {
        if self.count.load(Ordering::Relaxed) >= MAX_WAITING {
            return;
        }
        let (sender, answered) = oneshot::channel();
        self.count.fetch_add(1, Ordering::Relaxed);
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let asking = waiting.entry((pool.to_owned(), lane.to_owned())).or_default();
            asking.entry(user.to_owned()).or_default().push(sender);
        }
        self.arrived.notify_one();
        if self.is_stalled.load(Ordering::Relaxed) {
            return;
        }
        // the sender is dropped without a value
        if tokio::time::timeout(ADMISSION_WAIT, answered).await.is_err() {
            self.is_stalled.store(true, Ordering::Relaxed);
        }
    }

    /// Waits for users who ask for a lane. Cancel-safe.
    async fn next(&self) -> (PoolLane, AskingUsers) {
        loop {
            let arrived = self.arrived.notified();
            let first = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_first();
            if let Some((lane, asking)) = first {
                self.count.fetch_sub(asking.values().map(Vec::len).sum(), Ordering::Relaxed);
                return (lane, asking);
            }
            arrived.await;
        }
    }
}

/// Admits users to lanes with a limit on their users. Cheap to clone.
#[derive(Clone)]
pub struct Admissions {
    rollouts: Rollouts,
}

impl Admissions {
    /// Creates a handle on the rollouts that this process applies.
    pub fn new(rollouts: &Rollouts) -> Self {
        Self { rollouts: rollouts.clone() }
    }

    /// Whether a lane of a pool has a limit on its users, so that work asks for admission before it is placed.
    pub fn are_needed(&self, pool: &str) -> bool {
        self.rollouts.split(pool).is_some_and(|split| has_user_limit(&split.document))
    }

    /// Asks for the lane of a user's bucket if that lane has a limit on its users and the user is not admitted, so that the work that
    /// follows is placed there if there is room. Without an answer in time the work has the base lane, and later work asks again.
    /// `pins` are those of the page that makes a call; `serves` returns whether a lane of that pool has a living worker.
    pub async fn admit(
        &self,
        pool: &str,
        unit: RoutingKey<'_>,
        pins: Option<&LanePins>,
        serves: impl FnOnce(&str) -> bool,
    ) {
        let RoutingKey::User(user) = unit else { return };
        let split = self.rollouts.split(pool).filter(|split| has_user_limit(&split.document));
        let Some(split) = split else { return };
        let assigned = match pins {
            Some(pins) => pins.explain(&self.rollouts, pool, unit, serves),
            None => self.rollouts.explain(pool, unit, serves),
        };
        if assigned.reason == Reason::NotAdmitted {
            let lane = split.document.lane(split.document.place(assigned.bucket));
            self.rollouts.applied.asking.ask(pool, lane, user).await;
        }
    }

    /// Returns how many users stay in a lane, as this process knows it; `None` for a lane whose users do not stay.
    pub fn lane_users(&self, pool: &str, lane: &str) -> Option<usize> {
        let split = self.rollouts.split(pool)?;
        let users = self.rollouts.applied.lane_users(&split.document, lane)?;
        Some(users.len())
    }

    /// Answers the users who ask. Never returns.
    pub(super) async fn answer_asking(self) {
        let Rollouts { store, applied, .. } = &self.rollouts;
        let writer = AdmissionWriter { store: store.clone(), applied: applied.clone() };
        loop {
            let ((pool, lane), asking) = applied.asking.next().await;
            let users = asking.keys().cloned().collect();
            let written = writer.write(&pool, &lane, &users).await;
            applied.asking.is_stalled.store(written.is_err(), Ordering::Relaxed);
            if let Err(error) = written {
                tracing::debug!(pool, lane, %error, "users who ask for a lane are not admitted");
            }
        }
    }
}

fn has_user_limit(document: &RolloutSpec) -> bool {
    document.user_limits().next().is_some()
}

/// Writes who is admitted.
struct AdmissionWriter {
    store: Kv,
    applied: Arc<AppliedRollouts>,
}

impl AdmissionWriter {
    /// Admits those of the users for whom a lane has room, and applies that here; the watch brings it to the others.
    async fn write(&self, pool: &str, lane: &str, asking: &BTreeSet<String>) -> Result<(), Unavailable> {
        let key = config_key::admitted(pool, lane);
        for _ in 0..ATTEMPTS {
            let Some(split) = self.applied.split(pool) else { return Ok(()) };
            let latched = self.applied.lane_users(&split.document, lane).unwrap_or_default();
            let known = self.applied.admitted(pool, lane);
            let row = known.as_ref().map(|(_, row)| &**row);
            let Some(next) = AdmittedUsers::next(row, (&split.document, lane), latched, asking) else {
                return Ok(());
            };
            let expect = known.as_ref().map_or(Precondition::Absent, |(rev, _)| Precondition::Rev(*rev));
            let put = Put::new(key.as_str(), next.encode(), expect);
            match self.store.put(put).await {
                Ok(rev) => {
                    self.applied.set_admitted(&key, rev, next);
                    return Ok(());
                }
                Err(WriteError::Conflict { .. }) => match self.store.get(&key, Consistency::Latest).await? {
                    Some(entry) => self.applied.replace_admitted(&entry),
                    None => self.applied.unenrol(&key),
                },
                Err(WriteError::Unknown | WriteError::Down | WriteError::Invalid) => return Err(Unavailable),
            }
        }
        Err(Unavailable)
    }
}
