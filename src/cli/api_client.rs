//! A client of a node's server API.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use pagewire_cluster::timing::Timing;
use pagewire_worker::tls;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;

use super::{CommandFailure, Exit};

/// The characters that are percent-encoded in a URL: all but the unreserved ones.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The server to use and the output format.
#[derive(Args)]
pub(super) struct ApiClient {
    /// Address of the server. The API key is read from PAGEWIRE_API_KEY only, because other users of the machine can
    /// see command line arguments.
    #[arg(long, env = "PAGEWIRE_URL", global = true, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Print JSON.
    #[arg(long, global = true)]
    pub(super) json: bool,
}

impl ApiClient {
    /// Creates a client of the server at `url`.
    pub(super) const fn of(url: String) -> Self {
        Self { url, json: false }
    }

    /// Sends `GET` for `path` below `/api/v1`.
    pub(super) async fn get(&self, path: &str) -> Result<Value, CommandFailure> {
        self.send(client()?.get(self.at(path)), Duration::ZERO).await
    }

    /// Sends `POST` to `path` below `/api/v1`.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, CommandFailure> {
        self.post_and_wait(path, body, Duration::ZERO).await
    }

    /// Sends `POST` with a longer timeout, for requests that the server may take some time to process.
    pub(super) async fn post_and_wait(
        &self,
        path: &str,
        body: &Value,
        wait: Duration,
    ) -> Result<Value, CommandFailure> {
        self.send(client()?.post(self.at(path)).json(body), wait).await
    }

    /// Sends `PUT` to `path` below `/api/v1`. The server rejects it unless the resource is at `revision`.
    pub(super) async fn put(&self, path: &str, body: &Value, revision: u64) -> Result<Value, CommandFailure> {
        let request = client()?.put(self.at(path)).header("if-match", format!("\"{revision}\""));
        self.send(request.json(body), Duration::ZERO).await
    }

    /// Writes a value to `path` below `/api/v1`, or deletes it. If a revision is given, the server rejects the write
    /// unless the resource is at that revision.
    pub(super) async fn write(
        &self,
        path: &str,
        value: Option<&Value>,
        if_revision: Option<u64>,
    ) -> Result<Value, CommandFailure> {
        let request = match value {
            Some(value) => client()?.put(self.at(path)).json(value),
            None => client()?.delete(self.at(path)),
        };
        let request = match if_revision {
            Some(revision) => request.header("if-match", format!("\"{revision}\"")),
            None => request,
        };
        self.send(request, Duration::ZERO).await
    }

    /// Sends `DELETE` for `path` below `/api/v1`, with a longer timeout because the server waits for every node.
    pub(super) async fn remove(&self, path: &str) -> Result<Value, CommandFailure> {
        self.send(client()?.delete(self.at(path)), Timing::from_environment().call).await
    }

    fn at(&self, path: &str) -> String {
        format!("{}/api/v1{path}", self.url.trim_end_matches('/'))
    }

    /// Opens a stream of events at `path` below `/api/v1`. It has no timeout; the reader sets one.
    pub(super) async fn stream(&self, path: &str) -> Result<Response, CommandFailure> {
        let request = authorized(client()?.get(self.at(path)).header("accept", "text/event-stream"));
        let outcome = tokio::time::timeout(Timing::from_environment().call, request.send()).await;
        let late = |_| Exit::Unreachable.with_message(format!("{} does not respond", self.url));
        let response = outcome.map_err(late)?.map_err(|error| unsent(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refusal(response).await)
    }

    async fn send(&self, request: RequestBuilder, wait: Duration) -> Result<Value, CommandFailure> {
        let response = send(authorized(request), Timing::from_environment().call + wait).await?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let body = response.bytes().await.map_err(|error| Exit::Unreachable.with_message(reason(&error)))?;
        Ok(serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn refusal(&self, response: Response) -> CommandFailure {
        let status = response.status();
        let body = response.bytes().await.unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let error = &body["error"];
        Exit::Failed.with_message(match (error["message"].as_str(), error["code"].as_str()) {
            (Some(message), Some(code)) => format!("{message} ({code})"),
            _ => format!("{} responded with {status}: check that it serves the server API", self.url),
        })
    }
}

fn authorized(request: RequestBuilder) -> RequestBuilder {
    match std::env::var("PAGEWIRE_API_KEY") {
        Ok(key) if !key.is_empty() => request.bearer_auth(key),
        _ => request,
    }
}

/// Percent-encodes a text for a path segment or a query value.
pub(crate) fn escape(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Encodes a user as a path segment. A user that a path cannot carry becomes `~<base64url>`.
pub(crate) fn segment(user: &str) -> String {
    match user {
        "." | ".." => format!("~{}", URL_SAFE_NO_PAD.encode(user)),
        user if user.starts_with('~') || user.contains('/') => format!("~{}", URL_SAFE_NO_PAD.encode(user)),
        user => escape(user),
    }
}

/// Creates an HTTP client that trusts the system's root certificates and uses no proxy.
pub(super) fn client() -> Result<Client, CommandFailure> {
    tls::install();
    Client::builder().no_proxy().build().map_err(|error| Exit::Failed.with_message(reason(&error)))
}

/// Sends a request. If no response arrives within the timeout, the server counts as unreachable.
pub(super) async fn send(request: RequestBuilder, within: Duration) -> Result<Response, CommandFailure> {
    request.timeout(within).send().await.map_err(|error| unsent(&error))
}

fn unsent(error: &reqwest::Error) -> CommandFailure {
    if error.is_builder() {
        return Exit::Usage.with_message(format!("not an address: {}", reason(error)));
    }
    let url = error.url().map(ToString::to_string).unwrap_or_default();
    Exit::Unreachable.with_message(format!("{url} cannot be reached: {}", reason(error)))
}

/// Returns the innermost cause of an error, because the outer layers add nothing.
fn reason(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(below) = innermost.source() {
        innermost = below;
    }
    innermost.to_string()
}
