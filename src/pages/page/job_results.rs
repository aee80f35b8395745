//! Which jobs a page waits for, and which ends it has been told.
//!
//! A worker tells an end until it is answered, a page that comes back asks for what it waits for, and a node that was
//! cut off looks for what it has missed: all may happen, and the page hears it once. The memory moves with the page.
//!
//! A job of the page itself is in the list of those that it waits for before a worker can know it, and after a reset the
//! page names them, so an end that is not in that list was told before. Of a job that a program submitted for the page nothing is known before it is told;
//! its ends are remembered for a while instead.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pagewire_cluster::id::Key;
use pagewire_cluster::wire::PageJob;

use super::{Page, PushOutcome};
use crate::protocol::FrameBody;

/// How many ends a page remembers.
const MAX_REMEMBERED: usize = 256;
/// How many jobs a page waits for at most; beyond that the list is not complete.
const WAITS: usize = 1024;

/// Jobs of a page, the newest last.
#[derive(Debug, Default)]
pub(super) struct TrackedJobs {
    waits: VecDeque<PageJob>,
    told: VecDeque<PageJob>,
    /// Told before the client lost what it had been sent: perhaps it has seen these ends, perhaps not.
    doubtful: VecDeque<PageJob>,
    /// The page may wait for jobs that are not in the list.
    partial: bool,
    /// The client has lost what it was sent, at least once.
    was_reset: bool,
}

/// What a page knows of its jobs.
#[derive(Debug, Default)]
pub(super) struct JobTracker(Mutex<TrackedJobs>);

impl JobTracker {
    /// Each change leaves the lists whole, so a poisoned lock is still usable.
    pub(super) fn lock(&self) -> MutexGuard<'_, TrackedJobs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the page knows from another node. What it was told here meanwhile it does not wait for any more.
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
    /// The jobs that it waits for, those whose ends it has been told, and whether the first list lacks some, as they
    /// travel to another node.
    pub(super) fn packed(&self) -> (Vec<PageJob>, Vec<PageJob>, bool) {
        let told = self.doubtful.iter().chain(&self.told).cloned().collect();
        (self.waits.iter().cloned().collect(), told, self.partial)
    }

    /// The client has lost what it was sent. It names what it waits for.
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

    /// Whether the page is known to have been told this end.
    fn has_told(&self, end: &PageJob) -> bool {
        self.told.contains(end) || self.doubtful.contains(end)
    }

    /// Whether an end that is not known to have been told is still to be told.
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

/// A program submitted it: the page knows it by the job's own id.
fn is_named_by_its_job(end: &PageJob) -> bool {
    end.frame.strip_prefix('"').and_then(|frame| frame.strip_suffix('"'))
        == Some(end.job.to_string().as_str())
}

impl Page {
    /// The page waits for the end of a job that it knows by `frame`.
    pub fn track_job(&self, job: Key, frame: &str) {
        self.ends.lock().wait(PageJob { job, frame: frame.to_owned() });
    }

    /// The page may wait for more jobs than it has named.
    pub fn expect_more(&self) {
        self.ends.lock().partial = true;
    }

    /// The jobs that it waits for.
    pub fn waits_for(&self) -> Vec<PageJob> {
        self.ends.lock().waits.iter().cloned().collect()
    }

    /// Adds a frame about a job unless the page has been told its end. A page that has moved on, and a copy that does not
    /// wait for the job, take nothing here: the sender finds the page where it is, together with what it knows.
    fn push_unless_over(&self, job: Key, frame: &str, ends: bool, tail: &FrameBody) -> PushOutcome {
        let mut known = self.ends.lock();
        if !self.is_owned() {
            return PushOutcome::Missed;
        }
        let end = PageJob { job, frame: frame.to_owned() };
        // what waited in the outbox before a reset still comes
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

    /// Adds how far a job has come that the page knows by `frame`; nothing after its end, for a worker that has lost the
    /// job may not know yet.
    pub fn progress(&self, job: Key, frame: &str, tail: &FrameBody) -> PushOutcome {
        self.push_unless_over(job, frame, false, tail)
    }

    /// Adds the end of a job that the page knows by `frame`. However often it is told, the page hears it once.
    pub fn deliver_job_result(&self, job: Key, frame: &str, tail: &FrameBody) -> PushOutcome {
        self.push_unless_over(job, frame, true, tail)
    }

    /// Adds the word that a job stands that the page waits for; nothing after its end.
    pub fn confirm(&self, job: Key, frame: &str, tail: &FrameBody) -> PushOutcome {
        self.push_unless_over(job, frame, false, tail)
    }

    /// The end of a job after a reset, for a page that says that it still waits: what was told before the reset is lost
    /// unless it has not left yet.
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
