//! Extractors for bodies and queries, with errors in the API's own shape.

use std::error::Error;
use std::io;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;

use super::error::ApiError;
use crate::protocol::{ErrorCode, TOO_DEEP, explain, is_too_deep, read};

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::malformed("the body must be application/json")
                .with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            match (rejection.status(), cause(&rejection)) {
                (StatusCode::PAYLOAD_TOO_LARGE, _) | (_, Some(io::ErrorKind::FileTooLarge)) => {
                    ApiError::new(ErrorCode::TooLarge, "the body is too large")
                }
                (_, Some(io::ErrorKind::TimedOut)) => ApiError::malformed("the body did not arrive in time")
                    .with_status(StatusCode::REQUEST_TIMEOUT),
                _ => ApiError::malformed("the body did not arrive"),
            }
        })?;
        if is_too_deep(&bytes) {
            return Err(ApiError::malformed(TOO_DEEP));
        }
        read(&bytes).map(Self).map_err(ApiError::malformed)
    }
}

/// Returns the I/O error with which the edge reports a body that exceeds its limits.
fn cause(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.filter_map(|error| error.downcast_ref::<io::Error>()).map(io::Error::kind).next()
}

/// The query string of a URL.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        query
            .map(|query| Self(query.0))
            .map_err(|rejection| ApiError::malformed(wrong(&rejection.body_text())))
    }
}

/// Shortens axum's `Failed to deserialize query string: limit: invalid digit …` to the part about the query.
fn wrong(text: &str) -> String {
    let what = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(text);
    match what.split_once(": ") {
        Some((name, message)) if !name.contains(' ') => explain(name, message),
        _ => explain("", what),
    }
}

/// What the header `If-Match` of a request names.
pub(super) enum IfMatch {
    /// The request has no such header.
    Absent,
    /// Any revision, written `*`.
    Any,
    /// One revision, with or without quotes.
    Revision(u64),
    /// Neither a revision nor `*`.
    Malformed,
}

impl IfMatch {
    /// Reads the header.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let Some(tag) = headers.get(header::IF_MATCH) else { return Self::Absent };
        match tag.to_str().unwrap_or_default().trim() {
            "*" => Self::Any,
            tag => revision_of(tag).map_or(Self::Malformed, Self::Revision),
        }
    }
}

fn revision_of(tag: &str) -> Option<u64> {
    tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag).parse().ok()
}

/// Whether the content type of the request is JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}
