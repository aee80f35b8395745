//! What a page may ask for: one file per command.
//!
//! Owns: who may do it and what it does to the cluster. Never: a socket, HTTP, or an encoding. A command gets a
//! [`Context`] and a [`Caller`] and returns a [`Reply`] or a `CommandError`; the dispatch turns that into the one
//! terminal frame.

mod auth;
mod broadcast_session;
mod call;
mod cancel;
mod dispatch;
mod job;
mod job_catch_up;
mod pending_calls;
mod send;
mod state;
mod topic;
mod watch;

use std::sync::Arc;

use pagewire_cluster::job::Jobs;
use pagewire_cluster::rollout::Rollouts;
use pagewire_cluster::state::{DraftWrite, Level, Owner, StateStore};
use pagewire_cluster::worker::Workers;
use serde_json::value::RawValue;

pub use dispatch::{SocketEffect, dispatch, refuse};
pub use job::job_over;
pub use job_catch_up::{Waited, catch_up, catch_up_on, pending};
pub use pending_calls::{CallAccount, PendingCalls};
pub use watch::restore_watches;

use crate::auth::{Authenticator, Roles, Verified};
use crate::calls::{Executors, PageRules};
use crate::config::SendLevel;
use crate::pages::{Page, PushReport, Pusher, Sessions, StateWatchers};
use crate::protocol::CommandError;
use crate::telemetry::Metrics;

/// What commands act on: the same for all pages of a node.
pub struct Context {
    /// Pages of this node.
    pub sessions: Arc<Sessions>,
    /// The road to pages everywhere.
    pub deliver: Pusher,
    /// Who runs calls.
    pub executors: Executors,
    /// Calls in flight of this node.
    pub in_flight: Arc<PendingCalls>,
    /// Durable work.
    pub jobs: Jobs,
    /// How much of it a page may leave open.
    pub job_rules: PageRules,
    /// State trees; written through [`Context::write`].
    pub states: StateStore,
    /// Which pages of this node are told of them.
    pub watching: StateWatchers,
    /// The levels at which a page may write without a role.
    pub writable: Vec<Level>,
    /// Bytes of a tree as anonymous pages may write it.
    pub anonymous_tree: usize,
    /// What this node counts.
    pub metrics: Arc<Metrics>,
    /// The living workers.
    pub workers: Workers,
    /// Whose work goes to which lane.
    pub rollouts: Rollouts,
    /// Checks tokens.
    pub authenticator: Arc<Authenticator>,
    /// Patterns of topics that any page may subscribe to.
    pub open_topics: Vec<String>,
    /// What a page may address without a role.
    pub allow: Vec<SendLevel>,
}

impl Context {
    /// Writes a tree; it is in line when this returns.
    pub fn write(
        &self,
        owner: &Owner,
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

/// Who asks.
#[derive(Clone)]
pub struct Caller {
    /// The page.
    pub page: Arc<Page>,
    /// What its socket's token opens.
    pub roles: Roles,
}

/// What a command answers.
pub(crate) enum Reply {
    /// This value.
    Value(Box<RawValue>),
    /// It is done; there is nothing to say.
    Nothing,
    /// The terminal frame comes through the page's outbox when the work is done.
    Later,
    /// The page's socket is authenticated anew.
    Authenticated(Verified),
}

impl Reply {
    /// `{reached, held}`, and the nodes that did not answer if there are any.
    fn reach(outcome: &PushReport) -> Self {
        let mut value = serde_json::json!({"reached": outcome.reach.reached, "held": outcome.reach.held});
        if !outcome.unreachable.is_empty() {
            value["unreachable"] = serde_json::json!(outcome.unreachable);
        }
        Self::value(&value)
    }

    fn value(value: &serde_json::Value) -> Self {
        // a JSON value is JSON
        Self::Value(RawValue::from_string(value.to_string()).unwrap_or_else(|_| RawValue::NULL.to_owned()))
    }
}
