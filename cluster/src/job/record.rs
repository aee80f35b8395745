//! The record of a job: its authoritative state.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::id::{Address, Key, WorkOwner};
use crate::rollout::RoutingKey;
use crate::trace::TraceParent;
use crate::wire::{self, Ending, HandlerError, JobNotification, JobUpdate, Progress};
use crate::worker::{Affinity, WorkerGroup, WorkerId};

/// Maximum size of a job's data, and of its result, in bytes: both have to fit into one record.
pub const MAX_CONTENT: usize = 192 * 1024;
/// Maximum number of pages that wait for one job.
pub(super) const MAX_ASKERS: usize = 16;

/// The state of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Waits for its time: the requested time, or the next try.
    Scheduled,
    /// Waits for a worker.
    Queued,
    /// A worker runs it.
    Running,
    /// Ended with a result.
    Succeeded,
    /// The handler returned an error that is not retried.
    Failed,
    /// Cancelled on request.
    Cancelled,
    /// All retries are used up, its workers were lost too often, or no worker took it in time.
    Dead,
}

impl JobState {
    /// All states.
    pub const ALL: [Self; 7] = [
        Self::Scheduled,
        Self::Queued,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Dead,
    ];

    /// Returns whether the job has ended.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled | Self::Dead)
    }

    /// Returns whether the job waits for a worker or for its time.
    pub const fn is_waiting(self) -> bool {
        matches!(self, Self::Scheduled | Self::Queued)
    }

    /// Returns the name of the state.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Dead => "dead",
        }
    }
}

/// A page that waits for a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Waiter {
    /// Address of the page when it sent the request.
    pub page: Address,
    /// Request id of the page, byte for byte as it sent it.
    pub frame: Box<RawValue>,
    /// Session of the page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Key>,
    /// Connection of the page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Key>,
}

impl Waiter {
    /// Returns whether both are the same request of the same page.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.page.key == other.page.key && self.frame.get() == other.frame.get()
    }
}

/// The record of a job, stored as `job.<id>` in the bucket `jobs`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Id of the job.
    pub id: Key,
    /// Name of the handler.
    pub kind: String,
    /// Argument of the handler.
    pub data: Box<RawValue>,
    /// Current state.
    pub state: JobState,
    /// How often a worker has claimed the job.
    pub attempts: u32,
    /// How many of these attempts ended because the executor or its worker died.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub losses: u32,
    /// How often the job may run again after a failure.
    pub retries: u32,
    /// How often an operator has run the job again; `attempts` and `losses` count from the last time.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retried: u32,
    /// Progress as persisted last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Return value of the handler.
    #[serde(default, deserialize_with = "wire::present", skip_serializing_if = "Option::is_none")]
    pub result: Option<Box<RawValue>>,
    /// Error of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<HandlerError>,
    /// Worker that runs the job, or ran it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    /// Release of that worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// Whether cancellation was requested from the worker.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelling: bool,
    /// Whether an idempotency key refers to the job.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keyed: bool,
    /// Which worker may run the job.
    pub affinity: Affinity,
    /// Pool of the worker group.
    pub pool: String,
    /// Lane of the worker group that may run a free job; for an assigned job, the lane of its last attempt, or the one
    /// that its user was in when the job was submitted.
    pub lane: String,
    /// Revision of the pool's rollout that decided the lane; 0 without one.
    #[serde(default)]
    pub lane_rev: u64,
    /// Selects the lane of a job without a user: the connection of its submitter, or a random key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routing: Option<Key>,
    /// User for whom the job runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Pages that wait for the job: the one that submitted it, and those that used the same idempotency key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub askers: Vec<Waiter>,
    /// Trace context in which the job was submitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceParent>,
    /// When the job was submitted, in milliseconds since the Unix epoch, as all times here.
    pub created: u64,
    /// Earliest time to run.
    pub due: u64,
    /// When the last attempt began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
    /// When the job ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<u64>,
}

// serde passes a reference
pub(super) fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Record {
    /// Returns how often the handler has failed, when the current attempt is one of the failures.
    pub fn failures(&self) -> u32 {
        self.attempts.saturating_sub(self.losses)
    }

    /// Returns the worker group that may run the job.
    pub fn team(&self) -> WorkerGroup {
        WorkerGroup::new(self.pool.as_str(), self.lane.as_str())
    }

    /// Returns the owner key of an assigned job, or `None` for a free job: of its user, or of the connection of its
    /// submitter. Only the worker that is assigned to this owner runs the job. An assigned job without both has its own id
    /// as the owner.
    pub fn owner(&self) -> Option<String> {
        match self.affinity {
            Affinity::Free => None,
            Affinity::Assigned => {
                let owner = WorkOwner::of(self.user.as_deref(), self.routing);
                Some(owner.map_or_else(|| format!("job {}", self.id), |owner| owner.key().into_owned()))
            }
        }
    }

    /// Returns what selects the lane of the job. A job without a user and without a key of its own follows its id.
    pub fn routing_key(&self) -> RoutingKey<'_> {
        RoutingKey::of(self.user.as_deref(), Some(self.routing.unwrap_or(self.id)))
    }

    /// Returns the final notification for a page that knows the job by `frame`, when the job has ended.
    pub fn ending(&self, page: Key, frame: &RawValue) -> Option<JobNotification> {
        if !self.state.is_terminal() {
            return None;
        }
        let (value, error) = (self.result.clone(), self.error.clone());
        let ending = Ending { state: self.state.text().to_owned(), value, error };
        Some(self.note(page, frame, JobUpdate::Ended(Box::new(ending))))
    }

    /// Builds a notification for a page that waits.
    pub fn note(&self, page: Key, frame: &RawValue, news: JobUpdate) -> JobNotification {
        JobNotification { page, frame: frame.to_owned(), job: self.id, news }
    }

    /// Returns the value of its entry, encoded as JSON.
    pub fn encode(&self) -> Bytes {
        wire::encode(self)
    }

    /// Parses a record. Returns `None` when the bytes are not a record of a known release.
    pub fn decode(value: &[u8]) -> Option<Self> {
        serde_json::from_slice(value).ok()
    }
}
