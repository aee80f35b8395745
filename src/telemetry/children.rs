//! Metrics of the child processes of this process.

use std::collections::BTreeMap;
use std::fmt;

use pagewire_worker::runtime::child::status::ChildPoolStatus;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Returns what the children of each pool do now.
pub(super) type ChildSource = Box<dyn Fn() -> Vec<(String, ChildPoolStatus)> + Send + Sync>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChildPoolLabels {
    child_pool: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct ChildLabels {
    child_pool: String,
    kind: &'static str,
    state: &'static str,
}

fn gauge(value: usize) -> ConstGauge {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

/// A collector for the child processes.
pub(super) struct ChildCollector(pub(super) ChildSource);

impl fmt::Debug for ChildCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildCollector").finish_non_exhaustive()
    }
}

impl Collector for ChildCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let pools = (self.0)();
        let mut counts = BTreeMap::<ChildLabels, (usize, usize)>::new();
        for (pool, status) in &pools {
            for child in &status.children {
                let labels = ChildLabels { child_pool: pool.clone(), kind: child.kind, state: child.state };
                let (children, running) = counts.entry(labels).or_default();
                *children += 1;
                *running += child.running as usize;
            }
        }
        let (name, help) = ("children", "Child processes that run handlers");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, (children, _)) in &counts {
            gauge(*children).encode(family.encode_family(labels)?)?;
        }
        let (name, help) = ("children_running", "Pieces of work that child processes run");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, (_, running)) in &counts {
            gauge(*running).encode(family.encode_family(labels)?)?;
        }
        let (name, help) = ("children_queued", "Pieces of work that wait for a child process");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (pool, status) in &pools {
            let labels = ChildPoolLabels { child_pool: pool.clone() };
            gauge(status.queued).encode(family.encode_family(&labels)?)?;
        }
        let (name, help) = ("children_restarts", "Child processes that have ended by themselves");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (pool, status) in &pools {
            let labels = ChildPoolLabels { child_pool: pool.clone() };
            ConstCounter::new(status.restarts).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
