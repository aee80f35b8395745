//! The server API in the words of the child wire.
//!
//! Owns: from a request such as `state.get` to a request of HTTP, and from its response to the reply. Never: what a
//! request does.

use std::time::Duration;

use pagewire_cluster::clock;
use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::state::{ClientPath, Path, Tree as StoredTree};
use pagewire_cluster::timing::Timing;
use pagewire_cluster::wire::HandlerError;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::fail::RequestError;
use crate::cli::{escape, segment};

/// A connection to the server API of a node. Cheap to clone.
#[derive(Clone)]
pub(super) struct HttpApi {
    pub(super) client: reqwest::Client,
    pub(super) url: String,
    pub(super) key: Option<String>,
    pub(super) timing: Timing,
}

/// A request of HTTP.
#[derive(Debug, PartialEq)]
struct ApiRoute {
    verb: Method,
    path: String,
    body: Option<Value>,
}

/// A response of HTTP that is no error.
struct Answer {
    value: Value,
    /// The revision in its ETag.
    revision: u64,
}

impl HttpApi {
    /// Sends a request and returns its reply, in the shape of the child wire.
    pub(super) async fn ask(&self, method: &str, params: &Value) -> Result<Value, RequestError> {
        let answer = self.send(route(method, params)?, self.limit(params)).await;
        match method {
            "state.get" => match answer {
                Ok(Answer { value, revision }) => Ok(json!({ "value": value, "revision": revision })),
                Err(error)
                    if error.code() == ErrorCode::Unknown.text()
                        && params["path"].as_str().is_some_and(|path| !path.is_empty()) =>
                {
                    self.absent(params).await
                }
                Err(error) => Err(error),
            },
            "job.submit" => Ok(json!({ "job": answer?.value["id"] })),
            _ => Ok(answer?.value),
        }
    }

    /// Returns the reply for a path that has no value. It has a revision, too, which only the whole tree has.
    async fn absent(&self, params: &Value) -> Result<Value, RequestError> {
        let whole = json!({ "level": params["level"], "id": params["id"] });
        let Answer { value, revision } = self.send(route("state.get", &whole)?, self.timing.call).await?;
        let mut tree = StoredTree::default();
        let found = params["path"].as_str().unwrap_or_default().parse::<ClientPath>().and_then(|path| {
            tree.set(&Path::default(), value)?;
            tree.resolve(&path)
        });
        // it may have been written meanwhile
        let value = found.ok().and_then(|path| tree.get(&path));
        Ok(match value {
            Some(value) => json!({ "value": value, "revision": revision }),
            None => json!({ "revision": revision }),
        })
    }

    /// Returns the time limit of a request: that of a call is its own one.
    fn limit(&self, params: &Value) -> Duration {
        let own = params["timeout_ms"].as_u64().map(Duration::from_millis).unwrap_or_default();
        self.timing.call.saturating_add(own)
    }

    async fn send(&self, route: ApiRoute, within: Duration) -> Result<Answer, RequestError> {
        let ApiRoute { verb, path, body } = route;
        let request = self.client.request(verb, format!("{}/api/v1{path}", self.url)).timeout(within);
        let request = match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        };
        let request = match &body {
            Some(body) => request.json(body),
            None => request,
        };
        let response = request.send().await.map_err(|error| self.unsent(&error))?;
        let (status, revision) = (response.status(), revision(&response));
        let bytes = response.bytes().await.map_err(|error| self.unsent(&error))?;
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if status.is_success() {
            Ok(Answer { value, revision })
        } else {
            Err(refusal(status.as_u16(), &value))
        }
    }

    fn unsent(&self, error: &reqwest::Error) -> RequestError {
        let mut cause: &dyn std::error::Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        let url = &self.url;
        match error.is_builder() {
            true => RequestError::new(ErrorCode::Malformed, format!("{url} is not an address: {cause}")),
            false => RequestError::new(ErrorCode::Unavailable, format!("{url} cannot be reached: {cause}")),
        }
    }
}

