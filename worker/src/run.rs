//! The main loop of a worker: takes work as it arrives and runs each unit in its own task.
//!
//! Owns: choosing the handler and reporting its result. Never: leases, claims or retries.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::job::Affinity;
use pagewire_cluster::trace::TraceParent;
use pagewire_cluster::wire::{CallAnswer, HandlerError, WorkerCall};
use tokio::sync::watch;
use tokio::task::coop::consume_budget;
use tracing::Instrument;

use super::attempt::Attempt;
use super::call::IncomingCall;
use super::call_lines::{CallLines, LineKey};
use super::effects::Supervisor;
use super::entry::WorkerEntry;
use super::finished;
use super::handlers::{
    HandlerInput, Handlers, ObjectRole, RunFailure, RunResult, Serial, StopReason, StopSignal, WorkUnit,
};
use super::observer::WorkObserver;
use super::quarantine::PoolQuarantine;
use super::residence::Residence;
use super::stream::WorkStream;
use super::work::Work;

/// Runs incoming work until the stream ends. When `leaving` becomes true, running jobs are returned to the queue
/// without a result.
pub async fn serve(
    stream: &mut WorkStream,
    handlers: Handlers,
    leaving: watch::Receiver<bool>,
    observer: Arc<dyn WorkObserver>,
) {
    let (entry, supervisor, quarantine) = (stream.entry(), stream.supervisor(), stream.quarantine());
    let residence = stream.open_residence(&handlers, &observer);
    let lines = CallLines::default();
    let runner = Runner { entry, supervisor, residence, quarantine, handlers, lines, observer };
    while let Some(work) = stream.next().await {
        match work {
            Work::Job(attempt) => drop(tokio::spawn(runner.clone().run(*attempt, leaving.clone()))),
            Work::Call(call) => {
                // most handlers finish at once: they need no task and no cancellation
                let span = runner.observer.call_span(&call.call.method, call.trace.as_ref());
                let mut responding = Box::pin(runner.clone().respond(call).instrument(span));
                if responding.as_mut().now_or_never().is_none() {
                    drop(tokio::spawn(responding));
                }
            }
        }
        // yield to other tasks when many such calls arrive in a row
        consume_budget().await;
    }
}

/// What all work of a worker shares. Cheap to clone.
#[derive(Clone)]
struct Runner {
    entry: WorkerEntry,
    supervisor: Arc<Supervisor>,
    residence: Arc<Residence>,
    quarantine: Arc<PoolQuarantine>,
    handlers: Handlers,
    lines: CallLines,
    observer: Arc<dyn WorkObserver>,
}

impl Runner {
    async fn run(self, attempt: Attempt, leaving: watch::Receiver<bool>) {
        let (span, trace) = self.observer.attempt_span(attempt.record());
        self.run_to_end(attempt, trace, leaving).instrument(span).await;
    }

    async fn run_to_end(self, attempt: Attempt, trace: Option<TraceParent>, leaving: watch::Receiver<bool>) {
        let started = Instant::now();
        let kind = attempt.record().kind.clone();
        let result = self.run_until_stopped(&attempt, trace, leaving).await;
        if let Some(work) = finished::attempt(attempt.record(), &result, started.elapsed()) {
            self.observer.work_finished(work);
        }
        let Some(record) = attempt.end(result).await else { return };
        let waited = Duration::from_millis(record.started.unwrap_or(record.due).saturating_sub(record.due));
        let kind = self.handlers.label(&kind);
        self.observer.attempt_ended(kind, record.affinity, record.state, waited, started.elapsed());
    }

    /// Runs the handler of an attempt until it ends, is cancelled, or has to leave the worker.
    async fn run_until_stopped(
        &self,
        attempt: &Attempt,
        trace: Option<TraceParent>,
        mut leaving: watch::Receiver<bool>,
    ) -> RunResult {
        let (stop, signal) = StopSignal::new();
        let mut running = std::pin::pin!(self.run_attempt(attempt, trace, signal));
        let reason = tokio::select! {
            result = &mut running => return result,
            () = attempt.cancelled() => StopReason::Cancelled,
            Ok(_) = leaving.wait_for(|leaving| *leaving) => StopReason::Drain,
        };
        let stopped = match reason {
            StopReason::Cancelled => RunFailure::Stopped,
            StopReason::Drain => RunFailure::Returned,
        };
        if !self.handlers.options(&attempt.record().kind).stops {
            return Err(stopped);
        }
        stop.send_replace(Some(reason));
        // the runtime limits how long the handler takes to stop
        match running.await {
            Err(RunFailure::Stopped) => Err(stopped),
            ended => ended,
        }
    }

    async fn run_attempt(
        &self,
        attempt: &Attempt,
        trace: Option<TraceParent>,
        stop: StopSignal,
    ) -> RunResult {
        let record = attempt.record();
        if self.handlers.options(&record.kind).object != ObjectRole::None {
            let message = "a method of a resident page is called, it is no job";
            return Err(RunFailure::Failed(HandlerError::new(ErrorCode::Malformed, message)));
        }
        let (owner, user) = (record.owner(), record.user.as_deref());
        // without the right to have effects, the job begins again where that right is
        let Ok(standing) = self.supervisor.begin(owner.as_deref(), user).await else {
            return Err(RunFailure::Returned);
        };
        let asker = record.askers.first();
        let left = (record.retries + 1).saturating_sub(record.failures());
        let input = HandlerInput {
            unit: WorkUnit::Job { id: record.id, attempt: record.attempts, left },
            affinity: record.affinity,
            user: record.user.clone(),
            page: asker.map(|asker| asker.page),
            session: asker.and_then(|asker| asker.session),
            connection: asker.and_then(|asker| asker.connection),
            trace: trace.as_ref().map(|trace| trace.as_str().to_owned()),
            reporter: attempt.reporter(),
            alone: self.quarantine.is_suspect(&record.kind),
            effects: standing.traced_effects(trace),
            stop,
            ..HandlerInput::call(record.data.clone())
        };
        self.run_handler(&record.kind, input).await
    }

