//! Gathers the messages of one connection into few writes.
//!
//! Owns: the queue in front of the client library's own queue, and the time of handing it over. Never: the
//! content of messages. Messages that are queued when the connection is lost are dropped.
//!
//! Avoids: async-nats writes to its socket whenever its task runs, and the runtime runs a task that was just woken
//! next. If 64 tasks each sent one message directly, each message would cause a separate write. Here the
//! first message wakes a task that lets the other tasks run first, and then hands over all messages that were
//! gathered.

use async_nats::Client;
use async_nats::client::traits::Publisher;
use async_nats::connection::State;
use async_nats::message::OutboundMessage;
use tokio::sync::mpsc;

/// The most messages that are handed over at once, about the content of one write.
const MAX_BATCH: usize = 128;

/// The senders' end.
pub(super) type Outgoing = mpsc::Sender<OutboundMessage>;

/// Creates a queue of `capacity` messages. The returned future hands them over until the last sender is
/// dropped and the queue is empty.
pub(super) fn outgoing(client: Client, capacity: usize) -> (Outgoing, impl Future<Output = ()> + Send) {
    let (sender, queue) = mpsc::channel(capacity);
    (sender, hand_over(client, queue))
}

async fn hand_over(client: Client, mut queue: mpsc::Receiver<OutboundMessage>) {
    let mut together = Vec::with_capacity(MAX_BATCH);
    while queue.recv_many(&mut together, MAX_BATCH).await > 0 {
        // tasks that are about to send run first
        tokio::task::yield_now().await;
        while together.len() < MAX_BATCH
            && let Ok(message) = queue.try_recv()
        {
            together.push(message);
        }
        // drop them, because the library would send them on the next connection, after their requests have
        // failed as lost
        if client.connection_state() != State::Connected {
            together.clear();
        }
        for message in together.drain(..) {
            // sizes were checked before, and the library refuses nothing else while it is running
            if let Err(error) = client.publish_message(message).await {
                tracing::debug!(%error, "a message was not sent");
            }
        }
    }
}
