//! How a job reads.

use pagewire_cluster::job::{Affinity, JobState, Record};
use pagewire_cluster::worker::{WorkerDirectory, WorkerGroup};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::pages::rfc3339;

/// A job as it stands.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::api) struct JobResponse {
    id: String,
    /// The handler's name.
    kind: String,
    /// `scheduled`, `queued`, `running`, or one of its ends: `succeeded`, `failed`, `cancelled`, `dead`.
    #[schema(example = "running")]
    state: &'static str,
    /// Why it is queued and not running, where the servers can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<Waiting>,
    /// How often a worker has begun it.
    attempts: u32,
    /// How often it may be tried again after a failure.
    retries: u32,
    /// How far it has come, as written last.
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<ProgressResponse>,
    /// What its handler returned, as it wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    result: Option<Box<RawValue>>,
    /// Why its last attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<FailureResponse>,
    /// Who runs it, or ran it last.
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<String>,
    /// Whose workers it is for.
    lane: String,
    /// Whose workers it is for.
    pool: String,
    /// The release of the worker that ran it last.
    #[serde(skip_serializing_if = "Option::is_none")]
    release: Option<String>,
    /// On whose behalf.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// The page that asked for it first.
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<String>,
    /// `any` or `assigned`.
    exec_mode: &'static str,
    /// Its worker has been asked to stop.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cancelling: bool,
    #[schema(format = DateTime)]
    created_at: String,
    /// Not before: the time that was asked for, or that of the next try.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    run_at: Option<String>,
    /// When its last attempt began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    ended_at: Option<String>,
}

/// What a job waits for.
#[derive(Serialize, utoipa::ToSchema)]
struct Waiting {
    /// For programs: `no_worker`.
    #[schema(example = "no_worker")]
    code: &'static str,
    /// For people.
    message: String,
}

/// How far a job has come.
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
    /// Whether the same work can succeed later.
    retryable: bool,
}

/// Whether a job waits for a worker and there is none to do it.
pub(super) fn is_stranded(record: &Record, roster: &WorkerDirectory) -> bool {
    record.state == JobState::Queued
        && !roster.serves(&WorkerGroup::new(record.pool.as_str(), record.lane.as_str()))
}

impl JobResponse {
    /// A record as it stands, and what it waits for as far as the living workers tell.
    pub(super) fn new(record: Record, roster: &WorkerDirectory) -> Self {
        let waiting = is_stranded(&record, roster).then(|| Waiting {
            code: "no_worker",
            message: format!("no worker serves pool {}, lane {}", record.pool, record.lane),
        });
        Self { waiting, ..Self::from(record) }
    }
}

impl From<Record> for JobResponse {
    fn from(record: Record) -> Self {
        let exec_mode = match record.affinity {
            Affinity::Free => "any",
            Affinity::Assigned => "assigned",
        };
        // a record that was read back does not tell `null` from nothing
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
