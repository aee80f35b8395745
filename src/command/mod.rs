//! The commands of a page, one file per command.
//!
//! Owns: which caller may run a command, and the effect of the command on the cluster. Never: a socket, HTTP, or an
//! encoding. A command gets a [`Context`] and a [`Caller`] and returns a `Reply` or a `CommandError`; the dispatch
//! turns that into the one terminal frame.

mod application;
mod auth;
mod broadcast_session;
mod call;
mod cancel;
mod dispatch;
mod enrolment;
mod executor_push;
mod job;
mod job_catch_up;
mod pending_calls;
mod rollout;
mod send;
mod state;
mod topic;
mod watch;

use std::sync::Arc;

use pagewire_cluster::id::{Entity, Level};
use pagewire_cluster::job::Jobs;
use pagewire_cluster::rollout::analysis::LaneAnalysis;
use pagewire_cluster::rollout::{Latches, Rollouts};
use pagewire_cluster::state::{DraftWrite, StateStore};
use pagewire_cluster::worker::Workers;
use serde_json::value::RawValue;

pub use application::{LoginsOfApplications, PagesOfApplications};
pub use dispatch::{SocketEffect, dispatch, refuse};
pub use enrolment::page_opened;
pub use executor_push::push_of_executor;
pub use job::job_over;
pub use job_catch_up::{Waited, catch_up, catch_up_on, pending};
pub use pending_calls::PendingCalls;
pub use watch::restore_watches;

use crate::auth::{Authenticator, Roles, Verified};
use crate::calls::{Executors, PageRules};
use crate::config::SendLevel;
use crate::pages::{Page, Pages, PushReport, Pusher, StateWatchers};
use crate::protocol::CommandError;
use crate::telemetry::Metrics;

/// Everything that commands act on. Shared by all pages of a node.
pub struct Context {
    /// Pages of this node.
    pub pages: Arc<Pages>,
    /// Delivers messages to pages on any node.
    pub deliver: Pusher,
    /// The executors of calls and jobs.
    pub executors: Executors,
    /// The calls in flight on this node.
    pub in_flight: Arc<PendingCalls>,
    /// Durable work.
    pub jobs: Jobs,
    /// Limits for the open jobs of a page.
    pub job_rules: PageRules,
    /// State trees; written through [`Context::write`].
    pub states: StateStore,
    /// The pages of this node that watch state trees.
    pub watching: StateWatchers,
    /// The levels at which a page may write without a role.
    pub writable: Vec<Level>,
    /// The maximum size in bytes of a tree that an anonymous page writes.
    pub anonymous_tree: usize,
    /// Metrics of this node.
    pub metrics: Arc<Metrics>,
    /// The live workers.
    pub workers: Workers,
    /// Assigns the work of users to lanes.
    pub rollouts: Rollouts,
    /// Compares the lanes of a pool.
    pub analysis: LaneAnalysis,
    /// Takes lanes back at once.
    pub latches: Latches,
    /// Checks tokens.
    pub authenticator: Arc<Authenticator>,
    /// Patterns of topics that any page may subscribe to.
    pub open_topics: Vec<String>,
    /// The levels that a page may address without a role.
    pub allow: Vec<SendLevel>,
}

impl Context {
    /// Writes a tree. The write has its position in the queue when this function returns; the future resolves to the
    /// new revision.
    ///
    /// # Errors
    ///
    /// The future resolves to the error of the state store, converted to a `CommandError`.
    pub fn write(
        &self,
        owner: &Entity,
        write: DraftWrite,
    ) -> impl Future<Output = Result<u64, CommandError>> + Send + use<> {
        let (written, metrics, level) =
            (self.states.begin(owner, write), self.metrics.clone(), owner.level());
        async move {
            let outcome = written.await.map_err(CommandError::from);
            metrics.record_state_write(
                level.name(),
                outcome.as_ref().map_or_else(|error| error.code.text(), |_| "ok"),
            );
            outcome
        }
    }
}

/// The page that runs a command.
#[derive(Clone)]
pub struct Caller {
    /// The page.
    pub page: Arc<Page>,
    /// The roles that the token of its socket grants.
    pub roles: Roles,
}

/// The reply of a command.
pub(crate) enum Reply {
    /// A result with this value.
    Value(Box<RawValue>),
    /// A result without a value.
    Nothing,
    /// No reply yet: the terminal frame is pushed to the page's outbox when the work is done.
    Later,
    /// The page's socket has a new identity.
    Authenticated(Verified),
}

impl Reply {
    /// `{reached, held}`, plus the nodes that did not reply, if there are any.
    fn reach(outcome: &PushReport) -> Self {
        let mut value = serde_json::json!({"reached": outcome.reach.reached, "held": outcome.reach.held});
        if !outcome.unreachable.is_empty() {
            value["unreachable"] = serde_json::json!(outcome.unreachable);
        }
        Self::value(&value)
    }

    fn value(value: &serde_json::Value) -> Self {
        // a JSON value always serialises to valid JSON
        Self::Value(RawValue::from_string(value.to_string()).unwrap_or_else(|_| RawValue::NULL.to_owned()))
    }
}
