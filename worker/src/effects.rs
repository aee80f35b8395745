//! The effects of handlers inside Pagewire, each checked where it happens.
//!
//! Owns: whether the work that asks for an effect still stands, and the fence that its writes carry. Never: who may write
//! or send what; a handler is part of the server.
//!
//! An effect is refused with `stale` when this worker does not hold the lease under which the work began, when the work
//! has ended, and, for assigned work, when this worker does not own the user at the term under which the work began. A
//! process can be paused after this check, so the effect carries what the receiver needs to refuse it as well: a write of
//! assigned work carries the term, and a message to pages carries the incarnation of the worker. `any` work has no owner:
//! only the lease is checked, and its writes have no fence.
//!
//! What the application of a mount requests outside of work stands while its node has its lease (`application`).

pub mod application;
mod standing;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::id::{Address, Entity, Key, Scope, WorkOwner};
use pagewire_cluster::job::Jobs;
use pagewire_cluster::lock::Locks;
use pagewire_cluster::register::Registers;
use pagewire_cluster::state::{DraftWrite, Edit, Fence, Operation, ReadValue, StateError, StateStore};
use pagewire_cluster::trace::TraceParent;
use pagewire_cluster::wire::{ExecutorMessage, HandlerError, ObjectNotice, PushCounts};
use pagewire_cluster::worker::{WorkerGroup, WorkerId, WorkerLease};
use serde_json::Value;
use serde_json::value::RawValue;
use tracing::{Instrument, Span};

use self::application::{Application, ApplicationNode};
pub use self::standing::Standing;
pub(crate) use self::standing::page_fence;
use self::standing::{Owned, OwnedPage, StandingWork};
use super::object_terms::ObjectTerms;
use super::outgoing::WorkSubmitter;
use super::push::ExecutorPusher;
use super::user_turns::UserTurns;
use super::work::WorkerParts;

/// What effects act on.
pub(crate) struct Stores {
    pub(crate) jobs: Jobs,
    pub(crate) locks: Locks,
    pub(crate) states: StateStore,
    pub(crate) registers: Registers,
    pub(crate) outgoing: Arc<dyn WorkSubmitter>,
}

impl Stores {
    pub(crate) fn new(jobs: &Jobs, registers: &Registers, outgoing: Arc<dyn WorkSubmitter>) -> Self {
        let (locks, states) = (Locks::new(&jobs.engine, jobs.timing), StateStore::new(&jobs.engine));
        Self { jobs: jobs.clone(), locks, states, registers: registers.clone(), outgoing }
    }
}

/// Checks the effects of all work of one worker.
pub struct Supervisor {
    pub(crate) group: WorkerGroup,
    pub(crate) lease: WorkerLease,
    pub(crate) turns: Arc<UserTurns>,
    pub(crate) objects: Arc<ObjectTerms>,
    stores: Stores,
    pusher: ExecutorPusher,
    /// The last term with which the tree of a user was stamped here.
    stamped: Mutex<HashMap<Arc<str>, u64>>,
}

/// In whose name effects happen.
#[derive(Clone)]
pub(crate) enum Ground {
    /// A handler that runs inside a node and not on a worker: it has no effects.
    Node,
    /// A piece of work of a worker.
    Work(Arc<StandingWork>),
    /// The application of a mount.
    Application(Arc<Application>),
}

/// What a handler may do inside Pagewire while its work stands. Cheap to clone.
#[derive(Clone)]
pub struct Effects {
    ground: Ground,
    /// The span of the work, which an effect of another process happens outside of.
    span: Span,
    /// The trace context of the work.
    trace: Option<TraceParent>,
}

pub(crate) fn stale(message: &str) -> HandlerError {
    HandlerError::new(ErrorCode::Stale, message)
}

fn no_effects() -> HandlerError {
    let message = "a call inside a node has no effects; use the mode any or assigned";
    HandlerError::new(ErrorCode::Unsupported, message)
}

fn refused(error: StateError) -> HandlerError {
    HandlerError::new(error.code(), error.to_string())
}

impl Supervisor {
    pub(crate) fn new(
        parts: &WorkerParts,
        turns: Arc<UserTurns>,
        outgoing: Arc<dyn WorkSubmitter>,
    ) -> Arc<Self> {
        let WorkerParts { jobs, registers, group, lease, objects, .. } = parts;
        Arc::new(Self {
            objects: objects.clone(),
            group: group.clone(),
            lease: lease.clone(),
            turns,
            stores: Stores::new(jobs, registers, outgoing),
            pusher: ExecutorPusher::new(jobs),
            stamped: Mutex::default(),
        })
    }

