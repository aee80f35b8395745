//! The welcome page, which a new server shows at its address unless `welcome` is false.
//!
//! Owns: the files of that page, compiled in, and the headers that the page needs. Never: access control, or the
//! browser client, which is served without the page, too (`client`).

use std::sync::Arc;

use axum::Router;
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::routing::get;

use super::asset::{Asset, JAVASCRIPT};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Nothing inline, and nothing from other servers, except sockets: the page moves to other nodes.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; object-src 'none'; \
     base-uri 'none'; form-action 'self'; frame-ancestors 'self'";

/// The headers of the page and its files, beside those of every file.
const HEADERS: [(HeaderName, HeaderValue); 2] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY)),
    (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
];

/// The files, each with its path at the server and its media type.
const FILES: [(&str, &str, &str); 14] = [
    ("/", HTML, include_str!("../../web/welcome/index.html")),
    ("/_pagewire/start.js", JAVASCRIPT, include_str!("../../web/welcome/start.js")),
    ("/_pagewire/page.js", JAVASCRIPT, include_str!("../../web/welcome/page.js")),
    ("/_pagewire/allowed.js", JAVASCRIPT, include_str!("../../web/welcome/allowed.js")),
    ("/_pagewire/view.js", JAVASCRIPT, include_str!("../../web/welcome/view.js")),
    ("/_pagewire/talk.js", JAVASCRIPT, include_str!("../../web/welcome/talk.js")),
    ("/_pagewire/form.js", JAVASCRIPT, include_str!("../../web/welcome/form.js")),
    ("/_pagewire/call.js", JAVASCRIPT, include_str!("../../web/welcome/call.js")),
    ("/_pagewire/jobs.js", JAVASCRIPT, include_str!("../../web/welcome/jobs.js")),
    ("/_pagewire/handlers.js", JAVASCRIPT, include_str!("../../web/welcome/handlers.js")),
    ("/_pagewire/start.css", CSS, include_str!("../../web/welcome/start.css")),
    ("/_pagewire/controls.css", CSS, include_str!("../../web/welcome/controls.css")),
    ("/_pagewire/cards.css", CSS, include_str!("../../web/welcome/cards.css")),
    ("/_pagewire/icon.svg", SVG, include_str!("../../web/welcome/icon.svg")),
];

/// The routes of the page. Every other path is 404.
pub(super) fn router() -> Router {
    FILES.into_iter().fold(Router::new(), |router, (path, content_type, body)| {
        let asset = Arc::new(Asset::new(content_type, body));
        router.route(path, get(async move |request: HeaderMap| (HEADERS, asset.answer(&request).await)))
    })
}

#[cfg(test)]
mod tests {
    use super::super::client::CLIENT_PATH;
    use super::*;

    fn file(path: &str) -> Option<&'static str> {
        FILES.into_iter().find(|(served, ..)| *served == path).map(|(.., body)| body)
    }

    /// The values of `src="…"`, `href="…"`, `from "…"` and `import "…"`.
    fn references(text: &'static str) -> impl Iterator<Item = &'static str> {
        ["src=\"", "href=\"", "from \"", "import \""]
            .into_iter()
            .flat_map(move |mark| text.split(mark).skip(1).filter_map(|rest| rest.split('"').next()))
    }

    #[test]
    fn every_file_that_the_page_names_is_served_and_no_other() {
        let mut named = vec!["/"];
        for place in 0.. {
            let Some(path) = named.get(place) else { break };
            let body = file(path).unwrap_or_else(|| panic!("{path} is named and not served"));
            for path in references(body) {
                if path != CLIENT_PATH && !named.contains(&path) {
                    named.push(path);
                }
            }
        }
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/web/welcome")).unwrap();
        assert_eq!(named.len(), files.count(), "the files of the folder: {named:?}");
    }

    #[test]
    fn nothing_is_inline() {
        let page = file("/").unwrap();
        assert!(!page.contains("style=") && !page.contains("<style") && !page.contains("onclick"));
        assert_eq!(page.matches("<script").count(), page.matches("<script type=\"module\" src=").count());
    }
}
