//! Requests over connections that stay open.
//!
//! Owns: sending them and checking each response. Never: the servers.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use futures_util::future::try_join_all;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::http_response::succeeded;
use crate::report::quantile;

/// The address of a server.
#[derive(Debug, Clone)]
pub(super) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// How many requests are sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) requests: u64,
    pub(super) connections: u64,
    /// The path of all requests.
    pub(super) path: &'static str,
}

/// What a load has measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    /// Requests per second.
    pub(super) rate: f64,
    /// The median of a request, in microseconds.
    pub(super) p50_us: f64,
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// Sends all requests, one at a time on each connection.
pub(super) async fn run(address: &Address, load: Load) -> io::Result<Measured> {
    let next = Rc::new(Cell::new(0));
    let mut connections = Vec::new();
    for _ in 0..load.connections {
        connections.push(Connection::open(address).await?);
    }
    let began = Instant::now();
    let lanes = connections.into_iter().map(|connection| connection.send(next.clone(), load));
    let mut each = try_join_all(lanes).await?.concat();
    let rate = load.requests as f64 / began.elapsed().as_secs_f64();
    Ok(Measured { rate, p50_us: quantile(&mut each, 50) })
}

/// Connections that each have had one request and stay open.
pub(super) struct KeptConnections(
    #[expect(dead_code, reason = "they are open until they are dropped")] Vec<Connection>,
);

impl KeptConnections {
    /// Opens connections and sends one request on each, one after the other.
    pub(super) async fn open(address: &Address, connections: u64) -> io::Result<Self> {
        let request = request("/");
        let mut kept = Vec::new();
        for _ in 0..connections {
            let mut connection = Connection::open(address).await?;
            connection.stream.write_all(request.as_bytes()).await?;
            connection.response().await?;
            kept.push(connection);
        }
        Ok(Self(kept))
    }
}

/// Sends one request on a connection of its own.
///
/// # Errors
/// If the response is no success, or not whole.
pub(super) async fn one(address: &Address, path: &str) -> io::Result<()> {
    let mut connection = Connection::open(address).await?;
    connection.stream.write_all(request(path).as_bytes()).await?;
    connection.response().await
}

/// Returns a request for a path on a connection that stays open.
fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n")
}

struct Connection {
    stream: Box<dyn Stream>,
    input: Vec<u8>,
}

impl Connection {
    async fn open(address: &Address) -> io::Result<Self> {
        let stream: Box<dyn Stream> = match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
        };
        Ok(Self { stream, input: Vec::new() })
    }

    async fn send(mut self, next: Rc<Cell<u64>>, load: Load) -> io::Result<Vec<f64>> {
        let request = request(load.path);
        let mut each = Vec::new();
        loop {
            let number = next.get();
            if number >= load.requests {
                return Ok(each);
            }
            next.set(number + 1);
            let sent = Instant::now();
            self.stream.write_all(request.as_bytes()).await?;
            self.response().await?;
            each.push(sent.elapsed().as_secs_f64() * 1e6);
        }
    }

    async fn response(&mut self) -> io::Result<()> {
        loop {
            if let Some(length) = succeeded(&self.input, "200")? {
                self.input.drain(..length);
                return Ok(());
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
