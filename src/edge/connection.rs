//! One socket: from `hello` to its close.
//!
//! Owns: the order of things on a socket, which is small: greet, then take turns between what comes in, the one
//! command in progress and what goes out. While a command is in progress nothing further is read, which is the
//! client's back-pressure; writes go on. Never: what a frame means (`command`), which pages exist (`session`), bytes
//! (`wire`).

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use tokio::sync::futures::Notified;

use super::Edge;
use super::listener::Peer;
use super::pulse::{Cause, Order, Pulse};
use super::websocket::writer;
use super::wire::{End, Flow, Wire};
use crate::auth::{AuthError, Roles, Verified};
use crate::command::{self, After, Caller};
use crate::protocol::{ClientFrame, Close, CloseCode, Hello};
use crate::session::{Open, Opened, Taken, Ticket};

/// Bytes of one write, so that one socket with much to say does not hold up the others of its thread.
const WRITE: usize = 64 * 1024;

/// What the request brought that became this socket.
pub(super) struct Arrival {
    /// Who sent it.
    pub(super) peer: Arc<Peer>,
    /// The token of a header, a subprotocol or a cookie.
    pub(super) token: Option<String>,
    /// The browser's own description.
    pub(super) agent: String,
}

/// The command in progress.
type Command = Pin<Box<dyn Future<Output = After> + Send>>;

/// What ended a socket's sleep.
enum Woken {
    ByPage,
    ByOther,
}

/// A page in the hands of this socket; let go however the socket ends.
struct Held {
    edge: Arc<Edge>,
    caller: Caller,
    ticket: Ticket,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.edge.context.sessions.detach(&self.caller.page, self.ticket);
        self.edge.metrics.pages.dec();
    }
}

/// A socket as the node's pulse sees it, until it ends.
struct Beating(Arc<Pulse>);

impl Drop for Beating {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Serves a socket until it ends. The rare parts are boxed: what stays is what an idle page costs.
pub(super) async fn serve(edge: Arc<Edge>, mut wire: Wire, arrival: Arrival) {
    let peer = arrival.peer.clone();
    let beating = Beating(edge.pulses.watch());
    let end = match Box::pin(greet(&edge, &mut wire, &beating.0, arrival)).await {
        Err(end) => end,
        Ok((opened, roles)) => {
            let mut live = Live::new(edge.clone(), wire, beating, opened, roles);
            let end = live.run().await;
            wire = live.let_go();
            end
        }
    };
    edge.metrics.closed(end.code());
    tracing::debug!(peer = %peer.address, ?end, "socket ended");
    Box::pin(wire.part(&end, edge.timing.goodbye)).await;
}

/// Waits for `hello` and opens the page that it asks for.
async fn greet(
    edge: &Edge,
    wire: &mut Wire,
    pulse: &Pulse,
    arrival: Arrival,
) -> Result<(Opened, Roles), End> {
    if edge.is_draining() {
        return Err(End::Close(closing(edge, Cause::Drain)));
    }
    let dismissed = poll_fn(|cx| match pulse.poll_order(cx) {
        Some(Order::Close(cause)) => Poll::Ready(closing(edge, cause)),
        Some(Order::Ping) | None => Poll::Pending,
    });
    let hello = tokio::select! {
        hello = wire.text(edge.allowance) => hello?,
        close = dismissed => return Err(End::Close(close)),
        () = tokio::time::sleep(edge.timing.hello) => {
            return Err(End::Close(Close::new(CloseCode::Silent, "no hello in time")));
        }
    };
    edge.pulses.heard(pulse);
    let hello = Hello::parse(&hello).map_err(|error| End::Malformed(error.message.into_owned()))?;
    let token = hello.token.as_ref().or(arrival.token.as_ref());
    let verified = token.map(|token| edge.context.authenticator.verify(token)).transpose();
    let verified = verified.map_err(|error| End::Close(unauthenticated(error)))?;
    if verified.is_none() && !edge.context.authenticator.allows_anonymous() {
        return Err(End::Close(Close::new(CloseCode::Unauthenticated, "a token is required")));
    }
    let (user, roles) = match verified {
        Some(verified) => {
            edge.pulses.expires(pulse, remaining(&verified));
            (verified.identity.user, verified.identity.roles)
        }
        None => (None, Roles::default()),
    };
    let open = Open { hello, user, agent: arrival.agent };
    Ok((edge.context.sessions.open(open).await.map_err(End::Close)?, roles))
}

fn unauthenticated(error: AuthError) -> Close {
    match error {
        AuthError::Expired => Close::new(CloseCode::TokenExpired, "the token has expired"),
        AuthError::Invalid(reason) => Close::new(CloseCode::Unauthenticated, reason),
    }
}

fn closing(edge: &Edge, cause: Cause) -> Close {
    match cause {
        Cause::Silent => Close::new(CloseCode::Silent, "nothing was heard for too long"),
        Cause::Expired => Close::new(CloseCode::TokenExpired, "the token has expired"),
        Cause::Drain => {
            Close::new(CloseCode::Draining, "").after(edge.timing.reconnect_spread.mul_f64(rand::random()))
        }
    }
}

fn remaining(verified: &Verified) -> Duration {
    verified.expires_at.duration_since(SystemTime::now()).unwrap_or_default()
}

/// A socket that holds a page.
struct Live {
    held: Held,
    wire: Wire,
    beating: Beating,
    command: Option<Command>,
}

impl Live {
    fn new(edge: Arc<Edge>, wire: Wire, beating: Beating, opened: Opened, roles: Roles) -> Self {
        edge.metrics.pages.inc();
        edge.metrics.recovered(opened.recovered);
        let caller = Caller { page: opened.page, roles };
        let held = Held { edge, caller, ticket: opened.ticket };
        Self { held, wire, beating, command: None }
    }

