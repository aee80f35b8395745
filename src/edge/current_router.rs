//! The router that serves requests now.
//!
//! Owns: which router that is. Never: its routes.

use std::sync::{Arc, PoisonError, RwLock};

use super::mounted::MountedRouter;

/// The router that serves requests now. All clones share it.
#[derive(Clone)]
pub(super) struct CurrentRouter(Arc<RwLock<MountedRouter>>);

impl CurrentRouter {
    /// A router until the next one is set.
    pub(super) fn new(router: MountedRouter) -> Self {
        Self(Arc::new(RwLock::new(router)))
    }

    /// The router for a request that has just arrived.
    pub(super) fn now(&self) -> MountedRouter {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, router: MountedRouter) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = router;
    }
}
