//! Which jobs a page waits for, and which ends it has been told.
//!
//! A worker tells an end until it is answered, a page that comes back asks for what it waits for, and a node that was
//! cut off looks for what it has missed: all may happen, and the page hears it once. The memory moves with the page.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pagewire_cluster::id::Key;
use pagewire_cluster::wire::PageJob;

use super::{Met, Page};
use crate::protocol::Tail;

/// How many ends, and how many jobs, a page remembers.
const KEPT: usize = 64;

/// Jobs of a page, the newest last.
#[derive(Debug, Default)]
pub(super) struct Known {
    waits: VecDeque<PageJob>,
    told: VecDeque<PageJob>,
}

/// What a page knows of its jobs.
#[derive(Debug, Default)]
pub(super) struct Ends(Mutex<Known>);

impl Ends {
    /// Each change leaves the lists whole, so a poisoned lock is still usable.
    pub(super) fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the page knows from another node.
    pub(super) fn remember(&self, waits: &[PageJob], told: &[PageJob]) {
        let mut known = self.lock();
        waits.iter().for_each(|job| add(&mut known.waits, job.clone()));
        told.iter().for_each(|job| add(&mut known.told, job.clone()));
    }
}

impl Known {
    /// The jobs that it waits for, and those whose ends it has been told, as they travel to another node.
    pub(super) fn packed(&self) -> (Vec<PageJob>, Vec<PageJob>) {
        (self.waits.iter().cloned().collect(), self.told.iter().cloned().collect())
    }
}

fn add(jobs: &mut VecDeque<PageJob>, job: PageJob) {
    if jobs.len() == KEPT {
        jobs.pop_front();
    }
    jobs.push_back(job);
}

impl Page {
    /// The page waits for the end of a job that it knows by `frame`.
    pub fn expect(&self, job: Key, frame: &str) {
        add(&mut self.ends.lock().waits, PageJob { job, frame: frame.to_owned() });
    }

    /// The jobs that it waits for.
    pub fn waits_for(&self) -> Vec<PageJob> {
        self.ends.lock().waits.iter().cloned().collect()
    }

    /// Adds how far a job has come that the page knows by `frame`; nothing after its end, for a worker that has lost the
    /// job may not know yet.
    pub fn progress(&self, job: Key, frame: &str, tail: &Tail) -> Met {
        let known = self.ends.lock();
        if known.told.iter().any(|told| told.job == job && told.frame == frame) {
            return if self.is_live() { Met::Reached } else { Met::Held };
        }
        self.push(tail)
    }

    /// Adds the end of a job that the page knows by `frame`. However often it is told, the page hears it once.
    pub fn conclude(&self, job: Key, frame: &str, tail: &Tail) -> Met {
        let mut known = self.ends.lock();
        let end = PageJob { job, frame: frame.to_owned() };
        if known.told.contains(&end) {
            return if self.is_live() { Met::Reached } else { Met::Held };
        }
        let met = self.push(tail);
        if !matches!(met, Met::Missed) {
            known.waits.retain(|job| *job != end);
            add(&mut known.told, end);
        }
        met
    }

    /// The same after a reset, for a page that says that it still waits: what was told before is lost unless it has not
    /// left yet.
    pub fn remind(&self, job: Key, frame: &str, tail: &Tail) -> Met {
        if !self.still_waits(tail) {
            self.ends.lock().told.retain(|told| told.job != job || told.frame != frame);
        }
        self.conclude(job, frame, tail)
    }
}
