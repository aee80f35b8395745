//! Metrics of a node's rollouts, read from the counters of the rollouts themselves.

use std::fmt;

use pagewire_cluster::rollout::Rollouts;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LaneLabels {
    pool: String,
    lane: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabels {
    pool: String,
}

/// A collector for the rollout metrics. Every label comes from a document that an operator wrote.
pub(super) struct RolloutCollector(pub(super) Rollouts);

impl fmt::Debug for RolloutCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RolloutNumbers")
    }
}

impl Collector for RolloutCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Calls and jobs sent to a lane, and why";
        let mut family = encoder.encode_descriptor("lane_assignments", help, None, MetricType::Counter)?;
        for (pool, lane, reason, count) in self.0.assignments() {
            let labels = LaneLabels { pool, lane, reason: reason.text() };
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        let help = "Revision of a pool's rollout that this node has applied";
        let mut family = encoder.encode_descriptor("rollout_revision", help, None, MetricType::Gauge)?;
        for document in self.0.documents() {
            let labels = PoolLabels { pool: document.pool };
            let revision = i64::try_from(document.rev).unwrap_or(i64::MAX);
            ConstGauge::new(revision).encode(family.encode_family(&labels)?)?;
        }
        let help = "Aborted lanes of rollouts whose abort is not written yet";
        let mut family = encoder.encode_descriptor("rollout_latches", help, None, MetricType::Gauge)?;
        let latches = i64::try_from(self.0.latches().len()).unwrap_or(i64::MAX);
        ConstGauge::new(latches).encode(family)?;
        let help = "Aborts of rollouts without a signature of the cluster";
        family = encoder.encode_descriptor("rollout_latches_refused", help, None, MetricType::Counter)?;
        ConstCounter::new(self.0.latches_refused()).encode(family)?;
        Ok(())
    }
}
