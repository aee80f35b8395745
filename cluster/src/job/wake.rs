//! Finds the worker of a user or job, and messages to it.

use super::parts::Jobs;
use super::turn::TurnRow;
use crate::engine::{Consistency, Message};
use crate::id::Key;
use crate::subject::worker_leaf;
use crate::wire::{self, JobOffer, Wake};
use crate::worker::WorkerGroup;

impl Jobs {
    /// Returns the worker that serves a method of a user: the owner of the user if it has the method, or else the worker
    /// that the user is assigned to for it.
    pub async fn own_worker(&self, team: &WorkerGroup, user: &str, method: &str) -> Option<Key> {
        let key = TurnRow::key(&team.pool, user);
        let entry = self.records.store.get(&key, Consistency::Any).await.ok().flatten();
        let owner = entry.as_ref().and_then(TurnRow::of).map(|row| row.worker);
        let roster = self.workers.roster();
        owner
            .filter(|owner| roster.is_current(*owner) && roster.has(owner.id, method))
            .map(|owner| owner.id)
            .or_else(|| roster.choose(team, user, Some(method)))
    }

    /// Notifies the owner of a user that a job of the user is due. A job starts without this message: it is for a
    /// worker that has forgotten that it owns the user.
    pub async fn wake_at(&self, worker: Key, user: &str) {
        let subject = self.subjects.worker(worker, worker_leaf::WAKE);
        let message = Message::new(subject, wire::encode(&Wake { user: user.to_owned() }));
        if let Err(error) = self.engine.publish(message).await {
            tracing::debug!(%error, "worker not woken, the next look wakes it");
        }
    }

    /// Offers a free job that waits to a worker of a group that has its handler. Returns whether there is one.
    pub async fn offer(&self, team: &WorkerGroup, kind: &str, job: Key) -> bool {
        let chosen = self.workers.roster().choose_for_job(team, kind, job);
        let Some(worker) = chosen else { return false };
        let subject = self.subjects.worker(worker, worker_leaf::OFFER);
        let message = Message::new(subject, wire::encode(&JobOffer { job }));
        if let Err(error) = self.engine.publish(message).await {
            tracing::debug!(%job, %error, "job not offered to a worker with its handler, its work item comes again");
        }
        true
    }
}
