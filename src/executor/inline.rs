//! Handlers in this binary.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::protocol::{CommandError, ErrorCode};

/// A handler of this binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handler {
    /// Returns its argument.
    Echo,
    /// Adds an array of numbers.
    Sum,
    /// The node's time, RFC 3339.
    Time,
    /// Waits `{"ms": n}`.
    Sleep,
    /// Fails with its argument as the message.
    Fail,
}

const ALL: [Handler; 5] = [Handler::Echo, Handler::Sum, Handler::Time, Handler::Sleep, Handler::Fail];

impl Handler {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Sum => "sum",
            Self::Time => "time",
            Self::Sleep => "sleep",
            Self::Fail => "fail",
        }
    }
}

/// The handler of that name.
pub(super) fn find(method: &str) -> Option<Handler> {
    ALL.into_iter().find(|handler| handler.name() == method)
}

/// All names.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    ALL.into_iter().map(Handler::name)
}

/// Runs a handler to its end.
pub(super) async fn run(handler: Handler, params: Box<RawValue>) -> Result<Box<RawValue>, CommandError> {
    match handler {
        Handler::Echo => Ok(params),
        Handler::Sum => sum(&params),
        Handler::Time => value(&OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default()),
        Handler::Sleep => {
            #[derive(Deserialize)]
            struct Sleep {
                ms: u64,
            }
            let Sleep { ms } = read(&params)?;
            tokio::time::sleep(Duration::from_millis(ms)).await;
            value(&())
        }
        Handler::Fail => {
            let message = read::<Option<String>>(&params)?.unwrap_or_else(|| "asked to fail".to_owned());
            Err(CommandError::new(ErrorCode::Failed, message))
        }
    }
}

/// Whole numbers stay whole while they fit.
fn sum(params: &RawValue) -> Result<Box<RawValue>, CommandError> {
    if let Ok(whole) = read::<Vec<i64>>(params)
        && let Some(sum) = whole.into_iter().try_fold(0i64, i64::checked_add)
    {
        return value(&sum);
    }
    value(&read::<Vec<f64>>(params)?.into_iter().sum::<f64>())
}

fn read<'a, T: Deserialize<'a>>(params: &'a RawValue) -> Result<T, CommandError> {
    serde_json::from_str(params.get())
        .map_err(|error| CommandError::new(ErrorCode::Malformed, error.to_string()))
}

fn value(value: &impl serde::Serialize) -> Result<Box<RawValue>, CommandError> {
    to_raw_value(value).map_err(|error| CommandError::new(ErrorCode::Internal, error.to_string()))
}
