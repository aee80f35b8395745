//! An upstream of a mount that a test plays, to the byte.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection with bytes that were read ahead.
pub(crate) struct RawConnection {
    /// Its number among the connections of an upstream, from 0.
    pub(crate) number: usize,
    stream: Box<dyn Stream>,
    ahead: Vec<u8>,
}

impl RawConnection {
    /// Connects to a server as a client.
    pub(crate) async fn to(address: SocketAddr) -> Self {
        Self::new(0, TcpStream::connect(address).await.expect("connects"))
    }

    fn new(number: usize, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self { number, stream: Box::new(stream), ahead: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("the other side reads");
        self.stream.flush().await.expect("the other side reads");
    }

    /// Reads up to and including `end`; `None` when the connection ends before.
    pub(crate) async fn read_to(&mut self, end: &str) -> Option<String> {
        loop {
            let found = self.ahead.windows(end.len()).position(|window| window == end.as_bytes());
            if let Some(position) = found {
                let rest = self.ahead.split_off(position + end.len());
                let read = std::mem::replace(&mut self.ahead, rest);
                return Some(String::from_utf8_lossy(&read).into_owned());
            }
            if self.stream.read_buf(&mut self.ahead).await.ok()? == 0 {
                return None;
            }
        }
    }

    /// Reads the head of a message.
    pub(crate) async fn head(&mut self) -> Option<String> {
        self.read_to("\r\n\r\n").await
    }

    /// Reads this many bytes, and returns how many came.
    pub(crate) async fn skip(&mut self, bytes: u64) -> u64 {
        let ahead = (self.ahead.len() as u64).min(bytes);
        self.ahead.drain(..ahead as usize);
        let mut rest = (&mut self.stream).take(bytes - ahead);
        ahead + tokio::io::copy(&mut rest, &mut tokio::io::sink()).await.unwrap_or(0)
    }

    /// Reads until the other side has closed the connection.
    pub(crate) async fn closed(&mut self) {
        let _ = tokio::io::copy(&mut self.stream, &mut tokio::io::sink()).await;
    }
}

type Answering = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An upstream that answers each request with a function of its head. Ends with its test.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    accepting: JoinHandle<()>,
    heads: mpsc::UnboundedReceiver<String>,
}

impl Upstream {
    /// Starts an upstream. `answer` gets the head of a request and the connection, as often as one is kept.
    pub(crate) async fn start<F>(answer: impl Fn(String, RawConnection) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Option<RawConnection>> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("an address");
        let address = listener.local_addr().expect("an address");
        let (serve, heads) = server(answer);
        let accepting = tokio::spawn(async move {
            for number in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                tokio::spawn(serve(RawConnection::new(number, stream)));
            }
        });
        Self { address, accepting, heads }
    }

    /// Starts an upstream at a socket in the file system. It has no `address`.
    pub(crate) async fn at_socket<F>(
        path: &Path,
        answer: impl Fn(String, RawConnection) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Option<RawConnection>> + Send + 'static,
    {
        let listener = UnixListener::bind(path).expect("a socket");
        let (serve, heads) = server(answer);
        let accepting = tokio::spawn(async move {
            for number in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                tokio::spawn(serve(RawConnection::new(number, stream)));
            }
        });
        Self { address: SocketAddr::from(([0, 0, 0, 0], 0)), accepting, heads }
    }

    /// Starts an upstream that answers every request with its own head.
    pub(crate) async fn mirror() -> Self {
        Self::start(mirrored).await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the heads that it has received since the last time.
    pub(crate) fn received(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.heads.try_recv().ok()).collect()
    }
}

/// Answers a request with its head, and keeps the connection.
pub(crate) async fn mirrored(head: String, mut connection: RawConnection) -> Option<RawConnection> {
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len());
    connection.send(answer).await;
    Some(connection)
}

fn server<F>(
    answer: impl Fn(String, RawConnection) -> F + Send + Sync + 'static,
) -> (impl Fn(RawConnection) -> Answering, mpsc::UnboundedReceiver<String>)
where
    F: Future<Output = Option<RawConnection>> + Send + 'static,
{
    let (sender, heads) = mpsc::unbounded_channel();
    let answer = Arc::new(answer);
    let serve = move |mut connection: RawConnection| -> Answering {
        let (answer, sender) = (answer.clone(), sender.clone());
        Box::pin(async move {
            while let Some(head) = connection.head().await {
                // the test may be over
                let _ = sender.send(head.clone());
                match answer(head, connection).await {
                    Some(kept) => connection = kept,
                    None => return,
                }
            }
        })
    };
    (serve, heads)
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
