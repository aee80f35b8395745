//! The jobs that have not ended, in the memory of the reconciler. Pure.
//!
//! Owns: what is known of each, and which of them are to be looked at. Never: reads or writes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::record::JobState;
use super::summary::RecordSummary;
use crate::id::Key;
use crate::wire::UnfinishedJobs;
use crate::worker::{Affinity, WorkerGroup, WorkerId};

/// A job that has not ended.
#[derive(Debug, Clone)]
pub(super) struct TrackedJob {
    /// Revision of its record.
    pub(super) rev: u64,
    /// Worker that runs the job.
    pub(super) worker: Option<WorkerId>,
    group: Arc<WorkerGroup>,
    /// How often an operator has run the job again.
    retried: u32,
    /// Whether the job has been tried before.
    tried: bool,
    /// A free job waits in the Queue.
    affinity: Affinity,
    /// When the job could have begun.
    due: u64,
    /// When the work item of the job counts as missing; for an assigned job, when its row is written again, once
    /// in each run.
    overdue: Option<u64>,
    /// When the job is offered again even if the Queue has as many work items as jobs wait.
    offer_at: u64,
    /// When the worker gets a claims query for the job.
    ask_at: u64,
    /// The state of rollouts and workers by which the lane of the job was checked.
    lane_checked: u64,
}

impl TrackedJob {
    const fn is_free(&self) -> bool {
        matches!(self.affinity, Affinity::Free)
    }
}

/// Times after which the reconciler acts, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// After the time of a free job, until its work item is searched: longer than the redelivery time of the Queue.
    pub(super) work_item: u64,
    /// After the time of a free job, until it is offered again in any case: a job with two work items
    /// may hide that another one has none.
    pub(super) offer: u64,
    /// After the reconciler has seen an assigned job, until its row is written again: longer than a submission takes.
    pub(super) open_row: u64,
    /// Until a worker is asked about a job that it runs.
    pub(super) ask: u64,
}

/// Waiting jobs of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LaneBacklog {
    /// Number of jobs that could have begun.
    pub(super) count: u64,
    /// When the oldest of them could have begun.
    pub(super) oldest: u64,
}

/// The jobs that have not ended.
#[derive(Debug, Default)]
pub(super) struct TrackedJobs {
    jobs: HashMap<Key, TrackedJob>,
    /// One allocation per group.
    groups: HashSet<Arc<WorkerGroup>>,
}

impl TrackedJobs {
    /// Adds or updates a job. Returns whether it has ended.
    pub(super) fn put(
        &mut self,
        id: Key,
        rev: u64,
        job: &RecordSummary,
        now: u64,
        patience: Patience,
    ) -> bool {
        if job.state.is_terminal() {
            self.jobs.remove(&id);
            return true;
        }
        let worker = job.worker.filter(|_| job.state == JobState::Running);
        let (affinity, due) = (job.affinity, job.due);
        let overdue = match (affinity, self.jobs.get(&id)) {
            (Affinity::Free, _) => Some(due.max(now) + patience.work_item),
            // the row of a run stays until the run has ended; each run has a row of its own
            (Affinity::Assigned, Some(known)) if known.retried == job.retried => known.overdue,
            (Affinity::Assigned, _) => Some(now + patience.open_row),
        };
        let offer_at = match self.jobs.get(&id) {
            Some(known) if known.due == due => known.offer_at,
            _ => due.max(now) + patience.offer,
        };
        let group = self.group(job.team());
        let (retried, ask_at, lane_checked) = (job.retried, now + patience.ask, 0);
        let tried = job.attempts > 0;
        let job = TrackedJob {
            rev,
            worker,
            group,
            retried,
            tried,
            affinity,
            due,
            overdue,
            offer_at,
            ask_at,
            lane_checked,
        };
        self.jobs.insert(id, job);
        false
    }

    fn group(&mut self, group: WorkerGroup) -> Arc<WorkerGroup> {
        if let Some(known) = self.groups.get(&group) {
            return known.clone();
        }
        let group = Arc::new(group);
        self.groups.insert(group.clone());
        group
    }

    pub(super) fn remove(&mut self, job: Key) {
        self.jobs.remove(&job);
    }