    /// Begins work, for `owner` if it is assigned: the user, or what stands for one in a job without a user. If the owner
    /// before this one has not released the user, the tree of the user is stamped before the first work of the term, so
    /// that a write of that owner is refused from now on.
    ///
    /// # Errors
    ///
    /// `stale` when this worker may not run the work any more, otherwise the error of the stamp; the work has not begun.
    pub async fn begin(
        self: &Arc<Self>,
        owner: Option<&str>,
        user: Option<&str>,
    ) -> Result<Standing, HandlerError> {
        let worker = self.lease.worker().ok_or_else(|| stale("the lease of this worker has expired"))?;
        let owned = match owner {
            None => None,
            Some(owner) => {
                let term = self.turns.term_of(owner).ok_or_else(|| stale("another worker owns the user"))?;
                if let Some(tree) = tree_of(owner, user).filter(|_| self.turns.is_contested(owner)) {
                    self.stamp(owner, tree, term).await?;
                }
                Some(Owned { user: owner.into(), term })
            }
        };
        Ok(Standing::new(self.clone(), worker, owned, None))
    }

    /// Begins work for the object of a page, which has this term. The work stands for as long as the object lives here,
    /// whichever worker owns the user.
    ///
    /// # Errors
    ///
    /// `stale` when the object does not live here any more.
    pub(crate) fn begin_object(
        self: &Arc<Self>,
        page: Key,
        term: u64,
        owner: Option<&str>,
    ) -> Result<Standing, HandlerError> {
        let worker = self.lease.worker().ok_or_else(|| stale("the lease of this worker has expired"))?;
        if self.objects.of(page) != Some(term) {
            return Err(stale("the object of the page has left this worker"));
        }
        let owned = owner.and_then(|user| Some(Owned { user: user.into(), term: self.turns.term_of(user)? }));
        Ok(Standing::new(self.clone(), worker, owned, Some(OwnedPage { page, term })))
    }

    /// Stamps the tree of a page before the first work of its object, because a worker that had the object may still have
    /// writes on their way.
    ///
    /// # Errors
    ///
    /// Those of a write of the tree.
    pub(crate) async fn stamp_page(&self, page: Key, term: u64) -> Result<(), HandlerError> {
        let fence = page_fence(&self.group.pool, page, term);
        self.stores.states.stamp(&Entity::Page(page), fence).await.map_err(refused)
    }

    async fn stamp(&self, user: &str, tree: Entity, term: u64) -> Result<(), HandlerError> {
        let stamped = || self.stamped.lock().unwrap_or_else(PoisonError::into_inner);
        if stamped().get(user) == Some(&term) {
            return Ok(());
        }
        self.stores.states.stamp(&tree, Fence::new(&self.group.pool, user, term)).await.map_err(refused)?;
        let mut stamped = stamped();
        // the users that have left since would only take memory
        stamped.retain(|user, _| self.turns.has(user));
        stamped.insert(user.into(), term);
        Ok(())
    }
}

/// Returns the tree of the owner of assigned work: of the user, or of the connection of work without a user.
fn tree_of(owner: &str, user: Option<&str>) -> Option<Entity> {
    match (user, WorkOwner::of_key(owner)) {
        (Some(user), _) => Some(Entity::User(user.into())),
        (None, WorkOwner::Connection(connection)) => Some(Entity::Connection(connection)),
        (None, WorkOwner::User(_)) => None,
    }
}

impl Effects {
    /// Returns effects that are all refused, for a handler that runs inside a node and not on a worker.
    pub const fn none() -> Self {
        Self { ground: Ground::Node, span: Span::none(), trace: None }
    }

    pub(crate) const fn of(ground: Ground, span: Span, trace: Option<TraceParent>) -> Self {
        Self { ground, span, trace }
    }

    #[cfg(test)]
    pub(crate) fn fence(&self) -> Result<Option<Fence>, HandlerError> {
        let Ground::Work(work) = &self.ground else { return Err(no_effects()) };
        work.stands()?;
        Ok(work.owned.as_ref().map(|owned| work.fence(owned)))
    }

    /// Returns what effects act on if the work stands.
    fn stores(&self) -> Result<&Stores, HandlerError> {
        match &self.ground {
            Ground::Node => Err(no_effects()),
            Ground::Work(work) => work.check().map(|()| &work.supervisor.stores),
            Ground::Application(application) => application.stores(),
        }
    }

