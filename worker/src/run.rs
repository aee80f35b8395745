//! The main loop of a worker: takes work as it arrives and runs each unit in its own task.
//!
//! Owns: choosing the handler and reporting its result. Never: leases, claims or retries.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::job::{Affinity, JobState};
use pagewire_cluster::wire::CallAnswer;
use tokio::sync::watch;
use tokio::task::coop::consume_budget;

use super::attempt::{Attempt, Outcome, Reporter};
use super::call::IncomingCall;
use super::handlers::{HandlerInput, Handlers};
use super::stream::WorkStream;
use super::work::Work;

/// Receives what a worker has done, for its metrics. Every name of a handler is one that is registered, or `other`.
pub trait WorkObserver: Send + Sync + 'static {
    /// An attempt of a job has ended; `state` is the state of the job after it.
    fn attempt_ended(&self, kind: &str, affinity: Affinity, state: JobState, waited: Duration, ran: Duration);

    /// A call has been answered; `outcome` is `ok` or an error code of Pagewire.
    fn call_ended(&self, method: &str, affinity: Affinity, outcome: &'static str, ran: Duration);
}

/// Runs incoming work until the stream ends. When `leaving` becomes true, running jobs are returned to the queue
/// without a result.
pub async fn serve(
    stream: &mut WorkStream,
    handlers: Handlers,
    leaving: watch::Receiver<bool>,
    observer: Arc<dyn WorkObserver>,
) {
    while let Some(work) = stream.next().await {
        match work {
            Work::Job(attempt) => {
                drop(tokio::spawn(run(*attempt, handlers.clone(), leaving.clone(), observer.clone())))
            }
            Work::Call(call) => {
                // most handlers finish at once: they need no task and no cancellation
                let mut responding = Box::pin(respond(call, handlers.clone(), observer.clone()));
                if responding.as_mut().now_or_never().is_none() {
                    drop(tokio::spawn(responding));
                }
            }
        }
        // yield to other tasks when many such calls arrive in a row
        consume_budget().await;
    }
}

async fn run(
    attempt: Attempt,
    handlers: Handlers,
    mut leaving: watch::Receiver<bool>,
    observer: Arc<dyn WorkObserver>,
) {
    let started = Instant::now();
    let record = attempt.record();
    let kind = record.kind.clone();
    let input = HandlerInput { params: record.data.clone(), reporter: attempt.reporter() };
    let outcome = tokio::select! {
        outcome = handlers.run(&kind, input) => match outcome {
            Ok(value) => Outcome::Value(value),
            Err(error) => Outcome::Failed(error),
        },
        () = attempt.cancelled() => Outcome::Stopped,
        Ok(_) = leaving.wait_for(|leaving| *leaving) => Outcome::Returned,
    };
    let Some(record) = attempt.end(outcome).await else { return };
    let waited = Duration::from_millis(record.started.unwrap_or(record.due).saturating_sub(record.due));
    let kind = handlers.label(&kind);
    observer.attempt_ended(kind, record.affinity, record.state, waited, started.elapsed());
}

async fn respond(call: Box<IncomingCall>, handlers: Handlers, observer: Arc<dyn WorkObserver>) {
    let (started, method, affinity) = (Instant::now(), &call.call.method, call.affinity);
    let input = HandlerInput { params: call.call.params.clone(), reporter: Reporter::silent() };
    let reply = tokio::select! {
        biased;
        outcome = handlers.run(method, input) => match outcome {
            Ok(value) => CallAnswer::Value(value),
            Err(_) if !handlers.has(method) => CallAnswer::NoHandler,
            Err(error) => CallAnswer::Error(error),
        },
        () = call.abandoned() => {
            let outcome = ErrorCode::Timeout.text();
            return observer.call_ended(handlers.label(method), affinity, outcome, started.elapsed());
        }
    };
    // the handler's own error codes must not become metric labels
    let outcome = match &reply {
        CallAnswer::Value(_) => "ok",
        CallAnswer::NoHandler => ErrorCode::NoExecutor.text(),
        _ => ErrorCode::Failed.text(),
    };
    observer.call_ended(handlers.label(method), affinity, outcome, started.elapsed());
    call.answer(reply).await;
}
