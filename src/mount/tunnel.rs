//! Connections that have changed their protocol, such as WebSockets of an upstream.
//!
//! Owns: the bytes between both sides after a 101. Never: their meaning.

use http::Request;
use hyper::upgrade::{OnUpgrade, on};
use hyper_util::rt::TokioIo;

use super::upstream::UpstreamTunnel;

/// The client's side of a connection that may change its protocol.
pub(crate) struct ClientSide(OnUpgrade);

impl ClientSide {
    /// Takes the side of the client out of its request.
    pub(crate) fn of<B>(request: &mut Request<B>) -> Self {
        Self(on(request))
    }

    /// Connects the client with the upstream that has answered 101, when the client has received that. Both sides are closed
    /// when one has ended; `held` is dropped then.
    pub(crate) fn connect(self, mut upstream: UpstreamTunnel, held: impl Send + 'static) {
        tokio::spawn(async move {
            let _held = held;
            let mut client = match self.0.await {
                Ok(client) => TokioIo::new(client),
                Err(error) => return tracing::debug!(%error, "a connection has not changed its protocol"),
            };
            if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut upstream).await {
                tracing::debug!(%error, "a connection of another protocol has ended");
            }
        });
    }
}