/// Returns the revision in the ETag of a response.
fn revision(response: &Response) -> u64 {
    let tag = response.headers().get("etag").and_then(|tag| tag.to_str().ok());
    tag.and_then(|tag| tag.trim_matches('"').parse().ok()).unwrap_or_default()
}

fn refusal(status: u16, body: &Value) -> RequestError {
    let error = serde_json::from_value::<HandlerError>(body["error"].clone());
    let error = error.unwrap_or_else(|_| HandlerError {
        code: ErrorCode::Internal.text().to_owned(),
        message: format!("the server answered with the status {status}"),
        retryable: status >= 500,
    });
    RequestError::of(error).with_status(status)
}

fn route(method: &str, params: &Value) -> Result<ApiRoute, RequestError> {
    let text = |name: &str| params[name].as_str().unwrap_or_default();
    let (verb, path, body) = match method {
        "state.get" if text("path").is_empty() => (Method::GET, tree(params), None),
        "state.get" => (Method::GET, format!("{}/{}", tree(params), escape(text("path"))), None),
        "state.patch" => (Method::PATCH, tree(params), Some(write(params))),
        "push.send" => (Method::POST, "/send".to_owned(), Some(params.clone())),
        "job.submit" => (Method::POST, "/jobs".to_owned(), Some(submission(params))),
        "job.get" => (Method::GET, format!("/jobs/{}", escape(text("job"))), None),
        "job.cancel" => (Method::POST, format!("/jobs/{}/cancel", escape(text("job"))), Some(json!({}))),
        "call" => (Method::POST, "/calls".to_owned(), Some(params.clone())),
        _ => {
            let message = format!("the server API has no request {method}");
            return Err(RequestError::new(ErrorCode::Unsupported, message));
        }
    };
    Ok(ApiRoute { verb, path, body })
}

fn tree(params: &Value) -> String {
    let text = |name: &str| params[name].as_str().unwrap_or_default();
    let id = match text("level") {
        "user" => segment(text("id")),
        _ => escape(text("id")),
    };
    format!("/{}s/{id}/data", text("level"))
}

fn write(params: &Value) -> Value {
    match params.get("if_revision") {
        Some(revision) => json!({ "changes": params["changes"], "if_revision": revision }),
        None => json!({ "changes": params["changes"] }),
    }
}

fn submission(params: &Value) -> Value {
    let mut body = params.clone();
    if let Some(members) = body.as_object_mut()
        && let Some(delay) = members.remove("run_in_ms").and_then(|delay| delay.as_u64())
    {
        let due = OffsetDateTime::from(clock::wall())
            .saturating_add(time::Duration::milliseconds(i64::try_from(delay).unwrap_or(i64::MAX)));
        members.insert("run_at".to_owned(), json!(due.format(&Rfc3339).unwrap_or_default()));
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_its_path_and_body_in_the_server_api() {
        for (method, params, verb, path, body) in [
            (
                "state.get",
                json!({"level": "user", "id": "a/b", "path": "x.ä"}),
                Method::GET,
                "/users/~YS9i/data/x.%C3%A4",
                None,
            ),
            (
                "state.patch",
                json!({"level": "page", "id": "p|p01", "changes": [], "if_revision": 3}),
                Method::PATCH,
                "/pages/p%7Cp01/data",
                Some(json!({"changes": [], "if_revision": 3})),
            ),
            ("job.cancel", json!({"job": "j"}), Method::POST, "/jobs/j/cancel", Some(json!({}))),
            ("call", json!({"method": "sum"}), Method::POST, "/calls", Some(json!({"method": "sum"}))),
        ] {
            let expected = ApiRoute { verb, path: path.to_owned(), body };
            assert_eq!(route(method, &params).ok(), Some(expected), "{method}");
        }
        assert_eq!(
            route("lock.acquire", &json!({})).map_err(|error| error.code().to_owned()).err().as_deref(),
            Some("unsupported")
        );
        let delayed = submission(&json!({"kind": "k", "run_in_ms": 1000}));
        assert!(delayed["run_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{delayed}");
    }
}
