//! The JSON of a job.

use pagewire_cluster::job::{JobState, Record};
use pagewire_cluster::worker::ExecMode;
use serde::Serialize;
use serde_json::value::RawValue;

use super::waiting::Waiting;
use crate::api::pages::rfc3339;

/// The current state of a job.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::api) struct JobResponse {
    id: String,
    /// The handler's name.
    kind: String,
    /// `scheduled`, `queued`, `running`, or one of its ends: `succeeded`, `failed`, `cancelled`, `dead`.
    #[schema(example = "running")]
    state: &'static str,
    /// Why no worker runs the job, while it waits and if the server knows a reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<Waiting>,
    /// How many attempts have begun.
    attempts: u32,
    /// How often the job may be retried after a failure.
    retries: u32,
    /// The last stored progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<ProgressResponse>,
    /// The result of the handler, unchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    result: Option<Box<RawValue>>,
    /// Why the last attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<FailureResponse>,
    /// The worker of the current or last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<String>,
    /// The lane of the workers that may run the job.
    lane: String,
    /// The pool of the workers that may run the job.
    pool: String,
    /// The release of the worker of the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    release: Option<String>,
    /// The user that the job runs for.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// The page that submitted the job first.
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<String>,
    /// W3C `traceparent` of the request that submitted the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
    trace: Option<String>,
    /// `any` or `assigned`.
    exec_mode: &'static str,
    /// The worker has been requested to stop.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cancelling: bool,
    #[schema(format = DateTime)]
    created_at: String,
    /// Earliest start: the requested time, or the time of the next attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    run_at: Option<String>,
    /// When the last attempt began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    ended_at: Option<String>,
}

/// Progress of a job.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct ProgressResponse {
    /// 0 to 1.
    progress: f64,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// Why an attempt failed.
#[derive(Serialize, utoipa::ToSchema)]
struct FailureResponse {
    /// For programs.
    code: String,
    /// For people.
    message: String,
    /// Whether the same job can succeed later.
    retryable: bool,
}

impl JobResponse {
    /// The response for a record, with the reason why it waits.
    pub(super) fn new(record: Record, waiting: Option<Waiting>) -> Self {
        Self { waiting, ..Self::from(record) }
    }
}

impl From<Record> for JobResponse {
    fn from(record: Record) -> Self {
        let exec_mode = ExecMode::from(record.affinity).text();
        // a stored record does not distinguish the result `null` from no result
        let null = (record.state == JobState::Succeeded).then(|| RawValue::NULL.to_owned());
        let Record { created, due, started, ended, .. } = record;
        Self {
            id: record.id.to_string(),
            kind: record.kind,
            state: record.state.text(),
            waiting: None,
            attempts: record.attempts,
            retries: record.retries,
            progress: record.progress.map(ProgressResponse::from),
            result: record.result.or(null),
            error: record.error.map(|error| FailureResponse {
                code: error.code,
                message: error.message,
                retryable: error.retryable,
            }),
            worker: record.worker.map(|worker| worker.id.to_string()),
            lane: record.lane,
            pool: record.pool,
            release: record.release,
            user: record.user,
            page: record.askers.first().map(|asker| asker.page.to_string()),
            trace: record.trace.map(|trace| trace.as_str().to_owned()),
            exec_mode,
            cancelling: record.cancelling,
            created_at: rfc3339(created),
            run_at: (due > created).then(|| rfc3339(due)),
            started_at: started.map(rfc3339),
            ended_at: ended.map(rfc3339),
        }
    }
}

impl From<pagewire_cluster::wire::Progress> for ProgressResponse {
    fn from(wire: pagewire_cluster::wire::Progress) -> Self {
        Self { progress: wire.progress, message: wire.message }
    }
}
