//! The message that starts a piece of work in a child.

use std::time::Duration;

use bytes::Bytes;
use pagewire_cluster::wire::{MoveReason, split_method};
use serde_json::value::RawValue;

use super::wire::{
    CallMessage, CallerMembers, CancelReason, FrameTooLarge, JobMessage, PageMessage, RpcMessage,
    SupervisorMessage, encode,
};
use crate::handlers::{HandlerInput, StopReason, WorkUnit};
use crate::object::ObjectStep;

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
    let (params, deadline_ms) = (&*input.params, within.as_millis() as u64);
    if let Some(work) = &input.object {
        return encode(&of_object(id, method, params, &work.step, deadline_ms, caller));
    }
    encode(&match input.unit {
        WorkUnit::Call => SupervisorMessage::Call(CallMessage { id, method, params, deadline_ms, caller }),
        WorkUnit::Job { id: job, attempt, left } => SupervisorMessage::Job(JobMessage {
            id,
            job: job.to_string(),
            method,
            params,
            attempt,
            left,
            timeout_ms: deadline_ms,
            caller,
        }),
    })
}

/// Returns the message for the object of a page.
fn of_object<'a>(
    id: u64,
    name: &'a str,
    params: &'a RawValue,
    step: &'a ObjectStep,
    deadline_ms: u64,
    caller: CallerMembers<'a>,
) -> SupervisorMessage<'a> {
    let (class, method) = split_method(name);
    let (event, why, saved): (_, Option<MoveReason>, _) = match step {
        ObjectStep::Call => {
            let rpc = RpcMessage { id, class, method, params, deadline_ms, caller };
            return SupervisorMessage::Rpc(rpc);
        }
        ObjectStep::Open => ("open", None, None),
        ObjectStep::Restore { why, saved } => ("restore", Some(*why), saved.as_deref()),
        ObjectStep::Away => ("away", None, None),
        ObjectStep::Back => ("back", None, None),
        ObjectStep::Save { why } => ("save", Some(*why), None),
        ObjectStep::Close => ("close", None, None),
    };
    SupervisorMessage::Page(PageMessage { id, event, class, why, saved, deadline_ms, caller })
}

impl From<StopReason> for CancelReason {
    fn from(reason: StopReason) -> Self {
        match reason {
            StopReason::Cancelled => Self::Cancelled,
            StopReason::Drain => Self::Drain,
        }
    }
}
