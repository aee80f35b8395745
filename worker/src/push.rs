//! Messages of executors for pages, which a node delivers for them.
//!
//! Owns: which node is asked. Never: whether the work that sends a message still stands (`effects`), or which pages get
//! it; a node sees all of them.

use std::sync::{Mutex, PoisonError};

use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::engine::Unavailable;
use pagewire_cluster::id::{Holder, Scope};
use pagewire_cluster::job::Jobs;
use pagewire_cluster::lease::living_nodes;
use pagewire_cluster::peer::{PeerClient, PeerError};
use pagewire_cluster::trace::TraceParent;
use pagewire_cluster::wire::{ExecutorMessage, ExecutorPush, HandlerError, PushCounts};

/// How many nodes are asked when each has left the cluster.
const MAX_NODES_ASKED: usize = 4;

/// Sends messages of this worker to pages.
pub(crate) struct ExecutorPusher {
    jobs: Jobs,
    peers: PeerClient,
    /// A node that replied last, because any node reaches all pages.
    node: Mutex<Option<Holder>>,
}

impl ExecutorPusher {
    pub(crate) fn new(jobs: &Jobs) -> Self {
        let peers = PeerClient::new(&jobs.engine, &jobs.subjects, jobs.timing.deliver);
        Self { jobs: jobs.clone(), peers, node: Mutex::default() }
    }

    /// Sends a message and returns the number of pages that it found.
    ///
    /// # Errors
    ///
    /// - `stale` when the node knows that the worker is dead or was replaced; nothing was delivered.
    /// - `unavailable` when no node replied: the message may have been delivered.
    /// - `too_large` when the message does not fit into a request.
    pub(crate) async fn send(
        &self,
        message: &ExecutorMessage,
        trace: Option<&TraceParent>,
    ) -> Result<PushCounts, HandlerError> {
        if let Scope::Page(address) = message.to
            && let Some(outcome) = outcome(self.peers.request_page(address, message, trace.cloned()).await)
        {
            return outcome;
        }
        let known = *self.node.lock().unwrap_or_else(PoisonError::into_inner);
        let mut nodes = Vec::from_iter(known);
        for asked in 0..MAX_NODES_ASKED {
            if nodes.is_empty() || asked == 1 {
                let listed = living_nodes(&self.jobs.engine).await;
                nodes = listed.map_err(|Unavailable| no_node())?;
            }
            let Some(node) = nodes.pop() else { return Err(no_node()) };
            if let Some(outcome) = outcome(self.peers.request(node, message, trace.cloned()).await) {
                *self.node.lock().unwrap_or_else(PoisonError::into_inner) = Some(node);
                return outcome;
            }
        }
        Err(no_node())
    }
}

fn no_node() -> HandlerError {
    HandlerError::new(ErrorCode::Unavailable, "no node of the cluster replied")
}

/// Returns the result of a push; `None` when the node was not there, so that another one may be asked.
fn outcome(reply: Result<ExecutorPush, PeerError>) -> Option<Result<PushCounts, HandlerError>> {
    match reply {
        Ok(ExecutorPush::Delivered(counts)) => Some(Ok(counts)),
        Ok(ExecutorPush::Refused(error)) => Some(Err(error)),
        Err(PeerError::Gone) => None,
        Err(PeerError::TooLarge) => {
            let message = "the message is too large to travel to a node";
            Some(Err(HandlerError::new(ErrorCode::TooLarge, message)))
        }
        Err(PeerError::Unsupported) => {
            let message = "the nodes are of a release that takes no messages of executors";
            Some(Err(HandlerError::new(ErrorCode::Unsupported, message)))
        }
        Err(PeerError::Silent) => Some(Err(no_node())),
    }
}
