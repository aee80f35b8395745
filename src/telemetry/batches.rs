//! The metric of atomic batches, read from the counter of the engine itself.

use std::fmt;

use pagewire_cluster::engine::batches_sent;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

/// A collector for the atomic batches that this process has sent to NATS.
#[derive(Debug)]
pub(super) struct BatchCollector;

impl Collector for BatchCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Atomic batches sent to NATS";
        let counter = encoder.encode_descriptor("nats_batches", help, None, MetricType::Counter)?;
        ConstCounter::new(batches_sent()).encode(counter)
    }
}
