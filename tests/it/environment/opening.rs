//! Opens a page at a node: request, subprotocols, `hello`.

use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::page::{Closed, Page, Socket};
use super::{Node, SOON};

/// The reason why a page was rejected.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// An HTTP response instead of the upgrade.
    Http { status: u16, retry_after: Option<String> },
    /// A close frame instead of `registered`.
    Closed(Closed),
}

pub(crate) struct Opening {
    request: Request,
    hello: Value,
    receive_buffer: Option<u32>,
}

impl Opening {
    pub(super) fn at(node: &Node) -> Self {
        Self::at_url(&format!("ws://{}/_ws", node.address()))
    }

    pub(crate) fn at_url(url: &str) -> Self {
        let mut request = url.into_client_request().expect("a URL");
        let subprotocol = HeaderValue::from_static("pagewire.v1");
        request.headers_mut().insert("sec-websocket-protocol", subprotocol);
        Self { request, hello: json!({"type": "hello"}), receive_buffer: None }
    }

    /// Sets a member of `hello`.
    pub(crate) fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.hello[member] = value.into();
        self
    }

    /// Sets the user's token in `hello`.
    pub(crate) fn token(self, token: &str) -> Self {
        self.with("token", token)
    }

    /// Opens another page in the same session and connection.
    pub(crate) fn beside(self, page: &Page) -> Self {
        self.with("session_id", page.session()).same_browser(page)
    }

    /// Opens a page of another session in the same browser.
    pub(crate) fn same_browser(self, page: &Page) -> Self {
        let proof = json!({"token": page.token(), "seq": 0});
        self.with("connection_id", page.connection()).with("resume", proof)
    }

    /// Sets a header of the upgrade request.
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("a header");
        self.request.headers_mut().insert(HeaderName::from_static(name), value);
        self
    }

    /// Uses a small receive buffer, so that a client that does not read stalls its server soon.
    pub(crate) fn narrow(mut self) -> Self {
        self.receive_buffer = Some(4096);
        self
    }

    pub(crate) async fn open(self) -> Page {
        self.attempt().await.unwrap_or_else(|refusal| panic!("the page was refused: {refusal:?}"))
    }

    pub(crate) async fn try_open(self) -> Result<Page, Refusal> {
        self.attempt().await
    }

    pub(crate) async fn refusal(self) -> Refusal {
        match self.attempt().await {
            Ok(page) => panic!("the page was let in: {}", page.registered),
            Err(refusal) => refusal,
        }
    }

    /// Returns the close code that arrives instead of `registered`.
    pub(crate) async fn close_code(self) -> u16 {
        match self.refusal().await {
            Refusal::Closed(closed) => closed.code,
            Refusal::Http { status, .. } => panic!("refused before the upgrade: {status}"),
        }
    }

    async fn attempt(self) -> Result<Page, Refusal> {
        let hello = self.hello.to_string();
        let mut socket = self.upgrade().await?;
        socket.send_raw(Message::text(hello)).await;
        Page::registered(socket).await.map_err(Refusal::Closed)
    }

    /// Opens a socket without `hello`.
    pub(crate) async fn upgrade(self) -> Result<Socket, Refusal> {
        let socket = TcpSocket::new_v4().expect("a socket");
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes).expect("a smaller buffer");
        }
        let host = self.request.uri().authority().expect("a host").as_str();
        let stream = socket.connect(host.parse().expect("an address")).await.expect("a listening node");
        stream.set_nodelay(true).expect("a living stream");
        match timeout(SOON, client_async(self.request, stream)).await.expect("an upgrade in time") {
            Ok((stream, _)) => Ok(Socket::over(stream)),
            Err(Error::Http(response)) => {
                let retry_after = response.headers().get("retry-after");
                Err(Refusal::Http {
                    status: response.status().as_u16(),
                    retry_after: retry_after.map(|value| value.to_str().expect("ASCII").to_owned()),
                })
            }
            Err(error) => panic!("no upgrade: {error}"),
        }
    }
}

/// The stream below a [`Socket`].
pub(super) type Stream = WebSocketStream<tokio::net::TcpStream>;
