//! The metrics of mounts.
//!
//! Owns: how many requests each mount has answered, and how fast. Never: paths, which clients choose.

use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    mount: Arc<str>,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MountLabels {
    mount: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LaneAnswerLabels {
    mount: String,
    lane: String,
    release: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LostLabels {
    mount: String,
    with: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedPathLabels {
    reason: &'static str,
}

/// The metrics of the mounts of a node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MountMetrics {
    requests: Family<AnswerLabels, Counter>,
    seconds: Family<MountLabels, Histogram, fn() -> Histogram>,
    lanes: Family<LaneAnswerLabels, Counter>,
    refused: Family<RefusedPathLabels, Counter>,
    hops: Family<MountLabels, Counter>,
    displaced: Family<MountLabels, Counter>,
    lost: Family<LostLabels, Counter>,
    pushes_dropped: Family<MountLabels, Counter>,
    quiet_polls: Family<MountLabels, Counter>,
}

impl Default for MountMetrics {
    fn default() -> Self {
        // 50 µs … 26 s
        let seconds: fn() -> Histogram = || Histogram::new(exponential_buckets(0.00005, 2.0, 20));
        Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            lanes: Family::default(),
            refused: Family::default(),
            hops: Family::default(),
            displaced: Family::default(),
            lost: Family::default(),
            pushes_dropped: Family::default(),
            quiet_polls: Family::default(),
        }
    }
}

/// The metrics of the requests of one mount, looked up once.
#[derive(Debug)]
pub(crate) struct MountAnswers {
    mount: Arc<str>,
    requests: Family<AnswerLabels, Counter>,
    seconds: Histogram,
}

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct MountMeasure<'a> {
    answers: &'a MountAnswers,
    began: Instant,
}

impl MountMetrics {
    pub(super) fn register(&self, all: &mut Registry) {
        all.register("mount_requests", "Requests of mounts, by status of the answer", self.requests.clone());
        all.register(
            "mount_seconds",
            "From a request of a mount to the head of its answer",
            self.seconds.clone(),
        );
        all.register(
            "mount_lane_requests",
            "Requests of mounts with lanes, by the lane and the release that answered, and by status of the answer",
            self.lanes.clone(),
        );
        all.register(
            "mount_refused",
            "Requests whose path no server may see, by reason",
            self.refused.clone(),
        );
        all.register(
            "mount_hops",
            "Requests that another node serves, which has their process",
            self.hops.clone(),
        );
        all.register(
            "mount_displaced",
            "Requests that another process serves, because that of their unit is not ready",
            self.displaced.clone(),
        );
        all.register(
            "mount_lost",
            "Processes of mounts that have ended by themselves or left with their node, so that their units moved",
            self.lost.clone(),
        );
        all.register(
            "mount_pushes_dropped",
            "Messages of a site that waited for a page and had no room",
            self.pushes_dropped.clone(),
        );
        all.register(
            "mount_quiet_polls",
            "Polls of a site that were answered without a process of it, because nothing had changed",
            self.quiet_polls.clone(),
        );
    }

    /// Counts a request of a mount with lanes that has its answer.
    pub(crate) fn lane_answered(&self, mount: &str, lane: &str, release: &str, status: StatusCode) {
        let (mount, lane, release) = (mount.to_owned(), lane.to_owned(), release.to_owned());
        let labels = LaneAnswerLabels { mount, lane, release, status: status.as_u16() };
        self.lanes.get_or_create(&labels).inc();
    }

    /// Counts a request that goes to another node.
    pub(crate) fn hopped(&self, mount: &str) {
        self.hops.get_or_create(&MountLabels { mount: mount.to_owned() }).inc();
    }

    /// Counts a request that does not go to the process of its unit.
    pub(crate) fn displaced(&self, mount: &str) {
        self.displaced.get_or_create(&MountLabels { mount: mount.to_owned() }).inc();
    }

    /// Counts processes that are lost, so that their units have moved; `with` is `process` or `node`.
    pub(crate) fn lost(&self, mount: &str, with: &'static str, processes: u64) {
        self.lost.get_or_create(&LostLabels { mount: mount.to_owned(), with }).inc_by(processes);
    }

    /// Counts messages of a site for pages that are lost, because too many wait.
    pub(crate) fn pushes_dropped(&self, mount: &str, messages: u64) {
        self.pushes_dropped.get_or_create(&MountLabels { mount: mount.to_owned() }).inc_by(messages);
    }

    /// Counts a poll of a site that is answered without a process of the site.
    pub(crate) fn quiet_poll(&self, mount: &str) {
        self.quiet_polls.get_or_create(&MountLabels { mount: mount.to_owned() }).inc();
    }

    /// Returns the metrics of the requests of a mount.
    pub(crate) fn answers(&self, mount: &str) -> MountAnswers {
        let seconds = self.seconds.get_or_create_owned(&MountLabels { mount: mount.to_owned() });
        MountAnswers { mount: mount.into(), requests: self.requests.clone(), seconds }
    }

    /// Counts a request whose path is refused.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&RefusedPathLabels { reason }).inc();
    }
}

impl MountAnswers {
    /// Begins to measure a request.
    pub(crate) fn begin(&self) -> MountMeasure<'_> {
        MountMeasure { answers: self, began: Instant::now() }
    }
}

impl MountMeasure<'_> {
    /// Counts the answer.
    pub(crate) fn end(self, status: StatusCode) {
        let MountAnswers { mount, requests, seconds } = self.answers;
        let labels = AnswerLabels { mount: mount.clone(), status: status.as_u16() };
        requests.get_or_create(&labels).inc();
        seconds.observe(self.began.elapsed().as_secs_f64());
    }
}
