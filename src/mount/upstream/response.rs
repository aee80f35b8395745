//! The body of an upstream's response, and the connection that a change of the protocol leaves.
//!
//! Owns: the connection while the response lasts. Never: the head.
//!
//! A connection whose response was not read to its end is closed, so no later request can get the rest of it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::task::AbortOnDropHandle;

use super::body_reader::{BodyPart, BodyReader};
use super::connection::UpstreamConnection;
use super::idle::IdleConnections;
use super::socket::UpstreamWriter;

/// The body of a response.
#[derive(Debug)]
pub(crate) struct UpstreamBody(State);

#[derive(Debug)]
enum State {
    Ended,
    /// The rest has arrived, and the connection serves other requests.
    Rest(Bytes),
    Arriving(Box<ArrivingResponse>),
}

/// A response that has not arrived completely.
#[derive(Debug)]
pub(super) struct ArrivingResponse {
    pub(super) connection: UpstreamConnection,
    pub(super) reader: BodyReader,
    /// Where the connection goes after the response, if it can be used again.
    pub(super) idle: Option<Arc<IdleConnections>>,
    /// Stops the rest of the request if the response is given up.
    pub(super) sending: Option<AbortOnDropHandle<()>>,
}

impl UpstreamBody {
    /// Takes what has arrived already. A connection whose response is complete is free at once.
    ///
    /// # Errors
    ///
    /// When the body is malformed.
    pub(super) fn new(mut arriving: ArrivingResponse) -> io::Result<Self> {
        let arrived = arriving.connection.input.filled().len() as u64;
        match arriving.reader.left() {
            Some(left) if left <= arrived => {
                let part = arriving.reader.next(&mut arriving.connection.input).map_err(io::Error::other)?;
                arriving.end();
                Ok(Self(match part {
                    BodyPart::Data(bytes) => State::Rest(bytes),
                    BodyPart::End | BodyPart::Missing => State::Ended,
                }))
            }
            _ => Ok(Self(State::Arriving(Box::new(arriving)))),
        }
    }

    /// Returns the connection after a change of the protocol.
    pub(crate) fn into_tunnel(self) -> Option<UpstreamTunnel> {
        match self.0 {
            State::Arriving(arriving) => Some(UpstreamTunnel(arriving.connection)),
            _ => None,
        }
    }
}

impl ArrivingResponse {
    /// Ends the response. What an upstream has sent behind it belongs to no request, so the connection is closed then.
    fn end(mut self) {
        if let Some(sending) = self.sending.take() {
            // the upstream may still read the request that it has answered
            sending.detach();
        } else if let Some(idle) = self.idle.filter(|_| self.connection.input.filled().is_empty()) {
            idle.put(self.connection);
        }
    }

    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            match self.reader.next(&mut self.connection.input).map_err(io::Error::other)? {
                BodyPart::Data(bytes) => return Poll::Ready(Ok(Some(bytes))),
                BodyPart::End => return Poll::Ready(Ok(None)),
                BodyPart::Missing => {}
            }
            if ready!(self.connection.poll_input(cx))? == 0 {
                return Poll::Ready(match self.reader.ends_with_connection() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                });
            }
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let part = match &mut self.0 {
            State::Arriving(arriving) => ready!(arriving.poll_part(cx)),
            State::Rest(_) | State::Ended => Ok(None),
        };
        let is_last = match &self.0 {
            State::Arriving(arriving) => matches!(part, Ok(None)) || arriving.reader.left() == Some(0),
            State::Rest(_) | State::Ended => true,
        };
        match std::mem::replace(&mut self.0, State::Ended) {
            State::Rest(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
            State::Arriving(arriving) if part.is_ok() && is_last => arriving.end(),
            State::Arriving(arriving) if part.is_ok() => self.0 = State::Arriving(arriving),
            // after an error the connection is closed
            State::Arriving(_) | State::Ended => {}
        }
        Poll::Ready(part.transpose().map(|part| part.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, State::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        let left = match &self.0 {
            State::Ended => Some(0),
            State::Rest(bytes) => Some(bytes.len() as u64),
            State::Arriving(arriving) => arriving.reader.left(),
        };
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A connection of another protocol.
#[derive(Debug)]
pub(crate) struct UpstreamTunnel(UpstreamConnection);

impl AsyncRead for UpstreamTunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0.input.filled().is_empty() {
            ready!(self.0.poll_input(cx))?;
        }
        let length = self.0.input.filled().len().min(buffer.remaining());
        buffer.put_slice(&self.0.input.filled()[..length]);
        self.0.input.skip(length);
        Poll::Ready(Ok(()))
    }
}

impl UpstreamTunnel {
    fn writer(&mut self) -> io::Result<Pin<&mut UpstreamWriter>> {
        // a request for another protocol has no body that would still be sent
        self.0.writer.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AsyncWrite for UpstreamTunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writer()?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer()?.poll_shutdown(cx)
    }
}
