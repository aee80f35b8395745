//! Who runs a call.
//!
//! Owns: the choice of an executor for a call, its time-out and its bound. Never: pages or sockets; executors and
//! sessions do not know each other.

mod inline;

use std::sync::Arc;
use std::time::{Duration, Instant};

use pagewire_cluster::id::Address;
use pagewire_cluster::timing::Timing;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;

use crate::protocol::{CommandError, ErrorCode};
use crate::telemetry::Metrics;

/// Inline calls of a node at the same time; more are refused at once.
const INLINE_CALLS: usize = 1024;
/// The longest time-out that a caller may ask for.
const LONGEST: Duration = Duration::from_secs(300);

/// What a caller wants of the place where its call runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// By policy.
    #[default]
    Default,
    /// In the node.
    Inline,
    /// Any free executor.
    Any,
    /// The user's own executor.
    Assigned,
}

impl Mode {
    /// Reads `exec_mode`; `None` means by policy.
    pub fn parse(text: Option<&str>) -> Result<Self, CommandError> {
        match text {
            None => Ok(Self::Default),
            Some("inline") => Ok(Self::Inline),
            Some("any") => Ok(Self::Any),
            Some("assigned") => Ok(Self::Assigned),
            Some(_) => Err(CommandError::new(ErrorCode::Malformed, "exec_mode is inline, any or assigned")),
        }
    }
}

/// One call.
#[derive(Debug)]
pub struct Call {
    /// The handler's name.
    pub method: String,
    /// Its argument.
    pub params: Box<RawValue>,
    /// Where it should run.
    pub mode: Mode,
    /// The caller's limit; `None` for the server's.
    pub timeout: Option<Duration>,
    /// For whom.
    pub user: Option<Arc<str>>,
    /// From which page.
    pub page: Option<Address>,
}

/// One kind of executor, as `GET /executors` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// `inline`.
    pub name: &'static str,
    /// What it serves.
    pub methods: Vec<&'static str>,
    /// Calls running now.
    pub running: usize,
}

/// All executors of this node. Cheap to clone.
#[derive(Clone)]
pub struct Executors {
    inline: Arc<Semaphore>,
    timing: Timing,
    metrics: Arc<Metrics>,
}

impl Executors {
    /// The executors of this binary.
    pub fn new(timing: Timing, metrics: Arc<Metrics>) -> Self {
        Self { inline: Arc::new(Semaphore::new(INLINE_CALLS)), timing, metrics }
    }

    /// Runs a call; the handler's result or why there is none. At most once.
    pub async fn call(&self, call: Call) -> Result<Box<RawValue>, CommandError> {
        let Some(handler) = inline::find(&call.method).filter(|_| call.mode != Mode::Assigned) else {
            // a name that a client made up is no label
            self.metrics.called("unknown", "none", ErrorCode::NoExecutor.text(), Duration::ZERO);
            return Err(CommandError::new(ErrorCode::NoExecutor, "no executor serves this method now"));
        };
        let Ok(_permit) = self.inline.try_acquire() else {
            return Err(CommandError::new(ErrorCode::RateLimited, "too many calls at the same time"));
        };
        let started = Instant::now();
        let limit = call.timeout.unwrap_or(self.timing.call).min(LONGEST);
        let outcome = tokio::time::timeout(limit, inline::run(handler, call.params))
            .await
            .unwrap_or_else(|_| Err(CommandError::new(ErrorCode::Timeout, "no result in time")));
        let text = outcome.as_ref().map_or_else(|error| error.code.text(), |_| "ok");
        self.metrics.called(handler.name(), "inline", text, started.elapsed());
        outcome
    }

    /// What runs where.
    pub fn kinds(&self) -> Vec<Kind> {
        let running = INLINE_CALLS - self.inline.available_permits();
        vec![Kind { name: "inline", methods: inline::names().collect(), running }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn call(method: &str, params: &str, mode: Mode, timeout_ms: u64) -> Result<String, ErrorCode> {
        let executors = Executors::new(Timing::SHORT, Arc::new(Metrics::new("stable", "dev")));
        let call = Call {
            method: method.into(),
            params: serde_json::from_str(params).unwrap(),
            mode,
            timeout: Some(Duration::from_millis(timeout_ms)),
            user: None,
            page: None,
        };
        executors.call(call).await.map(|value| value.get().to_owned()).map_err(|error| error.code)
    }

    #[tokio::test]
    async fn handlers_answer_or_say_why_not() {
        assert_eq!(
            call("echo", r#"{"a":[1, 2]}"#, Mode::Default, 1000).await.as_deref(),
            Ok(r#"{"a":[1, 2]}"#)
        );
        assert_eq!(call("sum", "[1,2.5,-3]", Mode::Any, 1000).await.as_deref(), Ok("0.5"));
        assert_eq!(call("sum", "[1,2]", Mode::Inline, 1000).await.as_deref(), Ok("3"));
        assert_eq!(call("sum", r#""x""#, Mode::Inline, 1000).await, Err(ErrorCode::Malformed));
        assert_eq!(call("fail", "null", Mode::Inline, 1000).await, Err(ErrorCode::Failed));
    }

    #[tokio::test]
    async fn a_call_ends_with_its_time_out() {
        assert_eq!(call("sleep", r#"{"ms":5000}"#, Mode::Inline, 20).await, Err(ErrorCode::Timeout));
        assert_eq!(call("sleep", r#"{"ms":1}"#, Mode::Inline, 2000).await.as_deref(), Ok("null"));
    }

    #[tokio::test]
    async fn nobody_serves_an_unknown_method_or_an_assigned_call() {
        assert_eq!(call("nothing", "null", Mode::Default, 1000).await, Err(ErrorCode::NoExecutor));
        assert_eq!(call("echo", "1", Mode::Assigned, 1000).await, Err(ErrorCode::NoExecutor));
    }
}
