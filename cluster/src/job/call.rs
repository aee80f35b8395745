//! Calls a method of a worker now: request and reply, at most once.
//!
//! Owns: which worker is called, and for how long workers are tried. Never: a second try of a call that may have run;
//! [`CallAnswer::Busy`], [`CallAnswer::Elsewhere`] and a worker without a responder mean that the call did not run.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use super::parts::Jobs;
use super::turn::TurnRow;
use crate::engine::{Headers, Message, RequestError};
use crate::id::Key;
use crate::subject::{Subjects, worker_leaf};
use crate::trace::TraceParent;
use crate::wire::{self, CallAnswer, Cancel, HandlerError, WorkerCall};
use crate::worker::WorkerGroup;

/// How many workers of a lane are tried when each is busy.
const MAX_WORKERS_ASKED: u32 = 4;
/// How often the assigned worker is looked up again, when the called worker was not the assigned one or is dead.
const MAX_LOOKUPS: u32 = 8;
/// Look-ups without a pause. After them the user is being handed over from one worker to another one.
const QUICK_LOOKUPS: u32 = 2;

/// Why a call has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// The handler returned an error.
    Failed(HandlerError),
    /// No worker is available: the call did not run.
    NoWorker,
    /// The called worker has no such handler, although its row names it: the call did not run.
    NoHandler,
    /// Every called worker is busy: the call did not run.
    Busy,
    /// The executor died while it ran the call: a part of the work may have happened.
    Lost,
    /// No reply in time: the call may have run.
    Deadline,
    /// The engine is unavailable: the call may have run.
    Down,
    /// The call is larger than a message: the call did not run.
    TooLarge,
}

/// The workers of a group that share its free calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallMembers {
    /// Processes that are workers only.
    Processes,
    /// Workers inside nodes.
    InsideNodes,
}

/// Where a call for any worker of a group is sent.
struct FreeAddress {
    subject: String,
    /// Whether one worker has the subject, and not all that share such calls.
    is_worker: bool,
}

/// Calls a worker of this process without the engine.
pub type DirectRoute =
    Box<dyn FnOnce(WorkerCall, Option<TraceParent>) -> BoxFuture<'static, CallAnswer> + Send>;

/// Finds the route to a worker of this process; `None` for a worker of another process.
pub type DirectRoutes<'a> = &'a (dyn Fn(Key) -> Option<DirectRoute> + Send + Sync);

/// A call that is made: at one worker after the other, until one of them has run it. Dropping it stops the handler.
pub struct OutgoingCall<'a> {
    jobs: &'a Jobs,
    team: &'a WorkerGroup,
    call: WorkerCall,
    until: Instant,
    trace: Option<TraceParent>,
    /// Whether the page of the call keeps another lane than that of its user.
    is_visit: bool,
    /// Whether a worker of another process may run the call now.
    is_open: bool,
    /// Whether the worker that was called last is one of this process.
    is_direct: bool,
}

impl Drop for OutgoingCall<'_> {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        let subject = self.jobs.subjects.workers(&self.team.pool, &self.team.lane);
        let message = Message::new(subject, wire::encode(&Cancel { id: self.call.id }));
        let engine = self.jobs.engine.clone();
        tokio::spawn(async move {
            // a worker that does not receive the message runs the handler to its end in vain
            if let Err(error) = engine.publish(message).await {
                tracing::debug!(%error, "workers not told that nobody waits for a call");
            }
        });
    }
}

impl Jobs {
    /// Calls a method over the engine: of any free worker of a group, or of the assigned worker of the user `own`. Dropping
    /// the future stops the handler. Sets how long the call may take.
    ///
    /// # Errors
    ///
    /// [`CallError`] without a value.
    pub async fn call(
        &self,
        team: &WorkerGroup,
        own: Option<&str>,
        call: WorkerCall,
        within: Duration,
        trace: Option<TraceParent>,
    ) -> Result<Box<RawValue>, CallError> {
        let mut calling = OutgoingCall::new(self, team, call, within, trace);
        if let Some(user) = own {
            return calling.own(user, &|_| None).await;
        }
        calling.any_member().await
    }
}

impl<'a> OutgoingCall<'a> {
    /// Prepares a call of the workers of a group, and begins its time.
    pub fn new(
        jobs: &'a Jobs,
        team: &'a WorkerGroup,
        call: WorkerCall,
        within: Duration,
        trace: Option<TraceParent>,
    ) -> Self {
        let until = Instant::now() + within;
        Self { jobs, team, call, until, trace, is_visit: false, is_open: false, is_direct: false }
    }
}

