//! What a node does beside serving sockets: answering other nodes, watching its neighbour, sweeping dead rows.

use std::sync::Arc;
use std::time::Duration;

use pagewire_cluster::clock;
use pagewire_cluster::engine::{Engine, Message, Unavailable};
use pagewire_cluster::id::{Holder, Key};
use pagewire_cluster::job::{JobReconciler, Jobs};
use pagewire_cluster::keyring::Ages;
use pagewire_cluster::lease::{self, NodeLease};
use pagewire_cluster::peer::{Incoming, PeerServer};
use pagewire_cluster::registry::{Expirable, Registry};
use pagewire_cluster::rollout::Rollouts;
use pagewire_cluster::state::{OrphanTracker, Owner, StateStore};
use pagewire_cluster::subject::Subjects;
use pagewire_cluster::timing::Timing;
use pagewire_cluster::wire::{PeerRequest, PeerResponse, Scope};
use tokio::sync::watch;

use super::stopped;
use crate::command::{self, Context, Waited};
use crate::pages::{LocalPush, Sessions, exists};
use crate::telemetry::{self, Ready};

/// How often within the life of a page token it is looked for pages that need another one.
const TOKEN_LOOKS: u32 = 48;

/// What the duties of a node need.
#[derive(Clone)]
pub(super) struct BackgroundTasks {
    pub(super) engine: Engine,
    pub(super) subjects: Subjects,
    pub(super) timing: Timing,
    pub(super) registry: Registry,
    pub(super) lease: NodeLease,
    pub(super) states: StateStore,
}

impl BackgroundTasks {
    /// Answers other nodes, in one life of this node after the other. Ready while it listens.
    pub(super) async fn answer(self, context: Arc<Context>, ready: Ready, stopping: watch::Receiver<bool>) {
        let mut changes = self.lease.changes();
        let mut before = None;
        let stop = stopped(stopping);
        tokio::pin!(stop);
        loop {
            let holder = *changes.borrow_and_update();
            tokio::select! {
                () = &mut stop => break,
                () = self.answer_as(holder, &context, &ready, &mut before) => {}
                _ = changes.changed() => {}
            }
            ready.set(false);
        }
        ready.set(false);
    }

    /// Ends only with the engine, or when it is dropped because the holder changed.
    async fn answer_as(
        &self,
        holder: Option<Holder>,
        context: &Arc<Context>,
        ready: &Ready,
        before: &mut Option<Holder>,
    ) {
        let Some(holder) = holder else { return std::future::pending().await };
        let Ok(mut inbox) = PeerServer::open(&self.engine, &self.subjects, holder).await else {
            return tokio::time::sleep(self.timing.lease_renew / 3).await;
        };
        if let Some(before) = before.replace(holder) {
            context.sessions.rewrite_rows(before, holder).await;
            tokio::spawn(catching_up(context.clone()));
        }
        ready.set(true);
        while let Some(incoming) = inbox.next().await {
            if let Incoming::Question(asked) = &incoming
                && let PeerRequest::Deliver(delivery) = &asked.0
            {
                context.deliver.wait_for_view(delivery).await;
            }
            match incoming {
                Incoming::Gap => {
                    tracing::warn!("messages from other nodes may have been missed");
                    tokio::spawn(catching_up(context.clone()));
                }
                // a node that woke late must not act on what it slept through
                Incoming::Question(asked) if self.lease.holder() == Some(holder) => {
                    let (question, message) = *asked;
                    match handle(context, question, &message) {
                        PendingAnswer::Now(answer) => inbox.answer(message, std::future::ready(answer)),
                        PendingAnswer::Pushed(pushed) => inbox.answer(message, delivered(pushed)),
                        PendingAnswer::Identifying { connection, user } => {
                            inbox.answer(message, identified(context.sessions.clone(), connection, user))
                        }
                        PendingAnswer::Closing(scope) => {
                            inbox.answer(message, closed(context.sessions.clone(), scope))
                        }
                        PendingAnswer::Rollout { pool, revision } => {
                            inbox.answer(message, applied(context.rollouts.clone(), pool, revision))
                        }
                    }
                }
                Incoming::Question(_) => {
                    tracing::warn!("question not answered: this node's lease has run out")
                }
            }
        }
    }

    /// Proves the death of the next node around the ring, so that its pages leave the view before its lease ends.
    pub(super) async fn watch_neighbour(self, stopping: watch::Receiver<bool>) {
        self.run_periodically(self.timing.lease_renew, stopping, || async {
            let Some(own) = self.lease.holder() else { return Ok(()) };
            let living: Vec<_> =
                self.registry.view().nodes().into_iter().map(|(holder, _)| holder.node).collect();
            match lease::next_in_ring(own.node, &living) {
                Some(next) => {
                    lease::evict_dead_node(&self.engine, &self.subjects, self.timing, next).await.map(|_| ())
                }
                None => Ok(()),
            }
        })
        .await;
    }

    /// The lowest living number sweeps: rows of dead holders go.
    pub(super) async fn sweep(self, stopping: watch::Receiver<bool>) {
        self.run_periodically(self.timing.lease_renew, stopping, || async {
            if self.is_leader() {
                let swept = self.registry.sweep().await;
                if swept > 0 {
                    tracing::info!(swept, "rows of dead nodes deleted");
                }
            }
            Ok(())
        })
        .await;
    }

