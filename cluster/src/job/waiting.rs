//! What is read about jobs that wait: their counts, and the job that runs before one of them.
//!
//! Owns: the request to the leader for the counts. Never: the counts themselves, which only the reconciler of the leader
//! knows, or the reason why a job waits (`obstacle`).

use super::parts::Jobs;
use super::record::{JobState, Record};
use super::turn::TurnRow;
use crate::engine::{Consistency, Unavailable};
use crate::id::{Holder, Key};
use crate::peer::PeerError;
use crate::wire::WaitingJobsQuery;
pub use crate::wire::{WaitingJobs, WaitingJobsList};
use crate::worker::Affinity;

impl WaitingJobs {
    /// Returns which workers of the group may run the jobs.
    pub const fn affinity(&self) -> Affinity {
        if self.assigned { Affinity::Assigned } else { Affinity::Free }
    }
}

impl Jobs {
    /// Returns the jobs that wait, as the leader of the cluster sees them.
    ///
    /// # Errors
    ///
    /// [`PeerError`] when the leader does not reply, or is of a release that does not support the request.
    pub async fn waiting_at(&self, leader: Holder) -> Result<WaitingJobsList, PeerError> {
        self.notifier.post.request(leader, &WaitingJobsQuery {}, None).await
    }

    /// Returns another job of the user of an assigned job that runs now; `None` for a free job.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the engine does not reply.
    pub async fn running_beside(&self, record: &Record) -> Result<Option<Key>, Unavailable> {
        let Some(user) = record.owner() else { return Ok(None) };
        let key = TurnRow::key(&record.pool, &user);
        let turn = self.records.store.get(&key, Consistency::Any).await?;
        let named = turn.as_ref().and_then(TurnRow::of).and_then(|turn| turn.job);
        let Some(other) = named.filter(|named| named.id != record.id) else { return Ok(None) };
        let other = self.records.get(other.id).await?.filter(|other| other.record.state == JobState::Running);
        Ok(other.map(|other| other.record.id))
    }
}
