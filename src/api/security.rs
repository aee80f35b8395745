//! Security headers of the API's responses.
//!
//! Owns: the headers that every response of the API and of the probes has. Never: the headers of another route of the
//! server, which sets its own.

use axum::http::header::{self, HeaderName, HeaderValue};
use axum::response::Response;

/// Headers that are added unless the handler has set them. A response is data for programs: a browser that opens it as
/// a document runs nothing and shows it in no frame, guesses no other type, and keeps no copy.
const HEADERS: [(HeaderName, HeaderValue); 3] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// Middleware: adds the headers to a response.
pub(super) async fn secure(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(value);
    }
    response
}
