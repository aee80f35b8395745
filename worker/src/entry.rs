//! Where calls enter a worker: from the engine, or from inside its process.
//!
//! Owns: which calls this worker accepts, and the way of a call without the engine. Never: slots (`admission`), or which
//! worker a user is assigned to (`affinity`).

use std::borrow::Cow;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use pagewire_cluster::engine::Message;
use pagewire_cluster::id::Key;
use pagewire_cluster::job::Affinity;
use pagewire_cluster::trace::TraceParent;
use pagewire_cluster::wire::{CallAnswer, PageEvent, WorkerCall};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::admission::{AskedCall, CallAdmission};
use super::affinity::AssignedJobs;
use super::call::ReplyPath;
use super::object::ObjectMessage;
use super::slots::Slot;
use super::work::WorkerParts;

/// Reaches one worker from inside its process. Cheap to clone.
#[derive(Clone)]
pub struct WorkerEntry {
    pub(crate) id: Key,
    pub(crate) parts: Arc<WorkerParts>,
    pub(crate) admission: Arc<CallAdmission>,
    pub(crate) assigned: Arc<AssignedJobs>,
}

/// What a worker does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerLoad {
    /// Pieces of work that it can run at the same time.
    pub slots: u32,
    /// Calls and jobs that run.
    pub running: u32,
    /// Calls that wait for a slot.
    pub queued: u32,
}

/// A slot of a worker for a free call, until this is dropped.
pub struct ReservedSlot {
    entry: WorkerEntry,
    slot: Slot,
}

impl WorkerEntry {
    /// Returns the id of the worker.
    pub const fn id(&self) -> Key {
        self.id
    }

    /// Returns whether the worker holds its lease.
    pub fn is_active(&self) -> bool {
        self.parts.active().is_some()
    }

    /// Returns whether the worker accepts no new work.
    pub fn is_draining(&self) -> bool {
        self.parts.drains()
    }

    /// Resolves when this process sees the mark of a worker that drains, as other processes do then: they call another one.
    /// Returns at once for other workers.
    pub(crate) async fn marked(&self) {
        let workers = &self.parts.jobs.workers;
        if self.is_draining() {
            let seen = |_: &u64| workers.roster().row(self.id).is_none_or(|row| row.draining);
            // an error means that the view is no longer updated
            let _ = workers.changes().wait_for(seen).await;
        }
    }

    /// Resolves when the objects of resident pages that live here have left.
    pub(crate) async fn objects_left(&self) {
        let (left, have_left) = oneshot::channel();
        if self.parts.objects.count() > 0
            && self.parts.object_messages.send(ObjectMessage::LeaveAll { left }).is_ok()
        {
            // an error means that the task that moves them has ended
            let _ = have_left.await;
        }
    }

    /// Returns what the worker does now.
    pub fn load(&self) -> WorkerLoad {
        let queued = u32::try_from(self.admission.waiting()).unwrap_or(u32::MAX);
        WorkerLoad { slots: self.parts.slots.count(), running: self.parts.slots.used(), queued }
    }

    /// Returns whether the worker accepts calls of a method.
    pub fn accepts(&self, method: &str) -> bool {
        self.parts.active().is_some() && !self.parts.drains() && self.parts.methods.contains(method)
    }

    /// Takes a slot for a free call if one is free.
    pub fn reserve(&self) -> Option<ReservedSlot> {
        Some(ReservedSlot { entry: self.clone(), slot: self.parts.slots.try_call()? })
    }

