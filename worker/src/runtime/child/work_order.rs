//! The message that starts a piece of work in a child.

use std::time::Duration;

use bytes::Bytes;

use super::wire::{
    CallMessage, CallerMembers, CancelReason, FrameTooLarge, JobMessage, SupervisorMessage, encode,
};
use crate::handlers::{HandlerInput, StopReason, WorkUnit};

/// Writes the message that starts work.
pub(super) fn order(
    id: u64,
    method: &str,
    input: &HandlerInput,
    within: Duration,
) -> Result<Bytes, FrameTooLarge> {
    let caller = CallerMembers {
        user: input.user.as_deref(),
        page: input.page.map(|page| page.to_string()),
        session: input.session.map(|session| session.to_string()),
        connection: input.connection.map(|connection| connection.to_string()),
        trace: input.trace.as_deref(),
    };
    let (params, within_ms) = (&*input.params, within.as_millis() as u64);
    encode(&match input.unit {
        WorkUnit::Call => {
            SupervisorMessage::Call(CallMessage { id, method, params, deadline_ms: within_ms, caller })
        }
        WorkUnit::Job { id: job, attempt, left } => SupervisorMessage::Job(JobMessage {
            id,
            job: job.to_string(),
            method,
            params,
            attempt,
            left,
            timeout_ms: within_ms,
            caller,
        }),
    })
}

impl From<StopReason> for CancelReason {
    fn from(reason: StopReason) -> Self {
        match reason {
            StopReason::Cancelled => Self::Cancelled,
            StopReason::Drain => Self::Drain,
        }
    }
}
