//! The application of a mount: what its processes request outside of work.
//!
//! Owns: in whose name such a request is made, and how long it stands. Never: what is requested (`requests`), or the socket
//! on which it arrives.
//!
//! A process that serves HTTP has no work in its requests of HTTP. What it requests there is in the name of the
//! application: there is no user, page, session or connection by default, and its writes have no fence. It stands while
//! its node has the lease that it had at the beginning of the request.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use pagewire_cluster::id::{Holder, Key, Scope};
use pagewire_cluster::job::Jobs;
use pagewire_cluster::lease::NodeLease;
use pagewire_cluster::register::Registers;
use pagewire_cluster::registry::Registry;
use pagewire_cluster::wire::{HandlerError, PushCounts};
use serde_json::value::RawValue;
use tracing::Span;

use super::{Effects, Ground, Stores, stale};
use crate::outgoing::WorkSubmitter;

/// What the node of an application does with pages for it, on whichever node they are.
pub trait ApplicationPages: Send + Sync + 'static {
    /// Sends a message to the pages of a scope and returns how many there are.
    ///
    /// # Errors
    ///
    /// Those of a push of the server API.
    fn send(&self, to: Scope, payload: Box<RawValue>) -> BoxFuture<'_, Result<PushCounts, HandlerError>>;

    /// Closes the pages of a page, session, connection or user for good, and returns their number.
    ///
    /// # Errors
    ///
    /// Those of a close of the server API. A scope without pages is no error.
    fn close(&self, scope: Scope) -> BoxFuture<'_, Result<u64, HandlerError>>;

    /// Returns whether a token is one of a page, which only the client of the page has.
    ///
    /// # Errors
    ///
    /// `unavailable` when the keys of the cluster cannot be read.
    fn proves<'a>(&'a self, token: &'a str, page: Key) -> BoxFuture<'a, Result<bool, HandlerError>>;
}

/// The logins of an application, which are tokens in a cookie that its node accepts.
pub trait ApplicationLogins: Send + Sync + 'static {
    /// Issues a token of a user.
    ///
    /// # Errors
    ///
    /// `unsupported` when the node is not configured for it.
    fn issue(&self, user: &str, valid: Duration) -> Result<String, HandlerError>;

    /// Returns the cookie that carries a token.
    ///
    /// # Errors
    ///
    /// `unsupported` when the node is not configured for it.
    fn cookie(&self) -> Result<&str, HandlerError>;

    /// Ends all logins of a user until now, at every node.
    ///
    /// # Errors
    ///
    /// `unavailable` when the engine does not confirm it.
    fn end_all<'a>(&'a self, user: &'a str) -> BoxFuture<'a, Result<(), HandlerError>>;
}

/// The node on which the processes of an application run.
pub struct ApplicationNode {
    /// The lease of the node.
    pub lease: NodeLease,
    /// The pages of the cluster, as the node sees them.
    pub registry: Registry,
    /// What the node does with them.
    pub pages: Arc<dyn ApplicationPages>,
    /// The logins of its users.
    pub logins: Arc<dyn ApplicationLogins>,
}

/// Gives the requests of applications of one node their effects.
pub struct Applications {
    node: ApplicationNode,
    stores: Stores,
}

/// One request of an application.
pub(crate) struct Application {
    applications: Arc<Applications>,
    /// The incarnation of the node that has received the request.
    holder: Holder,
}

impl Applications {
    /// Creates the effects of the applications of a node. `outgoing` submits their jobs and makes their calls.
    pub fn new(
        node: ApplicationNode,
        jobs: &Jobs,
        registers: &Registers,
        outgoing: Arc<dyn WorkSubmitter>,
    ) -> Arc<Self> {
        Arc::new(Self { node, stores: Stores::new(jobs, registers, outgoing) })
    }

    /// Begins a request.
    ///
    /// # Errors
    ///
    /// `stale` while the node has no lease.
    pub(crate) fn begin(self: &Arc<Self>) -> Result<Effects, HandlerError> {
        let holder = self.node.lease.holder().ok_or_else(no_lease)?;
        let application = Application { applications: self.clone(), holder };
        Ok(Effects::of(Ground::Application(Arc::new(application)), Span::current(), None))
    }
}

impl Application {
    /// Returns the node if it still has its lease.
    pub(crate) fn node(&self) -> Result<&ApplicationNode, HandlerError> {
        let node = &self.applications.node;
        let stands = node.lease.holder() == Some(self.holder);
        if stands { Ok(node) } else { Err(no_lease()) }
    }

    /// Returns what effects act on if the node still has its lease.
    pub(crate) fn stores(&self) -> Result<&Stores, HandlerError> {
        self.node().map(|_| &self.applications.stores)
    }
}

fn no_lease() -> HandlerError {
    stale("the lease of this node has expired")
}
