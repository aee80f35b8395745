//! `GET /workers` and `POST /workers/{id}/drain`.

use axum::Json;
use axum::extract::State;
use pagewire_cluster::worker::{WorkerId, WorkerRow};
use serde::Serialize;

use super::ApiState;
use super::error::{ApiError, ErrorBody};
use super::id::KeyId;
use super::pages::rfc3339;
use super::pagination::Paginated;
use crate::protocol::ErrorCode;

/// A living worker.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct WorkerResponse {
    /// Its id, fresh for every process.
    worker: String,
    pool: String,
    lane: String,
    release: String,
    /// How much it does at the same time.
    slots: u32,
    /// It takes nothing new, and leaves when it has finished.
    draining: bool,
    /// The handlers that it has, as far as it knows them.
    methods: Vec<String>,
    /// The name of its machine.
    host: String,
    /// Its process there.
    process: u32,
    #[schema(format = DateTime)]
    started_at: String,
}

/// What a worker was asked.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Draining {
    /// It has heard it.
    draining: bool,
}

impl WorkerResponse {
    fn of(worker: WorkerId, row: &WorkerRow) -> Self {
        Self {
            worker: worker.id.to_string(),
            pool: row.pool.clone(),
            lane: row.lane.clone(),
            release: row.release.clone(),
            slots: row.slots,
            draining: row.draining,
            methods: row.methods.clone(),
            host: row.host.clone(),
            process: row.process,
            started_at: rfc3339(row.started),
        }
    }
}

/// Lists the living workers by pool and lane.
#[utoipa::path(get, path = "/api/v1/workers", tag = "cluster", responses((status = 200, body = Paginated<WorkerResponse>)))]
pub(super) async fn workers(State(parts): State<ApiState>) -> Json<Paginated<WorkerResponse>> {
    let roster = parts.context.workers.roster();
    let items = roster.list().into_iter().map(|(worker, row)| WorkerResponse::of(worker, row));
    Json(Paginated::whole(items.collect()))
}

/// Asks a worker to take nothing new, finish what it does and leave.
#[utoipa::path(post, path = "/api/v1/workers/{id}/drain", tag = "cluster", params(("id" = String, Path)),
    responses((status = 200, body = Draining), (status = "default", body = ErrorBody)))]
pub(super) async fn drain(
    State(parts): State<ApiState>,
    KeyId(id): KeyId,
) -> Result<Json<Draining>, ApiError> {
    let workers = &parts.context.workers;
    if workers.roster().row(id).is_none() {
        return Err(ApiError::new(ErrorCode::Unknown, "no living worker has this id"));
    }
    if !workers.drain(id).await {
        return Err(ApiError::new(ErrorCode::Unavailable, "this worker does not answer"));
    }
    Ok(Json(Draining { draining: true }))
}
