//! `/rollouts/{pool}/nats-mapping`: the weights as a mapping of NATS.

use axum::Json;
use axum::extract::State;
use pagewire_cluster::rollout::MappedLane;
use pagewire_cluster::subject::Subjects;
use serde::Serialize;

use super::super::ApiState;
use super::super::error::{ApiError, ErrorBody};
use super::Pool;
use crate::protocol::ErrorCode;

/// A weighted subject mapping for the configuration of a NATS server.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::api) struct MappingResponse {
    pool: String,
    /// The revision that it was made from.
    revision: u64,
    /// The subject that clients publish to, with `*` for the method.
    subject: String,
    destinations: Vec<DestinationResponse>,
}

/// The share of a lane.
#[derive(Serialize, utoipa::ToSchema)]
struct DestinationResponse {
    #[schema(example = "canary")]
    lane: String,
    subject: String,
    /// Whole percent of the messages.
    percent: u16,
}

impl From<MappedLane> for DestinationResponse {
    fn from(MappedLane { lane, subject, percent }: MappedLane) -> Self {
        Self { lane, subject, percent }
    }
}

/// Returns the weights of a pool as a weighted subject mapping of NATS, for clients that publish to NATS themselves.
///
/// NATS draws a lane for each message: users do not stay in one. It knows whole percents only; another weight is refused
/// with `conflict` (409).
#[utoipa::path(get, path = "/api/v1/rollouts/{pool}/nats-mapping", tag = "rollouts",
    params(("pool" = String, Path)),
    responses((status = 200, body = MappingResponse), (status = "default", body = ErrorBody)))]
pub(in crate::api) async fn nats_mapping(
    State(parts): State<ApiState>,
    Pool(pool): Pool,
) -> Result<Json<MappingResponse>, ApiError> {
    let document = parts.context.rollouts.document(&pool).await.map_err(super::refused)?;
    let mapping = document.nats_mapping(&Subjects::new(&parts.config.cluster));
    let mapping = mapping.map_err(|refused| ApiError::new(ErrorCode::Conflict, refused.to_string()))?;
    Ok(Json(MappingResponse {
        pool,
        revision: document.rev,
        subject: mapping.subject,
        destinations: mapping.destinations.into_iter().map(DestinationResponse::from).collect(),
    }))
}
