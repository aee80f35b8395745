//! Files that are compiled into the binary.
//!
//! Owns: the browser client at [`CLIENT_PATH`], and the headers of every such file. Never: which page uses a file
//! (`welcome`).

use axum::http::header::{self, HeaderValue};
use axum::response::{IntoResponse, Response};

/// The path of the browser client, which applications import.
pub(super) const CLIENT_PATH: &str = "/pagewire.js";

/// Media type of a script.
pub(super) const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// A file as it is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asset {
    /// Media type.
    pub(super) content_type: &'static str,
    /// Content.
    pub(super) body: &'static str,
}

impl IntoResponse for Asset {
    fn into_response(self) -> Response {
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static(self.content_type)),
            // another release of the server has other files at the same paths
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        ];
        (headers, self.body).into_response()
    }
}

/// Serves the browser client.
pub(super) async fn client() -> Asset {
    Asset { content_type: JAVASCRIPT, body: include_str!("../../clients/js/dist/pagewire.js") }
}
