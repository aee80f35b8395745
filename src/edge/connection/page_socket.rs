//! A socket with an attached page. It alternates between incoming frames, the one command in progress and outgoing
//! frames. While a command is in progress no further frame is read, which gives the client back-pressure; writes
//! continue.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::futures::Notified;
use tracing::Instrument;

use super::super::Edge;
use super::super::heartbeat::{Heartbeat, HeartbeatAction};
use super::super::socket::{Disconnect, Flow, WebSocketStream};
use super::super::websocket::writer;
use super::{closing, remaining};
use crate::auth::Roles;
use crate::command::{self, Caller, SocketEffect};
use crate::pages::{AttachmentId, DrainOutcome, Opened, Page, RunningCommand, SocketEnd};
use crate::protocol::ClientFrame;

/// Maximum bytes of one write, so that a socket with much to write does not delay the other sockets of its thread.
const WRITE: usize = 64 * 1024;

/// The command in progress.
type Command = Pin<Box<dyn Future<Output = SocketEffect> + Send>>;

/// A page that is attached to this socket. Dropping it detaches the page, however the socket ends.
struct AttachedPage {
    edge: Arc<Edge>,
    caller: Caller,
    ticket: AttachmentId,
}

impl Drop for AttachedPage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.count(SocketEnd::Broken);
        }
        self.edge.context.pages.closer.detach(&self.caller.page, self.ticket);
        self.edge.metrics.pages.dec();
    }
}

/// A socket with an attached page.
pub(super) struct PageSocket<'socket, 'node> {
    held: AttachedPage,
    wire: Box<WebSocketStream>,
    heartbeat: &'socket mut Heartbeat<'node>,
    command: Option<Command>,
}

impl<'socket, 'node> PageSocket<'socket, 'node> {
    pub(super) fn new(
        edge: Arc<Edge>,
        wire: Box<WebSocketStream>,
        heartbeat: &'socket mut Heartbeat<'node>,
        opened: Opened,
        roles: Roles,
    ) -> Self {
        edge.metrics.pages.inc();
        edge.metrics.recovered(opened.recovered);
        let caller = Caller { page: opened.page, roles };
        let held = AttachedPage { edge, caller, ticket: opened.ticket };
        Self { held, wire, heartbeat, command: None }
    }

    /// Serves the page until the socket ends.
    pub(super) async fn run(&mut self) -> Disconnect {
        let end = self.serve().await;
        if let Some(end) = end.of_page().filter(|_| !self.held.edge.is_draining()) {
            self.held.count(end);
        }
        end
    }

    /// Reads, runs commands and writes until the socket ends.
    async fn serve(&mut self) -> Disconnect {
        let page = self.held.caller.page.clone();
        let mut changed = pin!(page.changed());
        loop {
            if let Err(end) = self.write() {
                return end;
            }
            if let Err(end) = poll_fn(|cx| self.poll(cx, &page, changed.as_mut())).await {
                return end;
            }
        }
    }

