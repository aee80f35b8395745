//! The server side of requests between nodes.
//!
//! Owns: which part of the node handles a peer request, and that only a node that holds its lease replies. Never: what
//! a request means to that part.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pagewire_cluster::engine::{Engine, Message};
use pagewire_cluster::id::Holder;
use pagewire_cluster::lease::NodeLease;
use pagewire_cluster::peer::{Incoming, PeerReplier, PeerServer};
use pagewire_cluster::subject::Subjects;
use pagewire_cluster::timing::Timing;
use pagewire_cluster::wire::{
    Alive, ClosePages, ClosedPages, DrainNode, ExecutorMessage, ForwardedFrames, HandoverRequest,
    IdentifyPages, JobNotification, PageMessage, PageStatusQuery, PeerRequest, PushCounts, RolloutQuery,
    WaitingJobsQuery,
};
use tokio::sync::mpsc;
use tracing::field;

use crate::command::{self, Context};
use crate::pages::LocalPush;
use crate::telemetry::{self, Latch};

/// Messages that may wait for the view at the same time; above it, all requests wait.
const EARLY_MESSAGES: usize = 1024;

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
        let Ok(server) = PeerServer::open(&self.engine, &self.subjects, holder).await else {
            return tokio::time::sleep(self.timing.lease_renew / 3).await;
        };
        if let Some(before) = before.replace(holder) {
            self.context.pages.rewriter.rewrite_rows(before, holder).await;
            tokio::spawn(catch_up(self.context.clone()));
        }
        self.listening.set(true);
        let (replier, waiting) = (server.replier(), AtomicUsize::new(0));
        let incarnation = Incarnation { parts: self, holder, replier, waiting };
        let (delayed, early) = mpsc::channel(EARLY_MESSAGES);
        tokio::select! {
            () = incarnation.receive(server, delayed) => {}
            () = incarnation.deliver_early(early) => {}
        }
    }
}

/// A message that arrived before the rows that its sender has seen, and the request to reply to.
type EarlyMessage = (PageMessage, Message);

/// One incarnation of this node as a server of its peers.
struct Incarnation<'a> {
    parts: &'a PeerRequests,
    holder: Holder,
    replier: PeerReplier,
    /// The number of messages that arrived early and are not delivered yet.
    waiting: AtomicUsize,
}

impl Incarnation<'_> {
    /// Handles requests in order of arrival; a message for pages that has to wait for the view waits elsewhere.
    async fn receive(&self, mut server: PeerServer, delayed: mpsc::Sender<EarlyMessage>) {
        while let Some(incoming) = server.next().await {
            match incoming {
                Incoming::Gap => {
                    tracing::warn!("requests of other nodes may have been missed");
                    tokio::spawn(catch_up(self.parts.context.clone()));
                }
                Incoming::Request(received) => match *received {
                    // also behind one that waits, so that messages keep their order
                    (PeerRequest::Deliver(delivery), message)
                        if self.waiting.load(Ordering::Relaxed) > 0
                            || !self.parts.context.deliver.has_applied(&delivery) =>
                    {
                        self.waiting.fetch_add(1, Ordering::Relaxed);
                        // an error means that the receiver is gone, and with it this future
                        let _ = delayed.send((delivery, message)).await;
                    }
                    (request, message) => self.handle(request, message),
                },
            }
        }
    }

    /// Delivers messages in order of arrival, each as soon as the view has caught up with its sender.
    async fn deliver_early(&self, mut early: mpsc::Receiver<EarlyMessage>) {
        while let Some((delivery, message)) = early.recv().await {
            self.parts.context.deliver.wait_for_view(&delivery).await;
            self.handle(PeerRequest::Deliver(delivery), message);
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        std::future::pending().await
    }

    /// Handles a request at once; the reply may follow later.
    fn handle(&self, request: PeerRequest, message: Message) {
        // a node that resumes late must not act on requests from its pause
        if self.parts.lease.holder() != Some(self.holder) {
            tracing::warn!("request not handled: the lease of this node has expired");
            return;
        }
        let span = tracing::debug_span!("peer request", subject = message.subject, trace = field::Empty);
        let span = telemetry::child_of(span, message.headers.trace.as_ref());
        let _entered = span.enter();
        let (context, replier) = (&self.parts.context, &self.replier);
        let pages = context.pages.clone();
        match request {
            PeerRequest::Deliver(delivery) => {
                replier.reply::<PageMessage>(message, counts(context.deliver.receive(&delivery)));
            }
            PeerRequest::Job(note) => {
                command::job_over(context, &note);
                replier.reply::<JobNotification>(message, counts(context.deliver.receive_job(&note)));
            }
            PeerRequest::Forward(forwarded) => {
                let pushed = context.deliver.receive_forwarded(forwarded.page, &forwarded.frames);
                replier.reply::<ForwardedFrames>(message, counts(pushed));
            }
            PeerRequest::Handover(request) => {
                replier.reply::<HandoverRequest>(message, pages.migrator.hand_over(&request));
            }
            PeerRequest::PageStatus(query) => {
                replier.reply::<PageStatusQuery>(message, ready(pages.migrator.status(query.page)));
            }
            PeerRequest::Drain(DrainNode {}) => {
                pages.relocator.request_drain();
                replier.reply::<DrainNode>(message, ready(()));
            }
            PeerRequest::Ping => replier.reply::<Alive>(message, ready(())),
            PeerRequest::Identify(IdentifyPages { connection, user }) => {
                let identify = async move { pages.login.identify_here(connection, &Arc::from(user)).await };
                replier.reply::<IdentifyPages>(message, identify);
            }
            PeerRequest::ExecutorPush(sent) => {
                replier.reply::<ExecutorMessage>(message, command::push_of_executor(context.clone(), *sent));
            }
            PeerRequest::Unregister(ClosePages { scope }) => {
                let close = async move { ClosedPages { pages: pages.closer.unregister_here(&scope).await } };
                replier.reply::<ClosePages>(message, close);
            }
            PeerRequest::Rollout(RolloutQuery { pool, revision }) => {
                let rollouts = context.rollouts.clone();
                replier.reply::<RolloutQuery>(message, async move { rollouts.state(&pool, revision).await });
            }
            PeerRequest::WaitingJobs(WaitingJobsQuery {}) => {
                let waiting = context.jobs.waiting.borrow().clone();
                replier.reply::<WaitingJobsQuery>(message, ready(waiting));
            }
            PeerRequest::Unknown => replier.reply_unsupported(message),
        }
    }
}

async fn catch_up(context: Arc<Context>) {
    command::catch_up(&context).await;
}

/// Waits until frames of migrated pages have arrived at their nodes; `None` for a page that is not here.
async fn counts(pushed: Option<LocalPush>) -> Option<PushCounts> {
    match pushed {
        Some(pushed) => Some(pushed.await_forwarded().await),
        None => None,
    }
}
