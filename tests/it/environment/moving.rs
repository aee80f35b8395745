//! A page whose client knows `move`: it opens a second socket, resumes there, and leaves the first one.
//!
//! Owns: the numbers of frames in both directions over any number of sockets. A frame that is missing, doubled or out of
//! order ends the test.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::{JoinHandle, unconstrained};
use tokio_tungstenite::tungstenite::Message;

use super::opening::Opening;
use super::page::{Closed, Socket};
use super::{Node, Refusal};

/// A page that moves when its server asks for it.
pub(crate) struct MovingPage {
    socket: Box<Socket>,
    pub(crate) registered: Value,
    token: Option<String>,
    /// The last `seq` received.
    seen: u64,
    /// Counted frames, and how many of them the server had processed at the last `registered`.
    sent: Vec<String>,
    /// How many `registered` frames it has received.
    pub(crate) sockets: usize,
    /// The outcome of each move.
    pub(crate) recovered: Vec<String>,
    second: Option<Second>,
}

impl MovingPage {
    pub(crate) async fn open(node: &Node, token: Option<&str>) -> Self {
        let token = token.map(str::to_owned);
        let url = format!("ws://{}/_ws", node.address());
        let hello = json!({"type": "hello", "features": ["move"], "token": token});
        let mut socket = Box::new(Opening::at_url(&url).upgrade().await.expect("an upgrade"));
        socket.send_raw(Message::text(hello.to_string())).await;
        let mut first = socket.next().await.expect("a frame");
        if first["type"] == "move" {
            let hello = json!({"type": "hello", "features": ["move"], "token": token, "stay": true});
            socket = connect(first).await.expect("the node of its lane");
            socket.send_raw(Message::text(hello.to_string())).await;
            first = socket.next().await.expect("a frame");
        }
        assert_eq!(first["type"], "registered", "{first}");
        Self {
            socket,
            registered: first,
            token,
            seen: 0,
            sent: Vec::new(),
            sockets: 1,
            recovered: Vec::new(),
            second: None,
        }
    }

    fn member(&self, name: &str) -> &str {
        self.registered[name].as_str().unwrap_or_else(|| panic!("no {name} in {}", self.registered))
    }

    pub(crate) fn id(&self) -> &str {
        self.member("page_id")
    }

    pub(crate) fn lane(&self) -> &str {
        self.member("lane")
    }

    /// Closes the page, as a browser does when its tab is closed.
    pub(crate) async fn leave(mut self) {
        self.socket.send_raw(Message::Close(None)).await;
        self.socket.closed().await;
    }

    /// Sends a frame that the server counts.
    pub(crate) async fn send(&mut self, frame: Value) {
        self.sent.push(frame.to_string());
        self.socket.send_raw(Message::text(frame.to_string())).await;
    }

    /// Returns the next numbered frame, or how the socket ended. Moves when the server asks for it. A call that is
    /// dropped loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Value, Closed> {
        loop {
            let event = match &mut self.second {
                None => Event::First(self.socket.next().await),
                Some(Second::Opening(opening)) => tokio::select! {
                    frame = self.socket.next() => Event::First(frame),
                    opened = opening => Event::Opened(opened.expect("no panic")),
                },
                Some(Second::Asked { socket, alone: false }) => tokio::select! {
                    frame = self.socket.next() => Event::First(frame),
                    frame = socket.next() => Event::Second(frame),
                },
                Some(Second::Asked { socket, alone: true }) => Event::Second(socket.next().await),
            };
            match event {
                Event::First(Ok(frame)) if frame["type"] == "move" => {
                    self.second = Some(Second::Opening(tokio::spawn(connect(frame))));
                }
                Event::First(Ok(frame)) => {
                    if self.is_new(&frame) {
                        return Ok(frame);
                    }
                }
                Event::First(Err(closed)) => match &mut self.second {
                    // the page may have left
                    Some(Second::Asked { alone, .. }) => *alone = true,
                    _ => return Err(closed),
                },
                Event::Opened(Ok(socket)) => self.ask(socket).await,
                Event::Opened(Err(refused)) => panic!("no second socket: {refused:?}"),
                Event::Second(registered) => self.take_over(registered?).await,
            }
        }
    }

    /// Whether a frame has the next number; `false` for one that has arrived before.
    fn is_new(&mut self, frame: &Value) -> bool {
        let Some(seq) = frame["seq"].as_u64() else { return false };
        assert!(seq <= self.seen + 1, "a gap after {}: {frame}", self.seen);
        let is_new = seq == self.seen + 1;
        self.seen = self.seen.max(seq);
        is_new
    }

    /// Asks for the page at a second socket.
    async fn ask(&mut self, mut socket: Box<Socket>) {
        let known = &self.registered;
        let hello = json!({
            "type": "hello", "features": ["move"], "stay": true, "token": self.token,
            "connection_id": known["connection_id"], "session_id": known["session_id"],
            "page_id": known["page_id"], "resume": {"token": known["token"], "seq": self.seen},
        });
        write(&mut socket, hello.to_string()).await;
        self.second = Some(Second::Asked { socket, alone: false });
    }

    /// Goes on with the second socket, which has the page.
    async fn take_over(&mut self, registered: Value) {
        assert_eq!(registered["type"], "registered", "{registered}");
        let Some(Second::Asked { socket, .. }) = self.second.take() else { panic!("it was asked") };
        self.socket = socket;
        self.recovered.push(registered["recovered"].as_str().expect("an outcome").to_owned());
        let received = registered["received"].as_u64().expect("a count") as usize;
        self.sockets += 1;
        self.registered = registered;
        for text in &self.sent[received..] {
            write(&mut self.socket, text.clone()).await;
        }
    }
}

/// A second socket.
enum Second {
    /// It is not open yet.
    Opening(JoinHandle<Result<Box<Socket>, Refusal>>),
    /// It has sent `hello`. `alone`: the first socket has ended since.
    Asked { socket: Box<Socket>, alone: bool },
}

enum Event {
    First(Result<Value, Closed>),
    Opened(Result<Box<Socket>, Refusal>),
    Second(Result<Value, Closed>),
}

/// Writes a frame at once: the budget of the task does not suspend it, so that a caller that is dropped has written it.
async fn write(socket: &mut Socket, text: String) {
    unconstrained(socket.send_raw(Message::text(text))).await;
}

async fn connect(frame: Value) -> Result<Box<Socket>, Refusal> {
    let delay = frame["retry_after_ms"].as_u64().expect("a delay");
    tokio::time::sleep(Duration::from_millis(delay)).await;
    Opening::at_url(frame["url"].as_str().expect("an address")).upgrade().await.map(Box::new)
}
