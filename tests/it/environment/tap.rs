//! A proxy of bytes that keeps what a client sends to a server.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The bytes of each connection that were sent since the last look.
type Sent = Arc<Mutex<Vec<Vec<u8>>>>;

/// A running proxy. Ends with its test.
pub(crate) struct Tap {
    address: SocketAddr,
    sent: Sent,
    accepting: JoinHandle<()>,
}

impl Tap {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("an address");
        let address = listener.local_addr().expect("an address");
        let sent = Sent::default();
        let kept = sent.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = {
                    let mut all = kept.lock().expect("no panic with the lock");
                    all.push(Vec::new());
                    all.len() - 1
                };
                tokio::spawn(carry(client, server, kept.clone(), number));
            }
        });
        Self { address, sent, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns what was sent since the last time: the bytes of each connection on which there were any.
    pub(crate) fn taken(&self) -> Vec<Vec<u8>> {
        let mut all = self.sent.lock().expect("no panic with the lock");
        all.iter_mut().map(std::mem::take).filter(|bytes| !bytes.is_empty()).collect()
    }
}

async fn carry(client: TcpStream, server: SocketAddr, sent: Sent, number: usize) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    // kept before it is passed on, so that an answer proves that its request is kept
    let keep = move |bytes: &[u8]| {
        sent.lock().expect("no panic with the lock")[number].extend_from_slice(bytes);
    };
    // a connection that one side has closed is closed for the other one
    tokio::select! {
        () = pump(from_client, to_server, keep) => {}
        () = pump(from_server, to_client, |_| {}) => {}
    }
}

async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, keep: impl Fn(&[u8])) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        keep(&buffer[..read]);
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
