//! `/jobs`: durable jobs, for programs.
//!
//! Owns: submitting, reading, cancelling and retrying a job; [`list`] and [`events`] have files of their own. Never:
//! the states of a job (`pagewire_cluster::job`) or the choice of its workers (`calls`).

mod dto;
pub(super) mod events;
pub(super) mod list;
mod waiting;

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use pagewire_cluster::id::{Address, Key, check_user};
use pagewire_cluster::job::{Idempotency, Record, TransitionError, TransitionFailure};
use serde::Deserialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;

use self::dto::JobResponse;
pub(super) use self::waiting::{Waiting, group_waits_for, jobs_at_leader};
use self::waiting::{find_reason, waits_for};
use super::ApiState;
use super::calls::{RequestIdentity, identity};
use super::error::{ApiError, ErrorBody};
use super::extract::{Body, Query};
use super::id::KeyId;
use crate::calls::{self, RetryError};
use crate::protocol::ErrorCode;

/// Maximum time that a request waits for the end of its job, in milliseconds.
const LONGEST_WAIT_MS: u64 = 30_000;
/// Scope of idempotency keys. All programs share it; the keys of pages are separate.
const SCOPE: &str = "api";

/// A job to submit.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct JobRequestBody {
    /// The handler's name.
    #[schema(example = "sum")]
    kind: String,
    /// The handler's argument, any JSON; `null` if absent.
    #[schema(value_type = Option<serde_json::Value>)]
    data: Option<Box<RawValue>>,
    /// The user that the job runs for.
    user: Option<String>,
    /// The page that receives progress and the result. The job runs on behalf of its user, or its browser, unless
    /// `user` is given.
    #[schema(value_type = Option<String>)]
    page: Option<Address>,
    /// `any` or `assigned` (the user's assigned worker); chosen by policy if absent.
    exec_mode: Option<String>,
    /// The pool of workers; the default pool if absent.
    pool: Option<String>,
    /// Earliest start.
    #[serde(default, with = "time::serde::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    run_at: Option<OffsetDateTime>,
    /// How often the job is retried after a failure; 0 if absent.
    retries: Option<u32>,
    /// A second request with the same key within a day returns the same job.
    idempotency_key: Option<String>,
    /// Waits at most this many milliseconds for the end of the job, up to 30000, and returns its state then.
    wait_ms: Option<u64>,
}

/// Submits a job.
///
/// The status is 201 for a new job, and 200 when the idempotency key already belongs to a job. The returned job is
/// durable, whether or not there are workers.
#[utoipa::path(post, path = "/api/v1/jobs", tag = "jobs", request_body = JobRequestBody,
    responses((status = 201, body = JobResponse, headers(("location" = String))), (status = 200, body = JobResponse),
        (status = "default", body = ErrorBody)))]
pub(super) async fn submit(
    State(parts): State<ApiState>,
    Body(request): Body<JobRequestBody>,
) -> Result<Response, ApiError> {
    if request.wait_ms.is_some_and(|ms| ms > LONGEST_WAIT_MS) {
        return Err(ApiError::malformed("wait_ms is at most 30000"));
    }
    let wait = request.wait_ms.map(Duration::from_millis);
    request.user.as_deref().map(check_user).transpose()?;
    let RequestIdentity { user, session, connection } = identity(&parts, request.user, request.page);
    let scope = SCOPE.to_owned();
    let job = calls::JobRequest {
        exec_mode: calls::exec_mode(request.exec_mode.as_deref())?,
        kind: request.kind,
        data: request.data.unwrap_or_else(|| RawValue::NULL.to_owned()),
        pool: request.pool,
        user,
        connection,
        page: request.page,
        session,
        frame: None,
        run_at: request.run_at,
        run_in: None,
        retries: request.retries,
        idempotency: request.idempotency_key.map(|key| Idempotency { scope, key }),
        rules: None,
    };
    let submitted = parts.context.executors.submit(job, |_| {}).await?;
    let record = match wait {
        Some(wait) => end(&parts, submitted.record, wait).await,
        None => submitted.record,
    };
    let status = if submitted.fresh { StatusCode::CREATED } else { StatusCode::OK };
    let waiting = waits_for(&parts.context, &record);
    let location = [(header::LOCATION, format!("/api/v1/jobs/{}", record.id))];
    Ok((status, location, Json(JobResponse::new(record, waiting))).into_response())
}

