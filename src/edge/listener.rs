//! The accept loop.
//!
//! Owns: which connections are accepted, and the response to those that are refused. Never: the HTTP on a connection
//! (`http`). The loop itself never waits for a peer.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::connection_limit::{ConnectionLimiter, LimitError, Permit};
use crate::mount::trust::ClientAddress;

/// Pause when the system has no resources for another connection, because retrying at once would keep a core busy.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);
/// How many refused connections may receive a response at the same time; the others are closed without one.
const REFUSED_AT_ONCE: usize = 64;

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n\
    Content-Length: 0\r\n\r\n";
const SHARE: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 5\r\nConnection: close\r\n\
    Content-Length: 0\r\n\r\n";

/// The client end of a connection.
pub(super) struct Peer {
    /// Remote address.
    pub(super) address: SocketAddr,
    /// Its IP address, as mounts pass it on.
    pub(super) client: ClientAddress,
    /// Whether a complete request head has arrived.
    request_seen: AtomicBool,
    _permit: Permit,
}

impl Peer {
    /// Records that a complete request head has arrived.
    pub(super) fn mark_request_seen(&self) {
        self.request_seen.store(true, Ordering::Relaxed);
    }

    /// Whether a complete request head has ever arrived.
    pub(super) fn has_sent_request(&self) -> bool {
        self.request_seen.load(Ordering::Relaxed)
    }
}

/// Raises the soft limit of file descriptors to the hard limit. Every socket needs a descriptor, and the usual soft
/// limit is made for programs without sockets.
pub(super) fn raise_nofile_limit(wanted: usize) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // if refused, the soft limit stays and is compared with `wanted`
    let _ = setrlimit(Resource::Nofile, limit);
    if let Some(granted) = getrlimit(Resource::Nofile).current.filter(|granted| *granted < wanted as u64) {
        tracing::warn!(granted, wanted, "the system grants fewer file descriptors than limits.connections");
    }
}

/// Limits the bytes that the kernel keeps for a peer that does not read; every connection of the listener inherits
/// the limit. Without it Linux grows the buffer to several megabytes for such a peer.
pub(super) fn bound_send_buffer(listener: &TcpListener, bytes: usize) {
    if let Err(error) = set_socket_send_buffer_size(listener, bytes) {
        tracing::warn!(%error, bytes, "the send buffer of connections is not bounded");
    }
}

/// Accepts connections for ever and passes the admitted ones to `serve`.
pub(super) async fn accept(
    listener: &TcpListener,
    limiter: &Arc<ConnectionLimiter>,
    close_timeout: Duration,
    serve: impl Fn(TcpStream, Arc<Peer>),
) {
    let refusing = Arc::new(Semaphore::new(REFUSED_AT_ONCE));
    let mut exhausted = false;
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => {
                exhausted = false;
                accepted
            }
            Err(error) if of_one_connection(&error) => continue,
            Err(error) => {
                if !std::mem::replace(&mut exhausted, true) {
                    tracing::error!(%error, "no more connections can be accepted");
                }
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
                continue;
            }
        };
        // frames are small and already batched: waiting for more bytes would only delay them
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        match limiter.try_acquire(address.ip()) {
            Ok(permit) => {
                let (client, request_seen) = (ClientAddress::new(address.ip()), AtomicBool::new(false));
                serve(stream, Arc::new(Peer { address, client, request_seen, _permit: permit }));
            }
            Err(refusal) => {
                if let Ok(turn) = refusing.clone().try_acquire_owned() {
                    tokio::spawn(async move {
                        let response = match refusal {
                            LimitError::Full => FULL,
                            LimitError::Share => SHARE,
                        };
                        let _ = tokio::time::timeout(close_timeout, end(stream, response)).await;
                        drop(turn);
                    });
                }
            }
        }
    }
}

/// Whether the error concerns the connection that was about to be accepted and not the listener.
fn of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, TimedOut};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | TimedOut)
}

/// Sends the last response of a connection and reads until the peer closes, because closing with unread bytes would
/// reset the connection before the peer has read the response.
pub(super) async fn end(mut stream: TcpStream, response: &[u8]) -> io::Result<()> {
    stream.write_all(response).await?;
    stream.shutdown().await?;
    let mut unread = [0; 1024];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpSocket;

    use super::*;

    /// How many bytes a connection of a listener accepts for a peer that reads nothing.
    async fn taken(send_buffer: usize) -> usize {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        bound_send_buffer(&listener, send_buffer);
        let silent = TcpSocket::new_v4().unwrap();
        silent.set_recv_buffer_size(4096).unwrap();
        let silent = silent.connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut taken = 0;
        // the system still moves bytes to the peer for a moment after it has accepted them
        while tokio::time::timeout(Duration::from_millis(200), stream.writable()).await.is_ok() {
            while let Ok(written) = stream.try_write(&[0; 64 * 1024]) {
                taken += written;
            }
        }
        drop(silent);
        taken
    }

    #[tokio::test]
    async fn a_peer_that_reads_nothing_costs_the_kernel_a_bounded_amount() {
        let (small, large) = (taken(16 * 1024).await, taken(128 * 1024).await);
        assert!(small < 128 * 1024, "{small} bytes");
        assert!((small..512 * 1024).contains(&large), "{large} bytes");
    }
}
