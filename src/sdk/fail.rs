//! How a handler ends without a result, and why a request is refused.
//!
//! Owns: which error lets a job try again. Never: when it does so, which its worker decides.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::timing::LONGEST_DELAY;
use pagewire_cluster::wire::HandlerError;
use pagewire_worker::handlers::RunFailure;

/// The most bytes of a message that is stored and sent to pages.
const MESSAGE: usize = 4_000;

/// A request that was refused or has failed: a code for programs, a message for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestError {
    code: String,
    message: String,
    retryable: bool,
    status: Option<u16>,
}

impl RequestError {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::of(HandlerError::new(code, message))
    }

    /// Returns the error of a reply.
    pub(super) fn of(error: HandlerError) -> Self {
        let HandlerError { code, message, retryable } = error;
        Self { code, message, retryable, status: None }
    }

    pub(super) fn with_status(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }

    /// Returns the code, for example `no_executor`. The codes are listed in `docs/protocol.md`; a handler may have codes
    /// of its own.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Returns the text for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns whether the same request can succeed later.
    pub const fn is_retryable(&self) -> bool {
        self.retryable
    }

    /// Returns whether another writer has changed the value since it was read.
    pub fn is_conflict(&self) -> bool {
        self.code == ErrorCode::Conflict.text()
    }

    /// Returns the status of the response, if a [`Client`](crate::Client) got the error from the server.
    pub const fn status(&self) -> Option<u16> {
        self.status
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl Error for RequestError {}

/// The end of a handler without a result.
///
/// Any error becomes one with `?`, as `anyhow::Error` does it: that of a request keeps its code, every other one has the
/// code `failed`, and a job is tried again after it if it has retries left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fail {
    code: String,
    message: String,
    next: NextTry,
}

/// What becomes of the work after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextTry {
    Never,
    /// With the delay, or with that of the server.
    Again(Option<Duration>),
    PutOff(Duration),
    Stopped,
}

impl Fail {
    /// Creates a failure for good, with a code of the handler's own. A job is not tried again.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), next: NextTry::Never }
    }

    /// Creates a failure after which a job is tried again, if it has retries left.
    pub fn retry(message: impl Into<String>) -> Self {
        Self { next: NextTry::Again(None), ..Self::new(ErrorCode::Failed.text(), message) }
    }

    /// Lets a job be tried again, if it has retries left, not before this time has passed.
    #[must_use]
    pub fn retry_after(self, delay: Duration) -> Self {
        Self { next: NextTry::Again(Some(delay.min(LONGEST_DELAY))), ..self }
    }

    /// Creates the end of an attempt that puts its job off for this time. It does not count as an attempt.
    pub fn snooze(delay: Duration) -> Self {
        let message = "the handler has put its job off";
        let next = NextTry::PutOff(delay.min(LONGEST_DELAY));
        Self { next, ..Self::new(ErrorCode::Failed.text(), message) }
    }

    pub(super) fn stopped() -> Self {
        Self { next: NextTry::Stopped, ..Self::new(ErrorCode::Failed.text(), "the work has to stop") }
    }

    /// Returns the code.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Returns the text for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns whether a job is tried again after this failure.
    pub const fn is_retryable(&self) -> bool {
        matches!(self.next, NextTry::Again(_))
    }

    /// Returns what the worker is told.
    pub(super) fn into_failure(self) -> RunFailure {
        let retryable = self.is_retryable();
        let error = HandlerError { code: self.code, message: cut(self.message), retryable };
        match self.next {
            NextTry::Never | NextTry::Again(None) => RunFailure::Failed(error),
            NextTry::Again(Some(delay)) => RunFailure::RetryAfter(error, delay),
            NextTry::PutOff(delay) => RunFailure::Snoozed(delay),
            NextTry::Stopped => RunFailure::Stopped,
        }
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Fail {
    fn from(error: E) -> Self {
        match (&error as &dyn Any).downcast_ref::<RequestError>() {
            // a conflict is resolved by running the handler again
            Some(refused) if refused.retryable || refused.is_conflict() => {
                Self { next: NextTry::Again(None), ..Self::new(&refused.code, &refused.message) }
            }
            Some(refused) => Self::new(&refused.code, &refused.message),
            None => Self::retry(with_causes(&error)),
        }
    }
}

/// Returns the text of an error, followed by those of its causes that it does not contain itself.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        let its = deeper.to_string();
        if !text.contains(&its) {
            text = format!("{text}: {its}");
        }
        cause = deeper.source();
    }
    text
}

fn cut(mut message: String) -> String {
    if message.len() > MESSAGE {
        message.truncate(message.floor_char_boundary(MESSAGE));
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(fail: impl Into<Fail>) -> RunFailure {
        fail.into().into_failure()
    }

    #[test]
    fn an_error_says_whether_a_job_is_tried_again() {
        let error = |code: &str, message: &str, retryable| {
            RunFailure::Failed(HandlerError { code: code.into(), message: message.into(), retryable })
        };
        assert_eq!(failure(Fail::new("no_stock", "sold out")), error("no_stock", "sold out", false));
        assert_eq!(failure(Fail::retry("closed")), error("failed", "closed", true));
        let broken = std::io::Error::other("broken");
        assert_eq!(failure(broken), error("failed", "broken", true));
        let conflict = RequestError::new(ErrorCode::Conflict, "changed");
        assert_eq!(failure(conflict), error("conflict", "changed", true));
        let wrong = RequestError::new(ErrorCode::Malformed, "wrong");
        assert_eq!(failure(wrong), error("malformed", "wrong", false));
    }

    #[test]
    fn a_delay_and_a_message_have_their_limits() {
        let late = failure(Fail::retry("later").retry_after(Duration::MAX));
        assert!(matches!(late, RunFailure::RetryAfter(_, LONGEST_DELAY)), "{late:?}");
        assert_eq!(failure(Fail::snooze(Duration::MAX)), RunFailure::Snoozed(LONGEST_DELAY));
        let RunFailure::Failed(long) = failure(Fail::new("long", "ä".repeat(MESSAGE))) else {
            panic!("a failure")
        };
        assert_eq!(long.message.len(), MESSAGE);
    }
}
