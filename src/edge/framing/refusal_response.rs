//! The response to a refused request head.
//!
//! Owns: its bytes. Never: when it is sent (`http`).

use axum::http::StatusCode;
use pagewire_cluster::code::ErrorCode;
use serde_json::json;

use super::FramingError;
use crate::telemetry::RequestId;

/// Returns the response to a refused head, in the shape of every error response. It is the last one of its connection.
pub(in crate::edge) fn refusal_response(refusal: FramingError, request_id: &RequestId) -> String {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let code = match status {
        StatusCode::BAD_REQUEST => ErrorCode::Malformed,
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => ErrorCode::TooLarge,
        _ => ErrorCode::Unsupported,
    };
    let message = format!("the request is refused, {}: {}", refusal.word(), refusal.meaning());
    let error =
        json!({"code": code.text(), "message": message, "retryable": false, "request_id": request_id});
    let body = json!({"error": error}).to_string();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nX-Request-Id: {request_id}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len(),
    )
}
