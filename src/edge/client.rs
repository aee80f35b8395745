//! The browser client at [`CLIENT_PATH`].
//!
//! Owns: its path, and which web pages of other origins may import it. Never: which pages may open a socket (`origin`).

use axum::body::Body;
use axum::http::Response;
use axum::http::header::{self, HeaderMap, HeaderValue};

use super::asset::{Asset, JAVASCRIPT};
use crate::mount::coding::add_vary;

/// The path of the browser client, which applications import.
pub(super) const CLIENT_PATH: &str = "/pagewire.js";

/// The browser client and the origins that may import it.
#[derive(Debug)]
pub(super) struct BrowserClient {
    asset: Asset,
    origins: ClientOrigins,
}

impl BrowserClient {
    /// The browser client for the configured origins.
    pub(super) fn new(origins: &[String]) -> Self {
        let asset = Asset::new(JAVASCRIPT, include_str!("../../clients/js/dist/pagewire.js"));
        Self { asset, origins: ClientOrigins::new(origins) }
    }

    /// Answers a request for the client.
    pub(super) async fn answer(&self, request: &HeaderMap) -> Response<Body> {
        let mut response = self.asset.answer(request).await;
        self.origins.allow(request, response.headers_mut());
        response
    }
}

/// The origins of web pages whose scripts may import the client. A browser sends every request, and gives the response
/// to a script of another origin only if the response allows it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ClientOrigins {
    /// The node's own pages only.
    Own,
    /// Every page.
    Any,
    /// These, in lower case and without a slash at the end.
    Listed(Vec<String>),
}

impl ClientOrigins {
    fn new(origins: &[String]) -> Self {
        match origins {
            [] => Self::Own,
            [any] if any == "*" => Self::Any,
            listed => {
                Self::Listed(listed.iter().map(|o| o.trim_end_matches('/').to_ascii_lowercase()).collect())
            }
        }
    }

    /// Adds the headers of the decision to a response.
    fn allow(&self, request: &HeaderMap, response: &mut HeaderMap) {
        let allowed = match self {
            Self::Own => return,
            Self::Any => Some(HeaderValue::from_static("*")),
            Self::Listed(listed) => {
                add_vary(response, header::ORIGIN);
                let origin = request.get(header::ORIGIN);
                let is_listed = |origin: &&HeaderValue| {
                    let origin = origin.to_str().unwrap_or_default();
                    listed.iter().any(|listed| listed.eq_ignore_ascii_case(origin))
                };
                origin.filter(is_listed).cloned()
            }
        };
        if let Some(allowed) = allowed {
            response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_listed_origin_is_allowed_and_caches_know_it() {
        let table: [(&[&str], &str, &str, &str); 8] = [
            (&[], "https://a.example", "", ""),
            (&["*"], "https://a.example", "*", ""),
            (&["*"], "", "*", ""),
            (&["https://A.example/"], "https://a.example", "https://a.example", "origin"),
            (&["https://a.example"], "https://a.example.evil", "", "origin"),
            (&["https://a.example"], "http://a.example", "", "origin"),
            (&["https://a.example"], "null", "", "origin"),
            (&["https://a.example"], "", "", "origin"),
        ];
        for (listed, origin, allowed, vary) in table {
            let listed: Vec<String> = listed.iter().map(|origin| (*origin).to_owned()).collect();
            let (mut request, mut response) = (HeaderMap::new(), HeaderMap::new());
            if !origin.is_empty() {
                request.insert(header::ORIGIN, origin.parse().unwrap());
            }
            ClientOrigins::new(&listed).allow(&request, &mut response);
            let text = |name| response.get(name).map_or("", |value: &HeaderValue| value.to_str().unwrap());
            assert_eq!(
                (text(header::ACCESS_CONTROL_ALLOW_ORIGIN), text(header::VARY)),
                (allowed, vary),
                "{listed:?} {origin}"
            );
        }
    }
}
