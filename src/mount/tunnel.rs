//! Connections that have changed their protocol, such as WebSockets of an upstream.
//!
//! Owns: the bytes between both sides after a 101. Never: their meaning.

use std::pin::pin;
use std::time::Duration;

use http::Request;
use hyper::upgrade::{OnUpgrade, on};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, split};
use tokio::time::timeout;

use super::upstream::UpstreamTunnel;

/// The client's side of a connection that may change its protocol.
pub(crate) struct ClientSide(OnUpgrade);

impl ClientSide {
    /// Takes the side of the client out of its request.
    pub(crate) fn of<B>(request: &mut Request<B>) -> Self {
        Self(on(request))
    }

    /// Connects the client with the upstream that has answered 101, when the client has received that. When one side has
    /// ended, the other one is told, and has the time `rest` to send what is left; then both are closed and `held` is
    /// dropped.
    pub(crate) fn connect(self, upstream: UpstreamTunnel, rest: Duration, held: impl Send + 'static) {
        tokio::spawn(async move {
            let _held = held;
            let client = match self.0.await {
                Ok(client) => TokioIo::new(client),
                Err(error) => return tracing::debug!(%error, "a connection has not changed its protocol"),
            };
            pass_both_ways(client, upstream, rest).await;
        });
    }
}

async fn pass_both_ways(
    client: impl AsyncRead + AsyncWrite,
    upstream: impl AsyncRead + AsyncWrite,
    rest: Duration,
) {
    let (from_client, to_client) = split(client);
    let (from_upstream, to_upstream) = split(upstream);
    let mut up = pin!(pass(from_client, to_upstream));
    let mut down = pin!(pass(from_upstream, to_client));
    // an error of the second direction, or no end in time, changes nothing
    tokio::select! {
        () = &mut up => drop(timeout(rest, down).await),
        () = &mut down => drop(timeout(rest, up).await),
    }
}

/// Passes bytes on until their end, and tells the receiver of it.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let passed = async {
        copy(&mut from, &mut to).await?;
        to.shutdown().await
    };
    if let Err(error) = passed.await {
        tracing::debug!(%error, "a connection of another protocol has ended");
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn when_one_side_has_ended_the_other_one_sends_what_is_left_and_is_closed() {
        for is_silent in [false, true] {
            let (mut client, near_client) = duplex(64);
            let (mut upstream, near_upstream) = duplex(64);
            let tunnel = tokio::spawn(pass_both_ways(near_client, near_upstream, Duration::from_secs(2)));
            client.write_all(b"ask").await.unwrap();
            client.shutdown().await.unwrap();
            let mut asked = String::new();
            upstream.read_to_string(&mut asked).await.unwrap();
            assert_eq!(asked, "ask");
            if !is_silent {
                upstream.write_all(b"answer").await.unwrap();
            }
            // an upstream that ignores the end of its client does not end by itself
            tunnel.await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer, if is_silent { "" } else { "answer" });
        }
    }
}