    pub(super) fn get(&self, job: Key) -> Option<&TrackedJob> {
        self.jobs.get(&job)
    }

    /// Returns the group of a job.
    pub(super) fn group_of(&self, job: Key) -> Option<Arc<WorkerGroup>> {
        self.jobs.get(&job).map(|job| job.group.clone())
    }

    /// Returns the workers that run jobs.
    pub(super) fn workers(&self) -> BTreeSet<WorkerId> {
        self.jobs.values().filter_map(|job| job.worker).collect()
    }

    /// Returns the jobs that run at workers which are not alive.
    pub(super) fn lost(&self, is_alive: impl Fn(WorkerId) -> bool) -> Vec<Key> {
        let lost = self.jobs.iter().filter(|(_, job)| job.worker.is_some_and(|worker| !is_alive(worker)));
        lost.map(|(id, _)| *id).collect()
    }

    /// Returns at most `limit` assigned jobs with a row that may be missing, the ones that changed last first. Each is
    /// returned once.
    pub(super) fn take_unchecked(&mut self, now: u64, limit: usize) -> Vec<Key> {
        let mut found: Vec<(u64, Key)> = self
            .jobs
            .iter()
            .filter(|(_, job)| {
                !job.is_free() && job.worker.is_none() && job.overdue.is_some_and(|overdue| overdue <= now)
            })
            .map(|(id, job)| (job.rev, *id))
            .collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        found.truncate(limit);
        for (_, id) in &found {
            if let Some(job) = self.jobs.get_mut(id) {
                job.overdue = None;
            }
        }
        found.into_iter().map(|(_, id)| id).collect()
    }

    /// Lets a job be returned once more by [`TrackedJobs::take_unchecked`] or [`TrackedJobs::take_lanes`], because it
    /// could not be repaired.
    pub(super) fn recheck(&mut self, job: Key) {
        if let Some(job) = self.jobs.get_mut(&job) {
            job.lane_checked = 0;
            if !job.is_free() {
                job.overdue.get_or_insert(0);
            }
        }
    }

    /// Returns the free jobs that have waited for long, by group.
    pub(super) fn overdue(&self, now: u64) -> HashMap<Arc<WorkerGroup>, Vec<Key>> {
        let mut overdue: HashMap<Arc<WorkerGroup>, Vec<Key>> = HashMap::new();
        for (id, job) in self.jobs.iter().filter(|(_, job)| job.is_free() && job.worker.is_none()) {
            if job.overdue.is_some_and(|overdue| overdue <= now) {
                overdue.entry(job.group.clone()).or_default().push(*id);
            }
        }
        overdue
    }

    /// Returns at most `limit` free jobs that wait for very long, the oldest first. Each is returned again when it is
    /// twice as old.
    pub(super) fn take_oldest(&mut self, now: u64, limit: usize) -> Vec<Key> {
        let waits = |job: &TrackedJob| job.is_free() && job.worker.is_none() && job.offer_at <= now;
        let waiting = self.jobs.iter().filter(|(_, job)| waits(job));
        let mut oldest: Vec<(u64, Key)> = waiting.map(|(id, job)| (job.due, *id)).collect();
        oldest.sort_unstable();
        oldest.truncate(limit);
        for (due, id) in &oldest {
            if let Some(job) = self.jobs.get_mut(id) {
                job.offer_at = now + now.saturating_sub(*due);
            }
        }
        oldest.into_iter().map(|(_, id)| id).collect()
    }

    /// Returns how many jobs of a group have a work item.
    pub(super) fn free_jobs_of(&self, group: &WorkerGroup) -> u64 {
        self.jobs.values().filter(|job| job.is_free() && *job.group == *group).count() as u64
    }

    /// Returns jobs that wait for a worker and could have begun before `time`.
    pub(super) fn waits_since_before(&self, time: u64) -> Vec<Key> {
        let waits = self.jobs.iter().filter(|(_, job)| job.worker.is_none() && job.due <= time);
        waits.map(|(id, _)| *id).collect()
    }

