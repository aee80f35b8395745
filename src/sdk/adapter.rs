//! From a typed function to a handler of a worker.
//!
//! Owns: the task of a piece of work, its time limit, and what its end means. Never: claims and retries.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::timing::Timing;
use pagewire_cluster::wire::HandlerError;
use pagewire_worker::handlers::{
    HandlerInput, HandlerOptions, Handlers, HandlersBuilder, RunFailure, RunResult,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::ctx::{BlockingCtx, Ctx, Stop};
use super::fail::Fail;
use super::params::{decode, encode};

pub(super) type Ended = Result<Box<RawValue>, Fail>;
type Running = Pin<Box<dyn Future<Output = RunResult> + Send>>;
type Function = dyn Fn(TaskLimits, HandlerInput) -> Running + Send + Sync;

/// A function with its options, before it is a handler.
#[derive(Clone)]
pub(super) struct OwnHandler {
    pub(super) name: String,
    pub(super) options: HandlerOptions,
    pub(super) timeout: Option<Duration>,
    function: Arc<Function>,
}

/// The limits of the task of a piece of work.
pub(super) struct TaskLimits {
    /// The name of the handler.
    name: String,
    /// The time limit of the handler.
    timeout: Option<Duration>,
    /// Whether the function stops by itself when it has to.
    stops: bool,
    timing: Timing,
}

impl OwnHandler {
    /// Creates the handler of an async function. Its task is aborted when it has to stop.
    pub(super) fn new<P, R, F, W>(name: &str, function: F) -> Self
    where
        P: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        F: Fn(Ctx, P) -> W + Send + Sync + 'static,
        W: Future<Output = Result<R, Fail>> + Send + 'static,
    {
        let function = Arc::new(function);
        Self::of(name, false, move |limits, input| {
            let function = function.clone();
            limits.run(input, move |ctx, params| async move {
                let working = function(ctx.clone(), decode(&params)?);
                encode(ctx.method(), &working.await?)
            })
        })
    }

    /// Creates the handler of a blocking function, which runs on a thread and stops by itself.
    pub(super) fn blocking<P, R, F>(name: &str, function: F) -> Self
    where
        P: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        F: Fn(BlockingCtx, P) -> Result<R, Fail> + Send + Sync + 'static,
    {
        let function = Arc::new(function);
        Self::of(name, true, move |limits, input| {
            let function = function.clone();
            limits.run(input, move |ctx, params| async move {
                let params = decode(&params)?;
                let ended = on_thread(&ctx, move |context| function(context, params)).await?;
                encode(ctx.method(), &ended)
            })
        })
    }

    /// Creates a handler that runs its work with these limits. `stops`: it stops by itself when it has to.
    pub(super) fn of<W>(
        name: &str,
        stops: bool,
        run: impl Fn(TaskLimits, HandlerInput) -> W + Send + Sync + 'static,
    ) -> Self
    where
        W: Future<Output = RunResult> + Send + 'static,
    {
        let options = HandlerOptions { stops, ..HandlerOptions::default() };
        let function = move |limits, input| -> Running { Box::pin(run(limits, input)) };
        Self { name: name.to_owned(), options, timeout: None, function: Arc::new(function) }
    }

    fn run(&self, input: HandlerInput, timing: Timing) -> Running {
        let (name, timeout, stops) = (self.name.clone(), self.timeout, self.options.stops);
        (self.function)(TaskLimits { name, timeout, stops, timing }, input)
    }
}

impl TaskLimits {
    /// Runs the function to its end, for at most the time of its work.
    pub(super) async fn run<W>(
        self,
        input: HandlerInput,
        function: impl FnOnce(Ctx, Box<RawValue>) -> W + Send,
    ) -> RunResult
    where
        W: Future<Output = Ended> + Send + 'static,
    {
        let within = input.time_limit(self.timeout, &self.timing);
        let (stop, stopping) = watch::channel(None);
        let ctx = Ctx::new(&self.name, &input, Instant::now() + within, stopping);
        let HandlerInput { params, stop: mut requested, .. } = input;
        let working = function(ctx.clone(), params);
        let work = async move {
            let ended = working.await;
            // while the work stands
            ctx.release_dropped().await;
            ended
        };
        let mut task = Task(tokio::spawn(work.instrument(Span::current())));
        let reason = tokio::select! {
            biased;
            ended = &mut task.0 => return self.end(ended),
            reason = requested.requested() => Stop::of(reason),
            () = tokio::time::sleep(within) => Stop::Deadline,
        };
        stop.send_replace(Some(reason));
        let ended = match self.stops {
            true => tokio::time::timeout(self.timing.child_stop, &mut task.0).await.ok(),
            false => None,
        };
        match ended.map(|ended| self.end(ended)) {
            Some(Err(RunFailure::Stopped)) | None if reason == Stop::Deadline => {
                let message = format!("{} took longer than {} ms", self.name, within.as_millis());
                Err(RunFailure::Failed(HandlerError::new(ErrorCode::Timeout, message)))
            }
            ended => ended.unwrap_or(Err(RunFailure::Stopped)),
        }
    }

    fn end(&self, ended: Result<Ended, JoinError>) -> RunResult {
        match ended {
            Ok(ended) => ended.map_err(Fail::into_failure),
            Err(error) if error.is_panic() => {
                let message = format!("`{}` has panicked: {}", self.name, text_of(&*error.into_panic()));
                tracing::error!("{message}");
                Err(Fail::retry(message).into_failure())
            }
            Err(_) => Err(RunFailure::Stopped),
        }
    }
}

/// Runs a blocking function on a thread of its own, to its end or its panic.
pub(super) async fn on_thread<R: Send + 'static>(
    ctx: &Ctx,
    function: impl FnOnce(BlockingCtx) -> Result<R, Fail> + Send + 'static,
) -> Result<R, Fail> {
    let (context, span) = (BlockingCtx::new(ctx.clone(), Handle::current()), Span::current());
    match spawn_blocking(move || span.in_scope(|| function(context))).await {
        Ok(ended) => ended,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Fail::stopped()),
    }
}

/// Returns the message of a panic.
fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

/// The task of a piece of work, which is aborted when nothing waits for it any more.
struct Task(JoinHandle<Ended>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Returns the handlers of functions.
pub(super) fn handlers<'a>(own: impl Iterator<Item = &'a OwnHandler>, timing: Timing) -> Handlers {
    let add = |all: HandlersBuilder, handler: &OwnHandler| {
        let (name, options) = (handler.name.clone(), handler.options);
        let handler = handler.clone();
        all.runtime(&name, options, move |input| handler.run(input, timing))
    };
    own.fold(HandlersBuilder::default(), add).build()
}
