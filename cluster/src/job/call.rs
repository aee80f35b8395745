//! Calls a method of a worker now: request and reply, at most once.
//!
//! Owns: which worker is called, and for how long workers are tried. Never: a second try of a call that may have run;
//! [`CallAnswer::Busy`], [`CallAnswer::Elsewhere`] and a worker without a responder mean that the call did not run.

use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use super::parts::Jobs;
use super::turn::TurnRow;
use crate::engine::{Headers, Message, RequestError};
use crate::id::Key;
use crate::subject::worker_leaf;
use crate::trace::TraceParent;
use crate::wire::{self, CallAnswer, Cancel, HandlerError, WorkerCall};
use crate::worker::WorkerGroup;

/// How many workers of a lane are tried when each is busy.
const MAX_WORKERS_ASKED: u32 = 4;
/// How often the assigned worker is looked up again, when the called worker was not the assigned one or is dead.
const MAX_LOOKUPS: u32 = 4;

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

/// Cancels the handler of a call when the caller is dropped before the reply.
struct CancelOnDrop<'a> {
    jobs: &'a Jobs,
    /// Worker group that may run the call.
    team: &'a WorkerGroup,
    id: Key,
    answered: bool,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let subject = self.jobs.subjects.workers(&self.team.pool, &self.team.lane);
        let message = Message::new(subject, wire::encode(&Cancel { id: self.id }));
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
    /// Calls a method: of any free worker of a group, or of the assigned worker of the user `own`. Dropping the future
    /// stops the handler. Sets how long the call may take.
    pub async fn call(
        &self,
        team: &WorkerGroup,
        own: Option<&str>,
        call: WorkerCall,
        within: Duration,
        trace: Option<TraceParent>,
    ) -> Result<Box<RawValue>, CallError> {
        let id = call.id;
        let mut asking = OutgoingCall { jobs: self, team, call, until: Instant::now() + within, trace };
        let mut abandon = CancelOnDrop { jobs: self, team, id, answered: false };
        let outcome = match own {
            None => asking.any().await,
            Some(user) => asking.own(user).await,
        };
        abandon.answered = !matches!(outcome, Err(CallError::Deadline | CallError::Down));
        outcome
    }
}

struct OutgoingCall<'a> {
    jobs: &'a Jobs,
    team: &'a WorkerGroup,
    call: WorkerCall,
    until: Instant,
    trace: Option<TraceParent>,
}

impl OutgoingCall<'_> {
    /// Calls any member of the group, chosen by the engine; a busy member replies so at once.
    async fn any(&mut self) -> Result<Box<RawValue>, CallError> {
        let subject = self.jobs.subjects.calls(&self.team.pool, &self.team.lane, &self.call.method);
        for _ in 0..MAX_WORKERS_ASKED {
            match self.ask(subject.clone()).await? {
                CallAnswer::Value(value) => return Ok(value),
                CallAnswer::Error(failure) => return Err(CallError::Failed(failure)),
                CallAnswer::NoHandler => return Err(CallError::NoHandler),
                CallAnswer::Lost => return Err(CallError::Lost),
                CallAnswer::Busy | CallAnswer::Elsewhere { .. } => {}
            }
        }
        Err(CallError::Busy)
    }

    async fn own(&mut self, user: &str) -> Result<Box<RawValue>, CallError> {
        let turn = TurnRow::key(&self.team.pool, user);
        let visited = self.visited(user);
        let serves = |worker: &Key| self.jobs.workers.roster().has(*worker, &self.call.method);
        let mut worker = match visited.or_else(|| self.jobs.owners.get(&turn).filter(serves)) {
            Some(guess) => Some(guess),
            None => self.jobs.own_worker(self.team, user, &self.call.method).await,
        };
        for _ in 0..MAX_LOOKUPS {
            let Some(asked) = worker else { return Err(CallError::NoWorker) };
            let subject = self.jobs.subjects.worker(asked, worker_leaf::CALL);
            let outcome = match self.ask(subject).await {
                Ok(CallAnswer::Value(value)) => Ok(value),
                Ok(CallAnswer::Error(failure)) => Err(CallError::Failed(failure)),
                Ok(CallAnswer::NoHandler) => Err(CallError::NoHandler),
                Ok(CallAnswer::Lost) => Err(CallError::Lost),
                Ok(CallAnswer::Busy) => return Err(CallError::Busy),
                Ok(CallAnswer::Elsewhere { worker: other }) => {
                    worker = Some(other);
                    continue;
                }
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

    /// Returns the worker of a method that the home of the user does not have. It serves the calls without owning the
    /// user.
    fn visited(&self, user: &str) -> Option<Key> {
        let roster = self.jobs.workers.roster();
        let home = roster.choose(self.team, user, None)?;
        if roster.has(home, &self.call.method) {
            return None;
        }
        roster.choose(self.team, user, Some(&self.call.method))
    }

    /// Returns the next assigned worker of a user, once the worker without a responder is confirmed dead.
    async fn after(&self, silent: Key, user: &str) -> Option<Key> {
        let life = self.jobs.workers.roster().current_epoch(silent);
        if let Some(life) = life {
            let gone = async {
                if self.jobs.workers.evict_dead(life).await == Ok(true) {
                    self.jobs.workers.left(life).await;
                }
            };
            let _ = timeout_at(self.until, gone).await;
        }
        self.jobs.own_worker(self.team, user, &self.call.method).await.filter(|next| *next != silent)
    }

    async fn ask(&mut self, subject: String) -> Result<CallAnswer, CallError> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(CallError::Deadline);
        }
        self.call.left_ms = Some(left.as_millis() as u64);
        let payload = wire::encode_long(&self.call, self.call.params.get().len() + 256);
        let headers = Headers { trace: self.trace.clone() };
        let message = Message { headers, ..Message::new(subject, payload) };
        match self.jobs.engine.request(message, left).await {
            // a reply of another release cannot be parsed: whether the call ran is unknown
            Ok(answer) => serde_json::from_slice(&answer.payload).map_err(|_| CallError::Deadline),
            Err(RequestError::NoResponder) => Err(CallError::NoWorker),
            Err(RequestError::Deadline) => Err(CallError::Deadline),
            Err(RequestError::Down) => Err(CallError::Down),
            Err(RequestError::TooLarge) => Err(CallError::TooLarge),
        }
    }
}
