//! How the run of a handler has ended.
//!
//! Owns: the ways to end, and the error that each of them is for a call. Never: what follows for a job (`attempt`).

use std::time::Duration;

use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::wire::{CallAnswer, HandlerError};
use serde_json::value::RawValue;

/// Why a handler has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunFailure {
    /// The handler returned an error.
    Failed(HandlerError),
    /// The handler returned an error, and a job is tried again after this time instead of the usual one.
    RetryAfter(HandlerError, Duration),
    /// The handler puts its job off for this time; the attempt does not count. A call cannot be put off.
    Snoozed(Duration),
    /// The handler has stopped, because it was asked to.
    Stopped,
    /// The executor ends before the handler does; the work has not failed.
    Returned,
    /// The executor that the object of a resident page lived in is gone; the work has not begun.
    NoObject,
    /// The executor that ran the handler died.
    Lost {
        /// Whether the executor ran nothing else.
        alone: bool,
        /// Last lines of its log.
        log: String,
    },
}

impl RunFailure {
    /// Returns the error of a call that has no result; `None` when its executor is gone.
    pub fn call_error(self) -> Option<HandlerError> {
        self.error_of("a call")
    }

    /// Returns the error of work that is no job, such as `a call`, which cannot be put off; `None` when its executor is gone.
    pub(crate) fn error_of(self, work: &str) -> Option<HandlerError> {
        match self {
            Self::Failed(error) | Self::RetryAfter(error, _) => Some(error),
            Self::Snoozed(_) => {
                Some(HandlerError::new(ErrorCode::Failed, format!("{work} cannot be put off")))
            }
            Self::Stopped | Self::Returned | Self::NoObject | Self::Lost { .. } => None,
        }
    }

    /// Returns the answer to a call that has no result.
    pub(crate) fn call_answer(self) -> CallAnswer {
        self.call_error().map_or(CallAnswer::Lost, CallAnswer::Error)
    }
}

/// The result of a runtime that ran a handler.
pub type RunResult = Result<Box<RawValue>, RunFailure>;