    /// The lowest living number removes the trees of pages that are gone for longer than they can come back, and what
    /// else has lost its subject.
    pub(super) async fn remove_orphans(
        self,
        interval: Duration,
        grace: Duration,
        stopping: watch::Receiver<bool>,
    ) {
        let orphans = tokio::sync::Mutex::new(OrphanTracker::default());
        self.run_periodically(interval, stopping, || async {
            let mut orphans = orphans.lock().await;
            if !self.is_leader() {
                // who takes the duty over starts with nothing
                *orphans = OrphanTracker::default();
                return Ok(());
            }
            let owners = self.states.owners().await?;
            let gone =
                orphans.collect(owners, |owner| exists(&self.registry.view(), owner), clock::boot(), grace);
            for owner in &gone {
                if let Err(error) = self.states.remove(owner).await {
                    tracing::debug!(%error, ?owner, "a tree without a subject stays for now");
                }
            }
            Ok(())
        })
        .await;
    }

    /// The lowest living number ends sessions and connections whose time is over.
    pub(super) async fn end_idle(self, interval: Duration, stopping: watch::Receiver<bool>) {
        self.run_periodically(interval, stopping, || async {
            if !self.is_leader() {
                return Ok(());
            }
            let mut ended = 0;
            for (row, rev) in self.registry.end_idle().await {
                // the row goes last: who dies before that leaves the rest to the next
                let owner = match row.of() {
                    Expirable::Session(session) => Owner::Session(session),
                    Expirable::Connection(connection) => Owner::Connection(connection),
                };
                if self.states.remove(&owner).await.is_err() {
                    continue;
                }
                if self.registry.remove_idle_row(&row, rev).await {
                    ended += 1;
                }
            }
            if ended > 0 {
                tracing::info!(ended, "sessions and connections without pages are over");
            }
            Ok(())
        })
        .await;
    }

    /// Gives pages new tokens; the lowest living number looks after the keys that sign them.
    pub(super) async fn renew_tokens(self, sessions: Arc<Sessions>, stopping: watch::Receiver<bool>) {
        let ages = Ages { signs: self.timing.signing_key, kept: self.timing.outlives_tokens() };
        self.run_periodically(self.timing.page_token / TOKEN_LOOKS, stopping, || async {
            sessions.renew_tokens().await;
            if self.is_leader() {
                match sessions.keyring().maintain(ages).await {
                    Ok(true) => tracing::info!(keys = ?sessions.keyring().keys(), "the keys of page tokens"),
                    Ok(false) => {}
                    Err(error) => tracing::debug!(%error, "the keys of page tokens stay for now"),
                }
            }
            Ok(())
        })
        .await;
    }

    /// The lowest living number finds jobs that nobody works on although somebody should: regularly, and as soon as a
    /// worker has lost its lease.
    pub(super) async fn run_job_reconciler(
        self,
        jobs: Jobs,
        unclaimed: Duration,
        stopping: watch::Receiver<bool>,
    ) {
        let janitor = tokio::sync::Mutex::new(JobReconciler::new(unclaimed));
        let workers = jobs.workers().changes();
        self.every_or_when(workers, self.timing.lease_renew, stopping, || async {
            let mut janitor = janitor.lock().await;
            if !self.is_leader() {
                // who takes the duty over starts with nothing
                *janitor = JobReconciler::new(unclaimed);
                return Ok(());
            }
            let helped = janitor.run_once(&jobs).await?;
            if helped > 0 {
                tracing::info!(helped, "jobs that nobody worked on are offered again");
            }
            Ok(())
        })
        .await;
    }

    /// Every node looks for the ends of jobs that its pages wait for longer than a message takes.
    pub(super) async fn look_for_ends(self, context: Arc<Context>, stopping: watch::Receiver<bool>) {
        let before = tokio::sync::Mutex::new(Waited::default());
        self.run_periodically(self.timing.redelivery * 2, stopping, || async {
            let mut before = before.lock().await;
            *before = command::catch_up_on(&context, &before).await;
            Ok(())
        })
        .await;
    }

    fn is_leader(&self) -> bool {
        let lowest = self.registry.view().nodes().first().map(|(holder, _)| *holder);
        lowest.is_some() && lowest == self.lease.holder()
    }

    async fn run_periodically<F: Future<Output = Result<(), Unavailable>>>(
        &self,
        period: Duration,
        stopping: watch::Receiver<bool>,
        duty: impl Fn() -> F,
    ) {
        let (_, never) = watch::channel(0);
        self.every_or_when(never, period, stopping, duty).await;
    }

    async fn every_or_when<F: Future<Output = Result<(), Unavailable>>>(
        &self,
        mut changes: watch::Receiver<u64>,
        period: Duration,
        stopping: watch::Receiver<bool>,
        duty: impl Fn() -> F,
    ) {
        let stop = stopped(stopping);
        tokio::pin!(stop);
        let mut tick = tokio::time::interval(period);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut stop => return,
                _ = tick.tick() => {}
                Ok(()) = changes.changed() => {}
            }
            if let Err(error) = duty().await {
                tracing::debug!(%error, "duty put off");
            }
        }
    }
}

/// The answer to a question.
enum PendingAnswer {
    /// Known.
    Now(PeerResponse),
    /// Known when frames for pages that have moved on have arrived there.
    Pushed(LocalPush),
    /// Known when the pages of the connection are labelled.
    Identifying { connection: Key, user: String },
    /// Known when the pages of a scope have left the cluster.
    Closing(Scope),
    /// Known when that revision is applied here.
    Rollout { pool: String, revision: u64 },
}

async fn catching_up(context: Arc<Context>) {
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

/// Acts at once, in the order in which questions arrive.
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
