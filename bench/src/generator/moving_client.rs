//! A page that moves when its node asks for it, like the browser client.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use pagewire_cluster::id::Address;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_local};

use super::client::{read_more, upgrade, write};
use super::counters::Counters;
use super::frame::{self, Frame};

/// The ids of a page and the proof that it needs to resume.
#[derive(Debug, Clone, Deserialize)]
struct RegisteredPage {
    connection_id: String,
    session_id: String,
    page_id: Address,
    token: String,
    recovered: String,
}

#[derive(Deserialize)]
struct Move {
    url: String,
    retry_after_ms: u64,
}

/// A socket and the bytes that it has received.
struct FrameSocket {
    stream: TcpStream,
    input: Vec<u8>,
}

impl FrameSocket {
    async fn open(index: usize, address: SocketAddr) -> io::Result<Self> {
        let (stream, input) = upgrade(index, address).await?;
        Ok(Self { stream, input })
    }

    fn hello(&self, hello: &serde_json::Value) -> io::Result<()> {
        write(&self.stream, &frame::text(&hello.to_string()))
    }

    /// Returns the next text. A call that is dropped loses nothing.
    async fn next(&mut self, counters: &Counters) -> io::Result<Vec<u8>> {
        loop {
            if let Some((first, rest)) = frame::first(&self.input) {
                let taken = self.input.len() - rest.len();
                let text = match first {
                    Frame::Text(text) => Some(text.to_vec()),
                    Frame::Ping => {
                        write(&self.stream, &frame::PONG)?;
                        None
                    }
                    Frame::Close(reason) => {
                        let reason = String::from_utf8_lossy(reason);
                        return Err(io::Error::other(format!("closed: {reason}")));
                    }
                    Frame::Other => None,
                };
                self.input.drain(..taken);
                counters.bytes(taken);
                if let Some(text) = text {
                    return Ok(text);
                }
                continue;
            }
            read_more(&self.stream, &mut self.input).await?;
        }
    }
}

/// An open page that moves.
pub(super) struct MovingClient {
    index: usize,
    socket: FrameSocket,
    token: String,
    registered: RegisteredPage,
    seq: u64,
}

impl MovingClient {
    pub(super) async fn open(index: usize, address: SocketAddr, token: String) -> io::Result<Self> {
        let mut socket = FrameSocket::open(index, address).await?;
        socket.hello(&json!({"type": "hello", "token": token, "features": ["move"], "stay": true}))?;
        let text = socket.next(&Counters::default()).await?;
        let registered = serde_json::from_slice(&text)?;
        Ok(Self { index, socket, token, registered, seq: 0 })
    }

    pub(super) fn page(&self) -> Address {
        self.registered.page_id
    }

    /// Reads and moves until a socket fails, which is an error.
    pub(super) async fn follow(mut self, counters: Rc<Counters>) -> io::Result<()> {
        let mut opening: Option<JoinHandle<io::Result<FrameSocket>>> = None;
        loop {
            let text = match &mut opening {
                None => self.socket.next(&counters).await?,
                Some(second) => tokio::select! {
                    text = self.socket.next(&counters) => text?,
                    opened = second => {
                        self.change_socket(opened.map_err(io::Error::other)??, &counters).await?;
                        opening = None;
                        continue;
                    }
                },
            };
            if text.starts_with(br#"{"type":"move""#) {
                let Move { url, retry_after_ms } = serde_json::from_slice(&text)?;
                let address = url.strip_prefix("ws://").and_then(|rest| rest.split('/').next());
                let address: SocketAddr = address.unwrap_or_default().parse().map_err(io::Error::other)?;
                let index = self.index;
                opening = Some(spawn_local(async move {
                    tokio::time::sleep(Duration::from_millis(retry_after_ms)).await;
                    FrameSocket::open(index, address).await
                }));
            } else {
                self.take(&text, &counters)?;
            }
        }
    }

    fn take(&mut self, text: &[u8], counters: &Counters) -> io::Result<()> {
        let Some((seq, rest)) = frame::numbered(text) else { return Ok(()) };
        if seq > self.seq + 1 {
            return Err(io::Error::other(format!("frame {seq} after {}", self.seq)));
        }
        if seq == self.seq + 1 {
            self.seq = seq;
            counters.message(rest);
            counters.frame();
        }
        Ok(())
    }

    /// Resumes on a second socket, and takes frames from the first one until the second one is registered. That time is an
    /// upper bound of the gap in which the page has no node.
    async fn change_socket(&mut self, mut second: FrameSocket, counters: &Counters) -> io::Result<()> {
        let RegisteredPage { connection_id, session_id, page_id, token, .. } = &self.registered;
        second.hello(&json!({
            "type": "hello", "token": self.token, "features": ["move"], "stay": true,
            "connection_id": connection_id, "session_id": session_id, "page_id": page_id,
            "resume": {"token": token, "seq": self.seq},
        }))?;
        let asked = Instant::now();
        let mut first_is_open = true;
        let registered = loop {
            tokio::select! {
                text = second.next(counters) => break text?,
                text = self.socket.next(counters), if first_is_open => match text {
                    Ok(text) => self.take(&text, counters)?,
                    // the page has left the node of the first socket
                    Err(_) => first_is_open = false,
                },
            }
        };
        self.registered = serde_json::from_slice(&registered)?;
        if self.registered.recovered != "recovered" {
            return Err(io::Error::other(format!(
                "the page was not recovered: {}",
                self.registered.recovered
            )));
        }
        self.socket = second;
        counters.moved(asked.elapsed());
        Ok(())
    }
}
