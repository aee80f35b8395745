//! The bare writer: the cost of fan-out when only the kernel is involved.
//!
//! After a WebSocket handshake it writes, on each request, prepared bytes to one socket after the other: the frames
//! that a node would send, concatenated, one write per socket. It keeps no messages and reads only on request.

use std::io::{self, BufRead, Read, Write};
use std::net::{TcpListener, TcpStream};

use pagewire_cluster::id::{Address, Key, NodeNumber};

use pagewire::edge::handshake::accept;
use pagewire::edge::websocket::writer::text;
use pagewire::protocol::SUBPROTOCOL;

use crate::helper_protocol::{HelperRequest, HelperResponse};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Number of sockets to wait for.
    #[arg(long)]
    pages: usize,
    /// Payload of every frame.
    #[arg(long)]
    payload: String,
}

/// Accepts the sockets, then writes on request until its standard input ends.
pub(crate) fn run(options: &Options) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    HelperResponse::Listening { address: listener.local_addr()? }.send()?;
    let mut sockets = Vec::with_capacity(options.pages);
    while sockets.len() < options.pages {
        sockets.push(accept_socket(listener.accept()?.0)?);
    }
    let tail = format!(r#""type":"message","payload":{}}}"#, options.payload);
    let mut seq = 0u64;
    for line in io::stdin().lock().lines() {
        match serde_json::from_str(&line?)? {
            HelperRequest::Write { messages } => {
                let frames = frames(&mut seq, messages, &tail);
                sockets.iter_mut().try_for_each(|socket| socket.write_all(&frames))?;
            }
            HelperRequest::Read => {
                sockets.iter_mut().try_for_each(|socket| socket.read(&mut [0; 4096]).map(|_| ()))?;
            }
            _ => return Err(io::Error::other("this is for the clients")),
        }
        HelperResponse::Done.send()?;
    }
    Ok(())
}

/// Returns the next frames of every page. All pages have the same sequence.
fn frames(seq: &mut u64, messages: u64, tail: &str) -> Vec<u8> {
    let mut frames = Vec::new();
    for _ in 0..messages {
        *seq += 1;
        text(&mut frames, &[format!(r#"{{"seq":{seq},"#).as_bytes(), tail.as_bytes()]);
    }
    frames
}

fn accept_socket(mut socket: TcpStream) -> io::Result<TcpStream> {
    socket.set_nodelay(true)?;
    let head = read_head(&mut socket)?;
    let key = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"))
        .ok_or_else(|| io::Error::other("a client without a key"))?
        .1;
    let accept = accept(key.as_bytes());
    write!(
        socket,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
    )?;
    // the content of `hello` does not matter
    let _ = socket.read(&mut [0; 4096])?;
    let Some(node) = NodeNumber::new(1) else { return Err(io::Error::other("1 is a node number")) };
    let page = Address { key: Key::random(), node };
    let mut registered = Vec::new();
    text(&mut registered, &[format!(r#"{{"type":"registered","page_id":"{page}"}}"#).as_bytes()]);
    socket.write_all(&registered)?;
    Ok(socket)
}

fn read_head(socket: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    String::from_utf8(head).map_err(io::Error::other)
}
