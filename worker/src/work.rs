//! The units of work of a worker, and what the parts of a worker share.
//!
//! Owns: the type of a unit of work, and the channel to the receiver that runs it. Never: where work comes from
//! (`queue`, `affinity`, `control`, `call_subscription`).

use std::collections::BTreeSet;
use std::sync::Arc;

use pagewire_cluster::job::{Claimant, Jobs};
use pagewire_cluster::register::Registers;
use pagewire_cluster::worker::{WorkerGroup, WorkerId, WorkerLease};
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

use super::attempt::Attempt;
use super::call::IncomingCall;
use super::object::ObjectMessage;
use super::object_terms::ObjectTerms;
use super::running::RunningWork;
use super::slots::Slots;

/// A unit of work. It holds one slot of its worker until it has ended.
pub enum Work {
    /// A claimed job.
    Job(Box<Attempt>),
    /// A call.
    Call(Box<IncomingCall>),
}

/// What the parts of one worker share.
pub(crate) struct WorkerParts {
    pub(crate) jobs: Jobs,
    pub(crate) registers: Registers,
    pub(crate) group: WorkerGroup,
    pub(crate) release: String,
    /// Methods that the worker has.
    pub(crate) methods: BTreeSet<String>,
    pub(crate) lease: WorkerLease,
    pub(crate) slots: Slots,
    pub(crate) draining: watch::Sender<bool>,
    pub(crate) running: Arc<RunningWork>,
    /// The pages whose objects live here.
    pub(crate) objects: Arc<ObjectTerms>,
    /// Leads to the task that moves objects.
    pub(crate) object_messages: mpsc::UnboundedSender<ObjectMessage>,
    /// Calls without a reply so far.
    pub(crate) unanswered: TaskTracker,
    /// Leads to the receiver that runs handlers. It has room for as many items as there are slots.
    pub(crate) work: mpsc::Sender<Work>,
}

impl WorkerParts {
    /// Returns what a claim of this worker says of it.
    pub(crate) fn claimant(&self, worker: WorkerId) -> Claimant {
        Claimant { worker, release: self.release.clone(), lane: self.group.lane.clone() }
    }

    /// Returns this incarnation of the worker, while it holds its lease and its work is received.
    pub(crate) fn active(&self) -> Option<WorkerId> {
        self.lease.worker().filter(|_| !self.work.is_closed())
    }

    /// Returns the time of the cluster in milliseconds since the Unix epoch.
    pub(crate) fn now_ms(&self) -> u64 {
        self.jobs.records.now_ms()
    }

    /// Returns whether the worker accepts no new work.
    pub(crate) fn drains(&self) -> bool {
        *self.draining.borrow()
    }
}
