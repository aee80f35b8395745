//! The address at which a process listens.
//!
//! Owns: binding it before the process claims anything. Never: what is served there.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::StartError;
use crate::config::Config;

/// Binds an address.
///
/// # Errors
/// [`StartError::Listen`] when the address is taken, or not an address of this machine.
pub(super) async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| unusable(address, source))
}

/// Binds the address for other nodes, and writes the port that the system has chosen into the configuration. `None` if the
/// node has no such address.
///
/// # Errors
/// [`StartError::Listen`] when the address is taken, or not an address of this machine.
pub(super) async fn bind_internal(config: &mut Config) -> Result<Option<TcpListener>, StartError> {
    let address = config.node.internal.clone();
    let Some((host, _)) = address.rsplit_once(':').filter(|_| !config.mount.is_empty()) else {
        return Ok(None);
    };
    let unusable = |source| StartError::Listen { address: address.clone(), source };
    let listener = TcpListener::bind(&address).await.map_err(unusable)?;
    let port = listener.local_addr().map_err(unusable)?.port();
    config.node.internal = format!("{host}:{port}");
    Ok(Some(listener))
}

/// The error for an address that cannot be used.
pub(super) fn unusable(address: SocketAddr, source: std::io::Error) -> StartError {
    StartError::Listen { address: address.to_string(), source }
}
