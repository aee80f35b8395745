//! The socket of a ready child, and the work that it runs.
//!
//! Owns: the ids of work, its end, and the requests of its handlers. Never: which child runs it, or the process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::timing::Timing;
use pagewire_cluster::wire::HandlerError;
use serde_json::value::RawValue;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::frame_reader::FrameReader;
use super::frame_writer::FrameWriter;
use super::open_work::{OpenWork, Requester, RunningPiece};
use super::pool::Credit;
use super::process::LogTail;
use super::wire::{
    CancelReason, ChildMessage, ChildRequest, FrameTooLarge, LogLine, ReportedFailure, SupervisorMessage,
    WireError, encode,
};
use super::work_order::order;
use crate::effects::application::Applications;
use crate::handlers::{HandlerInput, RunFailure, RunResult};
use crate::outgoing::WorkIdentity;
use crate::requests::{self, MAX_OPEN};

/// A child that is ready.
pub(super) struct Session {
    pub(super) number: u64,
    pool: String,
    writer: FrameWriter,
    /// Gives requests without work their effects; `None` for a child that serves no application.
    applications: Option<Weak<Applications>>,
    work: Mutex<OpenWork>,
    next_id: AtomicU64,
    requests: AtomicU64,
    done: AtomicU64,
    pinged: AtomicU64,
    timing: Timing,
    log: LogTail,
    /// No work runs any more.
    became_idle: Notify,
}

/// Why the work of a child ends without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionEnd {
    /// The child died.
    Died,
    /// The child is ended for a reason that this work has not caused.
    Replaced,
}

/// Cancels work whose receiver is gone.
struct CancelOnDrop<'a> {
    session: &'a Session,
    id: u64,
    ended: bool,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.session.cancel(self.id, CancelReason::Cancelled);
        }
    }
}

fn failed(code: ErrorCode, message: impl Into<String>) -> RunResult {
    Err(RunFailure::Failed(HandlerError::new(code, message)))
}

impl Session {
    pub(super) fn new(
        number: u64,
        pool: &str,
        writer: FrameWriter,
        log: LogTail,
        timing: Timing,
        applications: Option<Weak<Applications>>,
    ) -> Self {
        Self {
            number,
            pool: pool.to_owned(),
            writer,
            applications,
            work: Mutex::default(),
            next_id: AtomicU64::new(1),
            requests: AtomicU64::new(0),
            done: AtomicU64::new(0),
            pinged: AtomicU64::new(0),
            timing,
            log,
            became_idle: Notify::new(),
        }
    }

    /// Each change leaves the work consistent, so a poisoned lock is still usable.
    fn lock(&self) -> MutexGuard<'_, OpenWork> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a handler to its end, for at most `within`. If this is dropped, the work is cancelled.
    pub(super) async fn run(
        &self,
        method: &str,
        mut input: HandlerInput,
        within: Duration,
        credit: Credit,
    ) -> RunResult {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let Ok(order) = order(id, method, &input, within) else {
            return failed(ErrorCode::TooLarge, "the work does not fit into a message to the child");
        };
        let (piece, ended) = RunningPiece::new(method, &input, Instant::now() + within, credit);
        if !self.change(|work| work.begin(id, piece)) {
            return Err(self.lost(false));
        }
        let mut guard = CancelOnDrop { session: self, id, ended: false };
        self.writer.send(&order);
        let mut ended = std::pin::pin!(ended);
        let stopped = tokio::select! {
            biased;
            end = &mut ended => {
                guard.ended = true;
                return end.unwrap_or_else(|_| Err(self.lost(false)));
            }
            reason = input.stop.requested() => Some(reason),
            () = tokio::time::sleep(within) => None,
        };
        self.cancel(id, stopped.map_or(CancelReason::Deadline, CancelReason::from));
        let end = tokio::time::timeout(self.timing.child_stop, &mut ended).await;
        guard.ended = true;
        match (end, stopped) {
            (Ok(Ok(Err(RunFailure::Stopped))) | Err(_), None) => {
                let message = format!("{method} took longer than {} ms", within.as_millis());
                failed(ErrorCode::Timeout, message)
            }
            (Err(_), Some(_)) => Err(RunFailure::Stopped),
            (Ok(end), _) => end.unwrap_or_else(|_| Err(self.lost(false))),
        }
    }

