//! A client of the server API, for programs that run no handlers.
//!
//! Owns: the address of a node and the key. Never: connections to browsers.

use std::fmt;
use std::sync::Arc;

use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::timing::Timing;
use pagewire_worker::tls;
use serde::Serialize;

use super::asker::Asker;
use super::fail::RequestError;
use super::http_api::HttpApi;
use super::jobs::Jobs;
use super::outgoing_call::Call;
use super::recipients::{Reach, To, send};
use super::tree::{Level, Tree};

/// A client of the server API of a node. Cheap to clone; the clones share their connections.
#[derive(Clone)]
pub struct Client {
    api: HttpApi,
}

impl Client {
    /// Creates a client of a node, for example of `http://127.0.0.1:8080`. It uses no proxy.
    ///
    /// # Errors
    ///
    /// When the system's certificates cannot be used.
    pub fn new(url: &str) -> Result<Self, RequestError> {
        tls::install();
        let client = reqwest::Client::builder().no_proxy().build();
        let client = client.map_err(|error| RequestError::new(ErrorCode::Internal, error.to_string()))?;
        let (url, timing) = (url.trim_end_matches('/').to_owned(), Timing::from_environment());
        Ok(Self { api: HttpApi { client, url, key: None, timing } })
    }

    /// Creates the client of the node at `PAGEWIRE_URL` (<http://127.0.0.1:8080> without it) with the key in
    /// `PAGEWIRE_API_KEY`.
    ///
    /// # Errors
    ///
    /// As for [`Client::new`].
    pub fn from_environment() -> Result<Self, RequestError> {
        let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        let url = variable("PAGEWIRE_URL");
        let client = Self::new(url.as_deref().unwrap_or("http://127.0.0.1:8080"))?;
        Ok(match variable("PAGEWIRE_API_KEY") {
            Some(key) => client.key(&key),
            None => client,
        })
    }

    /// Sets the API key or token that the requests carry.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        self.api.key = Some(key.to_owned());
        self
    }

    /// Returns the address of the node.
    pub fn url(&self) -> &str {
        &self.api.url
    }

    fn asker(&self) -> Asker {
        Asker::Http(Arc::new(self.api.clone()))
    }

    /// Sends a message to pages.
    ///
    /// # Errors
    ///
    /// The refusal of the server, or `unavailable` if it cannot be reached.
    pub async fn send(&self, to: To<'_>, payload: &impl Serialize) -> Result<Reach, RequestError> {
        send(&self.asker(), to, payload).await
    }

    /// Prepares a call of a handler, which is made by `.await`.
    pub fn call<R>(&self, method: &str, params: &impl Serialize) -> Call<R> {
        Call::new(self.asker(), method, params)
    }

    /// Returns the durable jobs.
    pub fn jobs(&self) -> Jobs {
        Jobs::new(self.asker())
    }

    /// Returns the state tree of a user, connection, session or page.
    pub fn tree_of(&self, level: Level, id: &str) -> Tree {
        Tree::new(self.asker(), level, Some(id.to_owned()))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("url", &self.api.url).finish_non_exhaustive()
    }
}
