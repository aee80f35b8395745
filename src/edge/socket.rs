//! The bytes of a socket: incoming bytes become texts, outgoing frames leave in one write.
//!
//! Owns: the stream and its unread and unwritten bytes. Never: the meaning of a text. At rest a socket owns no
//! buffer: reads and writes use one scratch buffer per thread. Only an incomplete frame, texts behind a command in
//! progress and the unwritten rest of a write are kept.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::rate_limit::RateLimiter;
use super::websocket::{FrameEvent, FrameReader, Violation, writer};
use crate::pages::SocketEnd;
use crate::protocol::{Close, CloseCode};

/// Maximum bytes of one read. A larger frame arrives in several reads.
const READ: usize = 16 * 1024;
/// Maximum capacity of a scratch buffer that is kept, in bytes. A buffer that a large write has grown beyond it is
/// freed.
const KEEP: usize = 256 * 1024;

thread_local! {
    static INCOMING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static OUTGOING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Reason why a socket ends.
#[derive(Debug)]
pub(super) enum Disconnect {
    /// The connection broke; no close frame can be sent.
    Lost,
    /// The client closed, with its code if it sent one.
    Closed(Option<u16>),
    /// The server closes.
    Close(Close),
    /// The server closes because of a malformed `hello`; the text describes the error.
    Malformed(String),
}

impl Disconnect {
    /// Label of this reason in the metrics.
    pub(super) const fn code(&self) -> CloseCode {
        match self {
            Self::Lost => CloseCode::Lost,
            Self::Closed(_) => CloseCode::Normal,
            Self::Close(close) => close.code,
            Self::Malformed(_) => CloseCode::MalformedHello,
        }
    }

    /// Returns what this end of the socket of a page says about its node; `None` for nothing: the node closes it for a reason
    /// of its own, such as a drain, or because the client broke a rule.
    pub(super) const fn of_page(&self) -> Option<SocketEnd> {
        match self {
            Self::Lost => Some(SocketEnd::Broken),
            Self::Closed(_) => Some(SocketEnd::Left),
            Self::Close(Close { code: CloseCode::Silent | CloseCode::SlowConsumer, .. }) => {
                Some(SocketEnd::Broken)
            }
            Self::Close(_) | Self::Malformed(_) => None,
        }
    }
}

/// Whether the receiver of a text takes the next text at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// Continue with the next text.
    Next,
    /// Stop: the command of this text is still in progress. The next text waits for the next call.
    Stop,
}

/// Limits for the frames of a client.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameLimits {
    /// Maximum bytes of a message.
    pub(super) max_frame: usize,
    /// Maximum frames per second.
    pub(super) frames_per_second: u32,
}

/// A WebSocket over TCP.
pub(super) struct WebSocketStream {
    stream: TcpStream,
    reader: FrameReader,
    rate: RateLimiter,
    opened: Instant,
    /// Bytes behind the text that stopped reading.
    unread: Vec<u8>,
    /// Complete frames that are written first, or the rest of a partial write.
    unwritten: Vec<u8>,
    /// Time limit of a blocked write. Set while the stream accepts no bytes.
    write_timeout: Option<Pin<Box<Sleep>>>,
}

impl WebSocketStream {
    /// A stream after the handshake. `unread` are the bytes that were read beyond it.
    pub(super) fn new(stream: TcpStream, unread: Vec<u8>) -> Box<Self> {
        Box::new(Self {
            stream,
            reader: FrameReader::default(),
            rate: RateLimiter::default(),
            opened: Instant::now(),
            unread,
            unwritten: Vec::new(),
            write_timeout: None,
        })
    }

