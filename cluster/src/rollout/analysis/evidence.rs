//! The numbers of a pool's lanes, from the digests of all processes.
//!
//! Owns: what is counted since when, each unit once per fault. Never: the tests (`sequential_test`, `confidence`), or what
//! follows (`decision`). Each node counts for itself, so that the next leader has the numbers already. A node that has
//! started later has less evidence, never wrong one.

use std::collections::{BTreeMap, HashSet, VecDeque};

use super::super::RolloutSpec;
use super::confidence::{Rate, units_needed};
use super::digest::{DigestRow, LaneDigest, longest_of_class};
use super::metric::{LaneWork, Metric};
use super::report::{LaneReport, MetricReport, PoolReport};
use super::sequential_test::SequentialTest;

/// Maximum number of units of a lane; after them no new ones are counted.
const UNITS: usize = 50_000;
/// Number of revisions whose work may still be under way.
const REVISIONS: usize = 16;
/// Pieces of work of the base lane below which there is no p95.
const LEAST_DURATIONS: u32 = 100;
/// Work that takes no longer than this is not slow, in microseconds: below it, a lane with less work has colder caches, which
/// no user notices.
const LEAST_SLOW_US: u64 = 10_000;
/// Above this number of pieces of work the older ones count half.
const DURATIONS: u32 = 20_000;

/// What a node knows about the lanes of a pool.
#[derive(Debug, Default)]
pub(super) struct PoolEvidence {
    document: Option<RolloutSpec>,
    /// The weights of the lanes by revision, the newest last, in buckets.
    weights: VecDeque<(u64, BTreeMap<String, u16>)>,
    lanes: BTreeMap<String, LaneEvidence>,
    durations: BTreeMap<LaneWork, BTreeMap<u8, u32>>,
}

/// What is known about a lane and the base lane beside it.
#[derive(Debug, Default)]
struct LaneEvidence {
    since: u64,
    /// The weight of the base lane before the weight of this lane was lowered. Pages that keep the lower share of the base
    /// lane may still be open, and a share that is too large makes the test less sensitive, never wrong.
    base_before: Option<u16>,
    /// Releases of the lane that have been seen, the newest last.
    releases: Vec<String>,
    own: LaneUnits,
    base: LaneUnits,
    tests: BTreeMap<Metric, MetricEvidence>,
}

#[derive(Debug, Default)]
struct LaneUnits {
    all: HashSet<u64>,
    failed: HashSet<u64>,
}

#[derive(Debug, Default)]
struct MetricEvidence {
    seen: HashSet<u64>,
    own: u32,
    test: SequentialTest,
}

impl PoolEvidence {
    /// Applies a document. A lane is counted anew when it has got a weight, when its weight was lowered, and when the base
    /// or the salt is another one.
    pub(super) fn apply(&mut self, document: &RolloutSpec) {
        let before = self.document.as_ref();
        if before.is_some_and(|before| before.rev == document.rev) {
            return;
        }
        let is_same =
            before.is_some_and(|before| before.base == document.base && before.salt == document.salt);
        let former = if is_same { self.weights.back().map(|(_, weights)| weights.clone()) } else { None };
        let former = former.unwrap_or_default();
        let mut weights: BTreeMap<_, _> =
            document.lanes.iter().map(|lane| (lane.name.clone(), lane.weight.buckets())).collect();
        weights.insert(document.base.clone(), document.remainder().buckets());
        let kept = |lane: &String| {
            let [had, has] =
                [&former, &weights].map(|weights| weights.get(lane).copied().unwrap_or_default());
            has > 0 && had > 0 && has >= had
        };
        self.lanes.retain(|lane, _| kept(lane) && *lane != document.base);
        for lane in document.lanes.iter().filter(|lane| lane.weight.buckets() > 0) {
            let had_weight = former.get(&lane.name).is_some_and(|weight| *weight > 0);
            let base_before = former.get(&document.base).copied().filter(|_| had_weight);
            let new = || LaneEvidence { since: document.rev, base_before, ..LaneEvidence::default() };
            self.lanes.entry(lane.name.clone()).or_insert_with(new);
        }
        if !is_same {
            self.weights.clear();
            self.durations.clear();
        }
        self.weights.push_back((document.rev, weights));
        while self.weights.len() > REVISIONS {
            self.weights.pop_front();
        }
        self.document = Some(document.clone());
    }

    /// Adds what a process has told.
    pub(super) fn add(&mut self, digest: &LaneDigest) {
        let Some(base) = self.document.as_ref().map(|document| document.base.clone()) else { return };
        let is_base = digest.lane == base;
        for (lane, evidence) in &mut self.lanes {
            if !is_base && *lane != digest.lane {
                continue;
            }
            if !is_base && !evidence.is_current(&digest.release) {
                continue;
            }
            let since = evidence.since;
            for row in digest.rows.iter().filter(|row| row.revision >= since) {
                let weights = self.weights.iter().find(|(revision, _)| *revision == row.revision);
                let share =
                    weights.and_then(|(_, weights)| share(weights, lane, &base, evidence.base_before));
                if let Some(share) = share {
                    evidence.add(row, is_base, share);
                }
            }
        }
        if is_base {
            self.add_durations(&digest.durations);
        }
    }

