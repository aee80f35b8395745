//! Turns an HTTP request into a socket.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    CONNECTION, HOST, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE, USER_AGENT,
};
use axum::http::{HeaderMap, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use pagewire_cluster::rollout::PageFacts;

use super::Edge;
use super::connection::{self, UpgradeInfo};
use super::framing::GuardedStream;
use super::handshake::{self, Handshake};
use super::http::retry_after;
use super::listener::Peer;
use super::origin::OriginCheck;
use super::socket::WebSocketStream;
use crate::mount::trust::origin;
use crate::protocol::SUBPROTOCOL;

/// Responds to a handshake, and serves the socket after the response was sent.
pub(super) async fn upgrade(State(edge): State<Arc<Edge>>, request: Request) -> Response<Body> {
    let (mut head, _) = request.into_parts();
    let handshake = match handshake::read(&head) {
        Ok(handshake) => handshake,
        Err(status) => return refusal(status, &edge),
    };
    if edge.is_draining() {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, &edge);
    }
    let origin_check = match edge.origins.check(&head.headers) {
        // a page of another node that moves here
        OriginCheck::Foreign if edge.is_page_of_cluster(&head.headers) => OriginCheck::Known,
        check => check,
    };
    if origin_check == OriginCheck::ForeignHost {
        let host = head.headers.get(HOST);
        tracing::warn!(
            ?host,
            "a socket was refused because its Host header names another host: set node.advertise or websocket.origins"
        );
        return refusal(StatusCode::FORBIDDEN, &edge);
    }
    let foreign = origin_check == OriginCheck::Foreign;
    if foreign {
        edge.foreign_origins.report(&head.headers, Instant::now());
    }
    let cookie = edge.cookie.as_deref().filter(|_| origin_check == OriginCheck::Known);
    let token = handshake::token(&head.headers, cookie);
    let agent = head
        .headers
        .get(USER_AGENT)
        .map_or(String::new(), |agent| String::from_utf8_lossy(agent.as_bytes()).into_owned());
    let (Some(upgrade), Some(peer)) =
        (head.extensions.remove::<OnUpgrade>(), head.extensions.remove::<Arc<Peer>>())
    else {
        return refusal(StatusCode::BAD_REQUEST, &edge);
    };
    let facts = facts(&edge, &peer, &head.headers);
    edge.metrics.connections_opened.inc();
    tokio::spawn(begin(edge, upgrade, Box::new(UpgradeInfo { peer, token, agent, facts, foreign })));
    switching(&handshake)
}

/// Returns what rules of rollouts may ask for: the headers that they name, and the address of the client.
fn facts(edge: &Edge, peer: &Peer, headers: &HeaderMap) -> PageFacts {
    let named = edge.context.rollouts.enrolments().named_headers();
    let values = |name: String| {
        let values = headers.get_all(&name).into_iter().filter_map(|value| value.to_str().ok());
        values.map(|value| (name.clone(), value.to_owned())).collect::<Vec<_>>()
    };
    PageFacts {
        headers: named.into_iter().flat_map(values).collect(),
        address: Some(origin(&peer.client, headers, &edge.trusted).address.ip),
        ..PageFacts::default()
    }
}

/// Takes the stream from hyper and starts a task for the socket, so that nothing of this task stays in memory.
async fn begin(edge: Arc<Edge>, upgrade: OnUpgrade, info: Box<UpgradeInfo>) {
    if let Some(wire) = stream_of(upgrade).await {
        tokio::spawn(connection::serve(edge, wire, info));
    }
}

/// Takes the stream from hyper when the response was sent; `None` if the connection has broken.
pub(super) async fn stream_of(upgrade: OnUpgrade) -> Option<Box<WebSocketStream>> {
    let upgraded = upgrade.await.inspect_err(|error| tracing::debug!(%error, "upgrade failed")).ok()?;
    // only `listener` makes connections, and all of them have this type
    let parts = upgraded.downcast::<TokioIo<GuardedStream>>().ok()?;
    let (stream, rest) = parts.io.into_inner().into_parts();
    // copied, because a slice would keep hyper's whole read buffer
    let mut unread = parts.read_buf.to_vec();
    unread.extend_from_slice(&rest);
    Some(WebSocketStream::new(stream, unread))
}

pub(super) fn switching(handshake: &Handshake) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&handshake.accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    if handshake.subprotocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    response
}

pub(super) fn refusal(status: StatusCode, edge: &Edge) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    match status {
        StatusCode::UPGRADE_REQUIRED => {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            headers.insert(RETRY_AFTER, retry_after(edge.timing.reconnect_jitter));
        }
        _ => {}
    }
    response
}
