//! The first phase of a socket: authenticate the client and open its page.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use super::super::Edge;
use super::super::heartbeat::{CloseCause, Heartbeat, HeartbeatAction};
use super::super::socket::{Disconnect, WebSocketStream};
use super::super::websocket::writer;
use super::{UpgradeInfo, closing, remaining};
use crate::auth::{AuthError, Roles, Verified};
use crate::command::{self, Caller};
use crate::pages::{OpenRequest, Opened, PagePlace, set_knows_move};
use crate::protocol::{Close, CloseCode, FrameBody, GivenId, Hello};

/// The close for a foreign origin, sent before anything is read. A browser reports a close code to its page, but
/// reports nothing about a refused upgrade.
const FOREIGN: Close = Close::new(CloseCode::Forbidden, "origin");

/// Waits for `hello` and opens the requested page. A client whose page belongs to another lane of nodes is told where to
/// open it, if the client knows `move`.
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
    let mut verified = authenticate(edge, &hello, &info)?;
    let user = verified.as_ref().and_then(|verified| verified.identity.user.as_deref());
    let place = if hello.stay { PagePlace::Here } else { edge.context.pages.store.place_of(&hello, user) };
    let is_placed = hello.knows_move() && place == PagePlace::Here;
    if let PagePlace::At(target) = place
        && hello.knows_move()
    {
        let moving = FrameBody::move_to(Some(&target.url), Duration::ZERO);
        wire.write(edge.timing.write_stall, |out| writer::text(out, &[b"{", moving.bytes()]))?;
        // a client that cannot open a socket there says so by another `hello`; the others close this one
        hello = receive_hello(edge, wire, heartbeat).await?;
        verified = authenticate(edge, &hello, &info)?;
    }
    let anonymous = verified.as_ref().is_none_or(|verified| verified.identity.user.is_none());
    if anonymous
        && makes_page(edge, &hello).await
        && let Err(wait) = edge.anonymous_limit.admit(info.peer.address.ip())
    {
        let close = Close::new(CloseCode::RateLimit, "too many new pages from this address");
        return Err(Disconnect::Close(close.after(wait)));
    }
    let knows_move = hello.knows_move();
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
    let open = OpenRequest { hello, user, agent: info.agent, is_placed };
    let opened = edge.context.pages.opener.open(open).await.map_err(Disconnect::Close)?;
    set_knows_move(&opened.page, knows_move);
    let caller = Caller { page: opened.page.clone(), roles };
    command::page_opened(&edge.context, &opened.page, &facts).await;
    command::restore_watches(&edge.context, &caller, opened.recovered, shown.as_deref());
    command::pending(&edge.context, &opened.page, opened.recovered, waits_for);
    Ok((opened, caller.roles))
}

/// Returns whether a page is made for a client. One that returns names its page and proves that with the token of the page;
/// without a proof, an id of an older deployment is given to a new page.
async fn makes_page(edge: &Edge, hello: &Hello) -> bool {
    match (hello.page_id, &hello.resume) {
        (Some(GivenId::Own(_)), _) => false,
        (Some(GivenId::Older(page)), Some(resume)) => {
            let proves = edge.context.pages.tokens.proves(&resume.token, page, edge.timing.page_token);
            !proves.await.unwrap_or(false)
        }
        (Some(GivenId::Older(_)) | None, _) => true,
    }
}

/// Returns the identity of the client; `None` for a client without a token, where such clients are allowed.
fn authenticate(edge: &Edge, hello: &Hello, info: &UpgradeInfo) -> Result<Option<Verified>, Disconnect> {
    let token = hello.token.as_ref().or(info.token.as_ref());
    let verified = token.map(|token| edge.context.authenticator.verify(token)).transpose();
    let verified = verified.map_err(|error| Disconnect::Close(unauthenticated(error)))?;
    if verified.is_none() && !edge.context.authenticator.allows_anonymous() {
        return Err(Disconnect::Close(Close::new(CloseCode::Unauthenticated, "a token is required")));
    }
    Ok(verified)
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
