//! The main loop of a worker: takes work as it arrives and runs each item in its own task.
//!
//! Owns: choosing the handler and reporting its result. Never: leases, claims or retries (`pagewire_cluster::job`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use pagewire_cluster::job::{Attempt, IncomingCall, Outcome, Reporter, Work, WorkStream};
use pagewire_cluster::wire::CallAnswer;
use tokio::sync::watch;
use tokio::task::coop::consume_budget;

use super::exec;
use super::handlers::{HandlerInput, Handlers};
use crate::telemetry::Metrics;

/// Runs incoming work until the stream ends. When `leaving` becomes true, running jobs are returned to the queue
/// without a result.
pub async fn serve(
    intake: &mut WorkStream,
    handlers: Handlers,
    leaving: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
) {
    while let Some(work) = intake.next().await {
        match work {
            Work::Job(attempt) => {
                drop(tokio::spawn(run(*attempt, handlers.clone(), leaving.clone(), metrics.clone())))
            }
            Work::Call(call) => {
                // most handlers finish at once: they need no task and no cancellation
                let mut responding = Box::pin(respond(call, handlers.clone()));
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
    metrics: Arc<Metrics>,
) {
    let started = Instant::now();
    let record = attempt.record();
    let kind = record.kind.clone();
    let input = HandlerInput { params: record.data.clone(), reporter: attempt.reporter() };
    let outcome = tokio::select! {
        outcome = handlers.run(&kind, input) => match outcome {
            Ok(value) => Outcome::Value(value),
            Err(error) => Outcome::Failed(error.into_failure()),
        },
        () = attempt.cancelled() => Outcome::Stopped,
        Ok(_) = leaving.wait_for(|leaving| *leaving) => Outcome::Returned,
    };
    let Some(record) = attempt.end(outcome).await else { return };
    let kind = handlers.label(&kind).to_owned();
    let waited = Duration::from_millis(record.started.unwrap_or(record.due).saturating_sub(record.due));
    metrics.record_job_attempt(kind, exec(record.affinity), record.state.text(), waited, started.elapsed());
}

async fn respond(call: Box<IncomingCall>, handlers: Handlers) {
    let method = &call.call.method;
    let input = HandlerInput { params: call.call.params.clone(), reporter: Reporter::silent() };
    let reply = tokio::select! {
        biased;
        outcome = handlers.run(method, input) => match outcome {
            Ok(value) => CallAnswer::Value(value),
            Err(_) if !handlers.has(method) => CallAnswer::NoHandler,
            Err(error) => CallAnswer::Error(error.into_failure()),
        },
        () = call.abandoned() => return,
    };
    call.answer(reply).await;
}
