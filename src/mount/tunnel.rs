//! Connections that have changed their protocol, such as WebSockets of an upstream.
//!
//! Owns: the bytes between both sides after a 101. Never: their meaning.

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, on};
use hyper_util::rt::TokioIo;

/// The client's side of a connection that may change its protocol.
pub(crate) struct ClientSide(OnUpgrade);

impl ClientSide {
    /// Takes the side of the client out of its request.
    pub(crate) fn of<B>(request: &mut Request<B>) -> Self {
        Self(on(request))
    }

    /// Connects the client with the upstream that has answered 101, when the client has received that. Both sides are closed
    /// when one has ended; `held` is dropped then.
    pub(crate) fn connect(self, response: &mut Response<Incoming>, held: impl Send + 'static) {
        let upstream = on(response);
        tokio::spawn(async move {
            let _held = held;
            let (client, upstream) = match tokio::try_join!(self.0, upstream) {
                Ok(sides) => sides,
                Err(error) => return tracing::debug!(%error, "a connection has not changed its protocol"),
            };
            let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
            if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut upstream).await {
                tracing::debug!(%error, "a connection of another protocol has ended");
            }
        });
    }
}
