//! The first phase of a socket: authenticate the client and open its page.

use std::future::poll_fn;
use std::task::Poll;

use super::super::Edge;
use super::super::heartbeat::{CloseCause, Heartbeat, HeartbeatAction};
use super::super::socket::{Disconnect, WebSocketStream};
use super::{UpgradeInfo, closing, remaining};
use crate::auth::{AuthError, Roles};
use crate::command::{self, Caller};
use crate::pages::{OpenRequest, Opened};
use crate::protocol::{Close, CloseCode, Hello};

/// The close for a foreign origin, sent before anything is read. A browser reports a close code to its page, but
/// reports nothing about a refused upgrade.
const FOREIGN: Close = Close::new(CloseCode::Forbidden, "origin");

/// Waits for `hello` and opens the requested page.
///
/// # Errors
///
/// The [`Disconnect`] to close with: the origin is foreign, the node is draining, `hello` did not arrive in time or
/// cannot be parsed, authentication failed, the address opens too many anonymous pages, or the page cannot be opened.
pub(super) async fn accept_hello(
    edge: &Edge,
    wire: &mut WebSocketStream,
    heartbeat: &mut Heartbeat<'_>,
    info: Box<UpgradeInfo>,
) -> Result<(Opened, Roles), Disconnect> {
    if info.foreign {
        return Err(Disconnect::Close(FOREIGN));
    }
    if edge.is_draining() {
        return Err(Disconnect::Close(closing(edge, CloseCause::Drain)));
    }
    let mut hello = receive_hello(edge, wire, heartbeat).await?;
    let token = hello.token.as_ref().or(info.token.as_ref());
    let verified = token.map(|token| edge.context.authenticator.verify(token)).transpose();
    let verified = verified.map_err(|error| Disconnect::Close(unauthenticated(error)))?;
    if verified.is_none() && !edge.context.authenticator.allows_anonymous() {
        return Err(Disconnect::Close(Close::new(CloseCode::Unauthenticated, "a token is required")));
    }
    let anonymous = verified.as_ref().is_none_or(|verified| verified.identity.user.is_none());
    // a returning client proves its identity with the page's token
    if anonymous
        && hello.page_id.is_none()
        && let Err(wait) = edge.anonymous_limit.admit(info.peer.address.ip())
    {
        let close = Close::new(CloseCode::RateLimit, "too many new pages from this address");
        return Err(Disconnect::Close(close.after(wait)));
    }
    let (shown, waits_for) = (hello.watch.take(), std::mem::take(&mut hello.pending));
    let mut facts = info.facts;
    let (user, roles) = match verified {
        Some(verified) => {
            heartbeat.expires(remaining(&verified));
            facts.claims = verified.claims;
            (verified.identity.user, verified.identity.roles)
        }
        None => (None, Roles::default()),
    };
    let open = OpenRequest { hello, user, agent: info.agent };
    let opened = edge.context.pages.opener.open(open).await.map_err(Disconnect::Close)?;
    let caller = Caller { page: opened.page.clone(), roles };
    command::page_opened(&edge.context, &opened.page, &facts).await;
    command::restore_watches(&edge.context, &caller, opened.recovered, shown.as_deref());
    command::pending(&edge.context, &opened.page, opened.recovered, waits_for);
    Ok((opened, caller.roles))
}

/// Waits for the first frame of a socket.
async fn receive_hello(
    edge: &Edge,
    wire: &mut WebSocketStream,
    heartbeat: &mut Heartbeat<'_>,
) -> Result<Hello, Disconnect> {
    let dismissed = poll_fn(|cx| {
        loop {
            match heartbeat.poll_action(cx) {
                Some(HeartbeatAction::Close(cause)) => return Poll::Ready(closing(edge, cause)),
                // a client that has said nothing yet is not pinged
                Some(HeartbeatAction::Ping) => {}
                None => return Poll::Pending,
            }
        }
    });
    let hello = tokio::select! {
        hello = wire.recv_text(edge.allowance) => hello?,
        close = dismissed => return Err(Disconnect::Close(close)),
        () = tokio::time::sleep(edge.timing.hello) => {
            return Err(Disconnect::Close(Close::new(CloseCode::Silent, "no hello in time")));
        }
    };
    heartbeat.record_activity();
    Hello::parse(&hello).map_err(|error| Disconnect::Malformed(error.message.into_owned()))
}

fn unauthenticated(error: AuthError) -> Close {
    match error {
        AuthError::Expired => Close::new(CloseCode::TokenExpired, "the token has expired"),
        AuthError::Invalid(reason) => Close::new(CloseCode::Unauthenticated, reason),
    }
}