    /// Returns the node of the application that requests this.
    ///
    /// # Errors
    ///
    /// `unsupported` for work of a worker, `stale` when the node has lost its lease.
    pub(crate) fn application_node(&self) -> Result<&ApplicationNode, HandlerError> {
        match &self.ground {
            Ground::Application(application) => application.node(),
            Ground::Node | Ground::Work(_) => {
                let message = "this is requested by an application of a mount, without work";
                Err(HandlerError::new(ErrorCode::Unsupported, message))
            }
        }
    }

    /// Returns the jobs of the cluster if the work stands.
    pub(crate) fn jobs(&self) -> Result<&Jobs, HandlerError> {
        Ok(&self.stores()?.jobs)
    }

    /// Returns the locks of the cluster if the work stands.
    pub(crate) fn locks(&self) -> Result<&Locks, HandlerError> {
        Ok(&self.stores()?.locks)
    }

    /// Returns the registers of the cluster if the work stands.
    pub(crate) fn registers(&self) -> Result<&Registers, HandlerError> {
        Ok(&self.stores()?.registers)
    }

    /// Returns what submits jobs and makes calls for the work if the work stands.
    pub(crate) fn outgoing(&self) -> Result<&dyn WorkSubmitter, HandlerError> {
        Ok(&*self.stores()?.outgoing)
    }

    /// Sends a message to the pages of a scope, wherever they are, and returns how many there are.
    ///
    /// # Errors
    ///
    /// `stale` when this work does not stand any more; `unavailable` and `too_large` as for a push of the server API.
    pub async fn push(&self, to: Scope, payload: Box<RawValue>) -> Result<PushCounts, HandlerError> {
        self.send(to, payload, false).await
    }

    /// Tells a page what has become of its object.
    ///
    /// # Errors
    ///
    /// Those of [`Effects::push`].
    pub(crate) async fn tell_page(
        &self,
        page: Address,
        notice: &ObjectNotice,
    ) -> Result<PushCounts, HandlerError> {
        let payload = serde_json::value::to_raw_value(notice);
        // the members are texts
        let payload = payload.unwrap_or_else(|_| RawValue::NULL.to_owned());
        self.send(Scope::Page(page), payload, true).await
    }

    async fn send(
        &self,
        to: Scope,
        payload: Box<RawValue>,
        is_notice: bool,
    ) -> Result<PushCounts, HandlerError> {
        let span = tracing::debug_span!(parent: &self.span, "push");
        let work = match &self.ground {
            Ground::Node => return Err(no_effects()),
            Ground::Application(application) => {
                return application.node()?.pages.send(to, payload).instrument(span).await;
            }
            Ground::Work(work) => work,
        };
        work.check()?;
        let WorkerId { id: worker, epoch } = work.worker;
        let message = ExecutorMessage { to, payload, worker, epoch, is_notice };
        work.supervisor.pusher.send(&message, self.trace.as_ref()).instrument(span).await
    }

    /// Sets a value in a state tree and returns the revision of the tree.
    ///
    /// # Errors
    ///
    /// `stale` when this work does not stand any more, otherwise as for a write of the server API.
    pub async fn set(&self, tree: &Entity, path: &str, value: Value) -> Result<u64, HandlerError> {
        let edit = Edit { path: path.parse().map_err(refused)?, value: Some(value) };
        self.patch(tree, vec![edit], None).await
    }

    /// Changes a state tree, all or nothing, and returns the revision of the tree.
    ///
    /// # Errors
    ///
    /// `stale` when this work does not stand any more, `conflict` if the tree has another revision than `if_revision`,
    /// otherwise as for a write of the server API.
    pub async fn patch(
        &self,
        tree: &Entity,
        edits: Vec<Edit>,
        if_revision: Option<u64>,
    ) -> Result<u64, HandlerError> {
        let states = &self.stores()?.states;
        let fence = match &self.ground {
            Ground::Work(work) => work.check_write(tree)?,
            Ground::Node | Ground::Application(_) => None,
        };
        let write = DraftWrite { operation: Operation::Edit(edits), if_revision, from: None, fence };
        let span = tracing::debug_span!(parent: &self.span, "write state", level = tree.level().name());
        states.write(tree, write).instrument(span).await.map_err(refused)
    }

    /// Reads a path of a state tree.
    ///
    /// # Errors
    ///
    /// `stale` when this work does not stand any more, otherwise as for a read of the server API.
    pub async fn get(&self, tree: &Entity, path: &str) -> Result<ReadValue, HandlerError> {
        let path = path.parse().map_err(refused)?;
        self.stores()?.states.get(tree, &path).await.map_err(refused)
    }
}
