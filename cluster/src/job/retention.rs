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

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::id::{Address, Key, NodeNumber};
    use crate::job::record::Waiter;

    const TIMING: Timing = Timing::TEST;

    #[test]
    fn the_longest_reason_decides_how_long_a_job_is_kept() {
        let kept = Retention { succeeded: Duration::from_secs(1), failed: Duration::from_secs(700) };
        let record = Record::decode(
            format!(
                r#"{{"id":"{}","kind":"k","data":1,"state":"succeeded","attempts":1,"retries":0,"affinity":"free","pool":"p",
                "lane":"l","created":1,"due":1}}"#,
                Key::from_bits(1)
            )
            .as_bytes(),
        )
        .unwrap();
        let page = Address { key: Key::from_bits(1), node: NodeNumber::new(1).unwrap() };
        let asker = Waiter { page, frame: RawValue::NULL.to_owned(), session: None, connection: None };
        let keyed = Record { keyed: true, ..record.clone() };
        let asked = Record { askers: vec![asker.clone()], ..record.clone() };
        let failed = Record { state: JobState::Failed, askers: vec![asker], ..record.clone() };
        let running = Record { state: JobState::Running, ..keyed.clone() };
        let of = |record: &Record| kept.of(record, &TIMING);
        assert_eq!(of(&record), Some(kept.succeeded));
        assert_eq!([of(&keyed), of(&asked)], [Some(TIMING.job_index), Some(TIMING.told_job)]);
        assert_eq!([of(&failed), of(&running)], [Some(kept.failed), None]);
    }
}
