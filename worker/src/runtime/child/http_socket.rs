//! The address at which one child serves HTTP, and the requests that use it.
//!
//! Owns: the address, and how many requests use it. Never: HTTP, or which child gets a request.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::watch;

use super::adapter::HttpProgram;
use super::listener_address::ListenerAddress;
use super::private_directory::PrivateDirectory;

/// Says in `ready` that the child serves HTTP.
pub(super) const FEATURE: &str = "http";

/// The address, which the child binds. The file of a Unix socket is removed when this is dropped.
pub(super) struct HttpSocket {
    address: ListenerAddress,
    /// Number of requests that run.
    requests: watch::Sender<usize>,
    done: AtomicU64,
    is_refusing: AtomicBool,
}

impl HttpSocket {
    /// Chooses the address of the child `number`: a private Unix socket, if its program does not ask for a port.
    ///
    /// # Errors
    ///
    /// When no port is free.
    pub(super) fn new(
        directory: &PrivateDirectory,
        number: u64,
        program: Option<&HttpProgram>,
    ) -> io::Result<Self> {
        let socket = directory.path().join(format!("{number}.http"));
        Ok(Self {
            address: match program {
                Some(program) => program.address(socket)?,
                None => ListenerAddress::Unix(socket),
            },
            requests: watch::Sender::new(0),
            done: AtomicU64::new(0),
            is_refusing: AtomicBool::new(false),
        })
    }

    pub(super) fn address(&self) -> &ListenerAddress {
        &self.address
    }

    /// Counts a request until [`end`](Self::end).
    pub(super) fn begin(&self) {
        self.requests.send_modify(|requests| *requests += 1);
    }

    /// Counts the end of a request.
    pub(super) fn end(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
        self.requests.send_modify(|requests| *requests = requests.saturating_sub(1));
    }

    /// Returns whether a request runs.
    pub(super) fn is_busy(&self) -> bool {
        *self.requests.borrow() > 0
    }

    /// Resolves when no request runs.
    pub(super) async fn idle(&self) {
        // never an error: the sender is part of this
        let _ = self.requests.subscribe().wait_for(|requests| *requests == 0).await;
    }

    /// Returns how many requests have ended.
    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Notes that the child does not accept connections.
    pub(super) fn set_refusing(&self) {
        self.is_refusing.store(true, Ordering::Relaxed);
    }

    /// Returns whether the child has not accepted a connection.
    pub(super) fn is_refusing(&self) -> bool {
        self.is_refusing.load(Ordering::Relaxed)
    }
}

impl Drop for HttpSocket {
    fn drop(&mut self) {
        if let Some(path) = self.address.socket() {
            // an error means that the child has removed it, or has not bound it
            let _ = std::fs::remove_file(path);
        }
    }
}
