//! Notifies the assigned worker of a user that a job waits.

use super::affinity::owner;
use super::store::Jobs;
use crate::engine::{Consistency, Message};
use crate::id::Key;
use crate::subject::{SubjectToken, job_key, worker_leaf};
use crate::wire::{self, Wake};
use crate::worker::WorkerGroup;

impl Jobs {
    /// Returns the assigned worker of a user, or else the worker that should become it.
    pub async fn own_worker(&self, team: &WorkerGroup, user: &str) -> Option<Key> {
        let key = job_key::fence(&team.pool, &team.lane, &SubjectToken::new(user));
        let entry = self.store.get(&key, Consistency::Any).await.ok().flatten();
        let owner = entry.as_ref().and_then(owner).map(|owner| owner.worker);
        let roster = self.workers.roster();
        owner
            .filter(|owner| roster.is_current(*owner))
            .map(|owner| owner.id)
            .or_else(|| roster.choose(team, user))
    }

    /// Notifies the assigned worker of a user that a job waits, as far as this process knows the worker.
    pub(super) async fn wake(&self, team: &WorkerGroup, user: &str) {
        let Some(worker) = self.own_worker(team, user).await else { return };
        self.wake_at(worker, user).await;
    }

    pub(super) async fn wake_at(&self, worker: Key, user: &str) {
        let subject = self.subjects.worker(worker, worker_leaf::WAKE);
        let message = Message::new(subject, wire::encode(&Wake { user: user.to_owned() }));
        if let Err(error) = self.engine.publish(message).await {
            tracing::debug!(%error, "worker not woken, the partition's keeper will find the job");
        }
    }
}