    fn add_durations(&mut self, added: &BTreeMap<LaneWork, BTreeMap<u8, u32>>) {
        for (kind, classes) in added {
            let durations = self.durations.entry(*kind).or_default();
            for (class, count) in classes {
                let total = durations.entry(*class).or_default();
                *total = total.saturating_add(*count);
            }
            if durations.values().copied().fold(0, u32::saturating_add) > DURATIONS {
                durations.values_mut().for_each(|count| *count /= 2);
            }
        }
    }

    /// Returns the numbers. `margin` is by how much the failure rate of a lane may be above that of the base lane for a
    /// promotion.
    pub(super) fn report(&self, margin: f64) -> PoolReport {
        let Some(document) = &self.document else { return PoolReport::default() };
        let report =
            |(lane, evidence): (&String, &LaneEvidence)| evidence.report(&document.pool, lane, margin);
        PoolReport {
            pool: document.pool.clone(),
            revision: document.rev,
            slow_over_us: self.slow_over(),
            lanes: self.lanes.iter().map(report).collect(),
        }
    }

    fn slow_over(&self) -> BTreeMap<LaneWork, u64> {
        let p95 = |(kind, classes): (&LaneWork, &BTreeMap<u8, u32>)| {
            let all = classes.values().copied().fold(0, u32::saturating_add);
            let mut below = 0;
            let class = classes.iter().find(|(_, count)| {
                below += **count;
                f64::from(below) >= f64::from(all) * 0.95
            });
            let class = class.filter(|_| all >= LEAST_DURATIONS);
            class.map(|(class, _)| (*kind, longest_of_class(*class).max(LEAST_SLOW_US)))
        };
        self.durations.iter().filter_map(p95).collect()
    }
}

impl LaneEvidence {
    /// Returns whether a release is the newest one of the lane. A release that was not seen before begins a new count.
    fn is_current(&mut self, release: &str) -> bool {
        if self.releases.last().is_some_and(|last| last == release) {
            return true;
        }
        if self.releases.iter().any(|known| known == release) {
            return false;
        }
        let mut releases = std::mem::take(&mut self.releases);
        if !releases.is_empty() {
            *self = Self { since: self.since, base_before: self.base_before, ..Self::default() };
        }
        releases.push(release.to_owned());
        self.releases = releases;
        true
    }

    fn add(&mut self, row: &DigestRow, is_base: bool, share: f64) {
        let units = if is_base { &mut self.base } else { &mut self.own };
        units.all.extend(row.units.iter().take(UNITS.saturating_sub(units.all.len())));
        for (metric, faulty) in &row.faults {
            let evidence = self.tests.entry(*metric).or_default();
            for unit in faulty.iter().filter(|unit| units.all.contains(unit)) {
                if evidence.seen.insert(*unit) {
                    evidence.own += u32::from(!is_base);
                    evidence.test.observe(!is_base, share);
                }
                if metric.is_failure() {
                    units.failed.insert(*unit);
                }
            }
        }
    }

    fn report(&self, pool: &str, lane: &str, margin: f64) -> LaneReport {
        let (own, base) = (self.own.rate(), self.base.rate());
        let metric = |(metric, evidence): (&Metric, &MetricEvidence)| MetricReport {
            metric: *metric,
            units: evidence.own,
            base_units: count(&evidence.seen) - evidence.own,
            evidence: evidence.test.evidence(),
        };
        let of = |metric: &Metric| self.tests.get(metric).map_or(1.0, |evidence| evidence.test.evidence());
        LaneReport {
            lane: lane.to_owned(),
            release: self.releases.last().cloned().unwrap_or_default(),
            since: self.since,
            units: own.units,
            failed: own.failed,
            base_units: base.units,
            base_failed: base.failed,
            evidence: Metric::ALL.iter().map(|metric| metric.share(pool) * of(metric)).sum(),
            metrics: self.tests.iter().map(metric).collect(),
            needs: units_needed(own, base, margin),
        }
    }
}

impl LaneUnits {
    fn rate(&self) -> Rate {
        Rate { units: count(&self.all), failed: count(&self.failed) }
    }
}

fn count(units: &HashSet<u64>) -> u32 {
    u32::try_from(units.len()).unwrap_or(u32::MAX)
}

/// Returns the probability that a unit of a lane or the base lane is in the lane. The base lane counts with its weight, but
/// with no more than `base_before`.
fn share(weights: &BTreeMap<String, u16>, lane: &str, base: &str, base_before: Option<u16>) -> Option<f64> {
    let (own, rest) = (*weights.get(lane)?, *weights.get(base)?);
    let rest = base_before.map_or(rest, |before| before.min(rest));
    let (own, rest) = (f64::from(own), f64::from(rest));
    (own + rest > 0.0).then(|| own / (own + rest))
}
