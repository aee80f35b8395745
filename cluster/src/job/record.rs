//! The record of a job: the truth about it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::id::{Address, Key};
use crate::wire::{self, Ending, HandlerError, JobNotification, JobUpdate, Progress};
use crate::worker::{WorkerGroup, WorkerId};

/// The most bytes of a job's data, and of its result: both have to fit into one record.
pub const MAX_CONTENT: usize = 192 * 1024;
/// The most pages that wait for one job.
pub(super) const MAX_ASKERS: usize = 16;

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// It waits for its time: the one asked for, or the next try.
    Scheduled,
    /// It waits for a worker.
    Queued,
    /// A worker runs it.
    Running,
    /// It has a result.
    Succeeded,
    /// Its handler said no.
    Failed,
    /// Somebody wanted it no more.
    Cancelled,
    /// It was tried as often as it may be, or no worker took it in time.
    Dead,
}

impl JobState {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Scheduled,
        Self::Queued,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Dead,
    ];

    /// Whether it is over.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled | Self::Dead)
    }

    /// Its name.
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

/// Which worker of a team may run a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Affinity {
    /// Any.
    Free,
    /// The user's own, one job of the user after the other.
    Assigned,
}

/// A page that waits for a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Waiter {
    /// Its address when it asked.
    pub page: Address,
    /// Its own id of the request, as it wrote it.
    pub frame: Box<RawValue>,
}

impl Waiter {
    /// Whether both are the same request of the same page.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.page.key == other.page.key && self.frame.get() == other.frame.get()
    }
}

/// `job.<id>` in the bucket `jobs`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Its id.
    pub id: Key,
    /// The handler's name.
    pub kind: String,
    /// The handler's argument.
    pub data: Box<RawValue>,
    /// Where it stands.
    pub state: JobState,
    /// How often a worker has claimed it.
    pub attempts: u32,
    /// How often it may run again after a failure.
    pub retries: u32,
    /// How far it has come, as written last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What its handler returned.
    #[serde(default, deserialize_with = "wire::present", skip_serializing_if = "Option::is_none")]
    pub result: Option<Box<RawValue>>,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<HandlerError>,
    /// Who runs it, or ran it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    /// The release of that worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// Whether its worker has been asked to stop.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelling: bool,
    /// Who may run it.
    pub affinity: Affinity,
    /// Its pool.
    pub pool: String,
    /// Its lane.
    pub lane: String,
    /// For whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Which pages wait for it: one, and those that came with the same idempotency key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub askers: Vec<Waiter>,
    /// When it was submitted, in milliseconds since the Unix epoch, as all times here.
    pub created: u64,
    /// Not to run before.
    pub due: u64,
    /// When its last attempt began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<u64>,
}

impl Record {
    /// Who may run it.
    pub fn team(&self) -> WorkerGroup {
        WorkerGroup::new(self.pool.as_str(), self.lane.as_str())
    }

    /// Whose worker runs it, if only that one may. An assigned job without a user has the job itself as its user.
    pub fn owner(&self) -> Option<String> {
        match self.affinity {
            Affinity::Free => None,
            Affinity::Assigned => Some(self.user.clone().unwrap_or_else(|| format!("job {}", self.id))),
        }
    }

    /// The terminal word for a page that knows the job by `frame`, when it is over.
    pub fn ending(&self, page: Key, frame: &RawValue) -> Option<JobNotification> {
        if !self.state.is_terminal() {
            return None;
        }
        let (value, error) = (self.result.clone(), self.error.clone());
        let ending = Ending { state: self.state.text().to_owned(), value, error };
        Some(self.note(page, frame, JobUpdate::Ended(Box::new(ending))))
    }

    /// A word for a page that waits.
    pub fn note(&self, page: Key, frame: &RawValue, news: JobUpdate) -> JobNotification {
        JobNotification { page, frame: frame.to_owned(), job: self.id, news }
    }

    /// The value of its entry.
    pub fn encode(&self) -> Bytes {
        wire::encode(self)
    }

    /// `None` when the bytes are not a record of any known release.
    pub fn decode(value: &[u8]) -> Option<Self> {
        serde_json::from_slice(value).ok()
    }
}
