//! Built-in handlers: a node runs them inline, and `pagewire worker` serves them without a program of its own.
//!
//! Owns: their names, arguments and results. Never: callers or retries.

mod hash;

use std::time::{Duration, Instant};

use pagewire_cluster::job::Reporter;
use pagewire_cluster::wire::HandlerError;
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::ExecutorError;
use crate::protocol::{self, CommandError, ErrorCode};
use pagewire_cluster::clock;

/// How often a handler that takes long reports its progress.
const STEP: Duration = Duration::from_millis(100);

/// A handler of this binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handler {
    /// Returns its argument.
    Echo,
    /// Adds an array of numbers.
    Sum,
    /// Returns the process's time as RFC 3339.
    Time,
    /// Waits `{"ms": n}`, with progress.
    Sleep,
    /// Fails with its argument as the message.
    Fail,
    /// CPU-bound work: SHA-256 of a text, repeated, with progress.
    Hash,
}

const ALL: [Handler; 6] =
    [Handler::Echo, Handler::Sum, Handler::Time, Handler::Sleep, Handler::Fail, Handler::Hash];

impl Handler {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Sum => "sum",
            Self::Time => "time",
            Self::Sleep => "sleep",
            Self::Fail => "fail",
            Self::Hash => "hash",
        }
    }
}

/// Returns the handler with that name.
pub(super) fn find(method: &str) -> Option<Handler> {
    ALL.into_iter().find(|handler| handler.name() == method)
}

/// Returns the names of all handlers.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.into_iter().map(Handler::name)
}

/// Runs a handler to its end. Dropping the future stops it.
pub(super) async fn run(
    handler: Handler,
    params: &RawValue,
    reporter: &Reporter,
) -> Result<Box<RawValue>, ExecutorError> {
    match handler {
        Handler::Echo => Ok(params.to_owned()),
        Handler::Sum => sum(params),
        Handler::Time => value(&OffsetDateTime::from(clock::wall()).format(&Rfc3339).unwrap_or_default()),
        Handler::Sleep => sleep(params, reporter).await,
        Handler::Fail => {
            let message = read::<Option<String>>(params)?.unwrap_or_else(|| "asked to fail".to_owned());
            Err(failed(message))
        }
        Handler::Hash => value(&hash::run(read(params)?, reporter).await?),
    }
}

/// Returns the error of a handler. A job is retried after it, because the same work may succeed later.
pub(super) fn failed(message: String) -> ExecutorError {
    ExecutorError::Failed(HandlerError {
        code: ErrorCode::Failed.text().to_owned(),
        message,
        retryable: true,
    })
}

async fn sleep(params: &RawValue, reporter: &Reporter) -> Result<Box<RawValue>, ExecutorError> {
    #[derive(Deserialize)]
    struct Sleep {
        ms: u64,
    }
    let (started, whole) = (Instant::now(), Duration::from_millis(read::<Sleep>(params)?.ms));
    while let Some(left) = whole.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) {
        tokio::time::sleep(left.min(STEP)).await;
        reporter.report(started.elapsed().as_secs_f64() / whole.as_secs_f64(), None);
    }
    value(&())
}

/// Adds numbers. Integers stay integers while they fit.
fn sum(params: &RawValue) -> Result<Box<RawValue>, ExecutorError> {
    if let Ok(whole) = read::<Vec<i64>>(params)
        && let Some(sum) = whole.into_iter().try_fold(0i64, i64::checked_add)
    {
        return value(&sum);
    }
    value(&read::<Vec<f64>>(params)?.into_iter().sum::<f64>())
}

fn read<'a, T: Deserialize<'a>>(params: &'a RawValue) -> Result<T, ExecutorError> {
    protocol::read(params.get().as_bytes())
        .map_err(|error| CommandError::new(ErrorCode::Malformed, error).into())
}

fn value(value: &impl serde::Serialize) -> Result<Box<RawValue>, ExecutorError> {
    to_raw_value(value).map_err(|error| CommandError::new(ErrorCode::Internal, error.to_string()).into())
}
