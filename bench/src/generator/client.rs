//! One page: a socket as cheap as a client that checks every frame can be.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use pagewire_cluster::id::Address;
use serde::Deserialize;
use tokio::net::{TcpSocket, TcpStream};

use super::counters::Counters;
use super::frame::{self, Frame};
use pagewire::protocol::SUBPROTOCOL;

/// Sockets from one source address; the system has about 28,000 ports for each address.
const SOCKETS_PER_ADDRESS: usize = 20_000;

/// An open page.
pub(super) struct Client {
    stream: TcpStream,
    page: Address,
    /// The beginning of an incomplete frame.
    partial: RefCell<Vec<u8>>,
    seq: Cell<u64>,
    acknowledged: Cell<u64>,
}

impl Client {
    /// Connects, upgrades and sends `hello`. Returns when the page is registered.
    pub(super) async fn open(index: usize, address: SocketAddr, token: &str) -> io::Result<Self> {
        let (stream, mut input) = upgrade(index, address).await?;
        let hello = serde_json::json!({"type": "hello", "token": token}).to_string();
        write(&stream, &frame::text(&hello))?;
        let page = registered(&stream, &mut input).await?;
        let (seq, acknowledged) = (Cell::new(0), Cell::new(0));
        Ok(Self { stream, page, partial: RefCell::new(input), seq, acknowledged })
    }

    /// Returns the page's address.
    pub(super) fn page(&self) -> Address {
        self.page
    }

    /// Sends a frame.
    pub(super) fn send(&self, json: &str) -> io::Result<()> {
        write(&self.stream, &frame::text(json))
    }

    /// Acknowledges all frames received so far.
    pub(super) fn acknowledge(&self) -> io::Result<()> {
        let seq = self.seq.get();
        self.acknowledged.set(seq);
        self.send(&format!(r#"{{"type":"ack","seq":{seq}}}"#))
    }

    /// Reads until the socket ends, which is an error. All clients share `buffer`, because none keeps bytes in it
    /// between frames.
    pub(super) async fn follow(
        &self,
        counters: &Counters,
        buffer: &RefCell<Vec<u8>>,
        ack_every: u64,
    ) -> io::Result<()> {
        loop {
            self.stream.readable().await?;
            let mut buffer = buffer.borrow_mut();
            match self.stream.try_read(&mut buffer) {
                Ok(0) => return Err(io::Error::other("a socket was closed")),
                Ok(length) => {
                    self.take(&buffer[..length], counters)?;
                    if self.seq.get() - self.acknowledged.get() >= ack_every {
                        self.acknowledge()?;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&self, bytes: &[u8], counters: &Counters) -> io::Result<()> {
        let mut partial = self.partial.borrow_mut();
        if partial.is_empty() {
            let rest = self.take_frames(bytes, counters)?;
            partial.extend_from_slice(rest);
        } else {
            partial.extend_from_slice(bytes);
            let rest = self.take_frames(&partial, counters)?.len();
            let taken = partial.len() - rest;
            partial.drain(..taken);
        }
        Ok(())
    }

    /// Consumes all complete frames. Returns the rest: the beginning of a frame.
    fn take_frames<'a>(&self, mut bytes: &'a [u8], counters: &Counters) -> io::Result<&'a [u8]> {
        while let Some((frame, rest)) = frame::first(bytes) {
            counters.bytes(bytes.len() - rest.len());
            bytes = rest;
            self.take_frame(frame, counters)?;
        }
        Ok(bytes)
    }

    fn take_frame(&self, frame: Frame<'_>, counters: &Counters) -> io::Result<()> {
        let payload = match frame {
            Frame::Text(payload) => payload,
            Frame::Ping => return write(&self.stream, &frame::PONG),
            Frame::Close(reason) => {
                return Err(io::Error::other(format!("closed: {}", String::from_utf8_lossy(reason))));
            }
            Frame::Other => return Ok(()),
        };
        // a frame without a number is no delivery
        let Some((seq, rest)) = frame::numbered(payload) else { return Ok(()) };
        if seq != self.seq.get() + 1 {
            return Err(io::Error::other(format!("frame {seq} after {}", self.seq.get())));
        }
        if rest.starts_with(br#""type":"error""#) {
            return Err(io::Error::other(String::from_utf8_lossy(payload).into_owned()));
        }
        self.seq.set(seq);
        // the result of the job follows, and is counted
        if !rest.starts_with(br#""type":"accepted""#) {
            counters.message(rest);
            counters.frame();
        }
        Ok(())
    }
}

/// Connects and upgrades. Returns the socket and the bytes that have arrived after the response.
pub(super) async fn upgrade(index: usize, address: SocketAddr) -> io::Result<(TcpStream, Vec<u8>)> {
    let socket = TcpSocket::new_v4()?;
    if index >= SOCKETS_PER_ADDRESS {
        let host = u8::try_from(index / SOCKETS_PER_ADDRESS).map_err(io::Error::other)?;
        socket.bind((Ipv4Addr::new(127, 0, 1, host), 0).into())?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    let request = format!(
        "GET /_ws HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
    );
    write(&stream, request.as_bytes())?;
    let mut input = Vec::new();
    let head = loop {
        if let Some(at) = input.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        read_more(&stream, &mut input).await?;
    };
    if !input.starts_with(b"HTTP/1.1 101") {
        let refusal = String::from_utf8_lossy(&input);
        return Err(io::Error::other(format!("not upgraded: {}", refusal.lines().next().unwrap_or(""))));
    }
    input.drain(..head);
    Ok((stream, input))
}

#[derive(Deserialize)]
struct Registered {
    page_id: Address,
}

async fn registered(stream: &TcpStream, input: &mut Vec<u8>) -> io::Result<Address> {
    loop {
        if let Some((frame, rest)) = frame::first(input) {
            let Frame::Text(payload) = frame else {
                return Err(io::Error::other(format!("not registered: {frame:?}")));
            };
            let registered: Registered = serde_json::from_slice(payload)?;
            let taken = input.len() - rest.len();
            input.drain(..taken);
            return Ok(registered.page_id);
        }
        read_more(stream, input).await?;
    }
}

pub(super) async fn read_more(stream: &TcpStream, input: &mut Vec<u8>) -> io::Result<()> {
    loop {
        stream.readable().await?;
        match stream.try_read_buf(input) {
            Ok(0) => return Err(io::Error::other("the server closed the connection")),
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes a client's frame. It is small and fits into the kernel's buffer, unless the server has stopped reading.
pub(super) fn write(stream: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    match stream.try_write(bytes)? {
        written if written == bytes.len() => Ok(()),
        _ => Err(io::Error::other("the server does not read")),
    }
}
