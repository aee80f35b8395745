//! The addresses at which a process listens.
//!
//! Owns: binding them before the process claims anything. Never: what is served there.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::StartError;
use crate::config::Config;
use crate::mount::SiteListener;

/// The sockets of a node beside that of its clients.
pub(super) struct InnerListeners {
    /// For other nodes; `None`: the node has no such address.
    pub(super) internal: Option<TcpListener>,
    /// For sites that push to their pages, with the path of their mount.
    pub(super) sites: Vec<(String, SiteListener)>,
}

impl InnerListeners {
    /// Binds them, and writes the port that the system has chosen into the configuration.
    ///
    /// # Errors
    /// [`StartError::Listen`] when an address is taken, or not an address of this machine.
    pub(super) async fn bind(config: &mut Config) -> Result<Self, StartError> {
        let internal = bind_internal(config).await?;
        let sockets = config.mount.iter().filter_map(|mount| Some((&mount.path, mount.async_socket()?)));
        let bound = sockets.map(|(mount, path)| {
            let unusable = |source| StartError::Listen { address: path.display().to_string(), source };
            Ok((mount.clone(), SiteListener::bind(path).map_err(unusable)?))
        });
        let sites = bound.collect::<Result<_, StartError>>()?;
        Ok(Self { internal, sites })
    }
}

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
async fn bind_internal(config: &mut Config) -> Result<Option<TcpListener>, StartError> {
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
