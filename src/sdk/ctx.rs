//! The context of a piece of work, which each handler gets.
//!
//! Owns: what a handler knows of its work, and whether the work has to stop. Never: whether an effect is allowed.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pagewire_worker::handlers::{HandlerInput, StopReason, WorkUnit};
use pagewire_worker::reporter::Reporter;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use super::asker::{Asker, WorkAsker};
use super::fail::{Fail, RequestError};
use super::jobs::Jobs;
use super::lock::{DroppedLocks, Held, LockRequest};
use super::outgoing_call::Call;
use super::recipients::{Reach, Recipient, To, send};
use super::tree::{Level, Tree};

/// The least time between two reports of [`Ctx::track`].
const TRACK_EVERY: Duration = Duration::from_millis(100);

/// Why work has to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The job is cancelled, or the caller has left.
    Cancelled,
    /// The time of the work is over.
    Deadline,
    /// The worker shuts down. The job begins again at another one.
    Drain,
}

impl Stop {
    pub(super) const fn of(reason: StopReason) -> Self {
        match reason {
            StopReason::Cancelled => Self::Cancelled,
            StopReason::Drain => Self::Drain,
        }
    }
}

/// The context of a piece of work: what it runs for, and what it may do. Cheap to clone.
///
/// What it does is refused with `stale` when the work does not stand any more, for example because another worker has
/// taken its user over.
#[derive(Clone)]
pub struct Ctx {
    asker: Asker,
    work: Arc<WorkInfo>,
    stop: watch::Receiver<Option<Stop>>,
    dropped: DroppedLocks,
}

struct WorkInfo {
    method: String,
    unit: WorkUnit,
    job: Option<String>,
    user: Option<String>,
    page: Option<String>,
    session: Option<String>,
    connection: Option<String>,
    trace: Option<String>,
    deadline: Instant,
    reporter: Reporter,
}

impl Ctx {
    pub(super) fn new(
        method: &str,
        input: &HandlerInput,
        deadline: Instant,
        stop: watch::Receiver<Option<Stop>>,
    ) -> Self {
        let asker = WorkAsker { effects: input.effects.clone(), identity: input.identity() };
        let work = WorkInfo {
            method: method.to_owned(),
            unit: input.unit,
            job: match input.unit {
                WorkUnit::Call => None,
                WorkUnit::Job { id, .. } => Some(id.to_string()),
            },
            user: input.user.clone(),
            page: input.page.map(|page| page.to_string()),
            session: input.session.map(|session| session.to_string()),
            connection: input.connection.map(|connection| connection.to_string()),
            trace: input.trace.clone(),
            deadline,
            reporter: input.reporter.clone(),
        };
        Self { asker: Asker::Work(Arc::new(asker)), work: Arc::new(work), stop, dropped: Arc::default() }
    }

    pub(super) const fn asker(&self) -> &Asker {
        &self.asker
    }

