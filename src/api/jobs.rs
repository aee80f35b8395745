//! `/jobs`: durable work, for programs.
//!
//! Owns: submitting a job, reading it, cancelling it and running it again; [`list`] and [`events`] have files of their
//! own. Never: what may happen to a job (`pagewire_cluster::job`) or whose workers it is for (`executor`).

mod dto;
pub(super) mod events;
pub(super) mod list;

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use pagewire_cluster::id::{Address, Key};
use pagewire_cluster::job::{Idempotency, Record, TransitionError, TransitionFailure};
use serde::Deserialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;

use self::dto::JobResponse;
use super::ApiState;
use super::calls::identity;
use super::error::{ApiError, ErrorBody};
use super::extract::Body;
use super::id::{KeyId, checked_user};
use crate::calls::{self, Mode};
use crate::protocol::ErrorCode;

/// The longest that a request waits for the end of its job, in milliseconds.
const LONGEST_WAIT_MS: u64 = 30_000;
/// All programs that may submit share their idempotency keys; pages have theirs beside them.
const SCOPE: &str = "api";

/// Work to do.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct JobRequestBody {
    /// The handler's name.
    #[schema(example = "sum")]
    kind: String,
    /// The handler's argument, any JSON; `null` if absent.
    #[schema(value_type = Option<serde_json::Value>)]
    data: Option<Box<RawValue>>,
    /// On whose behalf.
    user: Option<String>,
    /// The page that is told how it goes. Its user, or its browser, is the one on whose behalf unless `user` says
    /// otherwise.
    #[schema(value_type = Option<String>)]
    page: Option<Address>,
    /// `any` or `assigned`, the user's own worker; by policy if absent.
    exec_mode: Option<String>,
    /// Whose workers; the default pool if absent.
    pool: Option<String>,
    /// Not before.
    #[serde(default, with = "time::serde::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    run_at: Option<OffsetDateTime>,
    /// How often it is tried again after a failure; 0 if absent.
    retries: Option<u32>,
    /// The same key again within a day is the same job.
    idempotency_key: Option<String>,
    /// Waits so long for its end, up to 30000, and answers the job as it stands then.
    wait_ms: Option<u64>,
}

/// Submits a job: 201 when the answer's job is a new one, 200 when the idempotency key stands for it already. The job
/// is durable then, whether or not there are workers.
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
    let user = request.user.map(checked_user).transpose()?;
    let (user, connection) = identity(&parts, user, request.page);
    let scope = SCOPE.to_owned();
    let job = calls::JobRequest {
        mode: Mode::parse(request.exec_mode.as_deref())?,
        kind: request.kind,
        data: request.data.unwrap_or_else(|| RawValue::NULL.to_owned()),
        pool: request.pool,
        user,
        connection,
        page: request.page,
        frame: None,
        run_at: request.run_at,
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
    let location = [(header::LOCATION, format!("/api/v1/jobs/{}", record.id))];
    Ok((status, location, Json(JobResponse::new(record, &parts.context.workers.roster()))).into_response())
}

/// The record at the end of a job, or as it stands when the time is over or this node leaves. Whatever goes wrong
/// while waiting, the job stands.
async fn end(parts: &ApiState, submitted: Record, within: Duration) -> Record {
    tokio::select! {
        waited = parts.context.jobs.wait(submitted.id, within) => {
            waited.ok().flatten().unwrap_or(submitted)
        }
        () = parts.ready.lost() => submitted,
    }
}

/// One job. It is kept for a day after its end.
#[utoipa::path(get, path = "/api/v1/jobs/{id}", tag = "jobs", params(("id" = String, Path)),
    responses((status = 200, body = JobResponse), (status = "default", body = ErrorBody)))]
pub(super) async fn job(
    State(parts): State<ApiState>,
    KeyId(id): KeyId,
) -> Result<Json<JobResponse>, ApiError> {
    let stored = parts.context.jobs.get(id).await?.ok_or_else(|| unknown(id))?;
    Ok(Json(JobResponse::new(stored.record, &parts.context.workers.roster())))
}

/// Cancels a job. One that runs is asked to stop: `cancelling` until its worker has.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/cancel", tag = "jobs", params(("id" = String, Path)),
    responses((status = 200, body = JobResponse), (status = "default", body = ErrorBody)))]
pub(super) async fn cancel(
    State(parts): State<ApiState>,
    KeyId(id): KeyId,
) -> Result<Json<JobResponse>, ApiError> {
    changed(id, "only a job that is not over can be cancelled", parts.context.jobs.cancel(id).await)
}

/// Runs a job again that has failed, was cancelled or is dead, with all its retries.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/retry", tag = "jobs", params(("id" = String, Path)),
    responses((status = 200, body = JobResponse), (status = "default", body = ErrorBody)))]
pub(super) async fn retry(
    State(parts): State<ApiState>,
    KeyId(id): KeyId,
) -> Result<Json<JobResponse>, ApiError> {
    let rule = "only a job that failed, was cancelled or is dead runs again";
    changed(id, rule, parts.context.jobs.retry(id).await)
}

fn changed(
    id: Key,
    rule: &str,
    outcome: Result<Record, TransitionFailure>,
) -> Result<Json<JobResponse>, ApiError> {
    match outcome {
        Ok(record) => Ok(Json(record.into())),
        Err(TransitionFailure::Gone) => Err(unknown(id)),
        Err(TransitionFailure::Refused(TransitionError::OutOfPlace, stored)) => {
            let message = format!("this job is {}: {rule}", stored.record.state.text());
            Err(ApiError::new(ErrorCode::Conflict, message))
        }
        Err(TransitionFailure::Refused(..) | TransitionFailure::Fenced | TransitionFailure::Unavailable) => {
            Err(ApiError::new(ErrorCode::Unavailable, "the job cannot be changed now; it may have happened"))
        }
    }
}

fn unknown(id: Key) -> ApiError {
    ApiError::new(ErrorCode::Unknown, format!("there is no job {id}, or it is over for more than a day"))
}