    /// Runs a handler, unless its kind is quarantined, and reports what became of its executor.
    async fn run_handler(&self, kind: &str, input: HandlerInput) -> RunResult {
        if let Some(refusal) = self.quarantine.refusal(kind) {
            return Err(RunFailure::Failed(refusal));
        }
        let suspected = input.alone;
        let result = self.handlers.run(kind, input).await;
        match &result {
            Err(RunFailure::Lost { alone, log }) => {
                // the report goes on when the work is cancelled meanwhile
                let (quarantine, kind, log) = (self.quarantine.clone(), kind.to_owned(), log.clone());
                let alone = *alone;
                let _ = tokio::spawn(async move { quarantine.died(&kind, alone, log).await }).await;
            }
            _ if suspected => self.quarantine.survived(kind).await,
            _ => {}
        }
        result
    }

    /// Returns the line of a call whose handler runs calls one after the other.
    fn line_of(&self, call: &WorkerCall) -> Option<LineKey> {
        match self.handlers.options(&call.method).object {
            ObjectRole::None => {}
            ObjectRole::Method { concurrent: true } => return None,
            ObjectRole::Class | ObjectRole::Method { concurrent: false } => {
                // the object of a page takes one message at a time
                return Some(("page".to_owned(), call.page?.key.to_string()));
            }
        }
        let of = match self.handlers.options(&call.method).serial {
            Serial::None => return None,
            Serial::User => call.user.clone()?,
            Serial::Page => call.page?.key.to_string(),
        };
        Some((call.method.clone(), of))
    }

    /// Runs the handler of a call when its turn has come.
    async fn run_in_line(&self, call: &IncomingCall) -> CallAnswer {
        let Some(key) = self.line_of(&call.call) else { return self.run_call(call).await };
        let Some(place) = self.lines.enter(key) else { return CallAnswer::Busy };
        let _turn = match place.try_turn() {
            Some(turn) => turn,
            None => call.wait_without_slot(place.turn()).await,
        };
        self.run_call(call).await
    }

    async fn run_call(&self, call: &IncomingCall) -> CallAnswer {
        let WorkerCall { method, params, user, page, session, connection, event, .. } = &call.call;
        match (self.handlers.options(method).object, event) {
            (ObjectRole::None, None) => {}
            (ObjectRole::Class, Some(_)) | (ObjectRole::Method { .. }, None) => {
                let trace = self.observer.current_trace().or_else(|| call.trace().cloned());
                return match self.residence.answer(call, trace).await {
                    Some(answer) => answer,
                    None => {
                        // before that, the view of this process names this worker as the next one
                        self.entry.marked().await;
                        self.entry.refer(&call.call).await
                    }
                };
            }
            _ => return CallAnswer::NoHandler,
        }
        let user = user.as_deref();
        let owner = call.call.owner().filter(|_| call.affinity == Affinity::Assigned);
        let Ok(standing) = self.supervisor.begin(owner.as_deref(), user).await else {
            return if owner.is_some() { self.entry.refer(&call.call).await } else { CallAnswer::Busy };
        };
        let trace = self.observer.current_trace().or_else(|| call.trace().cloned());
        let input = HandlerInput {
            affinity: call.affinity,
            user: user.map(str::to_owned),
            page: *page,
            session: *session,
            connection: *connection,
            within: call.remaining(),
            trace: trace.as_ref().map(|trace| trace.as_str().to_owned()),
            alone: self.quarantine.is_suspect(method),
            effects: standing.traced_effects(trace),
            ..HandlerInput::call(params.clone())
        };
        match self.run_handler(method, input).await {
            Ok(value) => CallAnswer::Value(value),
            Err(_) if !self.handlers.has(method) => CallAnswer::NoHandler,
            Err(failure) => failure.call_answer(),
        }
    }

    async fn respond(self, call: Box<IncomingCall>) {
        let (started, method, affinity) = (Instant::now(), &call.call.method, call.affinity);
        let ended = |outcome| {
            self.observer.call_ended(self.handlers.label(method), affinity, outcome, started.elapsed());
        };
        let reply = tokio::select! {
            biased;
            reply = self.run_in_line(&call) => reply,
            () = call.abandoned() => return ended(ErrorCode::Timeout.text()),
        };
        if let Some(work) = finished::call(&call.call, &reply, started.elapsed()) {
            self.observer.work_finished(work);
        }
        // the handler's own error codes must not become metric labels
        ended(match &reply {
            CallAnswer::Value(_) => "ok",
            CallAnswer::NoHandler => ErrorCode::NoExecutor.text(),
            CallAnswer::Busy | CallAnswer::Elsewhere { .. } => ErrorCode::RateLimited.text(),
            CallAnswer::Lost => ErrorCode::WorkerLost.text(),
            _ => ErrorCode::Failed.text(),
        });
        call.answer(reply).await;
    }
}
