//! What the leader has found out about the lanes of a pool.
//!
//! Owns: the shape of a report, and its words for people. Never: how the numbers come about (`evidence`).

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::metric::{LaneWork, Metric};

/// The evidence at which a lane counts as worse: 1/α for α = 1 %.
pub const REGRESSION: f64 = 100.0;

/// The lanes of a pool beside its base lane.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PoolReport {
    /// The pool.
    pub pool: String,
    /// Revision of the rollout that the reporter has applied.
    pub revision: u64,
    /// The duration above which work is slow: the p95 of the base lane, in microseconds.
    #[serde(default)]
    pub slow_over_us: BTreeMap<LaneWork, u64>,
    /// The lanes that have a weight.
    pub lanes: Vec<LaneReport>,
}

/// A lane, compared with the base lane at the same time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LaneReport {
    /// The lane.
    pub lane: String,
    /// Its newest release that was seen.
    pub release: String,
    /// Revision of the rollout since which is counted.
    pub since: u64,
    /// Users and connections that had finished work, each counted once.
    pub units: u32,
    /// Those of them with a failure or crash.
    pub failed: u32,
    /// The same of the base lane.
    pub base_units: u32,
    /// Those of them with a failure or crash.
    pub base_failed: u32,
    /// How much more probable all faults are if the lane is worse. From [`REGRESSION`] on the lane counts as worse.
    pub evidence: f64,
    /// The metrics in which units of either lane had a fault. Those of a newer release are left out, so that this release can
    /// apply a document with such evidence.
    #[serde(deserialize_with = "known")]
    pub metrics: Vec<MetricReport>,
    /// How many more units without a failure a promotion needs; `None` if no number is enough, or while the base lane has
    /// no work to compare with.
    pub needs: Option<u32>,
}

/// One metric of a lane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricReport {
    /// The metric.
    pub metric: Metric,
    /// Units of the lane with the fault.
    pub units: u32,
    /// Units of the base lane with the fault.
    pub base_units: u32,
    /// The e-value of this metric.
    pub evidence: f64,
}

fn known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<MetricReport>, D::Error> {
    let all = Vec::<Value>::deserialize(deserializer)?;
    Ok(all.into_iter().filter_map(|metric| serde_json::from_value(metric).ok()).collect())
}

impl LaneReport {
    /// Returns whether the lane counts as worse than the base lane.
    pub fn is_worse(&self) -> bool {
        self.evidence >= REGRESSION
    }

    /// Returns whether the lane may be promoted by the evidence.
    pub fn is_good(&self) -> bool {
        !self.is_worse() && self.needs == Some(0)
    }

    /// Returns the metric that contributes most to the evidence.
    pub fn worst(&self) -> Option<&MetricReport> {
        self.metrics.iter().max_by(|a, b| a.evidence.total_cmp(&b.evidence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_of_a_newer_release_does_not_hide_the_rest_of_a_report() {
        let own = MetricReport { metric: Metric::Crashes, units: 1, base_units: 0, evidence: 2.0 };
        let report = LaneReport { lane: "canary".into(), metrics: vec![own], ..LaneReport::default() };
        let mut newer = serde_json::to_value(&report).unwrap();
        let unknown =
            serde_json::json!({"metric": "telepathy", "units": 1, "base_units": 1, "evidence": 1.0});
        newer["metrics"].as_array_mut().unwrap().push(unknown);
        assert_eq!(serde_json::from_value::<LaneReport>(newer).unwrap(), report);
    }
}
