//! The welcome page, which a new server shows at its address.
//!
//! Owns: the files of that page and of the browser client, compiled in. Never: access control, or the HTTP around
//! them.

/// A file as it is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asset {
    /// Media type.
    pub content_type: &'static str,
    /// Content.
    pub body: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Content security policy of these files: nothing inline, nothing from other servers.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; connect-src 'self'; object-src 'none'; \
     base-uri 'none'; form-action 'self'; frame-ancestors 'self'";

/// Returns the file at a path of the server, if there is one.
pub fn asset(path: &str) -> Option<Asset> {
    let (content_type, body) = match path {
        "/" => (HTML, include_str!("../../web/welcome/index.html")),
        "/pagewire.js" => (JAVASCRIPT, include_str!("../../clients/js/dist/pagewire.js")),
        "/_pagewire/start.js" => (JAVASCRIPT, include_str!("../../web/welcome/start.js")),
        "/_pagewire/page.js" => (JAVASCRIPT, include_str!("../../web/welcome/page.js")),
        "/_pagewire/allowed.js" => (JAVASCRIPT, include_str!("../../web/welcome/allowed.js")),
        "/_pagewire/view.js" => (JAVASCRIPT, include_str!("../../web/welcome/view.js")),
        "/_pagewire/talk.js" => (JAVASCRIPT, include_str!("../../web/welcome/talk.js")),
        "/_pagewire/form.js" => (JAVASCRIPT, include_str!("../../web/welcome/form.js")),
        "/_pagewire/call.js" => (JAVASCRIPT, include_str!("../../web/welcome/call.js")),
        "/_pagewire/jobs.js" => (JAVASCRIPT, include_str!("../../web/welcome/jobs.js")),
        "/_pagewire/start.css" => (CSS, include_str!("../../web/welcome/start.css")),
        "/_pagewire/controls.css" => (CSS, include_str!("../../web/welcome/controls.css")),
        "/_pagewire/cards.css" => (CSS, include_str!("../../web/welcome/cards.css")),
        "/_pagewire/icon.svg" => (SVG, include_str!("../../web/welcome/icon.svg")),
        _ => return None,
    };
    Some(Asset { content_type, body })
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let file = asset(path).unwrap_or_else(|| panic!("{path} is named and not served"));
            for path in references(file.body) {
                if !named.contains(&path) {
                    named.push(path);
                }
            }
        }
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/web/welcome")).unwrap();
        assert_eq!(named.len(), files.count() + 1, "the files of the folder, and the client: {named:?}");
    }

    #[test]
    fn nothing_is_inline() {
        let page = asset("/").unwrap().body;
        assert!(!page.contains("style=") && !page.contains("<style") && !page.contains("onclick"));
        assert_eq!(page.matches("<script").count(), page.matches("<script type=\"module\" src=").count());
    }

    #[test]
    fn other_paths_are_not_ours() {
        assert_eq!(asset("/index.html"), None);
        assert_eq!(asset(""), None);
    }
}
