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
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':')? {
            ("tcp", address) => {
                let (host, port) = address.rsplit_once(':')?;
                let is_address = !host.is_empty() && port.parse::<u16>().is_ok();
                is_address.then(|| Self::Tcp(address.to_owned()))
            }
            ("unix", path) => path.starts_with('/').then(|| Self::Unix(path.into())),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port_or_an_absolute_path() {
        for text in ["tcp:127.0.0.1:80", "tcp:[::1]:40404", "tcp:db.example:5432", "unix:/run/a.sock"] {
            let address = ListenerAddress::parse(text).map(|address| address.to_string());
            assert_eq!(address.as_deref(), Some(text));
        }
        for text in ["", "80", "tcp:80", "tcp::80", "tcp:a:http", "tcp:a:65536", "unix:a.sock", "udp:a:1"] {
            assert_eq!(ListenerAddress::parse(text), None, "{text}");
        }
    }
}