    async fn run(&mut self) -> End {
        let page = self.held.caller.page.clone();
        let mut changed = pin!(page.changed());
        loop {
            if let Err(end) = self.write() {
                return end;
            }
            match poll_fn(|cx| self.poll(cx, changed.as_mut())).await {
                Ok(Woken::ByPage) => changed.set(page.changed()),
                Ok(Woken::ByOther) => {}
                Err(end) => return end,
            }
        }
    }

    /// Ready when there may be something to write.
    fn poll(&mut self, cx: &mut Context<'_>, changed: Pin<&mut Notified<'_>>) -> Poll<Result<Woken, End>> {
        if let Some(order) = self.beating.0.poll_order(cx) {
            return Poll::Ready(self.obey(order).map(|()| Woken::ByOther));
        }
        if changed.poll(cx).is_ready() {
            return Poll::Ready(Ok(Woken::ByPage));
        }
        let progress = match &mut self.command {
            Some(command) => command.as_mut().poll(cx).map(|after| {
                self.command = None;
                self.heed(after)
            }),
            None => self.poll_read(cx),
        };
        if progress.is_ready() {
            return progress.map_ok(|()| Woken::ByOther);
        }
        self.wire.poll_flow(cx).map_ok(|()| Woken::ByOther)
    }

    fn obey(&mut self, order: Order) -> Result<(), End> {
        match order {
            Order::Close(cause) => Err(End::Close(closing(&self.held.edge, cause))),
            Order::Ping => {
                self.wire.ping();
                Ok(())
            }
        }
    }

    /// What a command means for the socket.
    fn heed(&mut self, after: After) -> Result<(), End> {
        match after {
            After::Continue => Ok(()),
            After::Authenticated(verified) => {
                self.held.caller.roles = verified.identity.roles;
                self.held.edge.pulses.expires(&self.beating.0, remaining(&verified));
                Ok(())
            }
            After::Close(close) => Err(End::Close(close)),
        }
    }

    /// Everything that waits leaves in as few writes as there are [`WRITE`]s of it.
    fn write(&mut self) -> Result<(), End> {
        let Self { held, wire, .. } = self;
        while wire.flows() {
            let mut frames = 0;
            let taken = wire.write(held.edge.timing.write_stall, |out| {
                held.caller.page.take(held.ticket, WRITE, &mut |head, tail| {
                    frames += 1;
                    writer::text(out, &[head, tail.bytes()]);
                })
            })?;
            if frames > 0 {
                held.edge.metrics.frames_out.inc_by(frames);
            }
            match taken {
                Taken::More => {}
                Taken::Empty => break,
                Taken::Close(close) => return Err(End::Close(close)),
            }
        }
        Ok(())
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let Self { held, wire, command, beating } = self;
        let (mut frames, mut outcome) = (0, After::Continue);
        // a second context: the first one is busy with the read
        let mut within = Context::from_waker(cx.waker());
        let read = wire.poll_read(cx, held.edge.allowance, &mut |text| {
            frames += 1;
            let Some(mut begun) = held.act(text) else { return Flow::Next };
            match begun.as_mut().poll(&mut within) {
                Poll::Ready(After::Continue) => return Flow::Next,
                Poll::Ready(after) => outcome = after,
                Poll::Pending => *command = Some(begun),
            }
            Flow::Stop
        });
        if read.is_ready() {
            held.edge.pulses.heard(&beating.0);
            held.edge.metrics.frames_in.inc_by(frames);
        }
        read.map(|read| read.and_then(|()| self.heed(outcome)))
    }

    /// The page is free for another socket, and the wire for its last words. A command in progress goes on to its
    /// end: the page has counted its frame.
    fn let_go(self) -> Wire {
        if let Some(command) = self.command {
            tokio::spawn(command);
        }
        self.wire
    }
}

impl Held {
    /// Begins what a frame asks for; `None`: it is done.
    fn act(&self, text: &str) -> Option<Command> {
        let Caller { page, .. } = &self.caller;
        let (frame, id) = match ClientFrame::parse(text) {
            Ok((ClientFrame::Ack(ack), _)) => {
                page.acknowledge(self.ticket, ack.seq);
                return None;
            }
            Ok(frame) => frame,
            Err(invalid) => {
                // a client counts what it has sent, understood or not
                if page.accept(self.ticket) {
                    command::refuse(&self.caller, &invalid);
                }
                return None;
            }
        };
        if frame.counted() && !page.accept(self.ticket) {
            return None;
        }
        let (context, caller) = (self.edge.context.clone(), self.caller.clone());
        Some(Box::pin(async move { command::dispatch(&context, &caller, frame, id).await }))
    }
}
