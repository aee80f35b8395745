//! The handlers of a backend.
//!
//! Owns: one piece of work from its request to its result, its time-out and its end on request. Never: how many pieces of
//! work run at a time, which the slots of the worker limit.

use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pagewire_cluster::clock;
use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::job::MAX_CONTENT;
use pagewire_cluster::timing::Timing;
use pagewire_cluster::wire::HandlerError;
use reqwest::header::{DATE, HeaderName, RETRY_AFTER};
use reqwest::{Client, Response, Url};
use serde::Serialize;

use super::backend_answer::{BackendAnswer, MAX_ERROR, failed};
use super::callbacks::Callbacks;
use super::options::HttpOptions;
use super::redirects::{CheckedResolver, RefusedRedirect, policy};
use super::work_request::{body, headers};
use crate::handlers::{
    HandlerInput, HandlerOptions, Handlers, HandlersBuilder, RunFailure, RunResult, WorkUnit,
};
use crate::tls;

/// Maximum bytes of the result of a call, as of a child process.
const MAX_RESULT: usize = 1024 * 1024;

/// A pool of handlers behind HTTP. Cheap to clone.
#[derive(Clone)]
pub struct HttpPool(Arc<Backend>);

/// Why a pool cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidBackend(pub(super) String);

impl fmt::Display for InvalidBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for InvalidBackend {}

/// What a backend has done for this process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HttpPoolStatus {
    /// Requests that have ended.
    pub requests: u64,
    /// Requests without a result, errors of handlers included.
    pub failures: u64,
    /// Why the last request without a complete response has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

