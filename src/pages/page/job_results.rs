//! The jobs that a page waits for, and the results that were delivered to it. Pure.
//!
//! Owns: whether a page still gets a frame about a job. Never: the outbox that takes the frame.
//!
//! Three paths may deliver the same result: a worker repeats it until it is acknowledged, a page that resumes names the
//! jobs that it waits for, and a node that was cut off looks up the results that it missed. The page gets each result
//! once. The lists move with the page.
//!
//! A page's own job is in the list of awaited jobs before a worker can see it, and after a reset the page names its
//! jobs again. So a result of an own job that is not in that list was delivered before. A job that a program submitted
//! for the page is unknown until its result arrives; its results are remembered for a while instead.

use std::collections::VecDeque;

use pagewire_cluster::wire::PageJob;

/// Maximum number of delivered results that a page remembers.
const MAX_REMEMBERED: usize = 256;
/// Maximum number of jobs that a page waits for; beyond it the list is not complete.
const WAITS: usize = 1024;

/// The jobs of a page, the newest last.
#[derive(Debug, Default)]
pub(super) struct TrackedJobs {
    waits: VecDeque<PageJob>,
    delivered: VecDeque<PageJob>,
    /// Results delivered before the client lost frames: the client may or may not have them.
    uncertain: VecDeque<PageJob>,
    /// The page may wait for jobs that are not in the list.
    partial: bool,
    /// The client has lost frames at least once.
    was_reset: bool,
}

/// What a page does with a frame about a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JobFrame {
    /// The page gets the frame.
    New,
    /// The frame waits in the outbox since before a reset, and still reaches the client.
    Queued,
    /// The result was delivered before.
    Repeated,
    /// This copy of the page does not wait for the job.
    NotAwaited,
}

impl TrackedJobs {
    /// Records that the page waits for the result of a job.
    pub(super) fn wait(&mut self, job: PageJob) {
        if !self.waits.contains(&job) {
            self.partial |= self.waits.len() == WAITS;
            add(&mut self.waits, WAITS, job);
        }
    }

    /// Records that the page may wait for more jobs than it has named.
    pub(super) fn expect_more(&mut self) {
        self.partial = true;
    }

    /// The jobs that the page waits for.
    pub(super) fn waits_for(&self) -> Vec<PageJob> {
        self.waits.iter().cloned().collect()
    }

    /// Decides about a frame of a job. `is_queued`: whether the outbox has this frame.
    pub(super) fn decide(&self, job: &PageJob, is_queued: impl FnOnce() -> bool) -> JobFrame {
        if self.was_reset && !self.delivered.contains(job) && is_queued() {
            JobFrame::Queued
        } else if self.delivered.contains(job) || self.uncertain.contains(job) {
            JobFrame::Repeated
        } else if self.waits.contains(job) || self.partial || is_named_by_its_job(job) {
            JobFrame::New
        } else {
            JobFrame::NotAwaited
        }
    }

    /// Records that the result of a job was delivered.
    pub(super) fn end(&mut self, job: PageJob) {
        self.waits.retain(|waits| *waits != job);
        self.clear_uncertain(&job);
        add(&mut self.delivered, MAX_REMEMBERED, job);
    }

    /// Records that a result from before a reset did not reach the client.
    pub(super) fn clear_uncertain(&mut self, job: &PageJob) {
        self.uncertain.retain(|uncertain| uncertain != job);
    }

    /// Records a reset: the client has lost frames, and names its awaited jobs again.
    pub(super) fn reset(&mut self) {
        self.was_reset = true;
        for job in std::mem::take(&mut self.delivered) {
            add(&mut self.uncertain, MAX_REMEMBERED, job);
        }
    }

    /// The awaited jobs, the delivered results, and whether the first list is incomplete, for a move to another node.
    pub(super) fn to_lists(&self) -> (Vec<PageJob>, Vec<PageJob>, bool) {
        let delivered = self.uncertain.iter().chain(&self.delivered).cloned().collect();
        (self.waits_for(), delivered, self.partial)
    }

    /// Adds the lists from another node. A result that was delivered here meanwhile is not awaited any more.
    pub(super) fn merge(&mut self, waits: &[PageJob], delivered: &[PageJob], partial: bool) {
        self.partial |= partial;
        for job in waits {
            if !self.delivered.contains(job) {
                self.wait(job.clone());
            }
        }
        delivered.iter().for_each(|job| add(&mut self.delivered, MAX_REMEMBERED, job.clone()));
    }
}

fn add(jobs: &mut VecDeque<PageJob>, max: usize, job: PageJob) {
    if jobs.len() == max {
        jobs.pop_front();
    }
    jobs.push_back(job);
}

/// Whether a program submitted the job: then the page knows it by the job's id.
fn is_named_by_its_job(end: &PageJob) -> bool {
    end.frame.strip_prefix('"').and_then(|frame| frame.strip_suffix('"'))
        == Some(end.job.to_string().as_str())
}

#[cfg(test)]
mod tests;
