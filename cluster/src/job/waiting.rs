//! The jobs that wait, counted by worker group.
//!
//! Owns: how waiting jobs are counted, and how another node asks the leader for the counts. Never: which jobs wait, which
//! only the reconciler of the leader knows.

use std::collections::BTreeMap;

use super::parts::Jobs;
use super::record::{JobState, Record};
use super::turn::TurnRow;
use crate::engine::{Consistency, Unavailable};
use crate::id::{Holder, Key};
use crate::peer::PeerError;
use crate::subject::{SubjectToken, job_key};
use crate::wire::WaitingJobsQuery;
pub use crate::wire::{WaitingJobs, WaitingJobsList};
use crate::worker::{WorkerGroup, partition};

/// A job that has waited since its time.
#[derive(Debug, Clone, Copy)]
pub(super) struct WaitingJob<'a> {
    /// The workers that may run it.
    pub(super) group: &'a WorkerGroup,
    /// Whether only the assigned worker of its user may run it.
    pub(super) assigned: bool,
    /// When it could have begun.
    pub(super) due: u64,
}

/// Counts jobs by worker group and mode, ordered by them.
pub(super) fn count_waiting<'a>(jobs: impl Iterator<Item = WaitingJob<'a>>) -> Vec<WaitingJobs> {
    let mut counts: BTreeMap<(&WorkerGroup, bool), (u64, u64)> = BTreeMap::new();
    for WaitingJob { group, assigned, due } in jobs {
        let (count, oldest) = counts.entry((group, assigned)).or_insert((0, due));
        (*count, *oldest) = (*count + 1, due.min(*oldest));
    }
    let row = |((group, assigned), (count, oldest_due)): ((&WorkerGroup, bool), (u64, u64))| WaitingJobs {
        pool: group.pool.clone(),
        lane: group.lane.clone(),
        assigned,
        count,
        oldest_due,
    };
    counts.into_iter().map(row).collect()
}

impl Jobs {
    /// Returns the jobs that wait, as the leader of the cluster sees them.
    ///
    /// # Errors
    ///
    /// [`PeerError`] when the leader does not reply, or is of a release that does not support the request.
    pub async fn waiting_at(&self, leader: Holder) -> Result<Vec<WaitingJobs>, PeerError> {
        let reply = self.notifier.post.request(leader, &WaitingJobsQuery {}, None).await?;
        Ok(reply.groups)
    }

    /// Returns another job of the user of an assigned job that runs now; `None` for a free job.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the engine does not reply.
    pub async fn running_beside(&self, record: &Record) -> Result<Option<Key>, Unavailable> {
        let Some(user) = record.owner() else { return Ok(None) };
        let key = job_key::turn(&record.pool, partition(&user), &SubjectToken::new(&user));
        let turn = self.records.store.get(&key, Consistency::Any).await?;
        let named = turn.as_ref().and_then(TurnRow::of).and_then(|turn| turn.job);
        let Some(other) = named.filter(|named| named.id != record.id) else { return Ok(None) };
        let other = self.records.get(other.id).await?.filter(|other| other.record.state == JobState::Running);
        Ok(other.map(|other| other.record.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_counted_by_group_and_mode_with_the_oldest() {
        let (canary, stable) = (WorkerGroup::new("p", "canary"), WorkerGroup::new("p", "stable"));
        let job = |group, assigned, due| WaitingJob { group, assigned, due };
        let jobs =
            [job(&stable, false, 7), job(&canary, true, 9), job(&stable, false, 3), job(&stable, true, 5)];
        let rows = count_waiting(jobs.into_iter());
        let rows: Vec<_> =
            rows.iter().map(|row| (row.lane.as_str(), row.assigned, row.count, row.oldest_due)).collect();
        assert_eq!(rows, [("canary", true, 1, 9), ("stable", false, 2, 3), ("stable", true, 1, 5)]);
    }
}