    /// Returns the running jobs to ask their workers about, by worker; all of them if `all`.
    pub(super) fn take_questions(&mut self, now: u64, next: u64, all: bool) -> HashMap<WorkerId, Vec<Key>> {
        let mut questions: HashMap<WorkerId, Vec<Key>> = HashMap::new();
        for (id, job) in self.jobs.iter_mut().filter(|(_, job)| all || job.ask_at <= now) {
            job.ask_at = next;
            if let Some(worker) = job.worker {
                questions.entry(worker).or_default().push(*id);
            }
        }
        questions
    }

    /// Returns at most `limit` free jobs that wait in one of these groups and were not returned for this `state` of
    /// rollouts and workers.
    pub(super) fn take_lanes(
        &mut self,
        state: u64,
        limit: usize,
        is_doubtful: impl Fn(&WorkerGroup) -> bool,
    ) -> Vec<Key> {
        let doubtful: HashSet<Arc<WorkerGroup>> =
            self.groups.iter().filter(|group| is_doubtful(group)).cloned().collect();
        if doubtful.is_empty() {
            return Vec::new();
        }
        let waits = |job: &TrackedJob| job.is_free() && job.worker.is_none() && job.lane_checked != state;
        let found = self.jobs.iter_mut().filter(|(_, job)| waits(job) && doubtful.contains(&job.group));
        found
            .take(limit)
            .map(|(id, job)| {
                job.lane_checked = state;
                *id
            })
            .collect()
    }

    /// Returns the jobs that could have begun and wait, by group and affinity.
    pub(super) fn backlog(&self, now: u64) -> BTreeMap<(Arc<WorkerGroup>, Affinity), LaneBacklog> {
        let mut backlog: BTreeMap<_, LaneBacklog> = BTreeMap::new();
        for job in self.jobs.values().filter(|job| job.worker.is_none() && job.due <= now) {
            let lane = backlog
                .entry((job.group.clone(), job.affinity))
                .or_insert(LaneBacklog { count: 0, oldest: job.due });
            lane.count += 1;
            lane.oldest = lane.oldest.min(job.due);
        }
        backlog
    }

