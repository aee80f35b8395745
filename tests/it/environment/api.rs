//! A client of the server API and the probes.

use std::time::Duration;

use pagewire_worker::tls;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use super::{SOON, eventually};

/// Timeout of a probe, like a load balancer's.
const PROBE: Duration = Duration::from_secs(2);

pub(crate) struct Api {
    client: Client,
    base: String,
    key: Option<String>,
}

impl Api {
    pub(crate) fn of(base: String) -> Self {
        tls::install();
        let client = Client::builder().no_proxy().timeout(SOON).build().expect("an HTTP client");
        Self { client, base, key: None }
    }

    pub(crate) fn with_key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// Prepares a request to any path.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, String) {
        let response = self.request(Method::GET, path).send().await.expect("an answer");
        (response.status(), response.text().await.expect("a body"))
    }

    pub(crate) async fn get_json(&self, path: &str) -> Value {
        let (status, body) = self.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error} in {body}"))
    }

    /// Sends `DELETE` to a path and returns any response.
    pub(crate) async fn delete(&self, path: &str) -> (StatusCode, Value) {
        let response = self.request(Method::DELETE, path).send().await.expect("an answer");
        (response.status(), response.json().await.expect("a JSON body"))
    }

    /// Sends a message and returns any response.
    pub(crate) async fn try_send(&self, to: Value, payload: Value) -> (StatusCode, Value) {
        let body = json!({"to": to, "payload": payload});
        let response =
            self.request(Method::POST, "/api/v1/send").json(&body).send().await.expect("an answer");
        (response.status(), response.json().await.expect("a JSON body"))
    }

    /// Sends a message and returns the report: `{reached, held, nodes, unreachable}`.
    pub(crate) async fn send(&self, to: Value, payload: Value) -> Value {
        let (status, body) = self.try_send(to, payload).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    }

    /// Waits until the node sees this number of workers.
    pub(crate) async fn sees_workers(&self, count: usize) {
        eventually("the node sees the workers", SOON, async || {
            let workers = self.get_json("/api/v1/workers").await;
            (workers["items"].as_array().expect("a list").len() == count).then_some(())
        })
        .await;
    }

    /// Returns whether the node is ready. A probe without a timely response has failed.
    pub(crate) async fn is_ready(&self) -> bool {
        let response = self.request(Method::GET, "/readyz").timeout(PROBE).send().await;
        response.is_ok_and(|response| response.status() == StatusCode::OK)
    }

    /// Returns one value of `/metrics` by its name and labels; 0 while it is absent.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let (status, page) = self.get("/metrics").await;
        assert_eq!(status, StatusCode::OK);
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0.0, |text| text.parse().expect("a number"))
    }
}
