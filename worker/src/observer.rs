//! What a worker reports of its work, for metrics and for the comparison of lanes.
//!
//! Owns: the shape of these reports. Never: what is made of them.

use std::time::Duration;

use pagewire_cluster::job::{Affinity, JobState, Record};
use pagewire_cluster::rollout::analysis::FinishedWork;
use pagewire_cluster::trace::TraceParent;
use tracing::Span;

/// What has become of the object of a resident page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectChange {
    /// It was made for the first time.
    Opened,
    /// It was made again from what it had kept.
    Restored,
    /// It was made again from its state trees.
    Rebuilt,
    /// It was put aside, because it was not used or there was no room.
    Evicted,
    /// It has left for another executor.
    Moved,
    /// Its executor has died.
    Lost,
    /// Its page has ended.
    Closed,
}

impl ObjectChange {
    /// Returns whether an object lives after it that did not live before.
    pub const fn is_arrival(self) -> bool {
        matches!(self, Self::Opened | Self::Restored | Self::Rebuilt)
    }

    /// Returns its name.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Restored => "restored",
            Self::Rebuilt => "rebuilt",
            Self::Evicted => "evicted",
            Self::Moved => "moved",
            Self::Lost => "lost",
            Self::Closed => "closed",
        }
    }
}

/// Receives what a worker has done, for its metrics. Every name of a handler is one that is registered, or `other`.
pub trait WorkObserver: Send + Sync + 'static {
    /// Creates the span of an attempt of a job, as a child of the span in which the job was submitted. Returns it with
    /// its trace context.
    fn attempt_span(&self, record: &Record) -> (Span, Option<TraceParent>) {
        (Span::none(), record.trace.clone())
    }

    /// Creates the span of a call, as a child of the span of its caller.
    fn call_span(&self, _method: &str, _caller: Option<&TraceParent>) -> Span {
        Span::none()
    }

    /// Returns the trace context of the current span.
    fn current_trace(&self) -> Option<TraceParent> {
        None
    }

    /// An attempt of a job has ended; `state` is the state of the job after it.
    fn attempt_ended(&self, kind: &str, affinity: Affinity, state: JobState, waited: Duration, ran: Duration);

    /// A call has been answered; `outcome` is `ok` or an error code of Pagewire.
    fn call_ended(&self, method: &str, affinity: Affinity, outcome: &'static str, ran: Duration);

    /// Something has become of the object of a resident page.
    fn object_changed(&self, _class: &str, _change: ObjectChange) {}

    /// A handler has ended with an outcome by which the lanes of its pool are compared.
    fn work_finished(&self, _work: FinishedWork<'_>) {}
}