    /// Changes the work that runs.
    fn change<T>(&self, change: impl FnOnce(&mut OpenWork) -> T) -> T {
        let mut work = self.lock();
        let changed = change(&mut work);
        if work.is_empty() {
            self.became_idle.notify_waiters();
        }
        changed
    }

    /// Asks the child to stop a piece of work.
    fn cancel(&self, id: u64, why: CancelReason) {
        if self.lock().stop(id) {
            self.send(&SupervisorMessage::Cancel { id, why });
        }
    }

    /// Sends a message that always fits into a frame.
    fn send(&self, message: &SupervisorMessage<'_>) {
        if let Ok(frame) = encode(message) {
            self.writer.send(&frame);
        }
    }

    /// Removes a piece of work that the child has ended, and reports its end.
    fn end(&self, id: u64, result: RunResult) {
        match self.change(|work| work.take(id)) {
            Some(piece) => {
                self.done.fetch_add(1, Ordering::Relaxed);
                piece.end(result);
            }
            None => {
                tracing::warn!(
                    pool = self.pool,
                    child = self.number,
                    id,
                    "a child ends work that it does not run"
                );
            }
        }
    }

    fn lost(&self, alone: bool) -> RunFailure {
        RunFailure::Lost { alone, log: self.log.text() }
    }

    /// Ends all work that runs, because the child is gone or is ended now. No more work is accepted.
    pub(super) fn end_all(&self, why: SessionEnd) {
        let pieces = self.change(OpenWork::close);
        let alone = pieces.len() == 1;
        for piece in pieces {
            let result = match why {
                SessionEnd::Replaced if piece.is_job => Err(RunFailure::Returned),
                // the death of a child that is killed says nothing about the other work in it
                SessionEnd::Replaced => Err(self.lost(false)),
                SessionEnd::Died => Err(self.lost(alone)),
            };
            piece.end(result);
        }
    }

    /// Returns the handler of work that was asked to stop and has not for too long.
    pub(super) fn overdue(&self) -> Option<String> {
        self.lock().overdue(self.timing.child_stop).map(str::to_owned)
    }

    /// Returns how many pieces of work it has ended.
    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Resolves when no work runs.
    pub(super) async fn idle(&self) {
        loop {
            let mut idle = std::pin::pin!(self.became_idle.notified());
            // before the check, so that an end between the check and the wait is noticed
            idle.as_mut().enable();
            if self.lock().is_empty() {
                return;
            }
            idle.await;
        }
    }

    /// Tells the child that no more work comes, and that it has to exit.
    pub(super) fn drain(&self, within: Duration) {
        self.send(&SupervisorMessage::Drain { within_ms: within.as_millis() as u64 });
    }

    /// Pings the child. Returns `false` when it has missed two pings without having work. `is_busy`: it has other work
    /// than this.
    pub(super) fn ping(&self, is_busy: bool) -> bool {
        if is_busy || !self.lock().is_empty() {
            self.pinged.store(0, Ordering::Relaxed);
        }
        let missed = self.pinged.fetch_add(1, Ordering::Relaxed);
        self.send(&SupervisorMessage::Ping);
        missed < 2
    }

    /// Writes what the socket has not taken at once. Ends with the socket.
    pub(super) async fn write(&self) {
        self.writer.run().await;
    }

    /// Reads messages until the connection ends. No message is lost if this is dropped.
    ///
    /// # Errors
    ///
    /// [`WireError`] when the child breaks the rules of frames.
    pub(super) async fn read(self: &Arc<Self>, reader: &mut FrameReader) -> Result<(), WireError> {
        loop {
            while let Some(message) = reader.take(ChildMessage::parse)? {
                self.receive(message)?;
            }
            if !reader.receive().await? {
                return Ok(());
            }
        }
    }

