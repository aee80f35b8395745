//! The router that serves requests now.
//!
//! Owns: which router that is. Never: its routes.

use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;

/// The router that serves requests now. All clones share it.
#[derive(Clone)]
pub(super) struct CurrentRouter(Arc<RwLock<Router>>);

impl CurrentRouter {
    /// A router until the next one is set.
    pub(super) fn new(router: Router) -> Self {
        Self(Arc::new(RwLock::new(router)))
    }

    /// The router for a request that has just arrived.
    pub(super) fn now(&self) -> Router {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, router: Router) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = router;
    }
}
