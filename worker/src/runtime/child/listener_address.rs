//! Where a program of this machine or of another one listens.

use std::fmt;
use std::path::{Path, PathBuf};

/// An address that can be connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenerAddress {
    /// A host and a port, as `host:port`.
    Tcp(String),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl ListenerAddress {
    /// Returns the path of a Unix socket.
    pub fn socket(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) => Some(path),
            Self::Tcp(_) => None,
        }
    }

    /// Reads `tcp:host:port` or `unix:/path`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.split_once(':')? {
            ("tcp", address) => Some(Self::Tcp(address.to_owned())),
            ("unix", path) => Some(Self::Unix(path.into())),
            _ => None,
        }
    }
}

impl fmt::Display for ListenerAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(out, "tcp:{address}"),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}
