//! How long the record of an ended job is kept.

use std::time::Duration;

use super::record::{JobState, Record};
use crate::timing::Timing;

/// How long the records of ended jobs are kept; whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Jobs that have succeeded.
    pub succeeded: Duration,
    /// Jobs that have failed, were cancelled or are dead.
    pub failed: Duration,
}

impl Default for Retention {
    /// An hour for a result, which is read soon or not at all; a week for a failure, which is looked into and retried by
    /// people who may be away over a weekend.
    fn default() -> Self {
        Self { succeeded: Duration::from_secs(3600), failed: Duration::from_secs(7 * 24 * 3600) }
    }
}

impl Retention {
    /// Returns how long a record is kept from now; `None` for as long as the job has not ended.
    pub(super) fn of(&self, record: &Record, timing: &Timing) -> Option<Duration> {
        let by_state = match record.state {
            JobState::Scheduled | JobState::Queued | JobState::Running => return None,
            JobState::Succeeded => self.succeeded,
            JobState::Failed | JobState::Cancelled | JobState::Dead => self.failed,
        };
        // a page that reconnects reads its end from the record
        let for_page = if record.askers.is_empty() { Duration::ZERO } else { timing.told_job };
        // longer than the row of the key, which was written before: a key without a record is a job that was not created
        let for_key = if record.keyed { timing.job_index } else { Duration::ZERO };
        Some(by_state.max(for_page).max(for_key))
    }
}