    /// Reads the available bytes and passes every text to `each`, until it returns [`Flow::Stop`].
    ///
    /// # Errors
    ///
    /// [`Disconnect::Lost`] when the connection broke, [`Disconnect::Closed`] when the client closed,
    /// [`Disconnect::Close`] when the client breaks the protocol or its limits.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        allowance: FrameLimits,
        each: &mut dyn FnMut(&str) -> Flow,
    ) -> Poll<Result<(), Disconnect>> {
        if !self.unread.is_empty() {
            let mut unread = std::mem::take(&mut self.unread);
            return Poll::Ready(self.decode(&mut unread, allowance, each));
        }
        // taken, not borrowed, so that the buffer cannot be in use twice, even if `each` reads again
        let mut scratch = INCOMING.take();
        scratch.resize(READ, 0);
        let mut buffer = ReadBuf::new(&mut scratch);
        let outcome = Pin::new(&mut self.stream).poll_read(cx, &mut buffer);
        let outcome = outcome.map(|read| match (read, buffer.filled_mut()) {
            (Err(_), _) | (Ok(()), []) => Err(Disconnect::Lost),
            (Ok(()), bytes) => self.decode(bytes, allowance, each),
        });
        INCOMING.set(scratch);
        outcome
    }

    /// Returns the next text. Fails like [`WebSocketStream::poll_read`].
    pub(super) async fn recv_text(&mut self, allowance: FrameLimits) -> Result<String, Disconnect> {
        let mut first = None;
        while first.is_none() {
            poll_fn(|cx| {
                self.poll_read(cx, allowance, &mut |text| {
                    first = Some(text.to_owned());
                    Flow::Stop
                })
            })
            .await?;
        }
        first.ok_or(Disconnect::Lost)
    }

    fn decode(
        &mut self,
        mut bytes: &mut [u8],
        allowance: FrameLimits,
        each: &mut dyn FnMut(&str) -> Flow,
    ) -> Result<(), Disconnect> {
        while let Some(event) = self.reader.read(&mut bytes, allowance.max_frame).map_err(violation)? {
            if !self.rate.admit(self.opened.elapsed(), allowance.frames_per_second) {
                return Err(Disconnect::Close(Close::new(
                    CloseCode::RateLimit,
                    "too many frames per second",
                )));
            }
            match event {
                FrameEvent::Text(text) => {
                    if each(&text) == Flow::Stop {
                        self.unread = bytes.to_vec();
                        return Ok(());
                    }
                }
                // no pongs are queued for a client that does not read
                FrameEvent::Ping(_) if self.write_timeout.is_some() => {}
                FrameEvent::Ping(payload) => writer::pong(&mut self.unwritten, &payload),
                FrameEvent::Fragment | FrameEvent::Pong => {}
                FrameEvent::Close(code) => return Err(Disconnect::Closed(code)),
            }
        }
        Ok(())
    }

    /// Queues a ping for the next write.
    pub(super) fn ping(&mut self) {
        if self.write_timeout.is_none() {
            writer::ping(&mut self.unwritten);
        }
    }

    /// Whether the stream accepts bytes, as far as is known.
    pub(super) fn is_writable(&self) -> bool {
        self.write_timeout.is_none()
    }

    /// Writes the pending bytes and those that `fill` appends, in one write. Unwritten bytes are kept, and
    /// [`WebSocketStream::is_writable`] returns `false` from then on. If the stream does not accept bytes within
    /// `timeout`, [`WebSocketStream::poll_flow`] fails.
    ///
    /// # Errors
    ///
    /// [`Disconnect::Lost`] when the connection broke.
    pub(super) fn write<T>(
        &mut self,
        timeout: Duration,
        fill: impl FnOnce(&mut Vec<u8>) -> T,
    ) -> Result<T, Disconnect> {
        let mut scratch = OUTGOING.take();
        scratch.append(&mut self.unwritten);
        self.unwritten = Vec::new();
        let filled = fill(&mut scratch);
        let outcome = self.write_bytes(&scratch, timeout);
        scratch.clear();
        if scratch.capacity() <= KEEP {
            OUTGOING.set(scratch);
        }
        outcome.map(|()| filled)
    }

    fn write_bytes(&mut self, bytes: &[u8], timeout: Duration) -> Result<(), Disconnect> {
        if bytes.is_empty() {
            return Ok(());
        }
        let written = match self.stream.try_write(bytes) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => return Err(Disconnect::Lost),
        };
        if written < bytes.len() {
            self.unwritten = bytes[written..].to_vec();
            self.write_timeout = Some(Box::pin(tokio::time::sleep(timeout)));
        }
        Ok(())
    }

    /// While the stream is blocked: ready when it accepts bytes again.
    ///
    /// # Errors
    ///
    /// [`CloseCode::SlowConsumer`] when the stream accepted no bytes for too long, [`Disconnect::Lost`] when the
    /// connection broke.
    pub(super) fn poll_flow(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Disconnect>> {
        let Some(write_timeout) = &mut self.write_timeout else { return Poll::Pending };
        if write_timeout.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(Disconnect::Close(Close::new(
                CloseCode::SlowConsumer,
                "the client does not read",
            ))));
        }
        ready!(self.stream.poll_write_ready(cx)).map_err(|_| Disconnect::Lost)?;
        self.write_timeout = None;
        Poll::Ready(Ok(()))
    }

    /// Sends the close frame, then reads until the client closes or `timeout` is over: closing with unread bytes
    /// would reset the connection before the client has read the frame.
    pub(super) async fn close(mut self: Box<Self>, end: &Disconnect, timeout: Duration) {
        match end {
            Disconnect::Lost => return,
            Disconnect::Closed(code) => writer::close_echo(&mut self.unwritten, *code),
            Disconnect::Close(close) => {
                writer::close(&mut self.unwritten, close.code.number(), &close.payload());
            }
            Disconnect::Malformed(reason) => {
                let reason = writer::reason(reason);
                writer::close(&mut self.unwritten, CloseCode::MalformedHello.number(), &reason);
            }
        }
        let goodbye = async {
            self.stream.write_all(&self.unwritten).await?;
            self.stream.shutdown().await?;
            let mut rest = vec![0; 1024];
            while self.stream.read(&mut rest).await? > 0 {}
            io::Result::Ok(())
        };
        // the client may be gone already
        let _ = tokio::time::timeout(timeout, goodbye).await;
    }
}

fn violation(violation: Violation) -> Disconnect {
    Disconnect::Close(match violation {
        Violation::TooLarge => Close::new(CloseCode::FrameTooLarge, "the message is too large"),
        Violation::Binary => Close::new(CloseCode::ProtocolViolation, "binary messages are not supported"),
        _ => Close::new(CloseCode::ProtocolViolation, "WebSocket rules broken"),
    })
}

#[cfg(test)]
mod tests;
