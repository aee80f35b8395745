//! Work that has begun, and whether it still stands.
//!
//! Owns: the checks of an effect and the fence of a write. Never: when work begins, or the effect itself (`effects`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pagewire_cluster::id::{Entity, Key};
use pagewire_cluster::state::Fence;
use pagewire_cluster::trace::TraceParent;
use pagewire_cluster::wire::HandlerError;
use pagewire_cluster::worker::WorkerId;
use tracing::Span;

use super::{Effects, Ground, Supervisor, stale};

/// The owner of assigned work, as its key, and the term of this worker.
#[derive(Debug, Clone)]
pub(crate) struct Owned {
    pub(crate) user: Arc<str>,
    pub(crate) term: u64,
}

/// The page of the object that work is for, and the term of the object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnedPage {
    pub(crate) page: Key,
    pub(crate) term: u64,
}

/// Work that stands until this is dropped.
pub struct Standing(Arc<StandingWork>);

/// Work with what it is checked by.
pub(crate) struct StandingWork {
    pub(crate) supervisor: Arc<Supervisor>,
    /// The incarnation of the worker that has begun it.
    pub(crate) worker: WorkerId,
    /// `None` for work that any worker may run.
    pub(crate) owned: Option<Owned>,
    /// `None` unless the work is for the object of a page.
    pub(crate) object: Option<OwnedPage>,
    ended: AtomicBool,
}

impl Standing {
    pub(crate) fn new(
        supervisor: Arc<Supervisor>,
        worker: WorkerId,
        owned: Option<Owned>,
        object: Option<OwnedPage>,
    ) -> Self {
        let ended = AtomicBool::new(false);
        Self(Arc::new(StandingWork { supervisor, worker, owned, object, ended }))
    }

    /// Returns the effects for the handler of this work.
    pub fn effects(&self) -> Effects {
        self.traced_effects(None)
    }

    /// Returns the effects for the handler of this work, which runs in the current span with this trace context.
    pub fn traced_effects(&self, trace: Option<TraceParent>) -> Effects {
        Effects::of(Ground::Work(self.0.clone()), Span::current(), trace)
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Release);
    }
}

impl StandingWork {
    /// Checks an effect.
    pub(crate) fn check(&self) -> Result<(), HandlerError> {
        self.stands()
            .inspect_err(|error| tracing::info!(reason = error.message, "an effect of a handler is refused"))
    }

    pub(crate) fn stands(&self) -> Result<(), HandlerError> {
        let Supervisor { lease, objects, .. } = &*self.supervisor;
        if self.ended.load(Ordering::Acquire) {
            return Err(stale("the work has ended"));
        }
        if lease.worker() != Some(self.worker) {
            return Err(stale("the lease of this worker has expired"));
        }
        match (self.object, &self.owned) {
            (Some(OwnedPage { page, term }), _) if objects.of(page) != Some(term) => {
                Err(stale("the object of the page has left this worker"))
            }
            (None, Some(owned)) if !self.owns(owned) => Err(stale("another worker has taken the user over")),
            _ => Ok(()),
        }
    }

    /// Returns whether this worker owns a user at the term under which the work began.
    fn owns(&self, Owned { user, term }: &Owned) -> bool {
        self.supervisor.turns.term_of(user) == Some(*term)
    }

    /// Checks a write of a tree and returns its fence. The tree of the page of an object has the fence of the object, any
    /// other one that of the user, if this worker owns the user.
    pub(crate) fn check_write(&self, tree: &Entity) -> Result<Option<Fence>, HandlerError> {
        self.check()?;
        Ok(match self.object {
            Some(OwnedPage { page, term }) if *tree == Entity::Page(page) => {
                Some(page_fence(&self.supervisor.group.pool, page, term))
            }
            // the work of an object stands although another worker has the user
            Some(_) => self.owned.as_ref().filter(|owned| self.owns(owned)).map(|owned| self.fence(owned)),
            None => self.owned.as_ref().map(|owned| self.fence(owned)),
        })
    }

    pub(crate) fn fence(&self, Owned { user, term }: &Owned) -> Fence {
        Fence::new(&self.supervisor.group.pool, user, *term)
    }
}

/// Returns the fence of the object of a page. No user has such an owner key.
pub(crate) fn page_fence(pool: &str, page: Key, term: u64) -> Fence {
    Fence::new(pool, &format!("\0page.{page}"), term)
}
