//! A page: one tab of a browser with its WebSocket, its memory of what it saw, and its way back.

use std::collections::VecDeque;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::opening::{Opening, Stream};
use super::{Node, SOON};

/// How a socket ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closed {
    /// 1006 when the stream ended without a closing frame.
    pub(crate) code: u16,
    pub(crate) reason: Value,
}

/// A WebSocket below the protocol.
pub(crate) struct Socket {
    stream: Stream,
}

impl Socket {
    pub(super) fn over(stream: Stream) -> Self {
        Self { stream }
    }

    pub(crate) async fn send_raw(&mut self, message: Message) {
        // a server that has closed meanwhile is seen when reading
        let _ = self.stream.send(message).await;
    }

    /// The next frame, or how the socket ended.
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
    /// The last `seq` seen.
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

    /// What resuming needs.
    pub(crate) fn token(&self) -> &str {
        self.member("token")
    }

    pub(crate) fn node(&self) -> &str {
        self.member("node")
    }

    /// `new`, `recovered` or `reset`.
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

    /// Sends a frame with an id and returns its one terminal frame; what comes before it stays to be read.
    pub(crate) async fn ask(&mut self, mut frame: Value) -> Value {
        self.next_id += 1;
        let id = format!("ask-{}", self.next_id);
        frame["id"] = json!(id);
        self.send(frame).await;
        loop {
            let answer = self.receive().await;
            if answer["id"] == json!(id) {
                return answer;
            }
            self.early.push_back(answer);
        }
    }

    /// The value of a `result`.
    pub(crate) async fn result(&mut self, frame: Value) -> Value {
        let answer = self.ask(frame).await;
        assert_eq!(answer["type"], "result", "{answer}");
        answer["value"].clone()
    }

    /// A `result` that has nothing to say.
    pub(crate) async fn result_without_value(&mut self, frame: Value) {
        let answer = self.ask(frame).await;
        assert_eq!((&answer["type"], answer.get("value")), (&json!("result"), None), "{answer}");
    }

    /// The code of an `error`.
    pub(crate) async fn error(&mut self, frame: Value) -> String {
        let answer = self.ask(frame).await;
        assert_eq!(answer["type"], "error", "{answer}");
        answer["code"].as_str().expect("a code").to_owned()
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

    /// The payload of the next frame, which is a message.
    pub(crate) async fn message(&mut self) -> Value {
        self.expect("message").await["payload"].clone()
    }

    /// Whether the `result` of that id is among the frames that wait to be read.
    pub(crate) fn has_ended(&self, id: u64) -> bool {
        self.early.iter().any(|frame| frame["type"] == "result" && frame["id"] == json!(id))
    }

    /// Whatever was sent before this has arrived, and there was nothing.
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

    /// The next frame from the socket, or how that ended.
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

    /// How the server ends this socket; frames before that are skipped.
    pub(crate) async fn closed(&mut self) -> Closed {
        self.socket.closed().await
    }

    /// How the server ends this socket, which until then gets no message.
    pub(crate) async fn closed_without_message(&mut self) -> Closed {
        loop {
            match self.socket.next().await {
                Ok(frame) => assert_ne!(frame["type"], "message", "{frame}"),
                Err(closed) => return closed,
            }
        }
    }

    /// The stream ends without a closing frame, as when a cable is cut.
    pub(crate) fn lose_socket(self) -> Away {
        let away = Away { registered: self.registered.clone(), seen: self.seen };
        drop(self.socket.stream.into_inner());
        away
    }

    /// What this page would need to come back, while it is still here.
    pub(crate) fn memory(&self) -> Away {
        Away { registered: self.registered.clone(), seen: self.seen }
    }

    /// It keeps its socket and no longer answers anything, pings included.
    pub(crate) fn fall_silent(self) -> Silent {
        Silent { stream: self.socket.stream.into_inner() }
    }
}

/// A page without its socket.
#[derive(Clone)]
pub(crate) struct Away {
    pub(crate) registered: Value,
    pub(crate) seen: u64,
}

impl Away {
    pub(crate) fn session(&self) -> &str {
        self.registered["session_id"].as_str().expect("a session")
    }

    /// The node that it was at.
    pub(crate) fn node(&self) -> &str {
        self.registered["node"].as_str().expect("a node")
    }

    /// Comes back with everything it knows.
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

/// A socket whose program has hung.
pub(crate) struct Silent {
    stream: TcpStream,
}

impl Silent {
    /// The close code in what the server has sent until the stream ended.
    pub(crate) async fn close_code(mut self) -> Option<u16> {
        let mut bytes = Vec::new();
        // a reset after the closing frame takes nothing away from what was read
        let _ = timeout(SOON, self.stream.read_to_end(&mut bytes)).await.expect("the stream ends in time");
        close_code(&bytes)
    }
}

/// Walks the unmasked frames of a server until its closing frame.
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
