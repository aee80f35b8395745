//! Requests between nodes, sent and received.
//!
//! Owns: the three subscriptions of a node ([`PeerServer`]) and acknowledged requests to other nodes ([`PeerClient`]).
//! Never: the effect of a request (the service replies to it), and never a subscription per socket or user.

use std::time::Duration;

use bytes::Bytes;
use tracing::Instrument;

use crate::engine::{
    Bucket, BusEvent, Consistency, Engine, Headers, Message, RequestError, Subscription, Unavailable,
};
use crate::id::{Address, Holder, Key};
use crate::registry::PageRow;
use crate::subject::{Subjects, leaf, page_key, worker_leaf};
use crate::trace::TraceParent;
use crate::wire::{self, PeerCall, PeerRequest, PeerResponse, RolloutQuery, RolloutState};

/// Maximum unread bytes of each subscription; above it, messages are dropped and a gap is reported.
const INBOX_BYTES: usize = 16 * 1024 * 1024;

/// Sends requests to other nodes, and to workers.
#[derive(Clone)]
pub struct PeerClient {
    engine: Engine,
    subjects: Subjects,
    within: Duration,
}

/// Why a request has no reply from another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The subject has no subscriber: the node is gone.
    #[error("the node has left the cluster")]
    Gone,
    /// No reply in time, or no connection: the request may have been processed.
    #[error("the node did not reply")]
    Silent,
    /// The node replied, but its release does not support the request.
    #[error("the node does not support the request")]
    Unsupported,
    /// The request is larger than a message may be.
    #[error("the message is too large for the cluster")]
    TooLarge,
}

impl PeerClient {
    /// Creates a client; every request has a timeout of `within`.
    pub fn new(engine: &Engine, subjects: &Subjects, within: Duration) -> Self {
        Self { engine: engine.clone(), subjects: subjects.clone(), within }
    }

    /// Returns a client with another timeout.
    pub fn within(&self, within: Duration) -> Self {
        Self { within, ..self.clone() }
    }

    /// Sends a request to one incarnation of a node.
    ///
    /// # Errors
    ///
    /// [`PeerError::Gone`] when the node has no subscription, [`PeerError::Silent`] when no valid reply came in time,
    /// [`PeerError::Unsupported`] from an older release, [`PeerError::TooLarge`] when the request was not sent.
    pub async fn request<R: PeerCall>(
        &self,
        holder: Holder,
        request: &R,
        trace: Option<TraceParent>,
    ) -> Result<R::Response, PeerError> {
        self.send(self.subjects.node(holder.node, holder.epoch, leaf::DELIVER), request, trace).await
    }

    /// Asks a worker for the state of the rollout of its pool.
    ///
    /// # Errors
    ///
    /// As for [`PeerClient::request`]; a worker of an older release is silent.
    pub async fn request_worker(
        &self,
        worker: Key,
        request: &RolloutQuery,
    ) -> Result<RolloutState, PeerError> {
        self.send(self.subjects.worker(worker, worker_leaf::ROLLOUT), request, None).await
    }

    /// Sends a request to the node in a page's address, without a lookup.
    ///
    /// # Errors
    ///
    /// As for [`PeerClient::request`].
    pub async fn request_page<R: PeerCall>(
        &self,
        page: Address,
        request: &R,
        trace: Option<TraceParent>,
    ) -> Result<R::Response, PeerError> {
        self.send(self.subjects.page(page.node), request, trace).await
    }

    /// Sends a request to the node that holds a page: first to the node in its address, and if the page is not there
    /// any more, once to the node in its row. Returns `None` when no node holds the page.
    ///
    /// # Errors
    ///
    /// As for [`PeerClient::request`]; [`PeerError::Silent`] also when the row cannot be read.
    pub async fn find_page<T: PeerResponse, R: PeerCall<Response = Option<T>>>(
        &self,
        page: Address,
        request: &R,
        trace: Option<TraceParent>,
    ) -> Result<Option<T>, PeerError> {
        let first = self.request_page(page, request, trace.clone()).await;
        if !matches!(first, Err(PeerError::Gone) | Ok(None)) {
            return first;
        }
        let rows = self.engine.kv(Bucket::Pages);
        let entry = rows.get(&page_key::page(page.key), Consistency::Latest).await;
        let entry = entry.map_err(|Unavailable| PeerError::Silent)?;
        match entry.and_then(|entry| PageRow::decode(&entry.meta)).filter(|row| row.node != page.node) {
            Some(row) => self.request_page(Address { node: row.node, ..page }, request, trace).await,
            None => Ok(None),
        }
    }

