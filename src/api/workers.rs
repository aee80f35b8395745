//! `GET /workers` and `POST /workers/{id}/drain`.

use axum::Json;
use axum::extract::State;
use pagewire_cluster::worker::{Affinity, Discovery, WorkerId, WorkerRow};
use serde::Serialize;

use super::ApiState;
use super::error::{ApiError, ErrorBody};
use super::id::KeyId;
use super::pages::rfc3339;
use super::pagination::Paginated;
use crate::protocol::ErrorCode;

/// A live worker.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct WorkerResponse {
    /// Its id, new for every process.
    worker: String,
    /// Its name, which need not be unique.
    name: String,
    pool: String,
    lane: String,
    release: String,
    /// How many calls and jobs it runs at the same time.
    slots: u32,
    /// The kinds of work that it takes: `free`, `assigned` or `both`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// `ready`; `draining`: it takes no new work; `unlisted`: `executors.worker` gives it no work.
    state: &'static str,
    /// The kinds of work that it is given now: `free`, `assigned`.
    gets: Vec<String>,
    /// It takes no new work, and exits when its work is finished.
    draining: bool,
    /// Its handlers, as far as it knows them.
    methods: Vec<String>,
    /// The name of its machine.
    host: String,
    /// Its process id there.
    process: u32,
    /// The node that it is inside; absent for a process of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    #[schema(format = DateTime)]
    started_at: String,
    /// How far the clock of its machine is ahead of the cluster's, in milliseconds; absent until it is known. Above two
    /// seconds the clock should be set.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset_ms: Option<i64>,
}

/// Result of draining a worker.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Draining {
    /// The worker has received the request.
    draining: bool,
}

impl WorkerResponse {
    fn of(worker: WorkerId, row: &WorkerRow, discovery: &Discovery) -> Self {
        let gets = |affinity: &Affinity| discovery.gives(row, *affinity);
        let gets: Vec<_> = [Affinity::Free, Affinity::Assigned].into_iter().filter(gets).collect();
        let state = match (row.draining, gets.is_empty()) {
            (true, _) => "draining",
            (false, true) => "unlisted",
            (false, false) => "ready",
        };
        Self {
            worker: worker.id.to_string(),
            name: row.name.clone(),
            kind: row.kind.text(),
            state,
            gets: gets.iter().map(Affinity::to_string).collect(),
            pool: row.pool.clone(),
            lane: row.lane.clone(),
            release: row.release.clone(),
            slots: row.slots,
            draining: row.draining,
            methods: row.methods.clone(),
            host: row.host.clone(),
            process: row.process,
            node: row.node.map(|node| node.to_string()),
            started_at: rfc3339(row.started),
            offset_ms: row.offset_ms,
        }
    }
}

/// Lists the live workers by pool and lane.
#[utoipa::path(get, path = "/api/v1/workers", tag = "cluster", responses((status = 200, body = Paginated<WorkerResponse>)))]
pub(super) async fn workers(State(parts): State<ApiState>) -> Json<Paginated<WorkerResponse>> {
    let roster = parts.context.workers.roster();
    let items =
        roster.list().into_iter().map(|(worker, row)| WorkerResponse::of(worker, row, roster.discovery()));
    Json(Paginated::complete(items.collect()))
}

/// Requests a worker to take no new work, finish its current work and exit.
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
        return Err(ApiError::new(ErrorCode::Unavailable, "this worker does not respond"));
    }
    Ok(Json(Draining { draining: true }))
}
