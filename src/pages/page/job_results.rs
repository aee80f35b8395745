//! The jobs that a page waits for, and the results that were delivered to it.
//!
//! Three paths may deliver the same result: a worker repeats it until it is acknowledged, a page that resumes names the
//! jobs that it waits for, and a node that was cut off looks up the results that it missed. The page gets each result
//! once. The lists move with the page.
//!
//! A page's own job is in the list of awaited jobs before a worker can see it, and after a reset the page names its
//! jobs again. So a result of an own job that is not in that list was delivered before. A job that a program submitted
//! for the page is unknown until its result arrives; its results are remembered for a while instead.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pagewire_cluster::id::Key;
use pagewire_cluster::wire::PageJob;

use super::{Page, PushOutcome};
use crate::protocol::FrameBody;

/// Maximum number of delivered results that a page remembers.
const MAX_REMEMBERED: usize = 256;
/// Maximum number of jobs that a page waits for; beyond it the list is not complete.
const WAITS: usize = 1024;

/// The jobs of a page, the newest last.
#[derive(Debug, Default)]
pub(super) struct TrackedJobs {
    waits: VecDeque<PageJob>,
    told: VecDeque<PageJob>,
    /// Results delivered before the client lost frames: the client may or may not have them.
    doubtful: VecDeque<PageJob>,
    /// The page may wait for jobs that are not in the list.
    partial: bool,
    /// The client has lost frames at least once.
    was_reset: bool,
}

/// The tracked jobs of a page, behind a lock.
#[derive(Debug, Default)]
pub(super) struct JobTracker(Mutex<TrackedJobs>);

impl JobTracker {
    /// Each change leaves the lists consistent, so a poisoned lock is still usable.
    pub(super) fn lock(&self) -> MutexGuard<'_, TrackedJobs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the lists from another node. A result that was delivered here meanwhile is not awaited any more.
    pub(super) fn remember(&self, waits: &[PageJob], told: &[PageJob], partial: bool) {
        let mut known = self.lock();
        known.partial |= partial;
        for job in waits {
            if !known.told.contains(job) {
                known.wait(job.clone());
            }
        }
        told.iter().for_each(|job| add(&mut known.told, MAX_REMEMBERED, job.clone()));
    }
}

impl TrackedJobs {
    /// The awaited jobs, the delivered results, and whether the first list is incomplete, for a move to another node.
    pub(super) fn packed(&self) -> (Vec<PageJob>, Vec<PageJob>, bool) {
        let told = self.doubtful.iter().chain(&self.told).cloned().collect();
        (self.waits.iter().cloned().collect(), told, self.partial)
    }

    /// Records a reset: the client has lost frames, and names its awaited jobs again.
    pub(super) fn reset(&mut self) {
        self.was_reset = true;
        for job in std::mem::take(&mut self.told) {
            add(&mut self.doubtful, MAX_REMEMBERED, job);
        }
    }

    fn wait(&mut self, job: PageJob) {
        if !self.waits.contains(&job) {
            self.partial |= self.waits.len() == WAITS;
            add(&mut self.waits, WAITS, job);
        }
    }

    /// Whether the result is known to have been delivered to the page.
    fn has_told(&self, end: &PageJob) -> bool {
        self.told.contains(end) || self.doubtful.contains(end)
    }

    /// Whether a result without a known delivery must still be delivered.
    fn owes(&self, end: &PageJob) -> bool {
        self.waits.contains(end) || self.partial || is_named_by_its_job(end)
    }

    fn tell(&mut self, end: PageJob) {
        self.waits.retain(|job| *job != end);
        self.doubtful.retain(|job| *job != end);
        add(&mut self.told, MAX_REMEMBERED, end);
    }
}

fn add(jobs: &mut VecDeque<PageJob>, most: usize, job: PageJob) {
    if jobs.len() == most {
        jobs.pop_front();
    }
    jobs.push_back(job);
}

/// Whether a program submitted the job: then the page knows it by the job's id.
fn is_named_by_its_job(end: &PageJob) -> bool {
    end.frame.strip_prefix('"').and_then(|frame| frame.strip_suffix('"'))
        == Some(end.job.to_string().as_str())
}

impl Page {
    /// Records that the page waits for the result of a job that it knows by `frame`.
    pub fn track_job(&self, job: Key, frame: &str) {
        self.ends.lock().wait(PageJob { job, frame: frame.to_owned() });
    }

    /// Records that the page may wait for more jobs than it has named.
    pub fn expect_more(&self) {
        self.ends.lock().partial = true;
    }

    /// The jobs that the page waits for.
    pub fn waits_for(&self) -> Vec<PageJob> {
        self.ends.lock().waits.iter().cloned().collect()
    }

    /// Adds a frame about a job unless the result was delivered to the page. A page that has moved on, and a copy that
    /// does not wait for the job, take no frame here: the sender finds the page at its present node, together with its
    /// lists.
    fn push_unless_over(&self, job: Key, frame: &str, ends: bool, tail: &FrameBody) -> PushOutcome {
        let mut known = self.ends.lock();
        if !self.is_owned() {
            return PushOutcome::Missed;
        }
        let end = PageJob { job, frame: frame.to_owned() };
        // a frame that waited in the outbox before a reset still reaches the client
        let comes = known.was_reset && !known.told.contains(&end) && self.is_queued(tail);
        if comes || known.has_told(&end) {
            if comes && ends {
                known.tell(end);
            }
            return if self.is_live() { PushOutcome::Reached } else { PushOutcome::Held };
        }
        if !known.owes(&end) {
            return PushOutcome::Missed;
        }
        let met = self.push(tail);
        if ends && !matches!(met, PushOutcome::Missed) {
            known.tell(end);
        }
        met
    }

    /// Adds the progress of a job that the page knows by `frame`. After the result no progress is added, because a
    /// worker that has lost the job may not know it yet.
    pub fn progress(&self, job: Key, frame: &str, tail: &FrameBody) -> PushOutcome {
        self.push_unless_over(job, frame, false, tail)
    }

    /// Adds the result of a job that the page knows by `frame`. The page gets it once, for any number of calls.
    pub fn deliver_job_result(&self, job: Key, frame: &str, tail: &FrameBody) -> PushOutcome {
        self.push_unless_over(job, frame, true, tail)
    }

    /// Adds the confirmation that an awaited job exists. After the result no confirmation is added.
    pub fn confirm(&self, job: Key, frame: &str, tail: &FrameBody) -> PushOutcome {
        self.push_unless_over(job, frame, false, tail)
    }

    /// Adds the result of a job again after a reset, for a page that still waits for it. A result delivered before the
    /// reset is lost unless it has not left the outbox yet.
    pub fn redeliver_job_result(&self, job: Key, frame: &str, tail: &FrameBody) -> PushOutcome {
        let left = !self.is_queued(tail);
        if left {
            self.ends.lock().doubtful.retain(|told| told.job != job || told.frame != frame);
        }
        self.deliver_job_result(job, frame, tail)
    }
}

#[cfg(test)]
mod tests;
