//! What has become of the work of this process, until it is told to the nodes.
//!
//! Owns: which work is compared, and each unit's first work and first faults. Never: the comparison (`evidence`).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use super::super::{Rollouts, RoutingKey};
use super::compared::{compared, compares};
use super::digest::{DigestRow, LaneDigest, duration_class};
use super::metric::{LaneWork, Metric};
use super::report::PoolReport;

/// Maximum number of units that a digest names for the first time; more units are counted in the next ones.
const UNITS_PER_DIGEST: usize = 500;
/// Maximum number of units that are remembered for a lane; after them no new ones are counted.
const UNITS_PER_LANE: usize = 50_000;

/// How a piece of work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkOutcome {
    /// It was done, or refused by a fault of its user.
    Served,
    /// It failed.
    Failed,
    /// Its process died.
    Crashed,
}

/// A piece of work that has ended.
#[derive(Debug, Clone, Copy)]
pub struct FinishedWork<'a> {
    /// The kind of work.
    pub kind: LaneWork,
    /// The entity that stays in one lane.
    pub unit: RoutingKey<'a>,
    /// Revision of the rollout that decided the lane; `None` for the one that this process has applied.
    pub revision: Option<u64>,
    /// How it ended.
    pub outcome: WorkOutcome,
    /// How long it ran.
    pub ran: Duration,
}

/// A lane and the release that does its work in this process.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneRelease {
    /// The pool.
    pub pool: String,
    /// The lane.
    pub lane: String,
    /// The release.
    pub release: String,
}

/// Finished work of this process. Cheap to clone.
#[derive(Clone)]
pub struct OutcomeLog {
    rollouts: Rollouts,
    lanes: Arc<Mutex<BTreeMap<LaneRelease, LaneLog>>>,
    /// The duration above which work of a pool is slow, in microseconds.
    slow_over: Arc<RwLock<HashMap<(String, LaneWork), u64>>>,
}

/// What is remembered of a unit: the revisions that decided its first work, and its first fault of each kind.
#[derive(Debug, Default)]
struct SeenUnit {
    revision: u64,
    faults: Vec<(Metric, u64)>,
}

/// Finished work of one lane.
#[derive(Debug, Default)]
struct LaneLog {
    seen: HashMap<u64, SeenUnit>,
    /// Units that the next digests name again.
    again: Vec<u64>,
    rows: BTreeMap<u64, DigestRow>,
    durations: BTreeMap<LaneWork, BTreeMap<u8, u32>>,
    /// Units that the next digest names for the first time.
    new: usize,
}

impl OutcomeLog {
    /// Creates an empty log. `rollouts` tell which lanes are compared.
    pub(super) fn new(rollouts: Rollouts) -> Self {
        Self { rollouts, lanes: Arc::default(), slow_over: Arc::default() }
    }

    /// Counts a piece of work, if its lane is compared with another one and its unit is there by its hash.
    pub fn record(&self, lane: &LaneRelease, work: FinishedWork<'_>) {
        let Some(split) = self.rollouts.split(&lane.pool) else { return };
        let assigned = || self.rollouts.explain(&lane.pool, work.unit, |_| true);
        let unit = compared(&split.document, &lane.lane, work.unit, assigned, work.revision);
        let Some(compared) = unit else { return };
        let us = u64::try_from(work.ran.as_micros()).unwrap_or(u64::MAX);
        let slow = (work.outcome == WorkOutcome::Served && self.is_slow(&lane.pool, work.kind, us))
            .then_some(Metric::Slow);
        let fault = match work.outcome {
            WorkOutcome::Served => slow,
            WorkOutcome::Failed => Some(Metric::of_failure(work.kind)),
            WorkOutcome::Crashed => Some(Metric::Crashes),
        };
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let log = match lanes.get_mut(lane) {
            Some(log) => log,
            None => lanes.entry(lane.clone()).or_default(),
        };
        log.add(compared.revision, compared.hash, fault);
        if compared.is_base && work.outcome == WorkOutcome::Served && work.kind.is_timed() {
            *log.durations.entry(work.kind).or_default().entry(duration_class(us)).or_default() += 1;
        }
    }

    fn is_slow(&self, pool: &str, kind: LaneWork, us: u64) -> bool {
        let limits = self.slow_over.read().unwrap_or_else(PoisonError::into_inner);
        !limits.is_empty() && limits.get(&(pool.to_owned(), kind)).is_some_and(|limit| us > *limit)
    }

