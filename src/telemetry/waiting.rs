//! Metrics of the jobs that wait, which the leader of the cluster counts.

use pagewire_cluster::clock::ClusterClock;
use pagewire_cluster::job::{WaitingJobs, WaitingJobsList};
use pagewire_cluster::worker::ExecMode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::watch;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GroupLabels {
    pool: String,
    lane: String,
    mode: &'static str,
}

impl GroupLabels {
    fn of(group: &WaitingJobs) -> Self {
        let mode = ExecMode::from(group.affinity()).text();
        Self { pool: group.pool.clone(), lane: group.lane.clone(), mode }
    }
}

fn gauge(value: u64) -> ConstGauge {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

/// A collector for the jobs that wait. Every node has it; only the one that leads has any jobs in it.
#[derive(Debug)]
pub(super) struct WaitingJobsCollector {
    pub(super) waiting: watch::Receiver<WaitingJobsList>,
    pub(super) clock: ClusterClock,
}

impl Collector for WaitingJobsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let groups = self.waiting.borrow().groups.clone();
        let now = self.clock.now_ms();
        let help = "Jobs that wait for a worker although their time has come";
        let mut family = encoder.encode_descriptor("jobs_waiting", help, None, MetricType::Gauge)?;
        for group in &groups {
            gauge(group.count).encode(family.encode_family(&GroupLabels::of(group))?)?;
        }
        let (name, help) = ("jobs_oldest_waiting_seconds", "For how long the oldest one has waited");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for group in &groups {
            let age = now.saturating_sub(group.oldest_due) / 1000;
            gauge(age).encode(family.encode_family(&GroupLabels::of(group))?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::telemetry::Metrics;

    use super::*;

    #[test]
    fn a_leader_shows_what_waits_and_another_node_shows_nothing() {
        let (sender, receiver) = watch::channel(WaitingJobsList::default());
        let mut metrics = Metrics::new("stable", "r1");
        let clock = ClusterClock::of_this_process();
        metrics.register_waiting_jobs(receiver, clock.clone());
        assert!(!metrics.encode().unwrap().contains("jobs_waiting{"));
        let group = WaitingJobs {
            pool: "p".into(),
            lane: "canary".into(),
            assigned: true,
            count: 3,
            oldest_due: clock.now_ms().saturating_sub(60_000),
        };
        sender.send_replace(WaitingJobsList { groups: vec![group], ..WaitingJobsList::default() });
        let page = metrics.encode().unwrap();
        let labels = r#"{pool="p",lane="canary",mode="assigned"}"#;
        assert!(page.contains(&format!("pagewire_jobs_waiting{labels} 3")), "{page}");
        assert!(page.contains(&format!("pagewire_jobs_oldest_waiting_seconds{labels} 6")), "{page}");
    }
}
