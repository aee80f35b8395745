//! `POST /send` and `/send/batch`: messages to pages.

use axum::Json;
use axum::extract::State;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::ApiState;
use super::error::{ApiError, ErrorBody};
use super::extract::Body;
use crate::pages::PushReport;
use crate::protocol::Target;

/// Maximum number of messages in one batch.
const BATCH: usize = 1000;

/// A message for pages.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SendRequest {
    /// The target pages.
    to: Target,
    /// Any JSON; pages receive it exactly as it is written here.
    #[schema(value_type = serde_json::Value)]
    payload: Box<RawValue>,
}

/// Result of a message.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct SendReport {
    /// Pages with an open socket, to which the message was delivered.
    reached: u64,
    /// Pages in their resume window, for which the message was buffered.
    held: u64,
    /// The nodes that responded.
    nodes: Vec<String>,
    /// The nodes that did not respond: their pages may or may not have received the message.
    unreachable: Vec<String>,
}

/// Messages that are sent one after the other.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchRequest {
    /// At most 1000.
    items: Vec<SendRequest>,
}

/// The result of each message of a batch, in the same order.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct BatchResult {
    items: Vec<BatchItem>,
}

#[derive(Serialize, utoipa::ToSchema)]
#[serde(untagged)]
enum BatchItem {
    Sent(SendReport),
    Refused(ErrorBody),
}

/// Sends a message to pages, on any node.
#[utoipa::path(post, path = "/api/v1/send", tag = "push", request_body = SendRequest,
    responses((status = 200, body = SendReport), (status = "default", body = ErrorBody)))]
pub(super) async fn send(
    State(parts): State<ApiState>,
    Body(message): Body<SendRequest>,
) -> Result<Json<SendReport>, ApiError> {
    deliver(&parts, message).await.map(Json)
}

/// Sends messages in order; each succeeds or fails on its own.
#[utoipa::path(post, path = "/api/v1/send/batch", tag = "push", request_body = BatchRequest,
    responses((status = 200, body = BatchResult), (status = "default", body = ErrorBody)))]
pub(super) async fn batch(
    State(parts): State<ApiState>,
    Body(batch): Body<BatchRequest>,
) -> Result<Json<BatchResult>, ApiError> {
    if batch.items.len() > BATCH {
        return Err(ApiError::malformed("a batch has at most 1000 messages"));
    }
    let mut items = Vec::with_capacity(batch.items.len());
    for message in batch.items {
        items.push(match deliver(&parts, message).await {
            Ok(reached) => BatchItem::Sent(reached),
            Err(error) => BatchItem::Refused(error.into()),
        });
    }
    Ok(Json(BatchResult { items }))
}

async fn deliver(parts: &ApiState, message: SendRequest) -> Result<SendReport, ApiError> {
    let PushReport { reach, nodes, unreachable } =
        parts.context.deliver.send(message.to.scope()?, message.payload, None).await?;
    let text = |nodes: Vec<_>| nodes.iter().map(ToString::to_string).collect();
    Ok(SendReport {
        reached: reach.reached,
        held: reach.held,
        nodes: text(nodes),
        unreachable: text(unreachable),
    })
}