    /// Applies the limits of a report.
    pub(super) fn follow(&self, report: &PoolReport) {
        let mut limits = self.slow_over.write().unwrap_or_else(PoisonError::into_inner);
        limits.retain(|(pool, _), _| *pool != report.pool);
        for (kind, limit) in &report.slow_over_us {
            limits.insert((report.pool.clone(), *kind), *limit);
        }
    }

    /// Tells everything again in the next digests. A node that knows it already counts nothing twice.
    pub(super) fn tell_again(&self) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.values_mut().for_each(|log| log.again = log.seen.keys().copied().collect());
    }

    /// Returns what has not been told so far, and forgets the lanes that are not compared any more.
    pub(super) fn take(&self) -> Vec<LaneDigest> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let is_compared = |lane: &LaneRelease| {
            let split = self.rollouts.split(&lane.pool);
            split.is_some_and(|split| compares(&split.document, &lane.lane))
        };
        lanes.retain(|lane, log| !log.rows.is_empty() || is_compared(lane));
        lanes.iter_mut().filter_map(|(lane, log)| log.take(lane)).collect()
    }
}

impl LaneLog {
    fn add(&mut self, revision: u64, unit: u64, fault: Option<Metric>) {
        let is_known = self.seen.contains_key(&unit);
        if !is_known && (self.new >= UNITS_PER_DIGEST || self.seen.len() >= UNITS_PER_LANE) {
            return;
        }
        let seen = self.seen.entry(unit).or_insert_with(|| SeenUnit { revision, faults: Vec::new() });
        let fault = fault.filter(|fault| seen.faults.iter().all(|(known, _)| known != fault));
        seen.faults.extend(fault.map(|fault| (fault, revision)));
        if is_known && fault.is_none() {
            return;
        }
        let row = row(&mut self.rows, revision);
        if !is_known {
            row.units.push(unit);
            self.new += 1;
        }
        if let Some(fault) = fault {
            row.faults.entry(fault).or_default().push(unit);
        }
    }

    /// Adds units that are named again, as far as the digest has room.
    fn repeat(&mut self) {
        while self.new < UNITS_PER_DIGEST
            && let Some(unit) = self.again.pop()
        {
            let Some(seen) = self.seen.get(&unit) else { continue };
            row(&mut self.rows, seen.revision).units.push(unit);
            for (fault, revision) in &seen.faults {
                row(&mut self.rows, *revision).faults.entry(*fault).or_default().push(unit);
            }
            self.new += 1;
        }
    }

    fn take(&mut self, lane: &LaneRelease) -> Option<LaneDigest> {
        self.repeat();
        self.new = 0;
        let rows: Vec<_> = std::mem::take(&mut self.rows).into_values().collect();
        let durations = std::mem::take(&mut self.durations);
        let LaneRelease { pool, lane, release } = lane.clone();
        let is_empty = rows.is_empty() && durations.is_empty();
        (!is_empty).then_some(LaneDigest { pool, lane, release, rows, durations })
    }
}

/// Returns the row of a revision.
fn row(rows: &mut BTreeMap<u64, DigestRow>, revision: u64) -> &mut DigestRow {
    rows.entry(revision).or_insert_with(|| DigestRow { revision, ..DigestRow::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_told_again_with_its_revisions_a_part_in_each_digest() {
        let (mut log, lane) = (LaneLog::default(), LaneRelease::default());
        log.add(1, 7, None);
        log.add(2, 7, Some(Metric::Crashes));
        log.add(2, 8, Some(Metric::Slow));
        let told = log.take(&lane).unwrap();
        assert_eq!(log.take(&lane), None, "nothing new");
        log.again = vec![8, 7];
        assert_eq!(log.take(&lane), Some(told));
        for unit in 10..10 + UNITS_PER_DIGEST as u64 {
            log.add(3, unit, None);
        }
        log.take(&lane);
        log.again = log.seen.keys().copied().collect();
        let parts: Vec<_> = (0..3).map(|_| log.take(&lane)).collect();
        let units = |part: &LaneDigest| part.rows.iter().map(|row| row.units.len()).sum::<usize>();
        assert_eq!(parts.iter().flatten().map(units).collect::<Vec<_>>(), [UNITS_PER_DIGEST, 2]);
        assert_eq!(parts[2], None);
    }
}
