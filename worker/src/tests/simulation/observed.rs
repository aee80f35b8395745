//! What the handlers and the page of a simulation see, and the rules that must hold for it.
//!
//! Owns: which handlers run at the same time, and which ends the page was told. Never: the records (`history`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pagewire_cluster::clock;
use pagewire_cluster::id::Key;
use pagewire_cluster::job::{Affinity, Record};
use tokio::time::Instant;

use super::TIMING;
use super::history::History;
use super::plan::CLOCK_ERROR_MS;

/// A handler that runs.
#[derive(Debug, Clone)]
struct Run {
    number: u64,
    job: Key,
    /// The user of an assigned job.
    user: Option<String>,
    process: u64,
    begun: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) history: History,
    runs: Vec<Run>,
    /// Number of handlers that have begun, in all and per job since it was last run again by an operator.
    pub(super) begun: u64,
    pub(super) begins: HashMap<Key, u32>,
    /// Processes that were suspended or cut off, each until when: far in the future while it is.
    disturbed: HashMap<u64, Instant>,
    /// Jobs that were returned to their queue.
    pub(super) returned: HashSet<Key>,
    /// The ends that the page was told, per job.
    pub(super) told: BTreeMap<Key, Vec<String>>,
    pub(super) violation: Option<String>,
}

/// What a simulation has seen so far. All clones are one.
#[derive(Debug, Clone, Default)]
pub(super) struct Observed(Arc<Mutex<Facts>>);

/// A handler that runs until this is dropped.
pub(super) struct Running {
    observed: Observed,
    number: u64,
}

impl Observed {
    pub(super) fn lock(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A handler begins to have effects.
    pub(super) fn begin(&self, record: &Record, process: u64) -> Running {
        let facts = &mut *self.lock();
        let user = record.user.clone().filter(|_| record.affinity == Affinity::Assigned);
        facts.begun += 1;
        *facts.begins.entry(record.id).or_default() += 1;
        let (job, number) = (record.id, facts.begun);
        let run = Run { number, job, user, process, begun: Instant::now() };
        facts.check(&run, record);
        facts.runs.push(run);
        Running { observed: self.clone(), number }
    }

    /// A process does not run or is cut off from now on; its handlers may overlap with those that replace them.
    pub(super) fn disturb(&self, process: u64, length: Duration) {
        let until = Instant::now() + length;
        let facts = &mut *self.lock();
        let known = facts.disturbed.entry(process).or_insert(until);
        *known = until.max(*known);
    }

    /// A process is gone, and its handlers with it.
    pub(super) fn killed(&self, process: u64) {
        self.lock().runs.retain(|run| run.process != process);
    }
}

impl Facts {
    pub(super) fn violate(&mut self, what: impl FnOnce() -> String) {
        self.violation.get_or_insert_with(|| format!("at {:?}: {}", clock::boot(), what()));
    }

    /// A worker that was suspended or cut off may have lost its lease without knowing it.
    fn is_excused(&self, run: &Run) -> bool {
        self.disturbed.get(&run.process).is_some_and(|until| *until + TIMING.lease_ttl >= run.begun)
    }

    fn check(&mut self, run: &Run, record: &Record) {
        if clock::unix_ms() + CLOCK_ERROR_MS < record.due {
            self.violate(|| format!("{record:?} begins before its time"));
        }
        let meets = |other: &&Run| other.job == run.job || (run.user.is_some() && other.user == run.user);
        let mut others = self.runs.iter().filter(meets).filter(|other| !self.is_excused(other));
        if let Some(other) = others.next().filter(|_| !self.is_excused(run)).cloned() {
            self.violate(|| format!("{run:?} begins while {other:?} runs"));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.observed.lock().runs.retain(|run| run.number != self.number);
    }
}