impl OutgoingCall<'_> {
    /// Makes the call that of a page that keeps its lane while its user is in another one: a worker of the lane serves it
    /// without owning the user.
    pub const fn visit(&mut self) {
        self.is_visit = true;
    }

    /// Returns whether the worker that was called last is one of this process.
    pub const fn is_direct(&self) -> bool {
        self.is_direct
    }

    /// Calls a worker of this process: it gets the call with the time that is left.
    ///
    /// # Errors
    ///
    /// [`CallError`] without a value.
    pub async fn direct(&mut self, route: DirectRoute) -> Result<Box<RawValue>, CallError> {
        value_of(self.ask_here(route).await?)
    }

    /// Calls a process of the group, or else a worker inside a node.
    async fn any_member(&mut self) -> Result<Box<RawValue>, CallError> {
        let outcome = self.any(CallMembers::Processes).await;
        let is_inside =
            |call: &Self| call.jobs.workers.roster().has_free(call.team, &call.call.method, true, &[]);
        match outcome {
            Err(CallError::NoWorker | CallError::Busy) if is_inside(self) => {
                self.any(CallMembers::InsideNodes).await
            }
            outcome => outcome,
        }
    }

    /// Calls any member of the group, chosen by the engine or, while a member leaves, by this process; a busy member replies
    /// so at once.
    ///
    /// # Errors
    ///
    /// [`CallError`] without a value.
    pub async fn any(&mut self, members: CallMembers) -> Result<Box<RawValue>, CallError> {
        for asked in 0..MAX_WORKERS_ASKED {
            let Some(address) = self.free_address(members, asked as usize) else { break };
            match self.ask(address.subject).await {
                Ok(CallAnswer::Busy | CallAnswer::Elsewhere { .. }) => {}
                // that worker is gone
                Err(CallError::NoWorker) if address.is_worker => {}
                answer => return value_of(answer?),
            }
        }
        Err(CallError::Busy)
    }

    /// Returns where a free call is sent that was refused so often; `None` when no worker is left.
    fn free_address(&self, members: CallMembers, refusals: usize) -> Option<FreeAddress> {
        let (subjects, team, method) = (&self.jobs.subjects, self.team, &self.call.method);
        let is_inside = members == CallMembers::InsideNodes;
        let alone = self.jobs.workers.roster().asked_around_leaving(team, method, is_inside, self.call.id);
        Some(match alone {
            Some(workers) => {
                let worker = workers.get(refusals.checked_rem(workers.len())?)?;
                let subject = subjects.worker(*worker, worker_leaf::FREE_CALL);
                FreeAddress { subject, is_worker: true }
            }
            None => {
                let shared = if is_inside { Subjects::node_calls } else { Subjects::calls };
                FreeAddress { subject: shared(subjects, &team.pool, &team.lane, method), is_worker: false }
            }
        })
    }

    /// Calls the worker that a user is assigned to. A worker of this process is called by `direct`.
    ///
    /// # Errors
    ///
    /// [`CallError`] without a value.
    pub async fn own(&mut self, user: &str, direct: DirectRoutes<'_>) -> Result<Box<RawValue>, CallError> {
        let turn = TurnRow::key(&self.team.pool, user);
        let visited = self.visited(user);
        let serves = |worker: &Key| self.jobs.workers.roster().has(*worker, &self.call.method);
        let mut worker =
            match visited.or_else(|| self.jobs.owners.get(&turn).filter(|_| !self.is_visit).filter(serves)) {
                Some(guess) => Some(guess),
                None if self.is_visit => None,
                None => self.jobs.own_worker(self.team, user, &self.call.method).await,
            };
        for lookup in 0..MAX_LOOKUPS {
            let Some(asked) = worker else { return Err(CallError::NoWorker) };
            if lookup > QUICK_LOOKUPS {
                tokio::time::sleep(self.jobs.timing.slot_wait / MAX_LOOKUPS).await;
            }
            let outcome = match self.ask_worker(asked, direct).await {
                Ok(CallAnswer::Busy) => {
                    // it drains, or the user has been released while the call waited
                    let next = self.jobs.workers.roster().choose(self.team, user, Some(&self.call.method));
                    worker = Some(next.filter(|next| *next != asked).ok_or(CallError::Busy)?);
                    continue;
                }
                Ok(CallAnswer::Elsewhere { worker: other }) => {
                    worker = Some(other);
                    continue;
                }
                Ok(answer) => value_of(answer),
                Err(CallError::NoWorker) => {
                    worker = self.after(asked, user).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if visited.is_none() {
                self.jobs.owners.remember(turn, asked);
            }
            return outcome;
        }
        Err(CallError::Busy)
    }

    /// Returns the worker that serves the call without owning the user: its page keeps another lane than the user's, or the
    /// home of the user does not have the method.
    fn visited(&self, user: &str) -> Option<Key> {
        let roster = self.jobs.workers.roster();
        if self.is_visit {
            return roster.choose(self.team, user, Some(&self.call.method));
        }
        let home = roster.choose(self.team, user, None)?;
        if roster.has(home, &self.call.method) {
            return None;
        }
        roster.choose(self.team, user, Some(&self.call.method))
    }

    /// Returns the next assigned worker of a user, once the worker without a responder is confirmed dead. The confirmation
    /// goes on when the time of this call is over, so that later calls with little time find the next worker.
    async fn after(&self, silent: Key, user: &str) -> Option<Key> {
        let life = self.jobs.workers.roster().current_epoch(silent);
        if let Some(life) = life {
            let workers = self.jobs.workers.clone();
            let gone = tokio::spawn(async move {
                if workers.evict_dead(life).await == Ok(true) {
                    workers.left(life).await;
                }
            });
            let _ = timeout_at(self.until, gone).await;
        }
        let next = match self.is_visit {
            true => self.visited(user),
            false => self.jobs.own_worker(self.team, user, &self.call.method).await,
        };
        next.filter(|next| *next != silent)
    }

    async fn ask_worker(&mut self, worker: Key, direct: DirectRoutes<'_>) -> Result<CallAnswer, CallError> {
        match direct(worker) {
            Some(route) => self.ask_here(route).await,
            None => self.ask(self.jobs.subjects.worker(worker, worker_leaf::CALL)).await,
        }
    }

    async fn ask_here(&mut self, route: DirectRoute) -> Result<CallAnswer, CallError> {
        // the time at the worker ends after the caller's, so that the end of the worker is not mistaken for it
        let left = self.left()?.as_millis() as u64 + 2;
        self.is_direct = true;
        let answering = route(WorkerCall { left_ms: Some(left), ..self.call.clone() }, self.trace.clone());
        match timeout_at(self.until, answering).await {
            // on a busy machine both times may be over before this is looked at; the worker has then dropped the call
            Ok(CallAnswer::Lost) if Instant::now() >= self.until => Err(CallError::Deadline),
            Ok(answer) => Ok(answer),
            Err(_) => Err(CallError::Deadline),
        }
    }

    fn left(&self) -> Result<Duration, CallError> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(CallError::Deadline) } else { Ok(left) }
    }

    async fn ask(&mut self, subject: String) -> Result<CallAnswer, CallError> {
        let left = self.left()?;
        self.is_direct = false;
        self.call.left_ms = Some(left.as_millis() as u64);
        let payload = wire::encode_long(&self.call, self.call.params.get().len() + 256);
        let headers = Headers { trace: self.trace.clone() };
        let message = Message { headers, ..Message::new(subject, payload) };
        self.is_open = true;
        let answer = self.jobs.engine.request(message, left).await;
        // without an answer in time the worker is told to stop when this is dropped
        self.is_open = matches!(answer, Err(RequestError::Deadline | RequestError::Down));
        match answer {
            // a reply of another release cannot be parsed: whether the call ran is unknown
            Ok(answer) => serde_json::from_slice(&answer.payload).map_err(|_| {
                self.is_open = true;
                CallError::Deadline
            }),
            Err(RequestError::NoResponder) => Err(CallError::NoWorker),
            Err(RequestError::Deadline) => Err(CallError::Deadline),
            Err(RequestError::Down) => Err(CallError::Down),
            Err(RequestError::TooLarge) => Err(CallError::TooLarge),
        }
    }
}

/// Returns the outcome of a call that a worker has run, or cannot run at all.
fn value_of(answer: CallAnswer) -> Result<Box<RawValue>, CallError> {
    match answer {
        CallAnswer::Value(value) => Ok(value),
        CallAnswer::Error(failure) => Err(CallError::Failed(failure)),
        CallAnswer::NoHandler => Err(CallError::NoHandler),
        CallAnswer::Lost => Err(CallError::Lost),
        CallAnswer::Busy | CallAnswer::Elsewhere { .. } => Err(CallError::Busy),
    }
}