    async fn send<R: PeerCall>(
        &self,
        subject: String,
        request: &R,
        trace: Option<TraceParent>,
    ) -> Result<R::Response, PeerError> {
        let message = Message { headers: Headers { trace }, ..Message::new(subject, wire::encode(request)) };
        match self.engine.request(message, self.within).await {
            Ok(reply) => match wire::decode_response(&reply.payload) {
                Some(response) => response.ok_or(PeerError::Unsupported),
                None => Err(PeerError::Silent),
            },
            Err(RequestError::NoResponder) => Err(PeerError::Gone),
            Err(RequestError::Deadline | RequestError::Down) => Err(PeerError::Silent),
            Err(RequestError::TooLarge) => Err(PeerError::TooLarge),
        }
    }
}

/// An event of the subscriptions of this node.
#[derive(Debug)]
pub enum Incoming {
    /// A request; [`PeerServer::replier`] sends the reply.
    Request(Box<(PeerRequest, Message)>),
    /// Messages between nodes were lost.
    Gap,
}

/// The three subscriptions of one incarnation of a node.
pub struct PeerServer {
    engine: Engine,
    page: Subscription,
    node: Subscription,
    all: Subscription,
}

impl PeerServer {
    /// Subscribes and returns when the engine has confirmed all three subscriptions: from then on the node may take
    /// traffic.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the engine does not reply.
    pub async fn open(engine: &Engine, subjects: &Subjects, holder: Holder) -> Result<Self, Unavailable> {
        let page = engine.subscribe(&subjects.page(holder.node), None, INBOX_BYTES).await?;
        let node =
            engine.subscribe(&subjects.node_pattern(holder.node, holder.epoch), None, INBOX_BYTES).await?;
        let all = engine.subscribe(&subjects.all(), None, INBOX_BYTES).await?;
        Ok(Self { engine: engine.clone(), page, node, all })
    }

    /// Returns the next request or gap; `None` when the engine is gone. A message that cannot be parsed is skipped with
    /// a warning.
    pub async fn next(&mut self) -> Option<Incoming> {
        loop {
            let received = tokio::select! {
                Some(received) = self.page.next() => received,
                Some(received) = self.node.next() => received,
                Some(received) = self.all.next() => received,
                else => return None,
            };
            match received {
                BusEvent::Gap(_) => return Some(Incoming::Gap),
                BusEvent::Message(message) => match wire::decode_request(&message.payload) {
                    Some(request) => return Some(Incoming::Request(Box::new((request, message)))),
                    None => tracing::warn!(subject = message.subject, "unreadable request of another node"),
                },
            }
        }
    }

    /// Returns the sender of replies.
    pub fn replier(&self) -> PeerReplier {
        PeerReplier { engine: self.engine.clone() }
    }
}

/// Sends replies to requests. Cheap to clone.
#[derive(Clone)]
pub struct PeerReplier {
    engine: Engine,
}

impl PeerReplier {
    /// Replies to a request as soon as the response is ready, without waiting here. `R` is the type of the request.
    pub fn reply<R: PeerCall>(
        &self,
        request: Message,
        response: impl Future<Output = R::Response> + Send + 'static,
    ) {
        self.send(request, async move { wire::encode_response(Some(response.await)) });
    }

    /// Replies that this release does not support the request.
    pub fn reply_unsupported(&self, request: Message) {
        self.send(request, async { wire::encode_response::<()>(None) });
    }

    fn send(&self, request: Message, reply: impl Future<Output = Bytes> + Send + 'static) {
        let engine = self.engine.clone();
        let send = async move {
            let Some(message) = request.reply_with(reply.await) else { return };
            if let Err(error) = engine.publish(message).await {
                tracing::debug!(%error, "reply to another node not sent");
            }
        };
        tokio::spawn(send.in_current_span());
    }
}
