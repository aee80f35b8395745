//! `POST /calls` and `GET /executors`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use pagewire_cluster::id::{Account, Address, Key};
use pagewire_cluster::worker::WorkerGroup;
use pagewire_worker::runtime::child::status::ChildPoolStatus;
use pagewire_worker::runtime::http::pool::HttpPoolStatus;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::ApiState;
use super::error::{ApiError, ErrorBody};
use super::extract::Body;
use super::quarantine;
use crate::calls::{self, CallRequest, ExecutorWorker};

/// A method and its parameters.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CallRequestBody {
    /// The handler's name.
    #[schema(example = "echo")]
    method: String,
    /// Any JSON; `null` if absent.
    #[schema(value_type = Option<serde_json::Value>)]
    params: Option<Box<RawValue>>,
    /// The user that the call runs for.
    user: Option<String>,
    /// The page that the call runs for.
    #[schema(value_type = Option<String>)]
    page: Option<Address>,
    /// `inline`, `any` or `assigned`; chosen by policy if absent.
    exec_mode: Option<String>,
    /// The pool of workers; the default pool if absent.
    pool: Option<String>,
    /// Time limit of the call in milliseconds; the server's own limit if absent.
    timeout_ms: Option<u64>,
}

/// A kind of executor.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Executor {
    #[schema(example = "inline")]
    kind: &'static str,
    /// The methods that it serves.
    methods: Vec<String>,
    /// Calls in progress, for `inline`.
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<usize>,
    /// How many living workers are executors of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    workers: Option<usize>,
    /// These workers. One that takes both free and assigned work is listed with both kinds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    executors: Vec<ExecutorMember>,
    /// Kinds of work that no worker runs any more, because their executors died: `GET /quarantine`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    quarantined: Vec<String>,
}

/// The executors that a node can use.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct ExecutorList {
    items: Vec<Executor>,
    /// The pools of this node whose handlers run in child processes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pools: Vec<PoolOfChildren>,
    /// The pools of this node whose handlers are behind HTTP, by lane.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    backends: Vec<PoolBackend>,
    /// Always absent: the list is complete.
    next_cursor: Option<String>,
}

/// The child processes of a pool of this node.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct PoolOfChildren {
    pool: String,
    #[serde(flatten)]
    #[schema(value_type = Object)]
    status: ChildPoolStatus,
}

/// The HTTP backend of a pool of this node in one lane.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct PoolBackend {
    pool: String,
    lane: String,
    #[serde(flatten)]
    #[schema(value_type = Object)]
    status: HttpPoolStatus,
}

/// A worker as an executor.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct ExecutorMember {
    /// The id of the worker.
    worker: String,
    name: String,
    pool: String,
    lane: String,
    release: String,
    /// The node that the worker is inside.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    methods: Vec<String>,
    /// How many calls and jobs it runs at the same time.
    slots: u32,
    /// How many it runs now; only of workers inside the node that answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<u32>,
    /// Calls that wait for a slot; only of workers inside the node that answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    queued: Option<u32>,
    /// It takes no new work.
    draining: bool,
}

impl From<ExecutorWorker> for ExecutorMember {
    fn from(worker: ExecutorWorker) -> Self {
        let (node, ExecutorWorker { id, row, running, queued }) = (worker.node(), worker);
        Self {
            worker: id.to_string(),
            node: node.map(|node| node.to_string()),
            name: row.name,
            pool: row.pool,
            lane: row.lane,
            release: row.release,
            methods: row.methods,
            slots: row.slots,
            running,
            queued,
            draining: row.draining,
        }
    }
}

/// Calls a method; the response is its result.
#[utoipa::path(post, path = "/api/v1/calls", tag = "calls", request_body = CallRequestBody,
    responses((status = 200, body = serde_json::Value), (status = "default", body = ErrorBody)))]
pub(super) async fn call(
    State(parts): State<ApiState>,
    Body(request): Body<CallRequestBody>,
) -> Result<impl IntoResponse, ApiError> {
    let RequestIdentity { user, session, connection } = identity(&parts, request.user, request.page);
    let in_flight = &parts.context.in_flight;
    let _counted =
        Account::of(user.as_ref(), connection).map(|account| in_flight.count(account)).transpose()?;
    let call = CallRequest {
        exec_mode: calls::exec_mode(request.exec_mode.as_deref())?,
        method: request.method,
        params: request.params.unwrap_or_else(|| RawValue::NULL.to_owned()),
        timeout: request.timeout_ms.map(Duration::from_millis),
        pool: request.pool,
        user,
        connection,
        page: request.page,
        session,
        // a program's own call, wherever the page is
        pins: None,
        class: None,
        event: None,
    };
    let result = parts.context.executors.call(call).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], String::from(Box::<str>::from(result))))
}

/// For which user and browser a request runs: the named user, otherwise the page's user, otherwise the page's browser.
pub(super) struct RequestIdentity {
    pub(super) user: Option<Arc<str>>,
    /// The session of the page.
    pub(super) session: Option<Key>,
    /// The connection of the page.
    pub(super) connection: Option<Key>,
}

/// Returns for which user and browser a request runs.
pub(super) fn identity(parts: &ApiState, user: Option<String>, page: Option<Address>) -> RequestIdentity {
    let place = page.and_then(|page| parts.context.pages.store.find(page.key));
    let session = place.as_ref().map(|place| place.session.key);
    let connection = place.as_ref().map(|place| place.connection.key);
    let user = user.map(Into::into).or_else(|| place.and_then(|place| place.user));
    RequestIdentity { user, session, connection }
}

/// Lists the executors that the answering node can use: its own, and the workers of its cluster; and the child processes of
/// its pools.
#[utoipa::path(get, path = "/api/v1/executors", tag = "calls",
    responses((status = 200, body = ExecutorList), (status = "default", body = ErrorBody)))]
pub(super) async fn executors(State(parts): State<ApiState>) -> Result<Json<ExecutorList>, ApiError> {
    let quarantined = quarantine::names(&parts).await?;
    let kinds = parts.context.executors.kinds().into_iter();
    let items = kinds.map(|kind| {
        let quarantined = kind.workers.as_ref().map_or_else(Vec::new, |_| quarantined.clone());
        Executor {
            kind: kind.name,
            methods: kind.methods,
            running: kind.running,
            workers: kind.workers.as_ref().map(Vec::len),
            executors: kind.workers.into_iter().flatten().map(ExecutorMember::from).collect(),
            quarantined,
        }
    });
    let pools = parts.context.executors.local().children().into_iter();
    let pools = pools.map(|(pool, status)| PoolOfChildren { pool, status }).collect();
    let backends = parts.context.executors.local().backends().into_iter();
    let backends = backends.map(|(WorkerGroup { pool, lane }, status)| PoolBackend { pool, lane, status });
    Ok(Json(ExecutorList { items: items.collect(), pools, backends: backends.collect(), next_cursor: None }))
}
