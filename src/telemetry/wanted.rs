//! The metric of how many processes each lane should have, for a program that starts and ends workers.
//!
//! Owns: the work of each lane, from the rows of its workers and the jobs that wait. Never: the limits of a lane
//! (`pagewire_cluster::rollout`).

use std::collections::BTreeMap;
use std::fmt;

use pagewire_cluster::clock::ClusterClock;
use pagewire_cluster::job::{WaitingJobs, WaitingJobsList};
use pagewire_cluster::rollout::{LaneDemand, Rollouts};
use pagewire_cluster::worker::{Affinity, RowLoad, WorkerGroup, WorkerRow, WorkerType, Workers};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::watch;

/// Jobs that wait for less than this need no further process, in milliseconds.
const SHORT_WAIT: u64 = 1000;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WantedLabels {
    pool: String,
    lane: String,
}

impl WantedLabels {
    fn of(pool: &str, lane: &str) -> Self {
        Self { pool: pool.to_owned(), lane: lane.to_owned() }
    }
}

fn gauge(value: u64) -> ConstGauge {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

/// The processes of a lane, and their work by the kind of their workers, whose processes are apart.
#[derive(Debug, Default, PartialEq, Eq)]
struct LaneLoad {
    processes: u64,
    kinds: Vec<(WorkerType, LaneDemand)>,
}

impl LaneLoad {
    fn add_worker(&mut self, row: &WorkerRow) {
        let load = row.load.unwrap_or(RowLoad { processes: 1, process_slots: row.slots, work: 0 });
        self.processes += u64::from(load.processes);
        let (slots, work) = (u64::from(load.process_slots), u64::from(load.work));
        match self.kinds.iter_mut().find(|(kind, _)| *kind == row.kind) {
            Some((_, demand)) => {
                *demand = LaneDemand { slots: demand.slots.max(slots), work: demand.work + work };
            }
            None => self.kinds.push((row.kind, LaneDemand { slots, work })),
        }
    }

    /// Adds jobs that wait. More processes do not help jobs that wait for another job of their user.
    fn add_waiting(&mut self, jobs: &WaitingJobs) {
        let affinity = jobs.affinity();
        match self.kinds.iter_mut().find(|(kind, _)| kind.takes(affinity)) {
            Some(_) if affinity == Affinity::Assigned => {}
            Some((_, demand)) => demand.work += jobs.count,
            None => self.kinds.push((WorkerType::Both, LaneDemand { slots: 0, work: jobs.count })),
        }
    }

    fn demands(&self) -> impl Iterator<Item = LaneDemand> {
        self.kinds.iter().map(|(_, demand)| *demand)
    }
}

/// Returns the work of each lane that has workers that take work, or jobs that wait.
fn work_of<'a>(
    rows: impl Iterator<Item = &'a WorkerRow>,
    waiting: &[WaitingJobs],
    now: u64,
) -> BTreeMap<WorkerGroup, LaneLoad> {
    let mut lanes = BTreeMap::<_, LaneLoad>::new();
    for row in rows.filter(|row| !row.draining) {
        lanes.entry(WorkerGroup::new(row.pool.as_str(), row.lane.as_str())).or_default().add_worker(row);
    }
    for jobs in waiting.iter().filter(|jobs| now.saturating_sub(jobs.oldest_due) >= SHORT_WAIT) {
        lanes.entry(WorkerGroup::new(jobs.pool.as_str(), jobs.lane.as_str())).or_default().add_waiting(jobs);
    }
    lanes
}

/// A collector for the wanted processes. Every node has it; the jobs that wait are known to the one that leads.
pub(super) struct WantedCollector {
    pub(super) rollouts: Rollouts,
    pub(super) workers: Workers,
    pub(super) waiting: watch::Receiver<WaitingJobsList>,
    pub(super) clock: ClusterClock,
}

impl fmt::Debug for WantedCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WantedCollector")
    }
}

impl Collector for WantedCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let waiting = self.waiting.borrow().groups.clone();
        let mut lanes = {
            let roster = self.workers.roster();
            work_of(roster.list().into_iter().map(|(_, row)| row), &waiting, self.clock.now_ms())
        };
        for document in self.rollouts.documents() {
            for lane in document.limits.keys() {
                lanes.entry(WorkerGroup::new(document.pool.as_str(), lane.as_str())).or_default();
            }
        }
        let help = "Processes that a lane should have for its work, within its limits";
        let mut family = encoder.encode_descriptor("pool_wanted", help, None, MetricType::Gauge)?;
        for (WorkerGroup { pool, lane }, work) in &lanes {
            let wanted = self.rollouts.limits(pool, lane).wanted(work.demands());
            gauge(wanted).encode(family.encode_family(&WantedLabels::of(pool, lane))?)?;
        }
        let (name, help) = ("pool_processes", "Processes that a lane has");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (WorkerGroup { pool, lane }, work) in &lanes {
            gauge(work.processes).encode(family.encode_family(&WantedLabels::of(pool, lane))?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pagewire_cluster::rollout::LaneLimits;

    use super::*;

    fn row(kind: WorkerType, process_slots: u32, work: u32) -> WorkerRow {
        let load = Some(RowLoad { processes: 2, process_slots, work });
        WorkerRow { pool: "p".into(), lane: "l".into(), kind, load, slots: 64, ..WorkerRow::default() }
    }

    fn waiting(assigned: bool, count: u64) -> WaitingJobs {
        WaitingJobs { pool: "p".into(), lane: "l".into(), assigned, count, oldest_due: 0 }
    }

    fn wanted(rows: &[WorkerRow], jobs: &[WaitingJobs]) -> u64 {
        let lanes = work_of(rows.iter(), jobs, SHORT_WAIT);
        lanes.values().map(|work| LaneLimits::default().wanted(work.demands())).sum()
    }

    #[test]
    fn a_lane_should_have_slots_for_what_runs_and_for_the_jobs_that_a_process_would_take() {
        use WorkerType::{Assigned, Both, Free};
        assert_eq!(wanted(&[row(Both, 8, 16)], &[]), 2);
        assert_eq!(
            wanted(&[row(Both, 8, 9), row(Both, 8, 8)], &[waiting(false, 10)]),
            4,
            "27 pieces of work"
        );
        assert_eq!(wanted(&[row(Both, 8, 8)], &[waiting(true, 900)]), 1, "they wait for their users");
        assert_eq!(wanted(&[row(Free, 8, 1), row(Assigned, 8, 1)], &[]), 2, "processes of their own");
        assert_eq!(wanted(&[row(Free, 8, 8), row(Assigned, 8, 1)], &[waiting(false, 8)]), 3);
        assert_eq!(wanted(&[], &[waiting(true, 900)]), 1, "the first worker shows how much it takes");
        assert_eq!(wanted(&[row(Assigned, 8, 8)], &[waiting(false, 3)]), 2);
        let draining = WorkerRow { draining: true, ..row(Both, 8, 80) };
        assert_eq!(wanted(&[draining, WorkerRow { load: None, ..row(Both, 8, 80) }], &[]), 0);
        let two = [row(Both, 8, 1), row(Both, 8, 1)];
        assert!(work_of(two.iter(), &[], 0).values().map(|work| work.processes).eq([4]));
        assert!(
            work_of([].iter(), &[WaitingJobs { oldest_due: 1, ..waiting(false, 9) }], SHORT_WAIT).is_empty()
        );
    }
}
