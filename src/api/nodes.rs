//! `GET /stats` and `/nodes`: the cluster in numbers.

use axum::Json;
use axum::extract::{Path, State};
use pagewire_cluster::registry;
use pagewire_cluster::worker::ExecMode;
use serde::Serialize;

use super::ApiState;
use super::error::{ApiError, ErrorBody};
use super::jobs::{Waiting, group_waits_for, jobs_at_leader};
use super::pagination::Paginated;
use crate::protocol::ErrorCode;

/// Counts of the live pages of the cluster, as this node sees them.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct StatsResponse {
    /// The cluster's name.
    cluster: String,
    /// The answering node; absent while it has no number.
    #[schema(example = "p01")]
    node: Option<String>,
    #[serde(flatten)]
    counts: CountsResponse,
    /// Sessions without a page that can still be joined.
    idle_sessions: usize,
    /// Connections without a page that can still be joined.
    idle_connections: usize,
    /// By node.
    nodes: Vec<NodeCounts>,
    /// By lane and release.
    lanes: Vec<LaneCounts>,
    /// Jobs that wait for a worker although their time has come, by pool, lane and mode; absent when the leader, which
    /// counts them, does not reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_jobs: Option<Vec<WaitingJobsCounts>>,
}

/// Users, connections and sessions with at least one page. One with pages at two nodes counts at both, and once in
/// the total.
#[derive(Serialize, utoipa::ToSchema)]
struct CountsResponse {
    users: usize,
    connections: usize,
    sessions: usize,
    /// With a socket or in their resume window.
    pages: usize,
}

#[derive(Serialize, utoipa::ToSchema)]
struct NodeCounts {
    #[schema(example = "p01")]
    node: String,
    lane: String,
    release: String,
    #[serde(flatten)]
    counts: CountsResponse,
}

#[derive(Serialize, utoipa::ToSchema)]
struct LaneCounts {
    lane: String,
    release: String,
    nodes: usize,
    #[serde(flatten)]
    counts: CountsResponse,
}

#[derive(Serialize, utoipa::ToSchema)]
struct WaitingJobsCounts {
    pool: String,
    /// Of an assigned job, the lane of its last attempt, or the one that its user was in when it was submitted.
    lane: String,
    /// `any` or `assigned`.
    exec_mode: &'static str,
    jobs: u64,
    /// For how long the oldest one has waited, in seconds.
    oldest_s: u64,
    /// Why no worker can run them, if that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<Waiting>,
}

impl From<registry::Counts> for CountsResponse {
    fn from(counts: registry::Counts) -> Self {
        let registry::Counts { users, connections, sessions, pages } = counts;
        Self { users, connections, sessions, pages }
    }
}

/// A live node.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct NodeResponse {
    /// Its number.
    #[schema(example = "p01")]
    node: String,
    /// Incarnation of the number; grows each time that a process takes the number.
    epoch: u64,
    /// Its configured name, if any.
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    /// Its lane.
    lane: String,
    /// Its release.
    release: String,
    /// Where browsers reach it.
    advertise: String,
    /// The oldest and the newest version of the cluster protocol that it supports.
    proto: [u32; 2],
    /// How far the clock of its machine is ahead of the cluster's, in milliseconds; absent until it is known. Above two
    /// seconds the clock should be set.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset_ms: Option<i64>,
    /// Number of its pages.
    pages: usize,
    /// Whether it takes no new pages, because it stops.
    draining: bool,
    /// Whether it is the answering node.
    answering: bool,
}

/// Result of draining a node.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct DrainingNode {
    /// The node has received the request.
    draining: bool,
}

/// Counts users, connections, sessions and pages.
#[utoipa::path(get, path = "/api/v1/stats", tag = "cluster", responses((status = 200, body = StatsResponse)))]
pub(super) async fn stats(State(parts): State<ApiState>) -> Json<StatsResponse> {
    let waiting_jobs = waiting_jobs(&parts).await;
    let seen = parts.registry.view().stats();
    let nodes = seen.nodes.into_iter().map(|node| NodeCounts {
        node: node.node.to_string(),
        lane: node.lane,
        release: node.release,
        counts: node.counts.into(),
    });
    let lanes = seen.lanes.into_iter().map(|lane| LaneCounts {
        lane: lane.lane,
        release: lane.release,
        nodes: lane.nodes,
        counts: lane.counts.into(),
    });
    Json(StatsResponse {
        cluster: parts.config.cluster.clone(),
        node: parts.lease.holder().map(|holder| holder.node.to_string()),
        counts: seen.total.into(),
        idle_sessions: seen.idle_sessions,
        idle_connections: seen.idle_connections,
        nodes: nodes.collect(),
        lanes: lanes.collect(),
        waiting_jobs,
    })
}

/// Returns the jobs that wait, as the leader counts them; `None` when it does not reply.
async fn waiting_jobs(parts: &ApiState) -> Option<Vec<WaitingJobsCounts>> {
    let groups = jobs_at_leader(parts).await?;
    let now = parts.context.jobs.records.now_ms();
    let counts = groups.groups.into_iter().map(|jobs| WaitingJobsCounts {
        waiting: group_waits_for(&parts.context, &jobs),
        exec_mode: ExecMode::from(jobs.affinity()).text(),
        jobs: jobs.count,
        oldest_s: now.saturating_sub(jobs.oldest_due) / 1000,
        pool: jobs.pool,
        lane: jobs.lane,
    });
    Some(counts.collect())
}

/// Lists the live nodes in the order of their numbers.
#[utoipa::path(get, path = "/api/v1/nodes", tag = "cluster", responses((status = 200, body = Paginated<NodeResponse>)))]
pub(super) async fn nodes(State(parts): State<ApiState>) -> Json<Paginated<NodeResponse>> {
    let own = parts.lease.holder();
    let view = parts.registry.view();
    let counts = view.stats().nodes;
    let items = view.nodes().into_iter().map(|(holder, row)| NodeResponse {
        node: holder.node.to_string(),
        epoch: holder.epoch,
        name: row.name.clone(),
        lane: row.lane.clone(),
        release: row.release.clone(),
        advertise: row.advertise.clone(),
        proto: [row.proto.min, row.proto.max],
        offset_ms: row.offset_ms,
        pages: counts.iter().find(|count| count.node == holder.node).map_or(0, |node| node.counts.pages),
        draining: row.note.draining,
        answering: own == Some(holder),
    });
    Json(Paginated::complete(items.collect()))
}

/// Orders a node to take no new pages, move its pages to other nodes, finish its work and exit.
#[utoipa::path(post, path = "/api/v1/nodes/{node}/drain", tag = "cluster", params(("node" = String, Path)),
    responses((status = 200, body = DrainingNode), (status = "default", body = ErrorBody)))]
pub(super) async fn drain(
    State(parts): State<ApiState>,
    Path(node): Path<String>,
) -> Result<Json<DrainingNode>, ApiError> {
    let living = parts.registry.view().nodes().into_iter().map(|(holder, _)| holder).collect::<Vec<_>>();
    let Some(holder) = living.into_iter().find(|holder| holder.node.to_string() == node) else {
        return Err(ApiError::new(ErrorCode::Unknown, "no living node has this number"));
    };
    let ordered = parts.context.pages.relocator.drain_node(holder).await;
    ordered.map_err(|_| ApiError::new(ErrorCode::Unavailable, "this node does not respond"))?;
    Ok(Json(DrainingNode { draining: true }))
}
