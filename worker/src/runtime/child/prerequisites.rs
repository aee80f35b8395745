//! What the programs of a pool need before the first of them starts.
//!
//! Owns: waiting until an address can be connected. Never: what is behind it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use pagewire_cluster::timing::Timing;
use tokio::net::{TcpStream, UnixStream};

/// An address that has to accept a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prerequisite {
    /// A host and a port.
    Tcp(String),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Prerequisite {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(out, "tcp:{address}"),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

impl Prerequisite {
    async fn connect(&self) -> io::Result<()> {
        match self {
            Self::Tcp(address) => TcpStream::connect(address.as_str()).await.map(drop),
            Self::Unix(path) => UnixStream::connect(path).await.map(drop),
        }
    }

    /// Waits until the address accepts a connection. Calls `missing` with the reason the first time that it does not.
    pub(super) async fn met(&self, timing: &Timing, missing: impl Fn(String)) {
        let mut is_first = true;
        loop {
            let error = match tokio::time::timeout(timing.child_stop, self.connect()).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it does not answer".to_owned(),
            };
            if std::mem::take(&mut is_first) {
                missing(format!("the start waits for {self}: {error}"));
            }
            tokio::time::sleep(timing.child_watch).await;
        }
    }
}
