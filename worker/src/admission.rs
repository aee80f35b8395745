//! The admission of calls to the slots of a worker.
//!
//! Owns: which call gets a slot, and how long one waits for it. Never: jobs; they wait in the Queue or in their rows.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pagewire_cluster::job::Affinity;
use pagewire_cluster::trace::TraceParent;
use pagewire_cluster::wire::{CallAnswer, WorkerCall};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::call::{IncomingCall, ReplyPath};
use super::slots::Slot;
use super::work::{Work, WorkerParts};

/// A call that has arrived.
pub(crate) struct AskedCall {
    call: WorkerCall,
    affinity: Affinity,
    trace: Option<TraceParent>,
    reply: ReplyPath,
    received: Instant,
    unanswered: TaskTrackerToken,
}

impl AskedCall {
    /// A call that arrives now. A worker that drains waits until the token is dropped.
    pub(crate) fn new(
        call: WorkerCall,
        affinity: Affinity,
        trace: Option<TraceParent>,
        reply: ReplyPath,
        unanswered: TaskTrackerToken,
    ) -> Self {
        Self { call, affinity, trace, reply, received: Instant::now(), unanswered }
    }
}

/// Admits calls to the slots of a worker.
pub(crate) struct CallAdmission {
    parts: Arc<WorkerParts>,
    /// Permits for calls that wait for a slot.
    waiting: Semaphore,
}

impl CallAdmission {
    pub(crate) fn new(parts: &Arc<WorkerParts>) -> Self {
        Self { parts: parts.clone(), waiting: Semaphore::new(parts.slots.count() as usize) }
    }

    /// Admits a call that was sent to this worker alone and passes it to the receiver that runs handlers.
    pub(crate) fn enqueue(self: &Arc<Self>, asked: AskedCall) {
        if let Some(admitted) = self.admit(asked) {
            self.pass_on(admitted);
        }
    }

    /// Passes a call to the receiver that runs handlers, with a slot that it has.
    pub(crate) fn enqueue_with_slot(&self, asked: AskedCall, slot: Slot) {
        if let Some(admitted) = self.admit_with_slot(asked, slot) {
            self.pass_on(admitted);
        }
    }

    fn pass_on(&self, admitted: IncomingCall) {
        // the channel has room for as many items as there are slots, and the receiver is dropped only with the worker
        let _ = self.parts.work.try_send(Work::Call(Box::new(admitted)));
    }

    /// Returns how many calls wait for a slot.
    pub(crate) fn waiting(&self) -> usize {
        (self.parts.slots.count() as usize).saturating_sub(self.waiting.available_permits())
    }

    /// Admits a call if there is a slot. Otherwise the call waits in the background, and is passed to the receiver that
    /// runs handlers when it gets one.
    pub(crate) fn admit(self: &Arc<Self>, asked: AskedCall) -> Option<IncomingCall> {
        match self.parts.slots.try_call() {
            Some(slot) => self.admit_with_slot(asked, slot),
            None => {
                tokio::spawn(self.clone().wait_for_slot(asked));
                None
            }
        }
    }

    /// Waits a short time for a slot. At most as many calls as there are slots may wait. All other calls are rejected
    /// at once, because another worker may have a slot.
    async fn wait_for_slot(self: Arc<Self>, asked: AskedCall) {
        let parts = &self.parts;
        let slot = match self.waiting.try_acquire() {
            Ok(_place) => timeout(parts.jobs.timing.slot_wait, parts.slots.call()).await.ok().flatten(),
            Err(_) => None,
        };
        match slot {
            Some(slot) => {
                if let Some(admitted) = self.admit_with_slot(asked, slot) {
                    let _ = parts.work.send(Work::Call(Box::new(admitted))).await;
                }
            }
            None => asked.reply.send(CallAnswer::Busy).await,
        }
    }

    /// Admits a call that has a slot. Returns `None` when no caller waits for it any more.
    fn admit_with_slot(&self, asked: AskedCall, slot: Slot) -> Option<IncomingCall> {
        let AskedCall { call, affinity, trace, reply, received, unanswered } = asked;
        let WorkerParts { running, slots, .. } = &*self.parts;
        let (running, slots) = (running.clone(), slots.clone());
        let (slot, _unanswered) = (Mutex::new(Some(slot)), unanswered);
        let admitted =
            IncomingCall { call, affinity, trace, reply, received, running, slot, slots, _unanswered };
        (admitted.remaining() != Some(Duration::ZERO)).then_some(admitted)
    }
}
