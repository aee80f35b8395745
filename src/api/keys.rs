//! `GET /keys` and `POST /keys/rotate`: the keys that sign page tokens, without their secrets.

use axum::Json;
use axum::extract::State;
use pagewire_cluster::keyring::{Ages, KeyId, KeySeen};
use serde::Serialize;

use super::ApiState;
use super::error::{ApiError, ErrorBody};
use super::pages::rfc3339;
use super::pagination::Paginated;
use crate::protocol::ErrorCode;

/// A key that signs page tokens, or has signed tokens that are still accepted.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct SigningKey {
    /// Its number, which grows with every rotation.
    key: KeyId,
    /// Whether the key signs new tokens. The others are accepted until all their tokens have expired.
    signs: bool,
    /// When the key began to sign; absent for the others, and when it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    since: Option<String>,
    /// When the key signed its last token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    retired_at: Option<String>,
}

/// Result of a rotation.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Rotated {
    /// The key that signs from now on.
    key: KeyId,
}

impl From<KeySeen> for SigningKey {
    fn from(seen: KeySeen) -> Self {
        let time = |seconds: Option<u64>| seconds.map(|seconds| rfc3339(seconds * 1000));
        let signs = seen.retired.is_none();
        Self { key: seen.id, signs, since: time(seen.since), retired_at: time(seen.retired) }
    }
}

/// Lists the keys of page tokens.
#[utoipa::path(get, path = "/api/v1/keys", tag = "cluster", responses((status = 200, body = Paginated<SigningKey>)))]
pub(super) async fn keys(State(parts): State<ApiState>) -> Json<Paginated<SigningKey>> {
    let keys = parts.context.pages.tokens.keyring().keys();
    Json(Paginated::complete(keys.into_iter().map(SigningKey::from).collect()))
}

/// Creates a new key that signs page tokens from now on, on every node. Tokens of the old keys stay valid.
#[utoipa::path(post, path = "/api/v1/keys/rotate", tag = "cluster",
    responses((status = 200, body = Rotated), (status = "default", body = ErrorBody)))]
pub(super) async fn rotate(State(parts): State<ApiState>) -> Result<Json<Rotated>, ApiError> {
    let timing = parts.timing;
    let ages = Ages { signs: timing.signing_key, kept: timing.outlives_tokens() };
    let rotated = parts.context.pages.tokens.keyring().rotate(ages).await;
    let key = rotated.map_err(|error| ApiError::new(ErrorCode::Unavailable, error.to_string()))?;
    tracing::info!(key, "page tokens are signed with a new key");
    Ok(Json(Rotated { key }))
}
