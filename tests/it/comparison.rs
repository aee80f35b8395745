//! Answers of an application behind a mount beside those of the same application under gunicorn itself.
//!
//! Owns: what is compared, and the list of differences, which `docs/mounts.md` explains. Never: the requests.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use reqwest::redirect::Policy;
use reqwest::{Client, Method};

/// Headers of answers that differ, each with its reason. Of `vary`, only the one value.
pub(crate) const DIFFERENT_HEADERS: [(&str, &str); 4] = [
    ("connection", "is of gunicorn's connection to the server"),
    ("date", "is the time of the answer"),
    ("vary", "has `accept-encoding` in addition for text, which may be compressed"),
    ("x-request-id", "is added: the log names the request by it"),
];
/// Headers of answers that differ for a client that accepts compression, each with its reason.
pub(crate) const COMPRESSED_HEADERS: [(&str, &str); 3] = [
    ("content-encoding", "is set when the server compresses text; `compress = false` switches it off"),
    ("content-length", "is missing then, because the length is not known before the end"),
    ("transfer-encoding", "is `chunked` then"),
];
/// Headers that an application receives in addition, each with its reason.
pub(crate) const ADDED_HEADERS: [(&str, &str); 4] = [
    ("X-Forwarded-For", "the client's address, which is also `REMOTE_ADDR`"),
    ("X-Forwarded-Host", "the client's `Host`"),
    ("X-Forwarded-Proto", "the scheme, which is also `wsgi.url_scheme`"),
    ("X-Request-Id", "the id of the answer's header"),
];

/// A request that is sent to both.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::of(Method::GET, path)
    }

    pub(crate) fn of(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: Vec::new(), body: String::new() }
    }

    pub(crate) fn with(mut self, header: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((header, value.into()));
        self
    }

    pub(crate) fn sending(mut self, content_type: &'static str, body: impl Into<String>) -> Self {
        self.body = body.into();
        self.with("content-type", content_type)
    }
}

/// An answer without its differences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, Vec<String>>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|values| values.first()).map_or("", String::as_str)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns a cookie that the answer sets, as a client sends it.
    pub(crate) fn cookie(&self, name: &str) -> Option<String> {
        let set = self.headers.get("set-cookie")?.iter().filter_map(|value| value.split(';').next());
        set.map(str::to_owned).find(|value| value.split('=').next() == Some(name))
    }
}

/// A client that follows no redirect, keeps no cookie, and decodes nothing.
pub(crate) struct Comparison {
    client: Client,
}

impl Comparison {
    pub(crate) fn new() -> Self {
        Self { client: Client::builder().no_proxy().redirect(Policy::none()).build().expect("a client") }
    }

    /// Sends a request and returns the answer, in which the address is `HOST`.
    pub(crate) async fn ask(&self, address: SocketAddr, asked: &Asked) -> Seen {
        let mut request =
            self.client.request(asked.method.clone(), format!("http://{address}{}", asked.path));
        for (name, value) in &asked.headers {
            request = request.header(*name, value.replace("HOST", &address.to_string()));
        }
        if !asked.body.is_empty() {
            request = request.body(asked.body.clone());
        }
        let response = request.send().await.unwrap_or_else(|error| panic!("{asked:?}: {error}"));
        let host = address.to_string();
        let mut headers = BTreeMap::<String, Vec<String>>::new();
        for (name, value) in response.headers() {
            let value = String::from_utf8_lossy(value.as_bytes()).replace(&host, "HOST");
            let is_different = match name.as_str() {
                "vary" => value == "accept-encoding",
                name => DIFFERENT_HEADERS.iter().any(|(different, _)| name == *different),
            };
            if !is_different {
                headers.entry(name.to_string()).or_default().push(value);
            }
        }
        let status = response.status().as_u16();
        let body = response.bytes().await.unwrap_or_else(|error| panic!("{asked:?}: {error}")).to_vec();
        let body = String::from_utf8(body)
            .map_or_else(|binary| binary.into_bytes(), |text| text.replace(&host, "HOST").into_bytes());
        Seen { status, headers, body }
    }
}

#[test]
fn every_difference_is_documented() {
    let document = include_str!("../../docs/mounts.md");
    for (header, reason) in DIFFERENT_HEADERS.iter().chain(&COMPRESSED_HEADERS).chain(&ADDED_HEADERS) {
        let row = format!("| `{header}` | {reason} |");
        assert!(document.lines().any(|line| line == row), "docs/mounts.md lacks the row\n{row}");
    }
}