    /// Runs a free call, which waits a short time for a slot. Dropping the future stops the handler.
    pub fn call(&self, call: WorkerCall, trace: Option<TraceParent>) -> BoxFuture<'static, CallAnswer> {
        let (reply, answer) = direct_reply();
        let unanswered = self.parts.unanswered.token();
        self.admission.enqueue(AskedCall::new(call, Affinity::Free, trace, reply, unanswered));
        answer
    }

    /// Runs a call of a user who is assigned to this worker. Dropping the future stops the handler.
    pub fn call_assigned(
        &self,
        call: WorkerCall,
        trace: Option<TraceParent>,
    ) -> BoxFuture<'static, CallAnswer> {
        let (reply, answer) = direct_reply();
        self.accept_assigned(call, trace, reply);
        answer
    }

    /// Accepts a message with a call that any worker of the group may run.
    pub(crate) fn accept_free(&self, call: WorkerCall, question: Message) {
        self.admission.enqueue(self.asked_free(call, question));
    }

    /// Returns a message with a call that any worker of the group may run, as a call that has arrived.
    pub(crate) fn asked_free(&self, call: WorkerCall, question: Message) -> AskedCall {
        let (engine, trace) = (self.parts.jobs.engine.clone(), question.headers.trace.clone());
        let reply = ReplyPath::Message { engine, question };
        AskedCall::new(call, Affinity::Free, trace, reply, self.parts.unanswered.token())
    }

    /// Accepts a message with a call for the assigned worker of a user.
    pub(crate) fn accept_message(&self, call: WorkerCall, question: Message) {
        let engine = self.parts.jobs.engine.clone();
        let trace = question.headers.trace.clone();
        self.accept_assigned(call, trace, ReplyPath::Message { engine, question });
    }

    /// Accepts a call for the assigned worker of a user: only that worker serves it.
    fn accept_assigned(&self, call: WorkerCall, trace: Option<TraceParent>, reply: ReplyPath) {
        let Some(user) = call.owner().map(Cow::into_owned) else { return };
        // from now on, so that a worker that drains waits for the look-up
        let unanswered = self.parts.unanswered.token();
        let asked = move |call, affinity, reply| AskedCall::new(call, affinity, trace, reply, unanswered);
        let has_object = call.page.is_some_and(|page| self.parts.objects.of(page.key).is_some());
        if has_object && call.event != Some(PageEvent::Wake) && !self.is_draining() {
            // the object of the page lives here, whichever worker its user is assigned to by now; a node that has seen that
            // sends a wake-up, which moves the object
            return self.admission.enqueue(asked(call, Affinity::Assigned, reply));
        }
        let is_here = call.lane.as_deref().is_none_or(|lane| self.assigned.assignment.is_lane(lane));
        if is_here && self.assigned.has(&user, &call.method) {
            return self.admission.enqueue(asked(call, Affinity::Assigned, reply));
        }
        let this = self.clone();
        tokio::spawn(async move {
            match this.admit(&user, &call).await {
                Ok(affinity) => this.admission.enqueue(asked(call, affinity, reply)),
                Err(worker) => reply.send(referral(worker)).await,
            }
        });
    }

    /// Prepares a call for the assigned worker of a user. A call that keeps a lane is `free` while its user is in another
    /// one.
    async fn admit(&self, user: &str, call: &WorkerCall) -> Result<Affinity, Option<Key>> {
        let assignment = &self.assigned.assignment;
        if let Some(other) = call.lane.as_deref().filter(|lane| !assignment.is_lane(lane)) {
            return Err(assignment.worker_in(other, user, &call.method));
        }
        match self.assigned.admit_call(user, &call.method).await {
            Err(worker)
                if call.lane.is_some() && !worker.is_some_and(|other| assignment.is_in_lane(other)) =>
            {
                Ok(Affinity::Free)
            }
            admitted => admitted,
        }
    }

    /// Returns the refusal of a call that was accepted and has not run, because this worker does not own its user any more.
    /// It names the worker that the caller asks next, which is this one if it owns the user again.
    pub(crate) async fn refer(&self, call: &WorkerCall) -> CallAnswer {
        let Some(user) = call.owner() else { return CallAnswer::Busy };
        match self.admit(&user, call).await {
            Ok(_) => CallAnswer::Elsewhere { worker: self.id },
            Err(worker) => referral(worker),
        }
    }
}

/// Returns the refusal of a call that another worker may run, if it is known which one.
fn referral(worker: Option<Key>) -> CallAnswer {
    worker.map_or(CallAnswer::Busy, |worker| CallAnswer::Elsewhere { worker })
}

impl ReservedSlot {
    /// Runs a free call in this slot. Dropping the future stops the handler.
    pub fn call(self, call: WorkerCall, trace: Option<TraceParent>) -> BoxFuture<'static, CallAnswer> {
        let (reply, answer) = direct_reply();
        let unanswered = self.entry.parts.unanswered.token();
        let asked = AskedCall::new(call, Affinity::Free, trace, reply, unanswered);
        self.entry.admission.enqueue_with_slot(asked, self.slot);
        answer
    }
}

/// Returns the path of a reply inside the process, and the reply. A call whose worker is gone has the reply `Lost`.
fn direct_reply() -> (ReplyPath, BoxFuture<'static, CallAnswer>) {
    let (sender, receiver) = oneshot::channel();
    let abandoned = CancellationToken::new();
    let guard = abandoned.clone().drop_guard();
    let answer = async move {
        let answer = receiver.await.unwrap_or(CallAnswer::Lost);
        drop(guard);
        answer
    };
    (ReplyPath::Direct { sender, abandoned }, answer.boxed())
}
