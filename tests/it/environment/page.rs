//! A page: one browser tab with its WebSocket, its resume state, and the ways to lose the socket and resume.

use std::collections::VecDeque;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::opening::{Opening, Stream};
use super::{Node, SOON};

/// The end of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closed {
    /// The close code; 1006 if the stream ended without a close frame.
    pub(crate) code: u16,
    pub(crate) reason: Value,
}

/// A WebSocket without the protocol on top.
pub(crate) struct Socket {
    stream: Stream,
}

impl Socket {
    pub(super) fn over(stream: Stream) -> Self {
        Self { stream }
    }

    pub(crate) async fn send_raw(&mut self, message: Message) {
        // a closed connection is noticed when reading
        let _ = self.stream.send(message).await;
    }

    /// Returns the next frame, or how the socket ended.
    pub(crate) async fn next(&mut self) -> Result<Value, Closed> {
        loop {
            let message = timeout(SOON, self.stream.next()).await.expect("a frame in time");
            match message {
                Some(Ok(Message::Text(text))) => {
                    return Ok(serde_json::from_str(&text).expect("frames are JSON"));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(Some(frame)))) => {
                    let reason = serde_json::from_str(&frame.reason).unwrap_or(Value::Null);
                    return Err(Closed { code: frame.code.into(), reason });
                }
                None | Some(Ok(Message::Close(None)) | Err(Error::Io(_) | Error::Protocol(_))) => {
                    return Err(Closed { code: 1006, reason: Value::Null });
                }
                other => panic!("not a frame of this protocol: {other:?}"),
            }
        }
    }

    pub(crate) async fn closed(&mut self) -> Closed {
        loop {
            if let Err(closed) = self.next().await {
                return closed;
            }
        }
    }
}

/// A registered page.
pub(crate) struct Page {
    socket: Socket,
    pub(crate) registered: Value,
    /// The last `seq` received.
    pub(crate) seen: u64,
    early: VecDeque<Value>,
    next_id: u64,
}

impl Page {
    pub(crate) async fn open(node: &Node) -> Self {
        Self::opening(node).open().await
    }

    pub(crate) fn opening(node: &Node) -> Opening {
        Opening::at(node)
    }

    pub(super) async fn registered(mut socket: Socket) -> Result<Self, Closed> {
        let registered = socket.next().await?;
        assert_eq!(registered["type"], "registered", "the first frame: {registered}");
        let seen = registered["seq"].as_u64().expect("a seq");
        Ok(Self { socket, registered, seen, early: VecDeque::new(), next_id: 0 })
    }

    pub(crate) fn id(&self) -> &str {
        self.member("page_id")
    }

    pub(crate) fn session(&self) -> &str {
        self.member("session_id")
    }

    pub(crate) fn connection(&self) -> &str {
        self.member("connection_id")
    }

    /// Returns the token that resuming needs.
    pub(crate) fn token(&self) -> &str {
        self.member("token")
    }

    pub(crate) fn node(&self) -> &str {
        self.member("node")
    }

    /// Returns `new`, `recovered` or `reset`.
    pub(crate) fn recovered(&self) -> &str {
        self.member("recovered")
    }

    fn member(&self, name: &str) -> &str {
        self.registered[name].as_str().unwrap_or_else(|| panic!("no {name} in {}", self.registered))
    }

    pub(crate) async fn send(&mut self, frame: Value) {
        self.send_text(&frame.to_string()).await;
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.socket.send_raw(Message::text(text)).await;
    }

    /// Sends a frame with an id and returns its terminal frame. Frames that arrive before it can still be read.
    pub(crate) async fn request(&mut self, mut frame: Value) -> Value {
        self.next_id += 1;
        let id = format!("ask-{}", self.next_id);
        frame["id"] = json!(id);
        self.send(frame).await;
        loop {
            let response = self.receive().await;
            if response["id"] == json!(id) {
                return response;
            }
            self.early.push_back(response);
        }
    }

    /// Sends a frame and returns the value of its `result`.
    pub(crate) async fn result(&mut self, frame: Value) -> Value {
        let response = self.request(frame).await;
        assert_eq!(response["type"], "result", "{response}");
        response["value"].clone()
    }

    /// Sends a frame and expects a `result` without a value.
    pub(crate) async fn result_without_value(&mut self, frame: Value) {
        let response = self.request(frame).await;
        assert_eq!((&response["type"], response.get("value")), (&json!("result"), None), "{response}");
    }

    /// Sends a frame and returns the code of its `error`.
    pub(crate) async fn error(&mut self, frame: Value) -> String {
        let response = self.request(frame).await;
        assert_eq!(response["type"], "error", "{response}");
        response["code"].as_str().expect("a code").to_owned()
    }

