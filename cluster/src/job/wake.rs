//! Finds the assigned worker of a user.

use super::parts::Jobs;
use super::turn::TurnRow;
use crate::engine::{Consistency, Message};
use crate::id::Key;
use crate::subject::{SubjectToken, job_key, worker_leaf};
use crate::wire::{self, Wake};
use crate::worker::{WorkerGroup, partition};

impl Jobs {
    /// Returns the assigned worker of a user, or else the worker that should become it.
    pub async fn own_worker(&self, team: &WorkerGroup, user: &str) -> Option<Key> {
        let key = job_key::turn(&team.pool, partition(user), &SubjectToken::new(user));
        let entry = self.records.store.get(&key, Consistency::Any).await.ok().flatten();
        let owner = entry.as_ref().and_then(TurnRow::of).map(|row| row.worker);
        let roster = self.workers.roster();
        owner
            .filter(|owner| roster.is_current(*owner))
            .map(|owner| owner.id)
            .or_else(|| roster.choose(team, user))
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
}