struct Backend {
    options: HttpOptions,
    url: Url,
    client: Client,
    callbacks: Callbacks,
    timing: Timing,
    requests: AtomicU64,
    failures: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl HttpPool {
    /// Creates the pool of a backend. Its work may report progress to `callbacks`.
    ///
    /// # Errors
    ///
    /// When the URL is not of the form `http://host/path`.
    pub fn new(options: HttpOptions, callbacks: Callbacks, timing: Timing) -> Result<Self, InvalidBackend> {
        let invalid =
            |problem: &str| InvalidBackend(format!("{:?} is not a URL of a backend: {problem}", options.url));
        let url: Url = options.url.parse().map_err(|_| invalid("it has the form http://host/path"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(invalid("it has the form http://host/path"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("it has no user and no password; use `secret`"));
        }
        tls::install();
        let client = Client::builder()
            // a proxy would resolve names by itself
            .no_proxy()
            .redirect(policy(url.clone()))
            .dns_resolver(Arc::new(CheckedResolver::new(&url)))
            .connect_timeout(timing.backend_connect)
            .pool_idle_timeout(timing.backend_idle)
            .pool_max_idle_per_host(options.slots as usize)
            .user_agent(concat!("pagewire/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| invalid(&innermost(&error).to_string()))?;
        let (requests, failures) = (AtomicU64::new(0), AtomicU64::new(0));
        let last_error = Mutex::default();
        Ok(Self(Arc::new(Backend {
            options,
            url,
            client,
            callbacks,
            timing,
            requests,
            failures,
            last_error,
        })))
    }

    /// Returns the handlers of the backend.
    pub fn handlers(&self) -> Handlers {
        // dropping the future ends the work as well, but then nothing is known of its end
        let options = HandlerOptions { stops: true, ..HandlerOptions::default() };
        let add = |builder: HandlersBuilder, name: &String| {
            let (backend, name) = (self.0.clone(), name.clone());
            builder.runtime(&name.clone(), options, move |input| {
                let (backend, name) = (backend.clone(), name.clone());
                async move { backend.run(&name, input).await }
            })
        };
        self.0.options.methods.iter().fold(HandlersBuilder::default(), add).build()
    }

    /// Returns what the backend has done for this process.
    pub fn status(&self) -> HttpPoolStatus {
        let [requests, failures] =
            [&self.0.requests, &self.0.failures].map(|count| count.load(Ordering::Relaxed));
        let last_error = self.0.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        HttpPoolStatus { requests, failures, last_error }
    }
}

impl Backend {
    /// Runs a handler to its end. If this is dropped, the request is closed.
    async fn run(&self, method: &str, mut input: HandlerInput) -> RunResult {
        let within = input.time_limit(self.options.timeout, &self.timing);
        let mut stop = std::mem::take(&mut input.stop);
        let result = tokio::select! {
            result = self.exchange(method, &input, within) => result,
            _ = stop.requested() => return Err(RunFailure::Stopped),
            () = tokio::time::sleep(within) => {
                let message = format!("{method} took longer than {} ms", within.as_millis());
                self.record_error(&message);
                Err(RunFailure::Failed(HandlerError::new(ErrorCode::Timeout, message)))
            }
        };
        self.requests.fetch_add(1, Ordering::Relaxed);
        if result.is_err() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    fn record_error(&self, error: &str) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_owned());
    }

    /// Sends the request of a piece of work and reads the response.
    async fn exchange(&self, method: &str, input: &HandlerInput, within: Duration) -> RunResult {
        let is_job = input.unit != WorkUnit::Call;
        // valid until the response is complete
        let listener = match self.options.callback.as_str() {
            "" => self.callbacks.listener(),
            url => Some(url),
        };
        let address =
            listener.filter(|_| is_job).map(|url| (self.callbacks.open(input.reporter.clone()), url));
        let callback = address.as_ref().map(|(address, url)| address.url(url));
        let body = body(method, input, callback).map_err(|error| {
            RunFailure::Failed(HandlerError::new(ErrorCode::Malformed, error.to_string()))
        })?;
        let now = clock::unix().as_secs();
        let headers = headers(&body, &self.options.secret, now, within, input.trace.as_deref());
        let sent = self.client.post(self.url.clone()).headers(headers).body(body).send().await;
        let response = sent.map_err(|error| self.unanswered(method, &error))?;
        let limit = if is_job { MAX_CONTENT } else { MAX_RESULT };
        self.read(response, limit).await.map_err(|error| error.failure(self, method, limit))?.result(method)
    }

    /// Returns the failure of a request without a complete response.
    fn unanswered(&self, method: &str, error: &reqwest::Error) -> RunFailure {
        let (pool, reason) = (&self.options.pool, innermost(error).to_string());
        tracing::warn!(pool, method, url = %self.url, reason, "a request to the backend has failed");
        self.record_error(&reason);
        RunFailure::Failed(match innermost(error).is::<RefusedRedirect>() {
            // it will be the same next time
            true => failed(
                format!("the backend of pool {pool} answered with {reason}, which is not followed"),
                false,
            ),
            false => failed(format!("the backend of pool {pool} does not answer: {reason}"), true),
        })
    }

    async fn read(&self, mut response: Response, limit: usize) -> Result<BackendAnswer, ReadError> {
        let status = response.status();
        let header = |name: HeaderName| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        let (retry_after, date) = (header(RETRY_AFTER), header(DATE));
        let limit = if status.is_success() { limit } else { MAX_ERROR };
        let body = match read_limited(&mut response, limit).await {
            // the text of a proxy, perhaps; the status is enough
            Err(ReadError::TooLarge) if !status.is_success() => Bytes::new(),
            read => read?,
        };
        Ok(BackendAnswer { status, retry_after, date, body })
    }
}

/// Why a response has no complete body.
enum ReadError {
    TooLarge,
    Broken(reqwest::Error),
}

impl ReadError {
    fn failure(self, backend: &Backend, method: &str, limit: usize) -> RunFailure {
        match self {
            Self::TooLarge => {
                let message = format!("the result of {method} has more than {limit} bytes");
                RunFailure::Failed(HandlerError::new(ErrorCode::TooLarge, message))
            }
            Self::Broken(error) => backend.unanswered(method, &error),
        }
    }
}

/// Reads a body of at most `limit` bytes.
async fn read_limited(response: &mut Response, limit: usize) -> Result<Bytes, ReadError> {
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(ReadError::TooLarge);
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(ReadError::Broken)? {
        if body.len() + chunk.len() > limit {
            return Err(ReadError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// Returns the innermost cause of an error, because the outer layers add only the URL, which is not for pages.
fn innermost(error: &reqwest::Error) -> &(dyn Error + 'static) {
    let mut innermost: &(dyn Error + 'static) = error;
    while let Some(below) = innermost.source() {
        innermost = below;
    }
    innermost
}
