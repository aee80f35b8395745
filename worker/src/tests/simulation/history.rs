//! The versions of all records of a simulation, and the rules that must hold for them.
//!
//! Owns: every version that was written, in order. Never: handlers or pages (`observed`).

use std::collections::{BTreeMap, HashSet};

use pagewire_cluster::clock;
use pagewire_cluster::id::Key;
use pagewire_cluster::job::{Affinity, JobState, MAX_LOSSES, Record};

use super::plan::{CLOCK_ERROR_MS, Does, LATER_MS};

#[derive(Debug, Default)]
pub(super) struct History {
    /// The latest version of each record.
    pub(super) records: BTreeMap<Key, Record>,
    /// Jobs that were cancelled, or run again, by an operator.
    pub(super) cancelled: HashSet<Key>,
    pub(super) retried: HashSet<Key>,
    /// The ends that each record has shown.
    pub(super) ends: BTreeMap<Key, Vec<JobState>>,
    /// How often a job was taken from a worker, or returned by it.
    pub(super) losses: u64,
    pub(super) moves: u64,
}

impl History {
    /// Adds a version of a record. Returns which rule it breaks.
    pub(super) fn add(&mut self, next: Record) -> Result<(), String> {
        let before = self.records.insert(next.id, next.clone());
        if next.state.is_terminal() && before.as_ref().is_none_or(|before| !before.state.is_terminal()) {
            self.ends.entry(next.id).or_default().push(next.state);
        }
        let Some(before) = before else { return Ok(()) };
        let now = clock::unix_ms();
        let is_claim = next.state == JobState::Running && before.state != JobState::Running;
        self.losses += u64::from(
            before.state == JobState::Running && !next.state.is_terminal() && next.worker.is_none(),
        );
        self.moves += u64::from(!is_claim && before.lane != next.lane);
        if before.state.is_terminal() && before.state != next.state && !self.retried.contains(&next.id) {
            return Err(format!("a second end: {before:?}, {next:?}"));
        }
        if is_claim && now + CLOCK_ERROR_MS < before.due {
            return Err(format!("claimed {} ms before its time: {before:?}", before.due - now));
        }
        if is_claim && next.attempts != before.attempts + 1 {
            return Err(format!("an attempt is not counted: {before:?}, {next:?}"));
        }
        let most_losses = next.retries.max(MAX_LOSSES) + 1;
        if next.attempts - next.losses > next.retries + 1 || next.losses > most_losses {
            return Err(format!("too many attempts: {next:?}"));
        }
        let same_user = |other: &&Record| {
            other.affinity == Affinity::Assigned
                && other.state == JobState::Running
                && other.user == next.user
        };
        if is_claim
            && next.affinity == Affinity::Assigned
            && self.records.values().filter(same_user).count() > 1
        {
            let running: Vec<&Record> = self.records.values().filter(same_user).collect();
            return Err(format!("two jobs of a user run at once: {running:?}"));
        }
        Ok(())
    }

    /// Returns the jobs that have to end by now: all but those for later.
    pub(super) fn expected(&self) -> impl Iterator<Item = &Record> {
        let now = clock::unix_ms();
        self.records.values().filter(move |record| record.due < now + LATER_MS / 2)
    }

    /// Checks the end of a job against what its handler does.
    pub(super) fn check_end(&self, record: &Record) -> Result<(), String> {
        let of_handler = match Does::of(&record.kind) {
            Does::Value | Does::Wait | Does::Drop | Does::Return | Does::Snooze => JobState::Succeeded,
            Does::Fail | Does::FailLater if record.retries > 0 => JobState::Dead,
            Does::Fail | Does::FailLater | Does::Fatal => JobState::Failed,
        };
        let is_allowed = match record.state {
            JobState::Cancelled => self.cancelled.contains(&record.id),
            JobState::Dead if record.losses > record.retries.max(MAX_LOSSES) => true,
            state => state == of_handler,
        };
        if is_allowed { Ok(()) } else { Err(format!("a wrong end: {record:?}")) }
    }
}
