//! The WebSocket of a page of a Genropy site, as the framework's client uses it.

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::{Node, SOON};

/// A connection of a site.
pub(crate) const CONNECTION: &str = "Abcdefghij_klmnopqrst1";
/// What the framework has in its cookie for this connection.
pub(crate) const COOKIE: &str = "shop=c2lnbmF0dXJl?connection_id=+hZBYmNkZWZnaGlqX2tsbW5vcHFyc3Qx&user=TgA";

/// The socket of a page.
pub(crate) struct SiteSocket(WebSocketStream<TcpStream>);

impl SiteSocket {
    /// Opens a socket with a header; the status of the refusal if there is none.
    pub(crate) async fn open(node: &Node, header: (&'static str, &str)) -> Result<Self, u16> {
        let mut request = format!("ws://{}/websocket", node.address()).into_client_request().expect("a URL");
        request.headers_mut().insert(header.0, header.1.parse().expect("a value"));
        let stream = TcpStream::connect(node.address()).await.expect("a listening node");
        match client_async(request, stream).await {
            Ok((stream, _)) => Ok(Self(stream)),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("no upgrade: {error}"),
        }
    }

    /// Opens the socket of the page.
    pub(crate) async fn of_page(node: &Node, page: &str, cookie: &str) -> Self {
        let mut socket = Self::open(node, ("cookie", cookie)).await.expect("a socket");
        socket.send(&format!(r#"{{"command":"connected","page_id":"{page}"}}"#)).await;
        socket
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.expect("an open socket");
    }

    /// Returns the next text, or the code of the close.
    pub(crate) async fn next(&mut self) -> Result<String, u16> {
        let read = async {
            loop {
                match self.0.next().await.expect("a close frame").expect("a frame") {
                    Message::Text(text) => return Ok(text.to_string()),
                    Message::Close(frame) => return Err(frame.expect("a code").code.into()),
                    _ => {}
                }
            }
        };
        timeout(SOON, read).await.expect("a frame in time")
    }

    /// Closes the socket, and returns when the node has closed it too.
    pub(crate) async fn close(mut self) {
        self.0.close(None).await.expect("an open socket");
        let rest = async { while self.0.next().await.is_some_and(|frame| frame.is_ok()) {} };
        timeout(SOON, rest).await.expect("the end of the socket");
    }

    /// Sends a ping as the framework does. Nothing else has come before its answer.
    pub(crate) async fn has_nothing_to_read(&mut self) {
        self.send(r#"{"command":"ping","lastEventAge":5}"#).await;
        assert_eq!(self.next().await.as_deref(), Ok("pong"));
    }
}
