//! The demo handlers, for the welcome page and for trying out workers without an own program.
//!
//! Owns: their names, arguments and results. Never: callers or retries.

mod hash;

use std::time::{Duration, Instant};

use pagewire_cluster::clock;
use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::id::{Entity, Scope};
use pagewire_cluster::wire::HandlerError;
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::handlers::{HandlerInput, HandlerResult, Handlers, HandlersBuilder, failed};

/// How often a handler that takes long reports its progress.
const STEP: Duration = Duration::from_millis(100);

/// Returns the demo handlers: `echo`, `sum`, `time`, `sleep`, `fail`, `hash` and `remember`.
pub fn demo_handlers() -> Handlers {
    HandlersBuilder::default()
        .handler("echo", |input| async move { Ok(input.params) })
        .handler("sum", |input| async move { sum(&input.params) })
        .handler("time", |_| async { now() })
        .handler("sleep", sleep)
        .handler("fail", |input| async move { fail(&input.params) })
        .handler("remember", remember)
        .handler("hash", |input| async move { hash::run(read(&input.params)?, &input.reporter).await })
        .build()
}

/// Returns handlers of the same names that all fail, to try out the effect of a bad release.
pub fn failing_handlers() -> Handlers {
    let fail = |all: HandlersBuilder, name: &str| {
        all.handler(name, |_| async { Err(failed("this worker was started to fail")) })
    };
    demo_handlers().names().fold(HandlersBuilder::default(), fail).build()
}

/// Returns the process's time as RFC 3339.
fn now() -> HandlerResult {
    value(&OffsetDateTime::from(clock::wall()).format(&Rfc3339).unwrap_or_default())
}

/// Fails with its argument as the message.
fn fail(params: &RawValue) -> HandlerResult {
    let message = read::<Option<String>>(params)?.unwrap_or_else(|| "failed on request".to_owned());
    Err(failed(message))
}

/// Waits `{"ms": n}`, with progress.
async fn sleep(input: HandlerInput) -> HandlerResult {
    #[derive(Deserialize)]
    struct Sleep {
        ms: u64,
    }
    let (started, duration) = (Instant::now(), Duration::from_millis(read::<Sleep>(&input.params)?.ms));
    while let Some(left) = duration.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) {
        tokio::time::sleep(left.min(STEP)).await;
        input.reporter.report(started.elapsed().as_secs_f64() / duration.as_secs_f64(), None);
    }
    value(&())
}

/// Writes `{"value": …}` to `remembered` in the tree of the user, or of a page without a user, and sends it to the page
/// that asked; with `after_ms`, that much later. Returns the revision of the tree.
async fn remember(input: HandlerInput) -> HandlerResult {
    #[derive(Deserialize)]
    struct Remember {
        value: Value,
        #[serde(default)]
        after_ms: u64,
    }
    let HandlerInput { params, user, page, effects, .. } = input;
    let Remember { value: remembered, after_ms } = read(&params)?;
    let tree = match (user, page) {
        (Some(user), _) => Entity::User(user.into()),
        (None, Some(page)) => Entity::Page(page.key),
        (None, None) => {
            let message = "remember needs a user or a page, whose tree it writes";
            return Err(HandlerError::new(ErrorCode::Malformed, message));
        }
    };
    tokio::time::sleep(Duration::from_millis(after_ms)).await;
    // both are tried, so that a handler that was replaced shows both refusals
    let written = effects.set(&tree, "remembered", remembered.clone()).await;
    if let Some(page) = page {
        let sent = effects.push(Scope::Page(page), value(&json!({"remembered": remembered}))?).await;
        written.as_ref().map_err(Clone::clone)?;
        sent?;
    }
    value(&written?)
}

/// Adds numbers. Integers stay integers while they fit.
fn sum(params: &RawValue) -> HandlerResult {
    if let Ok(numbers) = read::<Vec<i64>>(params)
        && let Some(sum) = numbers.into_iter().try_fold(0i64, i64::checked_add)
    {
        return value(&sum);
    }
    value(&read::<Vec<f64>>(params)?.into_iter().sum::<f64>())
}

fn read<'a, T: Deserialize<'a>>(params: &'a RawValue) -> Result<T, HandlerError> {
    serde_json::from_str(params.get())
        .map_err(|error| HandlerError::new(ErrorCode::Malformed, error.to_string()))
}

fn value(value: &impl serde::Serialize) -> HandlerResult {
    to_raw_value(value).map_err(|error| HandlerError::new(ErrorCode::Internal, error.to_string()))
}
