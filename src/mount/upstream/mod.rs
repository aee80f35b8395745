//! The connections to an upstream, a client of HTTP/1.
//!
//! Owns: how a request gets its connection and its response, and how long that may take. Never: which headers it has
//! (`forward`).
//!
//! A connection is driven by the task of its request: a client with a task for each connection, such as hyper's, wakes
//! another task twice for each request, which took up to a third of its CPU time.
//!
//! A connection whose request was given up or ran out of time is closed, so no later request can get its answer. A request
//! is sent once: only one that no byte of was written goes to another connection.
//!
//! `sending` writes a request → `response_head` reads the head (pure) → `response` has the body, which `body_reader` finds
//! (pure). `connection` is a `socket` with its `input`, and `idle` keeps those that no request uses.

mod body_reader;
mod connection;
mod idle;
mod input;
mod response;
mod response_head;
mod sending;
mod socket;

#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::uri::Authority;
use http::{Method, Request, Response, StatusCode};
use pagewire_cluster::timing::Timing;
use pagewire_worker::runtime::child::http_lease::NoProcess;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use self::body_reader::BodyReader;
use self::connection::UpstreamConnection;
use self::idle::IdleConnections;
use self::response::ArrivingResponse;
pub(crate) use self::response::{UpstreamBody, UpstreamTunnel};
use self::response_head::{BodyEnd, ResponseHead};
use self::sending::{SendError, Sending};
use self::socket::connect;
use super::body::MountBody;
use crate::config::UpstreamAddress;

/// Why an upstream has not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// It cannot be connected: it has not received the request.
    #[error("the upstream cannot be reached: {0}")]
    Unreachable(io::Error),
    /// It took too long.
    #[error("the upstream has not answered in time")]
    TimedOut,
    /// No process of the application serves it: it has not received the request.
    #[error("{0}")]
    NoProcess(NoProcess),
    /// This node has no processes of the lane, and no other node has one that is ready: the request is not received.
    #[error("no node has a process of the lane that is ready")]
    NoLane,
    /// The connection ended before the answer, or the body of the request did.
    #[error("the upstream has not answered: {0}")]
    Broken(String),
}

impl UpstreamError {
    /// Returns the status for a client.
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            Self::NoProcess(_) | Self::NoLane => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unreachable(_) | Self::Broken(_) => StatusCode::BAD_GATEWAY,
        }
    }
}

/// The connections to one upstream. Cheap to clone.
#[derive(Clone)]
pub(crate) struct UpstreamClient {
    address: Arc<UpstreamAddress>,
    authority: Authority,
    connect_within: Duration,
    idle: Arc<IdleConnections>,
}

/// A request on a connection, until the head of its response has arrived.
struct Exchange {
    connection: UpstreamConnection,
    /// `None` when everything is written.
    sending: Option<Sending>,
    /// Why the connection has not taken the whole request. It may have been answered before.
    send_error: Option<String>,
}

/// The way of a request on a connection.
enum ExchangeEnd {
    Answered(ResponseHead),
    /// The upstream has closed the connection before it took a byte of the request.
    Unused,
}

impl UpstreamClient {
    /// Creates a client without connections.
    pub(crate) fn new(address: UpstreamAddress, timing: &Timing) -> Self {
        let authority = match &address {
            UpstreamAddress::Tcp(authority) => authority.clone(),
            UpstreamAddress::Unix(_) => Authority::from_static("localhost"),
        };
        Self {
            address: Arc::new(address),
            authority,
            connect_within: timing.upstream_connect,
            idle: IdleConnections::new(timing.upstream_idle),
        }
    }

    /// Returns the name of the upstream.
    pub(crate) const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Sends a request and returns the response when its head has arrived, within the limit if there is one.
    ///
    /// # Errors
    ///
    /// [`UpstreamError`] without a response.
    pub(crate) async fn send(
        &self,
        request: Request<MountBody>,
        within: Option<Duration>,
    ) -> Result<Response<UpstreamBody>, UpstreamError> {
        match within {
            Some(within) => {
                timeout(within, self.exchange(request)).await.map_err(|_| UpstreamError::TimedOut)?
            }
            None => self.exchange(request).await,
        }
    }

