//! One socket: from `hello` to its close.
//!
//! Owns: the three parts of a socket's life, in order: greeted, live, farewell. Never: what a frame means
//! (`command`), which pages exist (`session`), bytes (`wire`).

mod hello;
mod page_socket;

use std::sync::Arc;
use std::time::Duration;

use self::page_socket::PageSocket;
use super::Edge;
use super::heartbeat::{CloseCause, Heartbeat};
use super::listener::Peer;
use super::socket::WebSocketStream;
use crate::auth::Verified;
use crate::protocol::{Close, CloseCode};
use pagewire_cluster::clock;

/// What the request brought that became this socket.
pub(super) struct UpgradeInfo {
    /// Who sent it.
    pub(super) peer: Arc<Peer>,
    /// The token of a header, a subprotocol or a cookie.
    pub(super) token: Option<String>,
    /// The browser's own description.
    pub(super) agent: String,
    /// It comes from a page that may not open sockets here.
    pub(super) foreign: bool,
}

/// A socket as the node's pulse sees it, until it ends.
struct HeartbeatGuard(Arc<Heartbeat>);

impl Drop for HeartbeatGuard {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Serves a socket until it ends. What is large or rare is boxed: an argument of a future is kept in it twice, and
/// the rest is what an idle page costs.
pub(super) async fn serve(edge: Arc<Edge>, mut wire: Box<WebSocketStream>, arrival: Box<UpgradeInfo>) {
    let peer = arrival.peer.clone();
    let beating = HeartbeatGuard(edge.pulses.register());
    let greeted = Box::pin(hello::accept_hello(&edge, &mut wire, &beating.0, arrival)).await;
    let end = match greeted {
        Err(end) => end,
        Ok((opened, roles)) => {
            let mut live = PageSocket::new(edge.clone(), wire, beating, opened, roles);
            let end = live.run().await;
            wire = live.detach();
            end
        }
    };
    edge.metrics.closed(end.code());
    tracing::debug!(peer = %peer.address, ?end, "socket ended");
    Box::pin(wire.close(&end, edge.timing.close_timeout)).await;
}

fn closing(edge: &Edge, cause: CloseCause) -> Close {
    match cause {
        CloseCause::Silent => Close::new(CloseCode::Silent, "nothing was heard for too long"),
        CloseCause::Expired => Close::new(CloseCode::TokenExpired, "the token has expired"),
        CloseCause::Drain => {
            Close::new(CloseCode::Draining, "").after(edge.timing.reconnect_jitter.mul_f64(rand::random()))
        }
    }
}

/// How long a token is still valid.
fn remaining(verified: &Verified) -> Duration {
    verified.expires_at.duration_since(clock::wall()).unwrap_or_default()
}
