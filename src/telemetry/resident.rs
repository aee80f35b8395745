//! The metrics of the objects of resident pages.

use std::sync::atomic::AtomicI64;

use pagewire_worker::observer::ObjectChange;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabels {
    class: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChangeLabels {
    class: String,
    change: &'static str,
}

/// Counts the objects of the workers of a process. The classes are those of its programs.
#[derive(Default)]
pub struct ResidentMetrics {
    living: Family<ClassLabels, Gauge<i64, AtomicI64>>,
    changes: Family<ChangeLabels, Counter>,
}

impl ResidentMetrics {
    /// Adds the metrics to a registry.
    pub(super) fn register(&self, all: &mut Registry) {
        let living = "Objects of resident pages that live in the executors of this process";
        all.register("resident_pages", living, self.living.clone());
        let changes = "What has become of objects of resident pages";
        all.register("resident_page_changes", changes, self.changes.clone());
    }

    /// Records what has become of an object.
    pub fn record(&self, class: &str, change: ObjectChange) {
        let labels = ChangeLabels { class: class.to_owned(), change: change.text() };
        self.changes.get_or_create(&labels).inc();
        let living = self.living.get_or_create(&ClassLabels { class: class.to_owned() });
        if change.is_arrival() {
            living.inc()
        } else {
            living.dec()
        };
    }
}
