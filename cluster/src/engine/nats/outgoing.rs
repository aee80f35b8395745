//! What leaves over one connection, gathered into few writes.
//!
//! Owns: the queue in front of the client library's own, and when it is handed over. Never: what is sent. What stands in
//! line when the connection is lost is lost with it.
//!
//! The library writes to its socket whenever its task runs, and the runtime runs a task that was just woken next. Of 64
//! tasks that each send one message, every one would cost a write of its own. Here the first message wakes a task that
//! lets the others have their turn, and then hands over what has come together.

use async_nats::Client;
use async_nats::client::traits::Publisher;
use async_nats::connection::State;
use async_nats::message::OutboundMessage;
use tokio::sync::mpsc;

/// Messages that are handed over at once, about what fills one write.
const TOGETHER: usize = 128;

/// The senders' end.
pub(super) type Outgoing = mpsc::Sender<OutboundMessage>;

/// A queue of so many messages; the returned future hands them over until the last sender is gone and it is empty.
pub(super) fn outgoing(client: Client, capacity: usize) -> (Outgoing, impl Future<Output = ()> + Send) {
    let (sender, queue) = mpsc::channel(capacity);
    (sender, hand_over(client, queue))
}

async fn hand_over(client: Client, mut queue: mpsc::Receiver<OutboundMessage>) {
    let mut together = Vec::with_capacity(TOGETHER);
    while queue.recv_many(&mut together, TOGETHER).await > 0 {
        // whoever is about to send goes first
        tokio::task::yield_now().await;
        while together.len() < TOGETHER
            && let Ok(message) = queue.try_recv()
        {
            together.push(message);
        }
        // the library would keep them for the next connection; whoever waits for an answer is told that this one is lost
        if client.connection_state() != State::Connected {
            together.clear();
        }
        for message in together.drain(..) {
            // sizes were checked before; the library refuses nothing else while it lives
            if let Err(error) = client.publish_message(message).await {
                tracing::debug!(%error, "a message was not sent");
            }
        }
    }
}
