//! Durable jobs: submitting, reading, cancelling, and waiting for the end.
//!
//! Owns: the requests `job.*`. Never: which worker runs a job.

use std::pin::Pin;
use std::time::Duration;

use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::wire::HandlerError;
use pagewire_cluster::worker::ExecMode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::asker::{Asker, json_of, unreadable};
use super::fail::RequestError;

/// The pauses between two looks whether a job has ended are within these, and at most a quarter of the time so far.
const PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_secs(1)];

/// Durable jobs: each is run until it has exactly one end.
#[derive(Clone)]
pub struct Jobs {
    asker: Asker,
}

/// A job as it is stored.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Job {
    /// Its id.
    pub id: String,
    /// Name of its handler.
    pub kind: String,
    /// `scheduled`, `queued`, `running`, `cancelling`, or its end: `succeeded`, `failed`, `cancelled`, `dead`.
    pub state: String,
    /// How often it has been started.
    #[serde(default)]
    pub attempts: u32,
    /// Result of its handler, if it has succeeded.
    #[serde(default)]
    pub result: Option<Value>,
    #[serde(default)]
    error: Option<StoredError>,
    #[serde(default)]
    progress: Option<StoredProgress>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct StoredError {
    code: String,
    message: String,
    #[serde(default)]
    retryable: bool,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
enum StoredProgress {
    Whole {
        progress: f64,
        #[serde(default)]
        message: Option<String>,
    },
    Number(f64),
}

impl Job {
    /// Returns whether the job has ended.
    pub fn is_over(&self) -> bool {
        ["succeeded", "failed", "cancelled", "dead"].contains(&self.state.as_str())
    }

    /// Returns the last reported progress, from 0 to 1.
    pub fn progress(&self) -> Option<f64> {
        match self.progress.as_ref()? {
            StoredProgress::Whole { progress, .. } | StoredProgress::Number(progress) => Some(*progress),
        }
    }

    /// Returns the message of the last reported progress.
    pub fn progress_message(&self) -> Option<&str> {
        match self.progress.as_ref()? {
            StoredProgress::Whole { message, .. } => message.as_deref(),
            StoredProgress::Number(_) => None,
        }
    }

    /// Returns the error of a job that has not succeeded.
    pub fn error(&self) -> Option<RequestError> {
        let StoredError { code, message, retryable } = self.error.clone()?;
        Some(RequestError::of(HandlerError { code, message, retryable }))
    }

    /// Returns the result of a job that has succeeded.
    ///
    /// # Errors
    ///
    /// The error of the job if it has not succeeded, `internal` if the result has another type than `R`.
    pub fn into_result<R: DeserializeOwned>(self) -> Result<R, RequestError> {
        if self.state == "succeeded" {
            return serde_json::from_value(self.result.unwrap_or_default()).map_err(unreadable);
        }
        let message = format!("the job {} is {}", self.id, self.state);
        Err(self.error().unwrap_or_else(|| RequestError::new(ErrorCode::Failed, message)))
    }
}

#[derive(Deserialize)]
struct SubmittedReply {
    job: String,
}

#[derive(Deserialize)]
struct StateReply {
    state: String,
}

impl Jobs {
    pub(super) const fn new(asker: Asker) -> Self {
        Self { asker }
    }

    /// Prepares a job for the handler `kind`. It is submitted by `.await`, which returns its id when the job is durable.
    pub fn submit(&self, kind: &str, data: &impl Serialize) -> Submission {
        let params = json_of("the data of the job", data)
            .map(|data| Map::from_iter([("kind".to_owned(), json!(kind)), ("data".to_owned(), data)]));
        Submission { asker: self.asker.clone(), params }
    }

    /// Returns a job.
    ///
    /// # Errors
    ///
    /// `unknown` if there is no such job, or if it ended and is not kept any more.
    pub async fn get(&self, id: &str) -> Result<Job, RequestError> {
        self.asker.ask("job.get", json!({ "job": id })).await
    }

    /// Cancels a job and returns its state. A job that runs is `cancelling` until its handler has stopped.
    ///
    /// # Errors
    ///
    /// `conflict` if the job has ended; `unknown` as for [`Jobs::get`].
    pub async fn cancel(&self, id: &str) -> Result<String, RequestError> {
        Ok(self.asker.ask::<StateReply>("job.cancel", json!({ "job": id })).await?.state)
    }

    /// Waits for the end of a job and returns the job.
    ///
    /// # Errors
    ///
    /// `timeout` if it has not ended within this time; `unknown` as for [`Jobs::get`].
    pub async fn wait(&self, id: &str, within: Duration) -> Result<Job, RequestError> {
        let begun = Instant::now();
        loop {
            let job = self.get(id).await?;
            let passed = begun.elapsed();
            if job.is_over() {
                return Ok(job);
            }
            let Some(left) = within.checked_sub(passed).filter(|left| !left.is_zero()) else {
                let message = format!("the job {id} is still {}", job.state);
                return Err(RequestError::new(ErrorCode::Timeout, message));
            };
            tokio::time::sleep((passed / 4).clamp(PAUSES[0], PAUSES[1]).min(left)).await;
        }
    }
}

/// A job that is submitted by `.await`, which returns its id.
#[must_use = "a job is submitted by `.await`"]
pub struct Submission {
    asker: Asker,
    params: Result<Map<String, Value>, RequestError>,
}

impl Submission {
    fn with(mut self, name: &str, value: Value) -> Self {
        if let Ok(params) = &mut self.params {
            params.insert(name.to_owned(), value);
        }
        self
    }

    /// Lets the job run for this user. Without it, a job of a handler runs for the user of its work.
    pub fn user(self, user: &str) -> Self {
        self.with("user", json!(user))
    }

    /// Lets the job run for no user.
    pub fn no_user(self) -> Self {
        self.with("user", Value::Null)
    }

    /// Lets any executor run the job.
    pub fn any(self) -> Self {
        self.with("exec_mode", json!(ExecMode::Any))
    }

    /// Lets the executor run the job that its user is assigned to.
    pub fn assigned(self) -> Self {
        self.with("exec_mode", json!(ExecMode::Assigned))
    }

    /// Sets the pool of workers.
    pub fn pool(self, pool: &str) -> Self {
        self.with("pool", json!(pool))
    }

    /// Puts the job off for this time.
    pub fn delay(self, delay: Duration) -> Self {
        self.with("run_in_ms", json!(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Sets how often the job is tried again after a failure.
    pub fn retries(self, retries: u32) -> Self {
        self.with("retries", json!(retries))
    }

    /// Sets the idempotency key: a second job with the same key within a day is the first one.
    pub fn key(self, key: &str) -> Self {
        self.with("idempotency_key", json!(key))
    }
}

impl IntoFuture for Submission {
    type Output = Result<String, RequestError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let reply: SubmittedReply = self.asker.ask("job.submit", self.params?.into()).await?;
            Ok(reply.job)
        })
    }
}