    pub(crate) async fn next(&mut self) -> Value {
        match self.early.pop_front() {
            Some(frame) => frame,
            None => self.receive().await,
        }
    }

    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        let frame = self.next().await;
        assert_eq!(frame["type"], kind, "{frame}");
        frame
    }

    /// Returns the payload of the next frame, which must be a message.
    pub(crate) async fn message(&mut self) -> Value {
        self.expect("message").await["payload"].clone()
    }

    /// Returns whether the `result` of that id is among the buffered frames.
    pub(crate) fn has_ended(&self, id: u64) -> bool {
        self.early.iter().any(|frame| frame["type"] == "result" && frame["id"] == json!(id))
    }

    /// Checks that no frame is left to read, once everything sent before has arrived.
    pub(crate) async fn has_nothing_to_read(&mut self) {
        self.send(json!({"type": "ping"})).await;
        self.expect("pong").await;
    }

    async fn receive(&mut self) -> Value {
        match self.next_or_end().await {
            Ok(frame) => frame,
            Err(closed) => panic!("the socket of {} was closed: {closed:?}", self.id()),
        }
    }

    /// Returns the next frame from the socket, or how the socket ended.
    pub(crate) async fn next_or_end(&mut self) -> Result<Value, Closed> {
        let frame = self.socket.next().await?;
        if let Some(seq) = frame["seq"].as_u64() {
            assert_eq!(seq, self.seen + 1, "seq never skips and never repeats: {frame}");
            self.seen = seq;
        }
        Ok(frame)
    }

    pub(crate) async fn ack(&mut self) {
        let seq = self.seen;
        self.send(json!({"type": "ack", "seq": seq})).await;
    }

    /// Returns how the server closes this socket; skips the frames before.
    pub(crate) async fn closed(&mut self) -> Closed {
        self.socket.closed().await
    }

    /// Returns how the server closes this socket; panics if a message arrives before.
    pub(crate) async fn closed_without_message(&mut self) -> Closed {
        loop {
            match self.socket.next().await {
                Ok(frame) => assert_ne!(frame["type"], "message", "{frame}"),
                Err(closed) => return closed,
            }
        }
    }

    /// Ends the stream without a close frame, like a cut cable.
    pub(crate) fn lose_socket(self) -> Away {
        let away = Away { registered: self.registered.clone(), seen: self.seen };
        drop(self.socket.stream.into_inner());
        away
    }

    /// Returns the state with which this page could resume, while it is still open.
    pub(crate) fn memory(&self) -> Away {
        Away { registered: self.registered.clone(), seen: self.seen }
    }

    /// Keeps the socket open but stops reading and replying, pings included.
    pub(crate) fn fall_silent(self) -> Silent {
        Silent { stream: self.socket.stream.into_inner() }
    }
}

/// A page without a socket.
#[derive(Clone)]
pub(crate) struct Away {
    pub(crate) registered: Value,
    pub(crate) seen: u64,
}

impl Away {
    pub(crate) fn id(&self) -> &str {
        self.registered["page_id"].as_str().expect("a page")
    }

    pub(crate) fn session(&self) -> &str {
        self.registered["session_id"].as_str().expect("a session")
    }

    /// Returns the node that the page was at.
    pub(crate) fn node(&self) -> &str {
        self.registered["node"].as_str().expect("a node")
    }

    /// Prepares to resume with everything the page has received.
    pub(crate) fn resuming(&self, node: &Node) -> Opening {
        let known = &self.registered;
        Page::opening(node)
            .with("connection_id", known["connection_id"].clone())
            .with("session_id", known["session_id"].clone())
            .with("page_id", known["page_id"].clone())
            .with("resume", json!({"token": known["token"], "seq": self.seen}))
    }

    pub(crate) async fn resume(&self, node: &Node) -> Page {
        self.resuming(node).open().await
    }
}

/// A socket of a program that hangs.
pub(crate) struct Silent {
    stream: TcpStream,
}

impl Silent {
    /// Returns the close code among the bytes that the server has sent before the stream ended.
    pub(crate) async fn close_code(mut self) -> Option<u16> {
        let mut bytes = Vec::new();
        // a reset after the close frame does not discard the bytes read before
        let _ = timeout(SOON, self.stream.read_to_end(&mut bytes)).await.expect("the stream ends in time");
        close_code(&bytes)
    }
}

/// Finds the server's close frame behind its other unmasked frames.
fn close_code(mut bytes: &[u8]) -> Option<u16> {
    loop {
        let (&[first, second], rest) = bytes.split_first_chunk()?;
        let (length, rest) = match second {
            126 => {
                let (length, rest) = rest.split_first_chunk()?;
                (usize::from(u16::from_be_bytes(*length)), rest)
            }
            127 => return None,
            short => (usize::from(short), rest),
        };
        let payload = rest.get(..length)?;
        if first & 0x0f == 0x8 {
            return payload.first_chunk().map(|code| u16::from_be_bytes(*code));
        }
        bytes = &rest[length..];
    }
}
