//! The kinds of work that killed their executors: `GET /quarantine` and `DELETE /quarantine/{pool}/{kind}`.

use axum::Json;
use axum::extract::{Path, State};
use pagewire_cluster::job::{KindEvent, MAX_DEATHS, Quarantine, SuspectedKind};
use serde::Serialize;

use super::ApiState;
use super::error::{ApiError, ErrorBody};
use super::pages::rfc3339;
use super::pagination::Paginated;
use crate::protocol::{CommandError, ErrorCode};

/// A kind whose executors have died.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct SuspectedKindResponse {
    pool: String,
    kind: String,
    /// It does not run any more. Otherwise it runs alone in its executor.
    quarantined: bool,
    /// Deaths while it ran alone, without an end in between.
    deaths: u32,
    /// Last lines of the log of the executor that died last.
    log: String,
    /// The release of the worker of that executor.
    release: String,
    #[schema(format = DateTime)]
    died_at: String,
}

/// Result of lifting a quarantine.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Lifted {
    /// The kind runs again.
    lifted: bool,
}

impl SuspectedKindResponse {
    fn of(pool: &str, kind: &str, known: &SuspectedKind) -> Self {
        Self {
            pool: pool.to_owned(),
            kind: kind.to_owned(),
            quarantined: known.deaths >= MAX_DEATHS,
            deaths: known.deaths,
            log: known.log.clone(),
            release: known.release.clone(),
            died_at: rfc3339(known.at),
        }
    }
}

/// Reads the suspected and quarantined kinds of all pools.
async fn suspected(parts: &ApiState) -> Result<Vec<SuspectedKindResponse>, ApiError> {
    let all = parts.context.executors.quarantines().all().await;
    let all = all.map_err(CommandError::from)?;
    let kinds = |Quarantine { pool, kinds }: Quarantine| {
        kinds.iter().map(|(kind, known)| SuspectedKindResponse::of(&pool, kind, known)).collect::<Vec<_>>()
    };
    Ok(all.into_iter().flat_map(kinds).collect())
}

/// Returns the quarantined kinds as `<pool>/<kind>`.
pub(super) async fn names(parts: &ApiState) -> Result<Vec<String>, ApiError> {
    let quarantined = suspected(parts).await?.into_iter().filter(|kind| kind.quarantined);
    Ok(quarantined.map(|kind| format!("{}/{}", kind.pool, kind.kind)).collect())
}

/// Lists the kinds of all pools whose executors have died.
#[utoipa::path(get, path = "/api/v1/quarantine", tag = "cluster",
    responses((status = 200, body = Paginated<SuspectedKindResponse>), (status = "default", body = ErrorBody)))]
pub(super) async fn quarantine(
    State(parts): State<ApiState>,
) -> Result<Json<Paginated<SuspectedKindResponse>>, ApiError> {
    Ok(Json(Paginated::complete(suspected(&parts).await?)))
}

/// Lets a kind run again.
#[utoipa::path(delete, path = "/api/v1/quarantine/{pool}/{kind}", tag = "cluster",
    params(("pool" = String, Path), ("kind" = String, Path)),
    responses((status = 200, body = Lifted), (status = "default", body = ErrorBody)))]
pub(super) async fn lift(
    State(parts): State<ApiState>,
    Path((pool, kind)): Path<(String, String)>,
) -> Result<Json<Lifted>, ApiError> {
    let lifted = parts.context.executors.quarantines().apply(&pool, &kind, &KindEvent::Lifted).await;
    match lifted.map_err(CommandError::from)? {
        true => Ok(Json(Lifted { lifted: true })),
        false => Err(ApiError::new(ErrorCode::Unknown, "this kind is not in quarantine in this pool")),
    }
}