/// Waits for the end of a job. Returns its record then, or the current one when the time is over. When the node shuts
/// down or waiting fails, returns the record as submitted; the job continues in either case.
async fn end(parts: &ApiState, submitted: Record, within: Duration) -> Record {
    tokio::select! {
        waited = parts.context.jobs.notifier.wait(submitted.id, within) => {
            waited.ok().flatten().unwrap_or(submitted)
        }
        () = parts.ready.lost() => submitted,
    }
}

/// Returns a job. A job is kept for some time after its end: `jobs.keep_succeeded_s` or `jobs.keep_failed_s`.
#[utoipa::path(get, path = "/api/v1/jobs/{id}", tag = "jobs", params(("id" = String, Path)),
    responses((status = 200, body = JobResponse), (status = "default", body = ErrorBody)))]
pub(super) async fn job(
    State(parts): State<ApiState>,
    KeyId(id): KeyId,
) -> Result<Json<JobResponse>, ApiError> {
    let stored = parts.context.jobs.records.get(id).await?.ok_or_else(|| unknown(id))?;
    let waiting = find_reason(&parts.context, &stored.record).await;
    Ok(Json(JobResponse::new(stored.record, waiting)))
}

/// Cancels a job.
///
/// The worker of a running job is requested to stop; the job is `cancelling` until it has stopped.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/cancel", tag = "jobs", params(("id" = String, Path)),
    responses((status = 200, body = JobResponse), (status = "default", body = ErrorBody)))]
pub(super) async fn cancel(
    State(parts): State<ApiState>,
    KeyId(id): KeyId,
) -> Result<Json<JobResponse>, ApiError> {
    let rule = "only a job that has not ended can be cancelled";
    let record = parts.context.jobs.cancel(id).await.map_err(|failure| not_changed(id, rule, failure))?;
    Ok(Json(record.into()))
}

/// Query of a retry.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct RetryQuery {
    /// The lane that runs the job, until the rollout changes; decided anew by the rollout if absent. Refused for an
    /// assigned job.
    lane: Option<String>,
}

/// Runs a failed, cancelled or dead job again, with all its retries.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/retry", tag = "jobs", params(("id" = String, Path), RetryQuery),
    responses((status = 200, body = JobResponse), (status = "default", body = ErrorBody)))]
pub(super) async fn retry(
    State(parts): State<ApiState>,
    KeyId(id): KeyId,
    Query(query): Query<RetryQuery>,
) -> Result<Json<JobResponse>, ApiError> {
    let rule = "only a job that failed, was cancelled or is dead runs again";
    let retried = parts.context.executors.retry(id, query.lane).await;
    let record = retried.map_err(|error| match error {
        RetryError::Lane(refused) => refused.into(),
        RetryError::Record(failure) => not_changed(id, rule, failure),
    })?;
    let waiting = waits_for(&parts.context, &record);
    Ok(Json(JobResponse::new(record, waiting)))
}

fn not_changed(id: Key, rule: &str, failure: TransitionFailure) -> ApiError {
    match failure {
        TransitionFailure::Gone => unknown(id),
        TransitionFailure::Refused(TransitionError::OutOfPlace, stored) => {
            let message = format!("this job is {}: {rule}", stored.record.state.text());
            ApiError::new(ErrorCode::Conflict, message)
        }
        TransitionFailure::Refused(..) | TransitionFailure::Unavailable => {
            ApiError::new(ErrorCode::Unavailable, "the job cannot be changed now; it may have happened")
        }
    }
}

fn unknown(id: Key) -> ApiError {
    ApiError::new(ErrorCode::Unknown, format!("there is no job {id}, or it ended and is not kept any more"))
}
