//! The address at which a process listens.
//!
//! Owns: binding it before the process claims anything. Never: what is served there.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::StartError;

/// Binds an address.
///
/// # Errors
/// [`StartError::Listen`] when the address is taken, or not an address of this machine.
pub(super) async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| unusable(address, source))
}

/// The error for an address that cannot be used.
pub(super) fn unusable(address: SocketAddr, source: std::io::Error) -> StartError {
    StartError::Listen { address: address.to_string(), source }
}
