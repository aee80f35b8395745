//! The server side of requests between nodes.
//!
//! Owns: which part of the node handles a peer request, and that only a node that holds its lease replies. Never: what
//! a request means to that part.

use std::sync::Arc;

use pagewire_cluster::engine::{Engine, Message};
use pagewire_cluster::id::{Holder, Key, Scope};
use pagewire_cluster::lease::NodeLease;
use pagewire_cluster::peer::{Incoming, PeerServer};
use pagewire_cluster::rollout::Rollouts;
use pagewire_cluster::subject::Subjects;
use pagewire_cluster::timing::Timing;
use pagewire_cluster::wire::{PeerRequest, PeerResponse};

use crate::command::{self, Context};
use crate::pages::{LocalPush, Sessions};
use crate::telemetry::{self, Latch};

/// Replies to peers as long as this node holds a lease. Its latch is open while it listens.
pub(super) struct PeerRequests {
    pub(super) engine: Engine,
    pub(super) subjects: Subjects,
    pub(super) timing: Timing,
    pub(super) lease: NodeLease,
    pub(super) context: Arc<Context>,
    pub(super) listening: Latch,
}

impl PeerRequests {
    /// Serves one incarnation of this node after another. Never returns.
    pub(super) async fn serve(self) {
        let mut changes = self.lease.changes();
        let mut before = None;
        loop {
            let holder = *changes.borrow_and_update();
            tokio::select! {
                () = self.serve_as(holder, &mut before) => {}
                _ = changes.changed() => {}
            }
            self.listening.set(false);
        }
    }

    /// Ends only with the engine, or when it is dropped because the holder changed.
    async fn serve_as(&self, holder: Option<Holder>, before: &mut Option<Holder>) {
        let Some(holder) = holder else { return std::future::pending().await };
        let Ok(mut server) = PeerServer::open(&self.engine, &self.subjects, holder).await else {
            return tokio::time::sleep(self.timing.lease_renew / 3).await;
        };
        let context = &self.context;
        if let Some(before) = before.replace(holder) {
            context.sessions.rewrite_rows(before, holder).await;
            tokio::spawn(catch_up(context.clone()));
        }
        self.listening.set(true);
        while let Some(incoming) = server.next().await {
            match incoming {
                Incoming::Gap => {
                    tracing::warn!("requests of other nodes may have been missed");
                    tokio::spawn(catch_up(context.clone()));
                }
                Incoming::Question(asked) => {
                    let (request, message) = *asked;
                    if let PeerRequest::Deliver(delivery) = &request {
                        context.deliver.wait_for_view(delivery).await;
                    }
                    // a node that resumes late must not act on requests from its pause
                    if self.lease.holder() != Some(holder) {
                        tracing::warn!("request not handled: the lease of this node has expired");
                        continue;
                    }
                    reply(&server, context, request, message);
                }
            }
        }
    }
}

fn reply(server: &PeerServer, context: &Arc<Context>, request: PeerRequest, message: Message) {
    match handle(context, request, &message) {
        PendingAnswer::Now(answer) => server.answer(message, std::future::ready(answer)),
        PendingAnswer::Pushed(pushed) => server.answer(message, delivered(pushed)),
        PendingAnswer::Identifying { connection, user } => {
            server.answer(message, identified(context.sessions.clone(), connection, user))
        }
        PendingAnswer::Closing(scope) => server.answer(message, closed(context.sessions.clone(), scope)),
        PendingAnswer::Rollout { pool, revision } => {
            server.answer(message, applied(context.rollouts.clone(), pool, revision))
        }
    }
}

/// A response to a peer request, and what it waits for.
enum PendingAnswer {
    /// The response is known.
    Now(PeerResponse),
    /// Waits until frames of migrated pages have arrived at their nodes.
    Pushed(LocalPush),
    /// Waits until the pages of the connection have their user.
    Identifying { connection: Key, user: String },
    /// Waits until the pages of a scope have left the cluster.
    Closing(Scope),
    /// Waits until this node has applied the revision.
    Rollout { pool: String, revision: u64 },
}

async fn catch_up(context: Arc<Context>) {
    command::catch_up(&context).await;
}

async fn delivered(pushed: LocalPush) -> PeerResponse {
    PeerResponse::Delivered(pushed.await_forwarded().await)
}

async fn identified(sessions: Arc<Sessions>, connection: Key, user: String) -> PeerResponse {
    sessions.identify_here(connection, &Arc::from(user)).await;
    PeerResponse::Done
}

async fn closed(sessions: Arc<Sessions>, scope: Scope) -> PeerResponse {
    PeerResponse::Closed { pages: sessions.unregister_here(&scope).await }
}

async fn applied(rollouts: Rollouts, pool: String, revision: u64) -> PeerResponse {
    PeerResponse::Rollout(rollouts.state(&pool, revision).await)
}

/// Handles a request at once, in order of arrival.
fn handle(context: &Arc<Context>, question: PeerRequest, message: &Message) -> PendingAnswer {
    let span = tracing::debug_span!("question", subject = message.subject, trace = tracing::field::Empty);
    let span = telemetry::child_of(span, message.headers.trace.as_ref());
    let _entered = span.enter();
    let pushed = match question {
        PeerRequest::Deliver(delivery) => context.deliver.receive(&delivery),
        PeerRequest::Job(note) => {
            command::job_over(context, &note);
            context.deliver.receive_job(&note)
        }
        PeerRequest::Forward { page, frames } => context.sessions.forwarded(page, &frames),
        PeerRequest::Identify { connection, user } => return PendingAnswer::Identifying { connection, user },
        PeerRequest::Unregister { scope } => return PendingAnswer::Closing(scope),
        PeerRequest::Rollout { pool, revision } => return PendingAnswer::Rollout { pool, revision },
        other => return PendingAnswer::Now(answer(context, other)),
    };
    pushed.map_or(PendingAnswer::Now(PeerResponse::Unknown), PendingAnswer::Pushed)
}

fn answer(context: &Arc<Context>, question: PeerRequest) -> PeerResponse {
    match question {
        PeerRequest::Handover { page, to, generation, rev, seq } => {
            context.sessions.hand_over(page, to, generation, rev, seq)
        }
        PeerRequest::Ask { page } => context.sessions.standing(page),
        PeerRequest::Alive => PeerResponse::Done,
        PeerRequest::Unknown
        | PeerRequest::Deliver(_)
        | PeerRequest::Forward { .. }
        | PeerRequest::Identify { .. }
        | PeerRequest::Job(_)
        | PeerRequest::Unregister { .. }
        | PeerRequest::Rollout { .. } => PeerResponse::Unsupported,
    }
}
