//! What the end of a handler says about its lane. Pure.
//!
//! Owns: which ends are faults of the handler. Never: the comparison of lanes (`pagewire_cluster::rollout::analysis`).
//!
//! An error with a code that the handler has chosen is an answer to its user, such as `no_stock`: no fault. So is the refusal
//! of arguments.

use std::time::Duration;

use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::job::{Affinity, Record};
use pagewire_cluster::rollout::RoutingKey;
use pagewire_cluster::rollout::analysis::{FinishedWork, LaneWork, WorkOutcome};
use pagewire_cluster::wire::{CallAnswer, HandlerError, WorkerCall};

use super::run_result::{RunFailure, RunResult};

/// Codes of errors that a handler has not chosen.
const FAULTS: [ErrorCode; 4] =
    [ErrorCode::Failed, ErrorCode::Timeout, ErrorCode::TooLarge, ErrorCode::Unavailable];

/// Returns what an attempt of a job says; `None` if the handler has not ended by itself.
pub(crate) fn attempt<'a>(record: &'a Record, result: &RunResult, ran: Duration) -> Option<FinishedWork<'a>> {
    let outcome = match result {
        Ok(_) => WorkOutcome::Served,
        Err(RunFailure::Failed(error) | RunFailure::RetryAfter(error, _)) => of_error(error),
        Err(RunFailure::Lost { .. }) => WorkOutcome::Crashed,
        Err(RunFailure::Snoozed(_) | RunFailure::Stopped | RunFailure::Returned | RunFailure::NoObject) => {
            return None;
        }
    };
    // the lane of assigned work is that of its user, which this process has decided
    let revision = (record.affinity == Affinity::Free).then_some(record.lane_rev);
    Some(FinishedWork { kind: LaneWork::Job, unit: record.routing_key(), revision, outcome, ran })
}

/// Returns what a call says; `None` if no handler has ended, or if the call has neither a user nor a connection.
pub(crate) fn call<'a>(call: &'a WorkerCall, answer: &CallAnswer, ran: Duration) -> Option<FinishedWork<'a>> {
    let outcome = match answer {
        CallAnswer::Value(_) => WorkOutcome::Served,
        CallAnswer::Error(error) => of_error(error),
        CallAnswer::Lost => WorkOutcome::Crashed,
        CallAnswer::NoHandler | CallAnswer::Busy | CallAnswer::Elsewhere { .. } => return None,
    };
    let unit = match (&call.user, call.connection) {
        (None, None) => return None,
        (user, connection) => RoutingKey::of(user.as_deref(), connection),
    };
    Some(FinishedWork { kind: LaneWork::Call, unit, revision: None, outcome, ran })
}

fn of_error(error: &HandlerError) -> WorkOutcome {
    let is_fault = FAULTS.iter().any(|code| code.text() == error.code);
    if is_fault { WorkOutcome::Failed } else { WorkOutcome::Served }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_the_user_is_no_fault_and_an_exception_is_one() {
        let outcome = |code: &str| {
            of_error(&HandlerError { code: code.into(), message: String::new(), retryable: false })
        };
        for code in ["no_stock", "malformed", "forbidden", "conflict"] {
            assert_eq!(outcome(code), WorkOutcome::Served, "{code}");
        }
        for code in ["failed", "timeout", "too_large"] {
            assert_eq!(outcome(code), WorkOutcome::Failed, "{code}");
        }
    }
}
