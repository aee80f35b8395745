//! Calls that run in this process without a worker.
//!
//! Owns: their number at the same time. Never: which calls run here (`placement`).

use std::sync::Arc;
use std::time::Duration;

use pagewire_worker::handlers::{HandlerInput, Handlers};
use serde_json::value::RawValue;
use tokio::sync::Semaphore;

use super::{CallRequest, ExecutorError, executor_lost, timed_out};
use crate::protocol::{CommandError, ErrorCode};
use crate::telemetry;

/// The most inline calls of a node at the same time. Further calls are rejected at once.
const INLINE_CALLS: usize = 1024;

/// Runs calls in this process. Cheap to clone.
#[derive(Clone)]
pub(super) struct InlineCalls {
    handlers: Handlers,
    permits: Arc<Semaphore>,
}

impl InlineCalls {
    pub(super) fn new(handlers: Handlers) -> Self {
        Self { handlers, permits: Arc::new(Semaphore::new(INLINE_CALLS)) }
    }

    /// Returns how many calls run.
    pub(super) fn running(&self) -> usize {
        INLINE_CALLS - self.permits.available_permits()
    }

    pub(super) async fn run(
        &self,
        call: CallRequest,
        within: Duration,
    ) -> Result<Box<RawValue>, ExecutorError> {
        let Ok(_permit) = self.permits.try_acquire() else {
            return Err(CommandError::new(ErrorCode::RateLimited, "too many calls at the same time").into());
        };
        let input = HandlerInput {
            user: call.user.as_deref().map(str::to_owned),
            page: call.page,
            session: call.session,
            connection: call.connection,
            within: Some(within),
            trace: telemetry::current_trace().map(|trace| trace.as_str().to_owned()),
            ..HandlerInput::call(call.params)
        };
        let run = self.handlers.run(&call.method, input);
        match tokio::time::timeout(within, run).await {
            Ok(outcome) => outcome.map_err(|failure| {
                failure.call_error().map_or_else(|| executor_lost().into(), ExecutorError::Failed)
            }),
            Err(_) => Err(timed_out().into()),
        }
    }
}
