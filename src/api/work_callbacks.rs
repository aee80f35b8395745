//! `POST /_work/{token}`: reports of work that runs in an HTTP backend.
//!
//! Owns: the route and its responses. Never: which work a token belongs to (`pagewire_worker::runtime::http::callbacks`).

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use pagewire_worker::runtime::http::callbacks::{CALLBACK_PATH, CallbackReply, Callbacks, MAX_REPORT};

use super::error::ApiError;
use crate::protocol::ErrorCode;

/// The routes of reports, which need no key because their address is one.
pub(super) fn routes(callbacks: Callbacks) -> Router {
    Router::new()
        .route(&format!("{CALLBACK_PATH}/{{token}}"), post(report))
        .layer(DefaultBodyLimit::max(MAX_REPORT))
        .with_state(callbacks)
}

async fn report(State(callbacks): State<Callbacks>, Path(token): Path<String>, body: Bytes) -> Response {
    match callbacks.receive(&token, &body) {
        CallbackReply::Accepted => StatusCode::NO_CONTENT.into_response(),
        CallbackReply::Ended => {
            ApiError::new(ErrorCode::Unknown, "no work with this address runs here").into_response()
        }
        CallbackReply::Malformed(problem) => ApiError::malformed(problem).into_response(),
    }
}