    fn receive(self: &Arc<Self>, message: ChildMessage) -> Result<(), WireError> {
        match message {
            ChildMessage::Result { id, value } => self.end(id, Ok(value)),
            ChildMessage::Error { id, failure } => self.end(id, Err(self.failure(failure))),
            ChildMessage::Stopped { id } => self.end(id, Err(RunFailure::Stopped)),
            ChildMessage::Snooze { id, after_ms } => {
                self.end(id, Err(RunFailure::Snoozed(Duration::from_millis(after_ms))));
            }
            ChildMessage::Progress { id, progress, message } => {
                if let Some(piece) = self.lock().get(id) {
                    piece.reporter.report(progress, message);
                }
            }
            ChildMessage::Request(request) => self.answer(request),
            ChildMessage::Log(line) => self.log_line(&line),
            ChildMessage::Pong { lag_ms } => {
                self.pinged.store(0, Ordering::Relaxed);
                tracing::trace!(child = self.number, lag_ms, "pong");
            }
            ChildMessage::Ready(_) => return Err(WireError("a second ready".to_owned())),
            ChildMessage::Unknown { t, id } => {
                if let Some(id) = id {
                    let message = format!("this release knows no message {t}");
                    self.reply(id, Err(HandlerError::new(ErrorCode::Unsupported, message)));
                }
            }
        }
        Ok(())
    }

    fn failure(&self, failure: ReportedFailure) -> RunFailure {
        if let Some(trace) = failure.trace {
            tracing::info!(target: "pagewire::child", pool = self.pool, child = self.number, "{trace}");
        }
        match failure.after_ms {
            Some(after) => RunFailure::RetryAfter(failure.error, Duration::from_millis(after)),
            None => RunFailure::Failed(failure.error),
        }
    }

    fn log_line(&self, line: &LogLine) {
        let method = line.work.and_then(|id| Some(self.lock().get(id)?.method.clone()));
        let fields = line.fields.as_ref().map(|fields| fields.get());
        let (pool, child, text) = (&self.pool, self.number, &line.message);
        macro_rules! at {
            ($level:ident) => {
                tracing::$level!(target: "pagewire::child", pool, child, method, fields, "{text}")
            };
        }
        match line.level.as_str() {
            "error" => at!(error),
            "warn" => at!(warn),
            "debug" => at!(debug),
            _ => at!(info),
        }
    }

    /// Returns in whose name a request is made.
    fn requester(&self, work: Option<u64>) -> Result<Arc<Requester>, HandlerError> {
        if let Some(work) = work {
            let found = self.lock().get(work).map(|piece| piece.requester.clone());
            return found
                .ok_or_else(|| HandlerError::new(ErrorCode::Stale, "the work of this request has ended"));
        }
        let Some(applications) = &self.applications else {
            let message = "a request names its work: only a child that serves HTTP may leave it out";
            return Err(HandlerError::new(ErrorCode::Unsupported, message));
        };
        let ended = || HandlerError::new(ErrorCode::Stale, "the node has ended");
        let effects = applications.upgrade().ok_or_else(ended)?.begin()?;
        Ok(Arc::new(Requester { effects, identity: WorkIdentity::default() }))
    }

    /// Answers a request of a handler or an application, without waiting for it here.
    fn answer(self: &Arc<Self>, request: ChildRequest) {
        let ChildRequest { id, work, method, params } = request;
        let requester = match self.requester(work) {
            Ok(requester) => requester,
            Err(error) => return self.reply(id, Err(error)),
        };
        if self.requests.fetch_add(1, Ordering::Relaxed) >= MAX_OPEN as u64 {
            self.requests.fetch_sub(1, Ordering::Relaxed);
            let message = format!("a child has at most {MAX_OPEN} requests at a time");
            return self.reply(id, Err(HandlerError::new(ErrorCode::RateLimited, message)));
        }
        let session = self.clone();
        tokio::spawn(async move {
            let Requester { effects, identity } = &*requester;
            let answer = requests::answer(effects, identity, &method, &params).await;
            session.requests.fetch_sub(1, Ordering::Relaxed);
            session.reply(id, answer);
        });
    }

    fn reply(&self, id: u64, answer: Result<Box<RawValue>, HandlerError>) {
        let (value, error) = match &answer {
            Ok(value) => (Some(&**value), None),
            Err(error) => (None, Some(error)),
        };
        match encode(&SupervisorMessage::Reply { id, value, error }) {
            Ok(frame) => self.writer.send(&frame),
            Err(FrameTooLarge) => {
                let error = HandlerError::new(ErrorCode::TooLarge, "the answer does not fit into a frame");
                self.send(&SupervisorMessage::Reply { id, value: None, error: Some(&error) });
            }
        }
    }
}
