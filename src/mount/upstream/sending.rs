//! A request on its way to an upstream.
//!
//! Owns: the bytes of its head and body that are not written yet. Never: which headers it has (`forward`), or the response.

use std::future::poll_fn;
use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderName, Request, header};
use hyper::body::{Body, Frame};
use tokio::io::AsyncWrite;

use super::socket::{UpstreamWriter, leave_open};
use crate::mount::body::MountBody;

/// Bytes that are collected before they are written, so that a small request is one write.
const COLLECTED: usize = 64 * 1024;

/// A request that is being written.
#[derive(Debug)]
pub(super) struct Sending {
    body: MountBody,
    coding: BodyCoding,
    is_ended: bool,
    output: Vec<u8>,
    written: usize,
    /// Whether a connection has taken any byte.
    pub(super) has_begun: bool,
}

/// How the body is written.
#[derive(Debug, Clone, Copy)]
enum BodyCoding {
    /// As it is: its length is in the head, and this many bytes are left.
    Sized(u64),
    Chunked,
}

/// Why a request is not written completely.
#[derive(Debug)]
pub(super) enum SendError {
    /// The client has not sent the body.
    Body(io::Error),
    /// The connection has not taken it. The upstream may have answered before.
    Socket(io::Error),
}

impl Sending {
    /// Begins with the head. The framing is written anew: it is that of the body.
    pub(super) fn new(request: Request<MountBody>) -> Self {
        let (head, body) = request.into_parts();
        let mut output = Vec::with_capacity(1024);
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        for part in [head.method.as_str(), " ", path, " HTTP/1.1\r\n"] {
            output.extend_from_slice(part.as_bytes());
        }
        let is_ended = body.is_end_stream();
        let of_body: &[HeaderName] = &[header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
        let replaced = if is_ended { &of_body[1..] } else { of_body };
        for (name, value) in head.headers.iter().filter(|(name, _)| !replaced.contains(name)) {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                output.extend_from_slice(part);
            }
        }
        let coding = match body.size_hint().exact() {
            Some(length) => BodyCoding::Sized(length),
            None => BodyCoding::Chunked,
        };
        // never an error: the output is memory
        let _ = match coding {
            _ if is_ended => Ok(()),
            BodyCoding::Sized(length) => write!(output, "content-length: {length}\r\n"),
            BodyCoding::Chunked => write!(output, "transfer-encoding: chunked\r\n"),
        };
        output.extend_from_slice(b"\r\n");
        Self { body, coding, is_ended, output, written: 0, has_begun: false }
    }

    /// Writes until everything is written, or until the client or the upstream has to go on.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut UpstreamWriter,
    ) -> Poll<Result<(), SendError>> {
        loop {
            let is_waiting = self.collect(cx).map_err(SendError::Body)?.is_pending();
            while self.written < self.output.len() {
                let rest = &self.output[self.written..];
                let length =
                    ready!(Pin::new(&mut *writer).poll_write(cx, rest)).map_err(SendError::Socket)?;
                self.has_begun |= length > 0;
                self.written += length;
            }
            self.output.clear();
            self.written = 0;
            if self.is_ended {
                return Poll::Ready(Ok(()));
            }
            if is_waiting {
                return Poll::Pending;
            }
        }
    }

    /// Writes the rest while another task reads the response.
    pub(super) async fn finish(mut self, mut writer: UpstreamWriter) {
        if let Err(error) = poll_fn(|cx| self.poll(cx, &mut writer)).await {
            tracing::debug!(?error, "the rest of a request was not sent");
        }
        leave_open(writer);
    }

    /// Collects what the client has sent. Pending if it has to send more before the next write.
    fn collect(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        while !self.is_ended && self.output.len() < COLLECTED {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(frame) => self.add(frame.transpose()?)?,
            }
        }
        Ok(Poll::Ready(()))
    }

    fn add(&mut self, frame: Option<Frame<Bytes>>) -> io::Result<()> {
        let Some(frame) = frame else {
            self.is_ended = true;
            return match self.coding {
                BodyCoding::Sized(0) => Ok(()),
                BodyCoding::Sized(_) => Err(io::ErrorKind::UnexpectedEof.into()),
                BodyCoding::Chunked => self.output.write_all(b"0\r\n\r\n"),
            };
        };
        // trailers end here
        let Ok(data) = frame.into_data() else { return Ok(()) };
        match &mut self.coding {
            BodyCoding::Sized(left) => {
                let longer = || io::Error::other("the body is longer than its length");
                *left = left.checked_sub(data.len() as u64).ok_or_else(longer)?;
                self.output.extend_from_slice(&data);
            }
            // an empty chunk would be the last one
            BodyCoding::Chunked if data.is_empty() => {}
            BodyCoding::Chunked => {
                write!(self.output, "{:x}\r\n", data.len())?;
                self.output.extend_from_slice(&data);
                self.output.extend_from_slice(b"\r\n");
            }
        }
        Ok(())
    }
}