    async fn exchange(&self, request: Request<MountBody>) -> Result<Response<UpstreamBody>, UpstreamError> {
        let method = request.method().clone();
        let mut sending = Some(Sending::new(request));
        loop {
            let connection = self.connection().await?;
            let mut exchange = Exchange { connection, sending: sending.take(), send_error: None };
            match poll_fn(|cx| exchange.poll(cx, &method)).await? {
                ExchangeEnd::Answered(head) => {
                    exchange.wait_for_body(&head).await?;
                    return self.response(head, exchange);
                }
                ExchangeEnd::Unused => sending = exchange.sending,
            }
        }
    }

    async fn connection(&self) -> Result<UpstreamConnection, UpstreamError> {
        if let Some(connection) = self.idle.take() {
            return Ok(connection);
        }
        let connecting = timeout(self.connect_within, connect(&self.address));
        let connected = connecting.await.unwrap_or_else(|elapsed| Err(elapsed.into()));
        connected.map(UpstreamConnection::new).map_err(UpstreamError::Unreachable)
    }

    /// Returns the response. A request that is answered before all of it was sent is sent on by a task of its own.
    fn response(
        &self,
        head: ResponseHead,
        exchange: Exchange,
    ) -> Result<Response<UpstreamBody>, UpstreamError> {
        let Exchange { mut connection, sending, send_error } = exchange;
        let is_kept = head.is_kept && sending.is_none() && send_error.is_none();
        let sending = sending.and_then(|sending| {
            let task = tokio::spawn(sending.finish(connection.writer.take()?));
            Some(AbortOnDropHandle::new(task))
        });
        let idle = is_kept.then(|| self.idle.clone());
        let body = ArrivingResponse { connection, reader: BodyReader::new(head.body), idle, sending };
        let body = UpstreamBody::new(body).map_err(|error| UpstreamError::Broken(error.to_string()))?;
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        Ok(response)
    }
}

impl Exchange {
    /// Waits for the first bytes of a body whose length is known, so that a small response is one write to its client, and
    /// one without its body is none. Many upstreams send a head and its body separately.
    async fn wait_for_body(&mut self, head: &ResponseHead) -> Result<(), UpstreamError> {
        let follows = matches!(head.body, BodyEnd::Sized(1..));
        if !follows || self.sending.is_some() || !self.connection.input.filled().is_empty() {
            return Ok(());
        }
        poll_fn(|cx| self.poll_more(cx)).await
    }

    /// Reads further bytes of the response. Its end is an error.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        let reason = match ready!(self.connection.poll_input(cx)) {
            Ok(0) => self.send_error.take().unwrap_or_else(|| "it has closed the connection".to_owned()),
            Ok(_) => return Poll::Ready(Ok(())),
            Err(error) => error.to_string(),
        };
        Poll::Ready(Err(UpstreamError::Broken(reason)))
    }

    fn poll(&mut self, cx: &mut Context<'_>, method: &Method) -> Poll<Result<ExchangeEnd, UpstreamError>> {
        let broken = |text: String| Poll::Ready(Err(UpstreamError::Broken(text)));
        if let (Some(sending), Some(writer)) = (&mut self.sending, &mut self.connection.writer) {
            match sending.poll(cx, writer) {
                Poll::Ready(Ok(())) => self.sending = None,
                Poll::Ready(Err(SendError::Body(error))) => return broken(error.to_string()),
                Poll::Ready(Err(SendError::Socket(_))) if self.connection.is_used && !sending.has_begun => {
                    return Poll::Ready(Ok(ExchangeEnd::Unused));
                }
                Poll::Ready(Err(SendError::Socket(error))) => {
                    self.sending = None;
                    self.send_error = Some(error.to_string());
                }
                Poll::Pending => {}
            }
        }
        loop {
            match response_head::read(self.connection.input.filled(), method) {
                Ok(Some(head)) => {
                    self.connection.input.skip(head.length);
                    if !head.is_interim() {
                        return Poll::Ready(Ok(ExchangeEnd::Answered(head)));
                    }
                    continue;
                }
                Ok(None) => {}
                Err(error) => return broken(error.to_string()),
            }
            ready!(self.poll_more(cx))?;
        }
    }
}
