//! The main loop of a worker: takes work as it arrives and runs each unit in its own task.
//!
//! Owns: choosing the handler and reporting its result. Never: leases, claims or retries.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::job::{Affinity, JobState};
use pagewire_cluster::wire::{CallAnswer, WorkerCall};
use tokio::sync::watch;
use tokio::task::coop::consume_budget;

use super::attempt::{Attempt, Outcome, Reporter};
use super::call::IncomingCall;
use super::call_lines::{CallLines, LineKey};
use super::effects::Supervisor;
use super::handlers::{HandlerInput, Handlers, Serial};
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
    let (supervisor, lines) = (stream.supervisor(), CallLines::default());
    while let Some(work) = stream.next().await {
        match work {
            Work::Job(attempt) => {
                let shared = (supervisor.clone(), handlers.clone(), observer.clone());
                drop(tokio::spawn(run(*attempt, shared, leaving.clone())))
            }
            Work::Call(call) => {
                let shared = (supervisor.clone(), handlers.clone(), observer.clone());
                // most handlers finish at once: they need no task and no cancellation
                let mut responding = Box::pin(respond(call, lines.clone(), shared));
                if responding.as_mut().now_or_never().is_none() {
                    drop(tokio::spawn(responding));
                }
            }
        }
        // yield to other tasks when many such calls arrive in a row
        consume_budget().await;
    }
}

/// What all work of a worker shares.
type Shared = (Arc<Supervisor>, Handlers, Arc<dyn WorkObserver>);

async fn run(attempt: Attempt, (supervisor, handlers, observer): Shared, mut leaving: watch::Receiver<bool>) {
    let started = Instant::now();
    let kind = attempt.record().kind.clone();
    let outcome = tokio::select! {
        outcome = run_attempt(&attempt, &supervisor, &handlers) => outcome,
        () = attempt.cancelled() => Outcome::Stopped,
        Ok(_) = leaving.wait_for(|leaving| *leaving) => Outcome::Returned,
    };
    let Some(record) = attempt.end(outcome).await else { return };
    let waited = Duration::from_millis(record.started.unwrap_or(record.due).saturating_sub(record.due));
    let kind = handlers.label(&kind);
    observer.attempt_ended(kind, record.affinity, record.state, waited, started.elapsed());
}

async fn run_attempt(attempt: &Attempt, supervisor: &Arc<Supervisor>, handlers: &Handlers) -> Outcome {
    let record = attempt.record();
    // without the right to have effects, the job begins again where that right is
    let Ok(standing) = supervisor.begin(record.owner().as_deref()).await else { return Outcome::Returned };
    let input = HandlerInput {
        params: record.data.clone(),
        user: record.user.clone(),
        page: record.askers.first().map(|asker| asker.page),
        reporter: attempt.reporter(),
        effects: standing.effects(),
    };
    match handlers.run(&record.kind, input).await {
        Ok(value) => Outcome::Value(value),
        Err(error) => Outcome::Failed(error),
    }
}

/// Returns the line of a call whose handler runs calls one after the other.
fn line_of(call: &WorkerCall, handlers: &Handlers) -> Option<LineKey> {
    let of = match handlers.options(&call.method).serial {
        Serial::None => return None,
        Serial::User => call.user.clone()?,
        Serial::Page => call.page?.key.to_string(),
    };
    Some((call.method.clone(), of))
}

/// Runs the handler of a call when its turn has come.
async fn run_in_line(
    call: &IncomingCall,
    lines: &CallLines,
    supervisor: &Arc<Supervisor>,
    handlers: &Handlers,
) -> CallAnswer {
    let Some(key) = line_of(&call.call, handlers) else { return run_call(call, supervisor, handlers).await };
    let Some(place) = lines.enter(key) else { return CallAnswer::Busy };
    let _turn = match place.try_turn() {
        Some(turn) => turn,
        None => call.wait_without_slot(place.turn()).await,
    };
    run_call(call, supervisor, handlers).await
}

/// Runs the handler of a call.
async fn run_call(call: &IncomingCall, supervisor: &Arc<Supervisor>, handlers: &Handlers) -> CallAnswer {
    let WorkerCall { method, params, user, page, .. } = &call.call;
    let owner = user.as_deref().filter(|_| call.affinity == Affinity::Assigned);
    // the call has not run, so its caller may ask another worker
    let Ok(standing) = supervisor.begin(owner).await else { return CallAnswer::Busy };
    let input = HandlerInput {
        params: params.clone(),
        user: user.clone(),
        page: *page,
        reporter: Reporter::silent(),
        effects: standing.effects(),
    };
    match handlers.run(method, input).await {
        Ok(value) => CallAnswer::Value(value),
        Err(_) if !handlers.has(method) => CallAnswer::NoHandler,
        Err(error) => CallAnswer::Error(error),
    }
}

async fn respond(call: Box<IncomingCall>, lines: CallLines, (supervisor, handlers, observer): Shared) {
    let (started, method, affinity) = (Instant::now(), &call.call.method, call.affinity);
    let reply = tokio::select! {
        biased;
        reply = run_in_line(&call, &lines, &supervisor, &handlers) => reply,
        () = call.abandoned() => {
            let outcome = ErrorCode::Timeout.text();
            return observer.call_ended(handlers.label(method), affinity, outcome, started.elapsed());
        }
    };
    // the handler's own error codes must not become metric labels
    let outcome = match &reply {
        CallAnswer::Value(_) => "ok",
        CallAnswer::NoHandler => ErrorCode::NoExecutor.text(),
        CallAnswer::Busy => ErrorCode::RateLimited.text(),
        _ => ErrorCode::Failed.text(),
    };
    observer.call_ended(handlers.label(method), affinity, outcome, started.elapsed());
    call.answer(reply).await;
}