    /// Ready when there may be something to write. Every source is polled every time, so that none is starved.
    fn poll<'page>(
        &mut self,
        cx: &mut Context<'_>,
        page: &'page Page,
        mut changed: Pin<&mut Notified<'page>>,
    ) -> Poll<Result<(), Disconnect>> {
        let ordered = self.heartbeat.poll_action(cx);
        let has_frames = changed.as_mut().poll(cx).is_ready();
        if has_frames {
            // renewed before the page's frames are read, so that no change is missed
            changed.set(page.changed());
        }
        let advanced = match &mut self.command {
            Some(command) => command.as_mut().poll(cx).map(|after| {
                self.command = None;
                self.apply_effect(after)
            }),
            None => self.poll_read(cx),
        };
        let flows = self.wire.poll_flow(cx);
        let ready = ordered.is_some() || has_frames || advanced.is_ready() || flows.is_ready();
        if let Some(order) = ordered {
            self.apply_heartbeat_action(order)?;
        }
        for outcome in [advanced, flows] {
            if let Poll::Ready(Err(end)) = outcome {
                return Poll::Ready(Err(end));
            }
        }
        if ready { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn apply_heartbeat_action(&mut self, order: HeartbeatAction) -> Result<(), Disconnect> {
        match order {
            HeartbeatAction::Close(cause) => Err(Disconnect::Close(closing(&self.held.edge, cause))),
            HeartbeatAction::Ping => {
                self.wire.ping();
                Ok(())
            }
        }
    }

    /// Applies the effect of a finished command to the socket.
    fn apply_effect(&mut self, after: SocketEffect) -> Result<(), Disconnect> {
        match after {
            SocketEffect::Continue => Ok(()),
            SocketEffect::Authenticated(verified) => {
                self.held.caller.roles = verified.identity.roles;
                self.heartbeat.expires(remaining(&verified));
                Ok(())
            }
            SocketEffect::Close(close) => Err(Disconnect::Close(close)),
        }
    }

    /// Writes all pending frames, at most [`WRITE`] bytes per write.
    fn write(&mut self) -> Result<(), Disconnect> {
        let Self { held, wire, .. } = self;
        while wire.is_writable() {
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
                DrainOutcome::More => {}
                DrainOutcome::Empty => break,
                DrainOutcome::Close(close) => return Err(Disconnect::Close(close)),
            }
        }
        Ok(())
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Disconnect>> {
        let Self { held, wire, command, heartbeat } = self;
        let (mut frames, mut outcome) = (0, SocketEffect::Continue);
        // a second context, because the read borrows the first one
        let mut within = Context::from_waker(cx.waker());
        let read = wire.poll_read(cx, held.edge.allowance, &mut |text| {
            frames += 1;
            let Some(mut begun) = held.begin_command(text) else { return Flow::Next };
            match begun.as_mut().poll(&mut within) {
                Poll::Ready(SocketEffect::Continue) => return Flow::Next,
                Poll::Ready(after) => outcome = after,
                Poll::Pending => *command = Some(begun),
            }
            Flow::Stop
        });
        if read.is_ready() {
            heartbeat.record_activity();
            held.edge.metrics.frames_in.inc_by(frames);
        }
        read.map(|read| read.and_then(|()| self.apply_effect(outcome)))
    }

    /// Detaches the page, so that another socket can attach to it, and returns the stream for the close. A command in
    /// progress runs to its end, because the page has already counted its frame.
    pub(super) fn detach(self) -> Box<WebSocketStream> {
        if let Some(command) = self.command {
            tokio::spawn(command);
        }
        self.wire
    }
}

impl AttachedPage {
    /// Counts the end of the socket, for the comparison of lanes of nodes.
    fn count(&self, end: SocketEnd) {
        self.edge.context.pages.ends.ended(&self.caller.page, end);
    }

    /// Starts the command of a frame. Returns `None` when there is no command to run: the frame is an
    /// acknowledgement, it cannot be parsed, or this socket is no longer attached to the page.
    fn begin_command(&self, text: &str) -> Option<Command> {
        let Caller { page, .. } = &self.caller;
        let (frame, id) = match ClientFrame::parse(text) {
            Ok((ClientFrame::Ack(ack), _)) => {
                page.acknowledge(self.ticket, ack.seq);
                return None;
            }
            Ok(frame) => frame,
            Err(invalid) => {
                // a client counts every frame that it has sent, including those that the server cannot parse
                if let Some(_running) = RunningCommand::begin(page, self.ticket) {
                    command::refuse(&self.caller, &invalid);
                }
                return None;
            }
        };
        let counted = match frame.counted() {
            true => Some(RunningCommand::begin(page, self.ticket)?),
            false => None,
        };
        let (context, caller) = (self.edge.context.clone(), self.caller.clone());
        // the beginning of a trace
        let span = tracing::debug_span!("frame", otel.kind = "server", r#type = frame.kind());
        let running = async move {
            let _running = counted;
            command::dispatch(&context, &caller, frame, id).await
        };
        Some(match span.is_disabled() {
            true => Box::pin(running),
            false => Box::pin(running.instrument(span)),
        })
    }
}