    /// Returns all jobs, by group.
    pub(super) fn unfinished(&self) -> Vec<UnfinishedJobs> {
        let mut lanes: BTreeMap<&WorkerGroup, UnfinishedJobs> = BTreeMap::new();
        for job in self.jobs.values() {
            let lane = lanes.entry(&job.group).or_default();
            match (job.worker.is_some(), job.affinity) {
                (true, _) => lane.running += 1,
                (false, Affinity::Free) => lane.free += 1,
                (false, Affinity::Assigned) => lane.assigned += 1,
            }
            lane.tried += u64::from(job.tried && job.worker.is_none());
        }
        let named = |(group, lane): (&WorkerGroup, UnfinishedJobs)| {
            let (pool, name) = (group.pool.clone(), group.lane.clone());
            UnfinishedJobs { pool, lane: name, ..lane }
        };
        lanes.into_iter().map(named).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { work_item: 100, offer: 400, open_row: 10, ask: 50 };

    fn summary(affinity: Affinity, state: JobState, due: u64) -> RecordSummary {
        let worker = Some(WorkerId { id: id(1), epoch: 1 });
        let (pool, lane) = ("p".into(), "l".into());
        RecordSummary { state, attempts: 0, affinity, pool, lane, due, worker, retried: 0 }
    }

    /// Adds or updates a job at time `now` with its number as the revision.
    fn put(jobs: &mut TrackedJobs, number: u128, affinity: &str, state: &str, due: u64, now: u64) -> bool {
        let known = [Affinity::Free, Affinity::Assigned];
        let affinity = known.into_iter().find(|known| known.text() == affinity).unwrap();
        let state = JobState::ALL.into_iter().find(|known| known.text() == state).unwrap();
        jobs.put(id(number), number as u64, &summary(affinity, state, due), now, PATIENCE)
    }

    fn id(bits: u128) -> Key {
        Key::from_bits(bits)
    }

    #[test]
    fn the_row_of_an_assigned_job_is_checked_once_and_the_newest_job_first() {
        let mut jobs = TrackedJobs::default();
        for number in 1..4 {
            put(&mut jobs, number, "assigned", "queued", 5, 5);
        }
        assert_eq!(jobs.take_unchecked(14, 9), []);
        assert_eq!(jobs.take_unchecked(15, 2), [id(3), id(2)]);
        put(&mut jobs, 3, "assigned", "queued", 5, 20);
        assert_eq!(jobs.take_unchecked(99, 9), [id(1)]);
        jobs.recheck(id(1));
        assert_eq!(jobs.take_unchecked(99, 9), [id(1)], "it could not be repaired");
        // the end in between was not seen, and the job has begun again
        let again =
            RecordSummary { attempts: 1, retried: 1, ..summary(Affinity::Assigned, JobState::Queued, 5) };
        jobs.put(id(2), 9, &again, 20, PATIENCE);
        assert_eq!(jobs.take_unchecked(29, 9), []);
        assert_eq!(jobs.take_unchecked(30, 9), [id(2)], "a run that an operator begins has a row of its own");
        assert!(put(&mut jobs, 3, "assigned", "succeeded", 5, 20));
        put(&mut jobs, 3, "assigned", "queued", 5, 20);
        assert_eq!(jobs.take_unchecked(99, 9), [id(3)], "a retry after the end writes a new row");
    }

    #[test]
    fn a_free_job_that_waits_for_very_long_is_offered_again_when_it_is_twice_as_old() {
        let mut jobs = TrackedJobs::default();
        for (number, due) in [(1, 0), (2, 5), (3, 900)] {
            put(&mut jobs, number, "free", "queued", due, 0);
        }
        assert_eq!(jobs.take_oldest(399, 9), []);
        assert_eq!(jobs.take_oldest(500, 1), [id(1)]);
        put(&mut jobs, 1, "free", "queued", 0, 501);
        assert_eq!(jobs.take_oldest(999, 9), [id(2)]);
        assert_eq!(jobs.take_oldest(1000, 9), [id(1)]);
    }

    #[test]
    fn a_job_of_a_dead_worker_is_lost_and_a_living_one_is_asked() {
        let mut jobs = TrackedJobs::default();
        put(&mut jobs, 1, "free", "running", 0, 0);
        put(&mut jobs, 2, "assigned", "running", 0, 0);
        put(&mut jobs, 3, "free", "queued", 0, 0);
        assert_eq!(jobs.lost(|_| false).into_iter().collect::<BTreeSet<_>>(), [id(1), id(2)].into());
        assert_eq!(jobs.take_questions(49, 99, false).len(), 0);
        let asked = |questions: HashMap<WorkerId, Vec<Key>>| questions.into_values().flatten().count();
        assert_eq!(asked(jobs.take_questions(50, 99, false)), 2);
        assert_eq!(asked(jobs.take_questions(60, 99, false)), 0);
        assert_eq!(asked(jobs.take_questions(60, 99, true)), 2);
    }

    #[test]
    fn the_lane_of_a_waiting_job_is_checked_once_per_state_of_rollouts_and_workers() {
        let mut jobs = TrackedJobs::default();
        for (number, affinity) in [(1, "free"), (2, "free"), (3, "assigned")] {
            put(&mut jobs, number, affinity, "queued", 0, 0);
        }
        assert_eq!(jobs.take_lanes(1, 9, |_| false), []);
        assert_eq!(jobs.take_lanes(1, 1, |_| true).len(), 1);
        assert_eq!(jobs.take_lanes(1, 9, |_| true).len(), 1);
        assert_eq!(jobs.take_lanes(1, 9, |_| true), []);
        assert_eq!(jobs.take_lanes(2, 9, |_| true).len(), 2);
    }

    #[test]
    fn the_backlog_counts_what_could_have_begun() {
        let mut jobs = TrackedJobs::default();
        for (number, affinity, state, due) in [
            (1, "free", "queued", 7),
            (2, "free", "queued", 3),
            (3, "assigned", "queued", 9),
            (4, "free", "running", 1),
            (5, "free", "scheduled", 99),
        ] {
            put(&mut jobs, number, affinity, state, due, 0);
        }
        let counted = jobs.backlog(50).into_iter();
        let counted = counted.map(|((_, affinity), lane)| (affinity, lane.count, lane.oldest));
        assert_eq!(counted.collect::<Vec<_>>(), [(Affinity::Free, 2, 3), (Affinity::Assigned, 1, 9)]);
    }
}
