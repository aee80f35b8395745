//! One WebSocket connection, from `hello` to its close.
//!
//! Owns: the three phases of a socket, in order: accept `hello`, serve the page, close. Never: the meaning of a frame
//! (`command`), the existence of pages (`pages`), or bytes (`socket`).

mod hello;
mod page_socket;

use std::pin::pin;
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
use pagewire_cluster::rollout::PageFacts;

/// Facts from the upgrade request of a socket.
pub(super) struct UpgradeInfo {
    /// The client end of the connection.
    pub(super) peer: Arc<Peer>,
    /// The token from a header, a subprotocol or a cookie.
    pub(super) token: Option<String>,
    /// The `User-Agent` header.
    pub(super) agent: String,
    /// What rules of rollouts may ask for.
    pub(super) facts: PageFacts,
    /// Whether the request comes from a web page of an origin that may not open sockets here.
    pub(super) foreign: bool,
}

/// Serves a socket until it ends. Large or rarely used values are boxed, because a future stores each of its
/// arguments twice; the unboxed values are the memory that an idle page costs.
pub(super) async fn serve(edge: Arc<Edge>, mut wire: Box<WebSocketStream>, arrival: Box<UpgradeInfo>) {
    let peer = arrival.peer.clone();
    let timer = pin!(edge.heartbeats.timer());
    let draining = pin!(edge.heartbeats.draining());
    let mut heartbeat = Heartbeat::new(&edge.heartbeats, timer, draining);
    let greeted = Box::pin(hello::accept_hello(&edge, &mut wire, &mut heartbeat, arrival)).await;
    let end = match greeted {
        Err(end) => end,
        Ok((opened, roles)) => {
            let mut live = PageSocket::new(edge.clone(), wire, &mut heartbeat, opened, roles);
            let end = live.run().await;
            wire = live.detach();
            end
        }
    };
    edge.metrics.closed(end.code());
    tracing::debug!(peer = %peer.address, ?end, "socket ended");
    Box::pin(wire.close(&end, edge.timing.close_timeout)).await;
}

/// Returns the close for a cause that the heartbeat has found.
pub(super) fn closing(edge: &Edge, cause: CloseCause) -> Close {
    match cause {
        CloseCause::Silent => Close::new(CloseCode::Silent, "no activity for too long"),
        CloseCause::Expired => Close::new(CloseCode::TokenExpired, "the token has expired"),
        CloseCause::Drain => {
            Close::new(CloseCode::Draining, "").after(edge.timing.reconnect_jitter.mul_f64(rand::random()))
        }
    }
}

/// Returns how long a token is still valid.
fn remaining(verified: &Verified) -> Duration {
    verified.expires_at.duration_since(clock::wall()).unwrap_or_default()
}