    pub(super) fn release_later(&self, held: Held) {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner).push(held);
    }

    pub(super) fn take_dropped(&self) -> Vec<Held> {
        let dropped: &Mutex<Vec<Held>> = &self.dropped;
        std::mem::take(&mut *dropped.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the name of the handler.
    pub fn method(&self) -> &str {
        &self.work.method
    }

    /// Returns the id of the job; `None` in a call.
    pub fn job(&self) -> Option<&str> {
        self.work.job.as_deref()
    }

    /// Returns the number of this attempt, from 1.
    pub fn attempt(&self) -> u32 {
        match self.work.unit {
            WorkUnit::Call => 1,
            WorkUnit::Job { attempt, .. } => attempt,
        }
    }

    /// Returns how many attempts may follow if this one fails.
    pub fn attempts_left(&self) -> u32 {
        match self.work.unit {
            WorkUnit::Call => 0,
            WorkUnit::Job { left, .. } => left,
        }
    }

    /// Returns the W3C `traceparent` of the work.
    pub fn trace(&self) -> Option<&str> {
        self.work.trace.as_deref()
    }

    /// Returns the time until the deadline of the work; zero after it.
    pub fn remaining(&self) -> Duration {
        self.work.deadline.saturating_duration_since(Instant::now())
    }

    /// Returns why the work has to stop; `None` while it may go on.
    pub fn stopped(&self) -> Option<Stop> {
        // without its sender nothing waits for the work any more
        self.stop.borrow().or_else(|| self.stop.has_changed().is_err().then_some(Stop::Cancelled))
    }

    /// Checks that the work may go on. An async handler is also stopped at its next `.await`.
    ///
    /// # Errors
    ///
    /// The end of the work, which the handler returns.
    pub fn check(&self) -> Result<(), Fail> {
        if self.stopped().is_some() { Err(Fail::stopped()) } else { Ok(()) }
    }

    /// Reports the progress, from 0 to 1, to the page that waits for the job. Reports that come faster than pages are
    /// notified are skipped.
    pub fn progress(&self, progress: f64) {
        self.work.reporter.report(progress, None);
    }

    /// Reports the progress with a message.
    pub fn progress_message(&self, progress: f64, message: impl Into<String>) {
        self.work.reporter.report(progress, Some(message.into()));
    }

    /// Iterates, reports the progress, and ends with an error when the work has to stop: `let item = item?;`.
    pub fn track<I>(&self, items: I) -> Tracked<I::IntoIter>
    where
        I: IntoIterator<IntoIter: ExactSizeIterator>,
    {
        let items = items.into_iter();
        Tracked { ctx: self.clone(), total: items.len(), items, next: Instant::now() + TRACK_EVERY }
    }

    /// Returns the user that the work runs for.
    pub fn user(&self) -> Recipient<'_> {
        Recipient::new(&self.asker, self.work.user.as_deref(), To::User)
    }

    /// Returns the page that asked for the work, wherever it is now.
    pub fn page(&self) -> Recipient<'_> {
        Recipient::new(&self.asker, self.work.page.as_deref(), To::Page)
    }

    /// Returns the session of that page.
    pub fn session(&self) -> Recipient<'_> {
        Recipient::new(&self.asker, self.work.session.as_deref(), To::Session)
    }

    /// Returns the connection of that page: a browser or device.
    pub fn connection(&self) -> Recipient<'_> {
        Recipient::new(&self.asker, self.work.connection.as_deref(), To::Connection)
    }

    /// Sends a message to pages.
    ///
    /// # Errors
    ///
    /// As for [`Recipient::send`].
    pub async fn send(&self, to: To<'_>, payload: &impl Serialize) -> Result<Reach, RequestError> {
        send(&self.asker, to, payload).await
    }

    /// Returns the state tree of the user, connection, session or page that the work belongs to.
    pub fn tree(&self, level: Level) -> Tree {
        Tree::new(self.asker.clone(), level, None)
    }

    /// Returns the state tree of another user, connection, session or page.
    pub fn tree_of(&self, level: Level, id: &str) -> Tree {
        Tree::new(self.asker.clone(), level, Some(id.to_owned()))
    }

    /// Returns the durable jobs.
    pub fn jobs(&self) -> Jobs {
        Jobs::new(self.asker.clone())
    }

    /// Prepares a call of a handler, which is made by `.await`.
    pub fn call<R>(&self, method: &str, params: &impl Serialize) -> Call<R> {
        Call::new(self.asker.clone(), method, params)
    }

    /// Prepares a lock of the cluster, which is acquired by `.await` and free again after `ttl` unless it is renewed.
    pub fn lock(&self, name: &str, ttl: Duration) -> LockRequest {
        LockRequest::new(self, name, ttl)
    }
}

impl fmt::Debug for Ctx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ctx").field("method", &self.work.method).field("job", &self.work.job).finish()
    }
}

/// An iterator that reports its progress, see [`Ctx::track`].
#[derive(Debug)]
pub struct Tracked<I> {
    ctx: Ctx,
    items: I,
    total: usize,
    next: Instant,
}

impl<I: ExactSizeIterator> Iterator for Tracked<I> {
    type Item = Result<I::Item, Fail>;

    fn next(&mut self) -> Option<Self::Item> {
        let (left, now) = (self.items.len(), Instant::now());
        if now >= self.next || left == 0 {
            self.next = now + TRACK_EVERY;
            self.ctx.progress((self.total - left.min(self.total)) as f64 / self.total.max(1) as f64);
        }
        if left > 0
            && let Err(stopped) = self.ctx.check()
        {
            return Some(Err(stopped));
        }
        self.items.next().map(Ok)
    }
}

/// The context of a blocking handler, which runs on a thread of its own.
pub struct BlockingCtx {
    ctx: Ctx,
    runtime: Handle,
}

impl BlockingCtx {
    pub(super) const fn new(ctx: Ctx, runtime: Handle) -> Self {
        Self { ctx, runtime }
    }

    /// Waits for a request: `ctx.wait(ctx.page().send(&message))?`.
    pub fn wait<F: IntoFuture>(&self, request: F) -> F::Output {
        let request = request.into_future();
        self.runtime.block_on(request)
    }
}

impl Deref for BlockingCtx {
    type Target = Ctx;

    fn deref(&self) -> &Ctx {
        &self.ctx
    }
}

impl fmt::Debug for BlockingCtx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ctx.fmt(f)
    }
}
