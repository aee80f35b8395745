//! Which ends of jobs a page has been told.
//!
//! A worker tells an end until it is answered, and a page that comes back asks for what it waits for: both may happen,
//! and the page hears it once. The memory moves with the page.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pagewire_cluster::id::Key;
use pagewire_cluster::wire::ToldEnd;

use super::{Met, Page};
use crate::protocol::Tail;

/// How many ends a page remembers.
const KEPT: usize = 64;

/// By job and the page's own id of it, the newest last.
type Told = VecDeque<(Key, Box<str>)>;

/// The ends that a page has been told.
#[derive(Debug, Default)]
pub(super) struct Ends(Mutex<Told>);

impl Ends {
    /// Each change leaves the list whole, so a poisoned lock is still usable.
    pub(super) fn lock(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What another node has told the page.
    pub(super) fn remember(&self, told: &[ToldEnd]) {
        let mut ends = self.lock();
        for told in told.iter().take(KEPT) {
            add(&mut ends, told.job, &told.frame);
        }
    }
}

/// As they travel to another node.
pub(super) fn told(ends: &Told) -> Vec<ToldEnd> {
    ends.iter().map(|(job, frame)| ToldEnd { job: *job, frame: frame.to_string() }).collect()
}

fn add(ends: &mut Told, job: Key, frame: &str) {
    if ends.len() == KEPT {
        ends.pop_front();
    }
    ends.push_back((job, frame.into()));
}

impl Page {
    /// Adds the end of a job that the page knows by `frame`. However often it is told, the page hears it once.
    pub fn conclude(&self, job: Key, frame: &str, tail: &Tail) -> Met {
        let mut ends = self.ends.lock();
        if ends.iter().any(|(told, by)| *told == job && **by == *frame) {
            return if self.is_live() { Met::Reached } else { Met::Held };
        }
        let met = self.push(tail);
        if !matches!(met, Met::Missed) {
            add(&mut ends, job, frame);
        }
        met
    }

    /// The same after a reset, for a page that says that it still waits: what was told before is lost unless it has not
    /// left yet.
    pub fn remind(&self, job: Key, frame: &str, tail: &Tail) -> Met {
        if !self.still_waits(tail) {
            self.ends.lock().retain(|(told, by)| *told != job || **by != *frame);
        }
        self.conclude(job, frame, tail)
    }
}
