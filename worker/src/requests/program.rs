//! Requests of programs beside an application, which no node has started: tasks, periodic commands, consoles.
//!
//! Owns: how many of them run at a time at a node, and which of them end with their caller. Never: who may make them, or how
//! they arrive.

use std::sync::Arc;

use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::wire::HandlerError;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tracing::Instrument;

use super::{MAX_OPEN, MAX_VALUE, answer};
use crate::effects::application::Applications;
use crate::handlers::HandlerResult;
use crate::outgoing::WorkIdentity;

/// Answers the requests of programs at one node, in the name of the application. Cheap to clone.
#[derive(Clone)]
pub struct ProgramRequests {
    applications: Arc<Applications>,
    open: Arc<Semaphore>,
}

impl ProgramRequests {
    /// Creates it with the effects of the applications of the node.
    pub fn new(applications: Arc<Applications>) -> Self {
        Self { applications, open: Arc::new(Semaphore::new(MAX_OPEN)) }
    }

    /// Answers a request as that of a child that serves HTTP, without work. If this is dropped, a call is cancelled and a
    /// wait for a lock ends; any other request runs to its end, so that no change is left half made.
    ///
    /// # Errors
    ///
    /// Those of [`answer`]; `rate_limited` for more than 256 at a time, and `too_large` for a value over 1 MiB.
    pub async fn answer(&self, method: String, params: Box<RawValue>) -> HandlerResult {
        let permit = self.open.clone().try_acquire_owned().map_err(|_| {
            let message = format!("programs have at most {MAX_OPEN} requests at a time at a node");
            HandlerError::new(ErrorCode::RateLimited, message)
        })?;
        let effects = self.applications.begin()?;
        let waits = waits_for_others(&method);
        let answering = async move {
            let value = answer(&effects, &WorkIdentity::default(), &method, &params).await;
            drop(permit);
            value
        };
        if waits {
            return fitting(answering.await?);
        }
        let ended = |_| HandlerError::new(ErrorCode::Internal, "the request has ended without an answer");
        fitting(tokio::spawn(answering.in_current_span()).await.map_err(ended)??)
    }
}

/// Returns whether a request only waits for somebody else, who is not needed any more when its caller has gone.
fn waits_for_others(method: &str) -> bool {
    matches!(method, "call" | "lock.acquire")
}

/// Returns a value if it has the size that a child could receive.
fn fitting(value: Box<RawValue>) -> HandlerResult {
    if value.get().len() <= MAX_VALUE {
        return Ok(value);
    }
    Err(HandlerError::new(ErrorCode::TooLarge, "the answer has more than 1 MiB"))
}
