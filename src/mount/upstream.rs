//! The connections to an upstream.
//!
//! Owns: how an upstream is reached, and how long it may take. Never: which request it gets (`forward`).
//!
//! A connection whose request was given up or ran out of time is closed, so no later request can get its answer. A request
//! is sent once: only one that no byte of was written goes to another connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pagewire_cluster::timing::Timing;
use pagewire_worker::runtime::child::http_lease::NoProcess;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_util::either::Either;

use super::body::MountBody;
use crate::config::UpstreamAddress;

/// Why an upstream has not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// It cannot be connected: it has not received the request.
    #[error("the upstream cannot be reached: {0}")]
    Unreachable(String),
    /// It took too long.
    #[error("the upstream has not answered in time")]
    TimedOut,
    /// No process of the application serves it: it has not received the request.
    #[error("{0}")]
    NoProcess(NoProcess),
    /// The connection ended before the answer, or the body of the request did.
    #[error("the upstream has not answered: {0}")]
    Broken(String),
}

impl UpstreamError {
    /// Returns the status for a client.
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            Self::NoProcess(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unreachable(_) | Self::Broken(_) => StatusCode::BAD_GATEWAY,
        }
    }
}

/// The connections to one upstream. Cheap to clone.
#[derive(Clone)]
pub(crate) struct UpstreamClient {
    client: Client<Connector, MountBody>,
    authority: Authority,
}

impl UpstreamClient {
    /// Creates a client without connections.
    pub(crate) fn new(address: UpstreamAddress, timing: &Timing) -> Self {
        let authority = match &address {
            UpstreamAddress::Tcp(authority) => authority.clone(),
            UpstreamAddress::Unix(_) => Authority::from_static("localhost"),
        };
        let connector = Connector { address, within: timing.upstream_connect };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(timing.upstream_idle)
            .set_host(false)
            .build(connector);
        Self { client, authority }
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
        mut request: Request<MountBody>,
        within: Option<Duration>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        *request.uri_mut() = self.absolute(request.uri().path_and_query());
        let sending = self.client.request(request);
        let response = match within {
            Some(within) => timeout(within, sending).await.map_err(|_| UpstreamError::TimedOut)?,
            None => sending.await,
        };
        response.map_err(|error| match error.is_connect() {
            true => UpstreamError::Unreachable(causes(&error)),
            false => UpstreamError::Broken(causes(&error)),
        })
    }

    fn absolute(&self, path: Option<&PathAndQuery>) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path.cloned().unwrap_or_else(|| PathAndQuery::from_static("/")));
        // the three parts are complete, so this is never the default
        Uri::from_parts(parts).unwrap_or_default()
    }
}

/// Returns an error with its causes.
fn causes(error: &dyn std::error::Error) -> String {
    let texts = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    texts.collect::<Vec<_>>().join(": ")
}

/// Connects to one upstream, whatever the URI of a request is.
#[derive(Clone)]
struct Connector {
    address: UpstreamAddress,
    within: Duration,
}

impl Connector {
    async fn connect(self) -> io::Result<UpstreamStream> {
        let connecting = async {
            Ok(match &self.address {
                UpstreamAddress::Tcp(authority) => {
                    let port = authority.port_u16().unwrap_or(80);
                    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
                    let stream = TcpStream::connect((host, port)).await?;
                    stream.set_nodelay(true)?;
                    Either::Left(stream)
                }
                UpstreamAddress::Unix(path) => Either::Right(UnixStream::connect(path).await?),
            })
        };
        let stream: io::Result<_> = timeout(self.within, connecting).await?;
        Ok(UpstreamStream(TokioIo::new(stream?)))
    }
}

impl tower::Service<Uri> for Connector {
    type Response = UpstreamStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<UpstreamStream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}

/// A connection to an upstream.
struct UpstreamStream(TokioIo<Either<TcpStream, UnixStream>>);

impl Connection for UpstreamStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for UpstreamStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl Write for UpstreamStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
