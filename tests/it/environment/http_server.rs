//! An HTTP server that a test plays: the backend of a user, or a collector of traces.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::TokioIo;
use reqwest::StatusCode;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A request with its whole body.
pub(crate) struct ReceivedRequest {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl ReceivedRequest {
    /// Returns a header as text; empty without it.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A running server. Ends with its test.
pub(crate) struct HttpServer {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl HttpServer {
    /// Starts a server that answers each request with the result of `respond`.
    pub(crate) async fn start<F>(respond: impl Fn(ReceivedRequest) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = (StatusCode, Vec<u8>)> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("an address");
        let address = listener.local_addr().expect("an address");
        let respond = Arc::new(respond);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let respond = respond.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let respond = respond.clone();
                    async move { Ok::<_, Infallible>(answer(request, &*respond).await) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn answer<F>(
    request: Request<Incoming>,
    respond: &impl Fn(ReceivedRequest) -> F,
) -> Response<Full<Bytes>>
where
    F: Future<Output = (StatusCode, Vec<u8>)>,
{
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let (path, query) = (head.uri.path().to_owned(), head.uri.query().unwrap_or_default().to_owned());
    let received = ReceivedRequest { method: head.method, path, query, headers: head.headers, body };
    let (status, body) = respond(received).await;
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
