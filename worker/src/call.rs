//! A call that a worker has received.
//!
//! Owns: how long its caller waits, and the path of the reply. Never: slots (`admission`), or what the call does.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::engine::{Engine, MAX_PAYLOAD, Message};
use pagewire_cluster::job::Affinity;
use pagewire_cluster::trace::TraceParent;
use pagewire_cluster::wire::{self, CallAnswer, HandlerError, WorkerCall};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::running::RunningWork;
use super::slots::{Slot, Slots};

/// Where the reply to a call goes.
pub(crate) enum ReplyPath {
    /// To the sender of a message.
    Message { engine: Engine, question: Message },
    /// To a caller in this process, with what is cancelled when it does not wait any more.
    Direct { sender: oneshot::Sender<CallAnswer>, abandoned: CancellationToken },
}

impl ReplyPath {
    /// Sends the reply.
    pub(crate) async fn send(self, answer: CallAnswer) {
        match self {
            Self::Message { engine, question } => reply(&engine, question, &answer).await,
            // an error means that the caller has gone
            Self::Direct { sender, .. } => drop(sender.send(answer)),
        }
    }

    /// Resolves when a caller in this process does not wait any more.
    async fn abandoned(&self) {
        match self {
            Self::Message { .. } => std::future::pending().await,
            Self::Direct { abandoned, .. } => abandoned.cancelled().await,
        }
    }
}

/// A call and the path of its reply.
pub struct IncomingCall {
    /// The call.
    pub call: WorkerCall,
    /// Whether any worker of the group may have got it, or only the one that is assigned to the user.
    pub affinity: Affinity,
    /// The trace of the caller.
    pub(crate) trace: Option<TraceParent>,
    pub(crate) reply: ReplyPath,
    /// When it arrived.
    pub(crate) received: Instant,
    pub(crate) running: Arc<RunningWork>,
    /// `None` while the call waits for its turn.
    pub(crate) slot: Mutex<Option<Slot>>,
    pub(crate) slots: Slots,
    /// Dropped last.
    pub(crate) _unanswered: TaskTrackerToken,
}

impl IncomingCall {
    /// Resolves when no caller waits for the reply any more: the caller has cancelled the call, or its deadline has
    /// passed. The call can be cancelled from the first poll on.
    pub async fn abandoned(&self) {
        let running = self.running.begin(self.call.id);
        let cancelled = async {
            // the same call was delivered twice: a cancellation cannot tell them apart
            let Some(running) = &running else { return std::future::pending().await };
            // never an error: the sender is held above
            let _ = running.cancel.subscribe().wait_for(|cancelled| *cancelled).await;
        };
        tokio::select! {
            () = cancelled => {}
            () = self.reply.abandoned() => {}
            () = tokio::time::sleep(self.remaining().unwrap_or(Duration::MAX)) => {}
        }
    }

    /// Returns the trace context of the caller.
    pub(crate) fn trace(&self) -> Option<&TraceParent> {
        self.trace.as_ref()
    }

    /// Returns how long the caller still waits for the reply; `None` when the call has no limit.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        let left = Duration::from_millis(self.call.left_ms?);
        Some(left.saturating_sub(self.received.elapsed()))
    }

    /// Waits for a turn without a slot, because a call that only waits must not hold up others.
    pub(crate) async fn wait_without_slot<T>(&self, turn: impl Future<Output = T>) -> T {
        let slot = || self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        drop(slot().take());
        let turn = turn.await;
        let taken = self.slots.call().await;
        *slot() = taken;
        turn
    }

    /// Sends the reply. The slot is released first, because the caller may send the next call at once.
    pub async fn answer(self, answer: CallAnswer) {
        let Self { reply, slot, _unanswered, .. } = self;
        drop(slot);
        reply.send(answer).await;
    }
}

async fn reply(engine: &Engine, question: Message, answer: &CallAnswer) {
    let bytes = match answer {
        CallAnswer::Value(value) => value.get().len() + 16,
        _ => 128,
    };
    let mut encoded = wire::encode_long(answer, bytes);
    if encoded.len() > MAX_PAYLOAD {
        encoded = wire::encode(&CallAnswer::Error(too_large()));
    }
    reply_bytes(engine, question, encoded).await;
}

/// The error of a call whose answer fits into no message. Without it, the caller would wait for the whole of its time.
fn too_large() -> HandlerError {
    let message = format!(
        "the answer to a call from another process has at most {MAX_PAYLOAD} bytes, with its envelope"
    );
    HandlerError::new(ErrorCode::TooLarge, message)
}

/// Sends the reply to a request.
pub(crate) async fn reply_bytes(engine: &Engine, question: Message, answer: Bytes) {
    // the caller already has the trace
    if let Some(reply) = question.reply
        && let Err(error) = engine.publish(Message::new(reply, answer)).await
    {
        tracing::debug!(%error, "answer not sent");
    }
}
