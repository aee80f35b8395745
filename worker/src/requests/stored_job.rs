//! `job.get` and `job.cancel`: a job by its id.
//!
//! Owns: what a handler sees of a job. Never: which jobs it may see; a handler is part of the server.

use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::id::Key;
use pagewire_cluster::job::{JobState, Record, TransitionError, TransitionFailure};
use pagewire_cluster::wire::{HandlerError, Progress};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::members::{AnyKey, Members};
use super::{engine_unavailable, reply};
use crate::effects::Effects;
use crate::handlers::HandlerResult;

/// `job.get`.
pub(super) struct ReadJob(Key);

/// `job.cancel`.
pub(super) struct CancelJob(Key);

#[derive(Serialize)]
struct JobView {
    id: Key,
    kind: String,
    state: &'static str,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<HandlerError>,
}

impl From<Record> for JobView {
    fn from(record: Record) -> Self {
        let Record { id, kind, attempts, progress, error, .. } = record;
        // a stored record does not distinguish the result `null` from no result
        let null = (record.state == JobState::Succeeded).then(|| RawValue::NULL.to_owned());
        let (state, result) = (record.state.text(), record.result.or(null));
        Self { id, kind, state, attempts, progress, result, error }
    }
}

impl ReadJob {
    pub(super) fn parse(members: &mut Members) -> Result<Self, HandlerError> {
        members.required("job").map(|AnyKey(job)| Self(job))
    }

    pub(super) async fn run(self, effects: &Effects) -> HandlerResult {
        let read = effects.jobs()?.records.get(self.0).await;
        let stored = read.map_err(engine_unavailable)?;
        reply(&JobView::from(stored.ok_or_else(|| unknown(self.0))?.record))
    }
}

impl CancelJob {
    pub(super) fn parse(members: &mut Members) -> Result<Self, HandlerError> {
        members.required("job").map(|AnyKey(job)| Self(job))
    }

    pub(super) async fn run(self, effects: &Effects) -> HandlerResult {
        match effects.jobs()?.cancel(self.0).await {
            Ok(record) => reply(&json!({ "state": record.state.text() })),
            Err(TransitionFailure::Gone) => Err(unknown(self.0)),
            Err(TransitionFailure::Refused(TransitionError::OutOfPlace, stored)) => {
                let state = stored.record.state.text();
                let message = format!("this job is {state}: only a job that has not ended can be cancelled");
                Err(HandlerError::new(ErrorCode::Conflict, message))
            }
            Err(TransitionFailure::Refused(..) | TransitionFailure::Unavailable) => {
                Err(unavailable("the job cannot be cancelled now; it may have happened"))
            }
        }
    }
}

fn unavailable(message: &str) -> HandlerError {
    HandlerError::new(ErrorCode::Unavailable, message)
}

fn unknown(job: Key) -> HandlerError {
    let message = format!("there is no job {job}, or it ended and is not kept any more");
    HandlerError::new(ErrorCode::Unknown, message)
}
