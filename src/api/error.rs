//! The one shape of every error response: `{"error":{"code","message","retryable","request_id"}}`.

use std::borrow::Cow;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use pagewire_cluster::engine::Unavailable;
use pagewire_cluster::id::InvalidUser;
use pagewire_cluster::wire::HandlerError;
use serde::Serialize;

use super::trace::request_id;
use crate::calls::ExecutorError;
use crate::protocol::{CommandError, ErrorCode};
use crate::telemetry::RequestId;

/// A refused or failed request.
#[derive(Debug, Clone)]
pub(super) struct ApiError {
    status: StatusCode,
    code: Cow<'static, str>,
    message: Cow<'static, str>,
    retryable: bool,
}

/// The body of a refused or failed request.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct ErrorBody {
    error: Detail,
}

#[derive(Serialize, utoipa::ToSchema)]
struct Detail {
    /// Stable, for programs.
    #[schema(example = "unknown")]
    code: Cow<'static, str>,
    /// For people.
    message: Cow<'static, str>,
    /// Whether the same request can succeed later.
    retryable: bool,
    /// Also in the header `x-request-id` and, as `trace`, in the node's log.
    #[schema(value_type = String)]
    request_id: RequestId,
}

impl ApiError {
    pub(super) fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        CommandError::new(code, message).into()
    }

    pub(super) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    pub(super) fn malformed(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Malformed, message)
    }
}

/// Returns the status of a code. A code without one belongs to the error of a job; it is an error of the server when it
/// is the response to a request.
fn status(code: ErrorCode) -> StatusCode {
    let status = code.status().and_then(|status| StatusCode::from_u16(status).ok());
    status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        let CommandError { code, message } = error;
        Self { status: status(code), code: code.text().into(), message, retryable: code.retryable() }
    }
}

impl From<Unavailable> for ApiError {
    fn from(Unavailable: Unavailable) -> Self {
        Self::new(ErrorCode::Unavailable, "the cluster's engine is unavailable")
    }
}

impl From<InvalidUser> for ApiError {
    fn from(error: InvalidUser) -> Self {
        Self::malformed(error.to_string())
    }
}

impl From<HandlerError> for ApiError {
    /// A code of Pagewire has its status, and one that a handler has chosen that of a handler that failed.
    fn from(HandlerError { code, message, retryable }: HandlerError) -> Self {
        let known = ErrorCode::ALL.iter().copied().find(|known| known.text() == code);
        let status = status(known.unwrap_or(ErrorCode::Failed));
        Self { status, code: code.into(), message: message.into(), retryable }
    }
}

impl From<ExecutorError> for ApiError {
    fn from(error: ExecutorError) -> Self {
        match error {
            ExecutorError::Refused(error) => error.into(),
            ExecutorError::Failed(failure) => Self {
                status: status(ErrorCode::Failed),
                code: failure.code.into(),
                message: failure.message.into(),
                retryable: failure.retryable,
            },
        }
    }
}

impl From<ApiError> for ErrorBody {
    fn from(ApiError { code, message, retryable, .. }: ApiError) -> Self {
        Self { error: Detail { code, message, retryable, request_id: request_id() } }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(ErrorBody::from(self))).into_response()
    }
}
